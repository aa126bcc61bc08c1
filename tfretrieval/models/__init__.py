"""Models: networks put together from a backbone and layers."""
