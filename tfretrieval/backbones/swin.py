"""Swin transformers of KerasHub as backbones for photos of any size."""

import contextlib
import warnings
from collections.abc import Iterator

import keras
from keras import ops


@contextlib.contextmanager
def quiet_masks() -> Iterator[None]:
    """Hides Keras's warning about masks, which it takes an attention's bias between windows for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was passed an input with a mask attached")
        yield


def pad_end(maps, rows, columns):
    """Appends rows and columns of zeros to maps [N, h, w, C]; their numbers may be tensors while a graph is traced."""
    count, height, _, dimension = ops.shape(maps)
    maps = ops.concatenate([maps, ops.zeros((count, height, columns, dimension), maps.dtype)], axis=2)
    width = ops.shape(maps)[2]
    return ops.concatenate([maps, ops.zeros((count, rows, width, dimension), maps.dtype)], axis=1)


def to_windows(maps, side: int):
    """Cuts maps [N, h, w, C], h and w multiples of `side`, to windows [N * h/side * w/side, side * side, C]."""
    count, height, width, dimension = ops.shape(maps)
    cut = ops.reshape(maps, (count, height // side, side, width // side, side, dimension))
    return ops.reshape(ops.transpose(cut, (0, 1, 3, 2, 4, 5)), (-1, side * side, dimension))


def from_windows(windows, side: int, height, width):
    """Puts windows [N * height/side * width/side, side * side, C] together again to maps [N, height, width, C]."""
    cut = ops.reshape(windows, (-1, height // side, width // side, side, side, windows.shape[-1]))
    return ops.reshape(ops.transpose(cut, (0, 1, 3, 2, 4, 5)), (-1, height, width, windows.shape[-1]))


def shifted_mask(height, width, side: int, shift):
    """Returns what is added to the attention between positions of one window that were not neighbours before the shift.

    Args:
        height: of the padded maps, a multiple of `side`.
        width: likewise.
        side: of a window.
        shift: positions by which the maps were rolled up and left; 0 masks nothing.

    Returns:
        float32 [height/side * width/side, side * side, side * side], 0 or -100.
    """

    def regions(length):
        places = ops.arange(length)
        rolled = ops.cast(places >= length - side, "int32") + ops.cast(places >= length - shift, "int32")
        return ops.where(ops.equal(shift, 0), ops.zeros_like(rolled), rolled)

    region = regions(height)[:, None] * 3 + regions(width)[None, :]
    parts = to_windows(region[None, :, :, None], side)[:, :, 0]
    return ops.where(parts[:, None, :] == parts[:, :, None], 0.0, -100.0)


@keras.saving.register_keras_serializable(package="tfretrieval")
class SwinMaps(keras.layers.Layer):
    """Runs a Swin transformer of KerasHub on photos of any size, [N, H, W, 3] -> [N, about H/32, about W/32, C].

    KerasHub builds the network for one size; its weights do not depend on it. This layer takes its parts and runs them
    on the maps' own size: sides that are not multiples of the window are padded with zeros after the normalisation, and
    odd sides before merging, as in the authors' code for detection (Liu et al., ICCV 2021). Pixels at the right and
    bottom edge that do not fill a patch are not seen. Where KerasHub needs no padding, its result is the same.

    Args:
        network: a `SwinTransformerBackbone`, whose layers become this one's.
    """

    def __init__(self, network: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.network_config = keras.saving.serialize_keras_object(network)
        self.embed, self.stages, self.normalise = network.patch_embedding, list(network.stages), network.norm
        self.window, self.patch = network.window_size, network.patch_size
        self.dimension = self.stages[-1].dim
        self.built = True

    def _attend(self, block, maps, shifted: bool, training):
        """Runs one block on maps [N, h, w, C]."""
        count, height, width, dimension = ops.shape(maps)
        side = self.window
        padded = pad_end(block.norm1(maps), -height % side, -width % side)
        _, rows, columns, _ = ops.shape(padded)
        mask = None
        if shifted:
            small = ops.minimum(height, width) <= side  # one window holds the shorter side: nothing to connect
            shift = ops.where(small, 0, side // 2)
            mask = ops.cast(shifted_mask(rows, columns, side, shift), padded.dtype)
            padded = roll(padded, -shift)
        with quiet_masks():
            attended = from_windows(block.attn(to_windows(padded, side), mask=mask), side, rows, columns)
        attended = roll(attended, shift) if shifted else attended
        attended = ops.reshape(attended[:, :height, :width], (count, height, width, dimension))
        maps = maps + block.drop_path(attended, training=training)
        return maps + block.drop_path(block.mlp(block.norm2(maps)), training=training)

    def call(self, inputs, training=None):
        """Returns the maps of the last stage, normalised, in the layer's compute dtype."""
        maps = self.embed.proj(inputs)
        if self.embed.norm is not None:
            maps = self.embed.norm(maps)
        for stage in self.stages:
            for number, block in enumerate(stage.blocks):
                maps = self._attend(block, maps, number % 2 == 1, training)
            if stage.downsample is not None:
                _, height, width, _ = ops.shape(maps)
                maps = pad_end(maps, height % 2, width % 2)
                quarters = [maps[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
                maps = stage.downsample.reduction(stage.downsample.norm(ops.concatenate(quarters, axis=-1)))
        return self.normalise(maps)

    def compute_output_spec(self, inputs, training=None):
        """Returns the output's shape and dtype."""
        del training
        sides = [None if side is None else side // self.patch for side in inputs.shape[1:3]]
        for _ in self.stages[1:]:
            sides = [None if side is None else -(-side // 2) for side in sides]
        return keras.KerasTensor((inputs.shape[0], *sides, self.dimension), dtype=self.compute_dtype)

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "network": self.network_config}

    @classmethod
    def from_config(cls, config):
        """Makes the layer, its parts included, from `get_config`'s result."""
        with quiet_masks():
            return cls(**{**config, "network": keras.saving.deserialize_keras_object(config["network"])})


def roll(maps, shift):
    """Rolls maps [N, h, w, C] down and right by `shift` positions, which may be a tensor."""
    for axis in (1, 2):
        length = ops.shape(maps)[axis]
        maps = ops.take(maps, ops.mod(ops.arange(length) - shift, length), axis=axis)
    return maps
