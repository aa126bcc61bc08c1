"""Image retrieval with Keras 3: photos -> records -> descriptors -> search -> evaluation."""

__version__ = "0.1.0"
