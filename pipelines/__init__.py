"""Thin absl scripts, one job each: parse flags, call the library, print the result."""

from tfretrieval import console

console.quiet_tensorflow()
