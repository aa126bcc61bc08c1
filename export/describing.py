"""Descriptors of a record split, through a server, a SavedModel or the Keras network of a run: the same numbers."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.client import DescriptorClient, ServingError, split_batches
from export.saving import ServedModel, load_source
from export.server.errors import useful_line
from tfretrieval import files
from tfretrieval.data import records
from tfretrieval.data.record_set import Split
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor
from tfretrieval.training.run_directory import DESCRIPTION, RunDirectory

Progress = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class Describer:
    """Something that describes the photos of a split.

    Attributes:
        name: what it is: a server's address or a model's folder.
        card: dimension, image_size and model_sha256 of its model, as far as it tells them.
        describe: (split, progress) -> float32 [N, D]; `progress` makes a bar from a number of photos.
    """

    name: str
    card: dict
    describe: Callable[[Split, Progress], np.ndarray]

    def extract(self, split: Split, progress: Progress, header: dict) -> Descriptors:
        """Describes a split and notes how.

        Args:
            split: the photos.
            progress: makes a bar from a number of photos.
            header: the provenance header for `meta.json`.
        """
        start = time.perf_counter()
        vectors = self.describe(split, progress)
        taken = (time.perf_counter() - start) * 1000 / max(1, len(split))
        meta = {
            "model": self.name,
            "model_sha256": self.card.get("model_sha256"),
            "image_size": self.card.get("image_size"),
            "milliseconds_per_photo": round(taken, 3),
            "split": split.name,
            **header,
        }
        return Descriptors(vectors, split.ids, meta)


def from_server(client: DescriptorClient) -> Describer:
    """Describes through a running server."""

    def describe(split: Split, progress: Progress) -> np.ndarray:
        try:
            return _gather(client.describe_batches(encoded_photos(split)), split, progress)
        except ServingError as error:
            named = [repr(split.ids[place]) for place in error.photos[:1]]
            raise InputError(
                f"the server {client.address} refused {', '.join(named) or 'the photos'}: {error}"
            ) from error

    try:
        return Describer(client.address, client.card(), describe)
    except ServingError as error:
        raise InputError(f"--server={client.address} does not answer as a descriptor model: {error}") from error


def from_model(folder: str | Path, batch_photos: int = 32, which: str = "best") -> Describer:
    """Describes with a model in this process: a SavedModel's folder, or a run directory's Keras network.

    Args:
        folder: version folder or model folder of a SavedModel, or a run directory.
        batch_photos: most photos run together.
        which: of a run directory, the network: "best", "last" or "untrained".

    Raises:
        InputError: the folder holds neither.
    """
    if (Path(folder) / DESCRIPTION).is_file():
        return _from_run(RunDirectory.load(folder), batch_photos, which)
    model = ServedModel.load(folder)

    def describe(split: Split, progress: Progress) -> np.ndarray:
        batches = split_batches(encoded_photos(split), max_bytes=64 << 20, max_photos=batch_photos)
        return _gather(map(model.describe, batches), split, progress)

    card = model.card or {"model_sha256": files.sha256_of_tree(model.version)}
    return Describer(str(folder), card, describe)


def _from_run(run: RunDirectory, batch_photos: int, which: str) -> Describer:
    source = load_source(run.path, which)
    extractor = Extractor(source.model, source.image_size, batch_photos)
    card = {"dimension": source.dimension, "image_size": source.image_size, "model_sha256": source.sha256}
    return Describer(str(run.model(which)), card, lambda split, progress: extractor(split, progress=progress))


def encoded_photos(split: Split) -> Iterator[bytes]:
    """Yields the encoded photos of a split in order, reading one record at a time."""
    for row in range(len(split)):
        yield records.decode_record(split.read(row)).photo.encoded


def _gather(batches: Iterator[np.ndarray], split: Split, progress: Progress) -> np.ndarray:
    """Puts batches of descriptors into one matrix; names the batch's photos when the model refuses one."""
    bar, done, vectors = progress(len(split)), 0, None
    try:
        for batch in batches:
            if vectors is None:
                vectors = np.empty((len(split), batch.shape[1]), np.float32)
            vectors[done : done + len(batch)] = batch
            done += len(batch)
            bar.update(len(batch))
    except tf.errors.InvalidArgumentError as error:
        raise InputError(
            f"a photo from {split.ids[done]!r} on was refused by the model: {useful_line(error.message)}"
        ) from error
    finally:
        bar.close()
    return vectors
