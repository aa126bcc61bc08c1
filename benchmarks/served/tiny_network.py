"""A network that is built and exported in seconds and still tells photos apart, for short runs of the benchmarks."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from export.example_photos import example_photos
from export.sent_photos import DEFAULT_LIMITS, PhotoLimits
from export.signatures import ServedDescriptor
from export.warmup_requests import write_requests
from tfretrieval.layers import GeM, InputScaling

DIMENSION = 16


def tiny_network(seed: int = 0) -> keras.Model:
    """Builds a network of two convolutions whose descriptors of different photos are far from each other.

    Pooled maps of random weights all point into nearly one direction; the mean of noise's is taken off.

    Args:
        seed: of the weights; networks of different seeds give descriptors that have nothing to do with each other.
    """
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(12, 3, 2, padding="same", activation="relu")(InputScaling("torch")(pixels))
    maps = keras.layers.Conv2D(24, 3, 2, padding="same", activation="relu")(maps)
    centred = keras.layers.Dense(DIMENSION)
    vectors = centred(GeM()(maps))
    random = np.random.default_rng(seed)
    noise = np.stack([tf.image.resize(random.integers(0, 256, (5, 6, 3)), (40, 40)) for _ in range(64)])
    centred.bias.assign(-np.mean(keras.Model(pixels, vectors)(noise), axis=0))
    return keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(vectors))


def write_tiny_version(network: keras.Model, size: int, folder: Path, limits: PhotoLimits = DEFAULT_LIMITS) -> Path:
    """Writes a network as a version with all signatures, not frozen, with one request of warm-up."""
    served = ServedDescriptor(network, size, "{}", limits)
    tf.saved_model.save(served, str(folder), signatures=served.functions)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "descriptor", "serving_default"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(example_photos(size)))
    write_requests([request], folder)
    return folder
