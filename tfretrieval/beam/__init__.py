"""Jobs for more than one machine, as Apache Beam pipelines; all else of this toolkit runs without Apache Beam."""

from tfretrieval import console

console.quiet_tensorflow()  # workers begin here
