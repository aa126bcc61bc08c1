"""Search: from descriptors to rankings."""
