"""Clients of a served descriptor model: photos in, descriptors out, over gRPC.

The messages of TensorFlow Serving hold TensorFlow's own tensor messages, so importing this package imports TensorFlow
(about three seconds); nothing here computes with it.
"""

from export.client.async_client import AsyncDescriptorClient
from export.client.batches import split_batches
from export.client.errors import ServingError
from export.client.photos import NamedPhotos, photos_in_folder, photos_of_split
from export.client.results import PhotoDescriptor, PhotoResult, PhotoWithObjects, RefusedPhoto
from export.client.retries import Retries
from export.client.sync_client import DescriptorClient
from export.client.tls import Tls

__all__ = [
    "AsyncDescriptorClient",
    "DescriptorClient",
    "NamedPhotos",
    "PhotoDescriptor",
    "PhotoResult",
    "PhotoWithObjects",
    "RefusedPhoto",
    "Retries",
    "ServingError",
    "Tls",
    "photos_in_folder",
    "photos_of_split",
    "split_batches",
]
