"""From a training run to a model that TensorFlow Serving hosts: SavedModel, local server, client."""

from tfretrieval import console

console.quiet_tensorflow()
