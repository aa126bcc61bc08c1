"""Backbones by one name: `keras.applications`, KerasHub and this toolkit's own, ready for retrieval."""

from tfretrieval.backbones.build import BACKBONES, SCRATCH_MOMENTUM, batch_norms, build_backbone
from tfretrieval.backbones.entry import Backbone
from tfretrieval.backbones.swin import SwinMaps
from tfretrieval.backbones.torchvision import torchvision_variables
from tfretrieval.backbones.transformers import PatchTokens

__all__ = [
    "BACKBONES",
    "SCRATCH_MOMENTUM",
    "Backbone",
    "PatchTokens",
    "SwinMaps",
    "batch_norms",
    "build_backbone",
    "torchvision_variables",
]
