"""How a run's network is run over many photos: frozen, in a precision, on one device or several."""

import dataclasses

import keras
import tensorflow as tf

from export.precision import BFLOAT16, FLOAT32, FrozenNetwork
from export.precision_check import PrecisionSettings, check
from tfretrieval.data import parallel
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor

_CHECKED_SIDE = 362


@dataclasses.dataclass(frozen=True)
class RunningOptions:
    """How a run's network computes; `pipelines.extract` has a flag for each.

    Attributes:
        precision: Arithmetic of a run's network; bfloat16 is measured first and refused below a cosine of 0.999.
        devices: Devices that share the photos, each with the whole network: GPUs or, where there are none, parts that
            the CPU is divided into. 0 for all GPUs, or the CPU as one.
        batch_pixels: Most pixels run together by a run's network, 0 for 2 million on CPUs and 33 million on GPUs.
    """

    precision: str = dataclasses.field(default=FLOAT32, metadata={"choices": (FLOAT32, BFLOAT16)})
    devices: int = 0
    batch_pixels: int = 0

    def __post_init__(self):
        if self.precision not in (FLOAT32, BFLOAT16):
            raise InputError(f"--precision={self.precision}; {FLOAT32} or {BFLOAT16} is wanted.")
        for name in ("devices", "batch_pixels"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name}={getattr(self, name)}; 0 or more is wanted.")


def prepare(options: RunningOptions) -> None:
    """Sets TensorFlow's threads, and divides the CPU where that is asked for; before TensorFlow computes anything."""
    parallel.set_threads()
    if options.devices > 1 and not tf.config.list_physical_devices("GPU"):
        (cpu, *_) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * options.devices)


def device_names(devices: int) -> list[str]:
    """Returns the names of the devices that share the photos.

    Args:
        devices: see `RunningOptions`.

    Raises:
        InputError: there are fewer.
    """
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if devices > len(found):
        raise InputError(f"--devices={devices}, and there are {len(found)} of the kind {found[0].device_type}.")
    all_of_them = len(found) if found[0].device_type == "GPU" else 1
    return [device.name for device in found[: devices or all_of_them]]


def extractor_of(
    network: keras.Model, image_size: int, batch_photos: int, options: RunningOptions
) -> tuple[Extractor, dict]:
    """Freezes a network and gets it ready to run over photos.

    Args:
        network: a Keras model or another callable of (images, training) with `output_shape`.
        image_size: pixels of photos' longer sides.
        batch_photos: most photos run together.
        options: how.

    Returns:
        The extractor; and of bfloat16 what `precision_check.check` measured on generated photos, or nothing.

    Raises:
        InputError: bfloat16 costs too much, or is not to be had; fewer devices than asked for.
    """
    names = device_names(options.devices)
    frozen, measured = FrozenNetwork(network, options.precision), {}
    if options.precision == BFLOAT16:
        measured = check(network, frozen, min(image_size, _CHECKED_SIDE), PrecisionSettings(BFLOAT16))
    copies = {name: frozen.on(name) for name in names} if len(names) > 1 else None
    return Extractor(frozen, image_size, batch_photos, options.batch_pixels, copies), measured
