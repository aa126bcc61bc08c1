"""Descriptors of the objects of a record split, found by a server."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from export.client import DescriptorClient, PhotoWithObjects, ServingError, photos_of_split
from tfretrieval.data.record_set import Split
from tfretrieval.errors import InputError
from tfretrieval.object_descriptors import ObjectBoxes, ObjectDescriptors
from tfretrieval.object_extraction import FOUND, ExtractionOptions


def extract_served_objects(
    client: DescriptorClient,
    split: Split,
    options: ExtractionOptions,
    header: dict,
    progress: Callable[[int], object] | None = None,
) -> ObjectDescriptors:
    """Asks a server for the objects of a split's photos, as `object_extraction.extract_objects` asks a network.

    Args:
        client: of a server whose model has the signature `objects` and a card that tells of it.
        split: the photos.
        options: which objects; the server finds the boxes.
        header: the provenance header for `meta.json`.
        progress: makes a bar with `update` and `close` from a number of photos.

    Raises:
        InputError: the options are not such as a server can follow, its model finds no objects, or it refuses a photo.
    """
    start = time.perf_counter()
    try:
        card = client.card()
        known = _known_objects(client.address, card, options)
        stream = client.stream_objects(photos_of_split(split), options.least_score, options.overlap, progress=progress)
        arrays = _gathered(stream, split, options.most_objects)
    except ServingError as error:
        named = "".join(f" {split.ids[place]!r}" for place in error.photos[:1])
        raise InputError(f"the server {client.address} did not describe{named or ' the photos'}: {error}") from error
    counts, boxes, scores, classes, vectors, whole = arrays
    numbers = np.concatenate([np.zeros(0, np.int32), *(np.arange(count, dtype=np.int32) for count in counts)])
    offsets = np.cumsum([0, *counts]).astype(np.int64)
    objects = ObjectBoxes(offsets, boxes, scores, classes, numbers, tuple(known["classes"]))
    meta = {
        "model": client.address,
        "model_sha256": card.get("model_sha256"),
        "image_size": card.get("image_size"),
        "boxes": FOUND,
        "milliseconds_per_photo": round((time.perf_counter() - start) * 1000 / max(1, len(split)), 3),
        "passes": len(split),
        "split": split.name,
        **header,
    }
    return ObjectDescriptors(split.ids, objects, vectors, whole, meta)


def _known_objects(address: str, card: dict, options: ExtractionOptions) -> dict:
    """Returns what the card says of objects, when the options go with it."""
    if "objects" not in card:
        raise InputError(f"--server={address}: its model finds no objects; an export of pipelines.train_objects does.")
    if options.boxes != FOUND or options.crops:
        raise InputError("--boxes and --crops are of --model=RUN; a server describes the objects that it finds itself.")
    most = card["objects"]["objects_most"]
    if options.most_objects > most:
        raise InputError(
            f"--most_objects={options.most_objects}, and the model of --server={address} was exported with "
            f"--objects_most={most}; {most} or less is wanted."
        )
    return card["objects"]


def _gathered(found: Iterator[PhotoWithObjects], split: Split, most: int) -> tuple:
    """Returns counts [N], and boxes [M, 4] as shares of the photos, scores [M], classes [M], vectors [M, D], whole."""
    counts, boxes, objects, whole = [], [], [], []
    for photo in found:
        kept = photo.objects[:most]
        counts.append(len(kept))
        sides = np.tile(split.sizes[photo.place], 2)
        boxes += [np.clip(np.divide(each.box, sides), 0, 1) for each in kept]
        objects += [(each.score, each.class_number, each.descriptor) for each in kept]
        whole.append(photo.descriptor)
    scores, classes, vectors = zip(*objects, strict=True) if objects else ((), (), ())
    width = len(whole[0]) if whole else 0
    return (
        counts,
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(scores, np.float32),
        np.asarray(classes, np.int32),
        np.asarray(vectors, np.float32).reshape(-1, width),
        np.asarray(whole, np.float32).reshape(-1, width),
    )
