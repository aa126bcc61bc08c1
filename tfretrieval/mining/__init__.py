"""Mining: which photos stand together in a batch."""
