"""Published PyTorch checkpoints as networks of this toolkit, read without running anything that they hold."""
