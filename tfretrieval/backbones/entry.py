"""What is known of a backbone before it is built."""

import dataclasses
from collections.abc import Callable

import keras


@dataclasses.dataclass(frozen=True)
class Backbone:
    """One entry of `BACKBONES`.

    Attributes:
        make: called with None (random weights), "imagenet" (for `keras.applications`) or the name or directory of a
            KerasHub preset; returns the network as its library publishes it, without a classifier.
        scaling: the mode of `InputScaling` that its weights were trained with.
        source: the class or function of the library that makes it.
        finish: turns that network into the one of retrieval, [N, H, W, 3] -> [N, h, w, C]: cut at an earlier layer, or
            made to take any size. The network itself when None.
        stages: names of the layers whose outputs are the maps before the last stage and after each of its last three
            steps, the last being the backbone's output: (x4, R1, R2, R3) of AGeM's attention, strides 16, 32, 32, 32
            unless `notes` says otherwise. The network can be cut at each of them. Empty where there is no such chain.
        published: what is loaded for weights="imagenet": "imagenet" itself or a preset of KerasHub; None when no
            weights are published.
        presets: whether weights can be KerasHub presets.
        notes: what a user should know, for the table.
    """

    make: Callable[[str | None], keras.Model]
    scaling: str
    source: str
    finish: Callable[[keras.Model], keras.Model] | None = None
    stages: tuple[str, ...] = ()
    published: str | None = None
    presets: bool = False
    notes: str = ""
