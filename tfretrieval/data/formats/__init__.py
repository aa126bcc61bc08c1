"""What the files of photos hold, read in TensorFlow ops: sizes, orientation, pixels; one module for each format."""
