"""Side-by-side speed: both sides in one run, as a ratio. `make bench` runs the short ones."""

from tfretrieval import console

console.quiet_tensorflow()
