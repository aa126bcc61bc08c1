"""Descriptors of a record split and of its objects, by a server, a SavedModel or a run's network: the same numbers."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.client import DescriptorClient, ServingError, split_batches
from export.described_objects import ObjectArrays
from export.object_signature import ObjectSettings
from export.running import RunningOptions, extractor_of
from export.saving import ServedModel, load_source
from export.server.errors import useful_line
from tfretrieval import files
from tfretrieval.data import query_crops
from tfretrieval.data.query_crops import SCALED, WHOLE
from tfretrieval.data.record_set import Split
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.object_extraction import Described, ExtractionOptions, ObjectExtractor
from tfretrieval.sharded_descriptors import Part, ShardedDescriptors
from tfretrieval.sharded_extraction import PartDescriber, Speed, extract_shards
from tfretrieval.training.run_directory import DESCRIPTION, RunDirectory

Progress = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class Describer:
    """Something that describes the photos of a split.

    Attributes:
        name: what it is: a server's address or a model's folder.
        card: dimension, image_size, model_sha256, scales and trained_on of its model, as far as it tells them.
        describe: (split, progress) -> float32 [N, D]; `progress` makes a bar from a number of photos.
        describe_objects: likewise -> the objects of the N photos, whole ones; None where its model finds none.
        query_crop: how `describe` cuts queries that have a box, one of `query_crops.QUERY_CROPS`.
        how: what else the descriptors follow from, by name: precision, photos and pixels in a batch.
        facts: what `meta.json` tells beside it.
        by_parts: split -> what describes its photos part by part; by default `describe` does, one part after another.
    """

    name: str
    card: dict
    describe: Callable[[Split, Progress], np.ndarray]
    describe_objects: Callable[[Split, Progress], ObjectArrays] | None = None
    query_crop: str = SCALED
    how: Mapping[str, object] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
    by_parts: Callable[[Split], PartDescriber] | None = None

    def extract(self, split: Split, progress: Progress, header: dict) -> Descriptors:
        """Describes a split and notes how; `query_crop` is noted where photos of the split have a box.

        Args:
            split: the photos.
            progress: makes a bar from a number of photos.
            header: the provenance header for `meta.json`.
        """
        start = time.perf_counter()
        vectors = self.describe(split, progress)
        taken = (time.perf_counter() - start) * 1000 / max(1, len(split))
        meta = self._meta(split, header, {"milliseconds_per_photo": round(taken, 3)})
        return Descriptors(vectors, split.ids, meta)

    def extract_shards(
        self,
        split: Split,
        output: str | Path,
        shards: int,
        progress: Progress,
        header: dict,
        max_rejected: float = 1.0,
    ) -> tuple[Descriptors, Speed]:
        """Describes a split into a directory shard by shard, or goes on where that was cut off.

        Args:
            split: the photos.
            output: the directory.
            shards: how many.
            progress: makes a bar from a number of photos.
            header: the provenance header for `meta.json`; its versions and hashes are among what has to stay the same.
            max_rejected: share of photos that may be rejected, in [0, 1].

        Returns:
            The descriptors as they stand on disk, and how it went.

        Raises:
            InputError: the directory was begun with something else, or too many photos were rejected.
        """
        work, meta = self.begin_shards(split, output, shards, header)
        speed = extract_shards(work, self.parts_of(split), split.ids, split.name, meta, max_rejected, progress)
        return Descriptors.load(output), speed

    def begin_shards(
        self, split: Split, output: str | Path, shards: int, header: dict
    ) -> tuple[ShardedDescriptors, dict]:
        """Begins a directory that is written shard by shard, or goes on with one; see `extract_shards`.

        Returns:
            The directory, and what its `meta.json` is to hold.

        Raises:
            InputError: the directory was begun with something else.
        """
        versions = {name: header["versions"].get(name) for name in ("tfretrieval", "tensorflow", "keras")}
        model = self.card.get("model_sha256") or self.name
        crop = {"query_crop": self.query_crop} if query_crops.has_boxes(split) else {}
        size = {"image_size": self.card.get("image_size")}
        inputs = {"model": model, **header["data"], "split": split.name, **size, **crop, **self.how, **versions}
        work = ShardedDescriptors.open(output, inputs, len(split), shards)
        return work, self._meta(split, header, {})

    def parts_of(self, split: Split) -> PartDescriber:
        """Returns what describes the photos of a split part by part."""
        return self.by_parts(split) if self.by_parts else self._part_by_part(split)

    def _part_by_part(self, split: Split) -> PartDescriber:
        def parts(rows: Sequence[range], update: Callable[[int], None]) -> Iterator[Part]:
            for part in rows:
                yield Part(self.describe(split.part(part), lambda _: _Updating(update)), {})

        return PartDescriber(parts)

    def _meta(self, split: Split, header: dict, timing: dict) -> dict:
        return {
            "model": self.name,
            "model_sha256": self.card.get("model_sha256"),
            "image_size": self.card.get("image_size"),
            "scales": self.card.get("scales"),
            "trained_on": self.card.get("trained_on"),
            **timing,
            "split": split.name,
            **({"query_crop": self.query_crop} if query_crops.has_boxes(split) else {}),
            **self.facts,
            **header,
        }


@dataclasses.dataclass(frozen=True)
class _Updating:
    """A bar of a part of the photos, which moves that of all."""

    update: Callable[[int], None]

    def close(self) -> None:
        """Does nothing: other parts follow."""


def from_server(client: DescriptorClient, query_crop: str = SCALED) -> Describer:
    """Describes through a running server, to which queries with a box go cut and resized, as PNG.

    Args:
        client: a client of the server.
        query_crop: see `Describer`.

    Raises:
        InputError: the server does not answer as a descriptor model.
    """

    @contextlib.contextmanager
    def refusals(split: Split) -> Iterator[None]:
        try:
            yield
        except ServingError as error:
            named = [repr(split.ids[place]) for place in error.photos[:1]]
            raise InputError(
                f"the server {client.address} refused {', '.join(named) or 'the photos'}: {error}"
            ) from error

    def describe(split: Split, progress: Progress) -> np.ndarray:
        with refusals(split):
            photos = encoded_photos(split, card.get("image_size"), query_crop)
            return _gather(client.describe_batches(photos), split, progress)

    def describe_objects(split: Split, progress: Progress) -> ObjectArrays:
        with refusals(split):
            return _gather_objects(client.describe_object_batches(encoded_photos(split)), split, progress)

    try:
        card = client.card()
        return Describer(client.address, card, describe, describe_objects if "objects" in card else None, query_crop)
    except ServingError as error:
        raise InputError(f"--server={client.address} does not answer as a descriptor model: {error}") from error


def from_model(
    folder: str | Path,
    batch_photos: int = 32,
    which: str = "best",
    objects: ObjectSettings | None = None,
    query_crop: str = SCALED,
    running: RunningOptions | None = None,
) -> Describer:
    """Describes with a model in this process: a SavedModel's folder, or a run directory's Keras network.

    Args:
        folder: version folder or model folder of a SavedModel, or a run directory.
        batch_photos: most photos run together.
        which: of a run directory, the network: "best", "last" or "untrained".
        objects: of a run directory, which objects are found; a SavedModel has its own settings.
        query_crop: see `Describer`.
        running: of a run directory, how the network computes; a SavedModel is as it was exported.

    Raises:
        InputError: the folder holds neither, or the network cannot be run so.
    """
    if (Path(folder) / DESCRIPTION).is_file():
        run, running = RunDirectory.load(folder), running or RunningOptions()
        return _from_run(run, batch_photos, which, objects or ObjectSettings(), query_crop, running)
    if running not in (None, RunningOptions()):
        raise InputError(
            f"--model={folder} is no run directory; --precision, --devices and --batch_pixels are for one, and a "
            "SavedModel is as it was exported."
        )
    model = ServedModel.load(folder)
    card = model.card or {"model_sha256": files.sha256_of_tree(model.version)}

    def batches(photos: Iterator[bytes]) -> Iterator[list[bytes]]:
        return split_batches(photos, max_bytes=64 << 20, max_photos=batch_photos)

    def describe(split: Split, progress: Progress) -> np.ndarray:
        photos = encoded_photos(split, card.get("image_size"), query_crop)
        return _gather(map(model.describe, batches(photos)), split, progress)

    def describe_objects(split: Split, progress: Progress) -> ObjectArrays:
        return _gather_objects(map(model.describe_objects, batches(encoded_photos(split))), split, progress)

    objects_found = describe_objects if model.finds_objects else None
    return Describer(str(folder), card, describe, objects_found, query_crop, {"batch": batch_photos})


def _from_run(
    run: RunDirectory,
    batch_photos: int,
    which: str,
    objects: ObjectSettings,
    query_crop: str,
    running: RunningOptions,
) -> Describer:
    source = load_source(run.path, which)
    extractor, measured = extractor_of(source.network, source.image_size, batch_photos, running)

    def describe(split: Split, progress: Progress) -> np.ndarray:
        photos = query_crops.cropped_photos(split, source.image_size, query_crop)
        return extractor.describe(photos, split.ids, progress)

    def by_parts(split: Split) -> PartDescriber:
        photos = query_crops.cropped_photos(split, source.image_size, query_crop)
        return PartDescriber(
            lambda parts, update: extractor.parts(photos, parts, update), lambda: extractor.busy_seconds
        )

    def describe_objects(split: Split, progress: Progress) -> ObjectArrays:
        finder = ObjectExtractor(source.model, source.image_size, batch_photos, source.classes)
        options = ExtractionOptions(
            most_objects=objects.objects_most,
            least_score=objects.objects_least_score,
            overlap=objects.objects_overlap,
        )
        return _as_served(finder.find(split, options, progress), split, objects.objects_most)

    return Describer(
        str(run.model(which)),
        source.card,
        describe,
        describe_objects if source.finds_objects else None,
        query_crop,
        {"batch": batch_photos, "batch_pixels": extractor.batch_pixels, "precision": running.precision},
        {"precision": {"name": running.precision, **measured}} if measured else {},
        by_parts,
    )


def _as_served(found: Described, split: Split, most: int) -> ObjectArrays:
    """Returns what a network found in the form of the signature: padded, boxes in pixels of the given photos."""
    objects, counts = found.objects, found.objects.counts()
    there = np.arange(most) < counts[:, None]

    def padded(values: np.ndarray) -> np.ndarray:
        full = np.zeros((*there.shape, *values.shape[1:]), values.dtype)
        full[there] = values
        return full

    names = np.array([name.encode() for name in objects.class_names], object)
    return ObjectArrays(
        descriptors=found.whole,
        object_descriptors=padded(found.vectors),
        boxes=padded(objects.boxes) * np.tile(split.sizes, 2)[:, None].astype(np.float32),
        scores=padded(objects.scores),
        classes=padded(objects.classes),
        class_names=np.where(there, padded(names[objects.classes]), b""),
        count=counts.astype(np.int32),
    )


def encoded_photos(split: Split, image_size: int | None = None, query_crop: str = WHOLE) -> Iterator[bytes]:
    """Yields the encoded photos of a split in order, reading one record at a time; see `query_crops.encoded_crops`."""
    return query_crops.encoded_crops(split, image_size, query_crop)


def _gather(batches: Iterator[np.ndarray], split: Split, progress: Progress) -> np.ndarray:
    """Puts batches of descriptors into one matrix."""
    done, vectors = 0, None
    for batch in _counted(batches, split, progress):
        if vectors is None:
            vectors = np.empty((len(split), batch.shape[1]), np.float32)
        vectors[done : done + len(batch)] = batch
        done += len(batch)
    return vectors


def _gather_objects(batches: Iterator[ObjectArrays], split: Split, progress: Progress) -> ObjectArrays:
    return ObjectArrays.concatenate(_counted(batches, split, progress))


def _counted(batches: Iterator, split: Split, progress: Progress) -> Iterator:
    """Yields batches and moves a bar; names the batch's photos when the model refuses one."""
    bar, done = progress(len(split)), 0
    try:
        for batch in batches:
            yield batch
            done += len(batch)
            bar.update(len(batch))
    except tf.errors.InvalidArgumentError as error:
        raise InputError(
            f"a photo from {split.ids[done]!r} on was refused by the model: {useful_line(error.message)}"
        ) from error
    finally:
        bar.close()
