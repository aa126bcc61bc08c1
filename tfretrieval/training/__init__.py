"""Training: from records and a network to a run directory."""
