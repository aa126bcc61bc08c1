"""Layers of descriptor networks, written with `keras.ops`."""

from tfretrieval.layers.gem import GeM
from tfretrieval.layers.input_scaling import InputScaling
from tfretrieval.layers.minimum_size import MinimumSize
from tfretrieval.layers.multi_scale import MultiScale

POOLINGS = {"gem": GeM}

__all__ = ["POOLINGS", "GeM", "InputScaling", "MinimumSize", "MultiScale"]
