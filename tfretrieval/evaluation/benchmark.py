"""A benchmark directory, and saved descriptors matched to its photos."""

import dataclasses
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.record_set import BENCHMARK, BY_CONTENT, BY_INSTANCE, JUDGED, RecordSet, Split
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.evaluation.relevance import Relevance, own_rows

# The protocols of benchmarks that name none.
_USUAL_PROTOCOLS = {BY_INSTANCE: "instances", BY_CONTENT: "content"}
# Descriptors stored by way of half precision keep their length to about 1e-3.
_LENGTH_TOLERANCE = 1e-2
# Descriptors whose lengths are looked at together, so that of memory-mapped ones no more is copied.
_CHECKED_AT_A_TIME = 16_384


@dataclasses.dataclass(frozen=True)
class MatchedDescriptors:
    """Descriptors of exactly the photos of one split, in its order.

    Attributes:
        vectors: float32 [N, D], finite, L2-normalised.
        meta: the saved descriptors' `meta.json`.
        sha256: hash of their `vectors.npy`.
        records_noted: whether `meta` tells which records they were extracted from.
    """

    vectors: np.ndarray
    meta: dict
    sha256: str
    records_noted: bool


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A record set with queries, a database, and the rule of relevance.

    Attributes:
        directory: where it is.
        name: the benchmark's name.
        relevance_kind: "instance", or "content" where photos have objects (see `Relevance`), or "judged" where the
            benchmark itself says which database photos are right for which query.
        queries: the query photos.
        database: the database photos.
        instances: instance names; a photo's label is an index into them.
        sha256: hash of the records.
        cropped_queries: whether queries are crops, whose ids are their photo's id, "#" and the object's number.
        protocol: how it is measured, a key of `tfretrieval.evaluation.protocols.PROTOCOLS`.
        judgements: of a judged benchmark, what it says of each query; otherwise None.
        ground_truth_sha256: of a judged benchmark, the hash of its ground truth's files; otherwise empty.
    """

    directory: Path
    name: str
    relevance_kind: str
    queries: Split
    database: Split
    instances: tuple[str, ...]
    sha256: str
    cropped_queries: bool = False
    protocol: str = _USUAL_PROTOCOLS[BY_INSTANCE]
    judgements: tuple[QueryJudgement, ...] | None = None
    ground_truth_sha256: str = ""

    @classmethod
    def load(cls, directory: str | Path) -> "Benchmark":
        """Opens a benchmark that `pipelines.make_records` wrote.

        Raises:
            InputError: something is missing or inconsistent, or the benchmark's relevance is of an unknown kind.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(f"--benchmark={directory} is not a directory; one with a {BENCHMARK} is wanted.")
        description = files.read_json(directory / BENCHMARK, "a benchmark that pipelines.make_records wrote")
        records = RecordSet.load(directory)
        for split in ("queries", "database"):
            if split not in records.splits or not len(records.splits[split]):
                raise InputError(
                    f"--benchmark={directory} has no photos in the split {split!r}; queries and a database are wanted."
                )
        kind = description.get("relevance")
        _check_kind(directory, kind, records)
        if description.get("sha256") != records.sha256:
            raise InputError(
                f"{directory / BENCHMARK} has the sha256 {str(description.get('sha256'))[:12]}, and dataset.json "
                f"beside it {records.sha256[:12]}; equal ones are wanted, make the records again."
            )
        name = str(description.get("name", records.name))
        splits = records.split("queries"), records.split("database")
        cropped = bool(description.get("cropped_queries", False))
        protocol = description.get("protocol", _USUAL_PROTOCOLS.get(kind))
        truth = description.get("ground_truth_sha256", "")
        if not isinstance(protocol, str) or not isinstance(truth, str) or (kind == JUDGED and not truth):
            raise InputError(
                f"{directory / BENCHMARK} has the protocol {protocol!r} and the ground_truth_sha256 {truth!r}; the "
                "name of a protocol and, of judged queries, a hash are wanted, make the records again."
            )
        judged = (splits[0].judgements, truth) if kind == JUDGED else ()
        return cls(directory, name, kind, *splits, records.labels, records.sha256, cropped, protocol, *judged)

    def relevance(self) -> Relevance:
        """Returns which database photos are right for which query; a query's own photo is junk.

        Raises:
            InputError: no query has a relevant photo, so that nothing can be measured, or the benchmark is judged by
                a protocol of its own.
        """
        if self.relevance_kind == JUDGED:
            raise InputError(
                f"--benchmark={self.directory} is judged by the protocol {self.protocol!r}; one whose photos are right "
                "by their instance or their content is wanted here."
            )
        own = own_rows(self.queries.ids, self.database.ids)
        if self.cropped_queries:
            photos = own_rows([photo.rpartition("#")[0] for photo in self.queries.ids], self.database.ids)
            own = np.maximum(own, photos)
        if self.relevance_kind == BY_CONTENT:
            relevance = Relevance.by_content(self.queries.objects, self.database.objects, own)
        else:
            relevance = Relevance.by_instance(self.queries.labels, self.database.labels, own)
        if not any(relevance.masks(query)[0].any() for query in range(len(relevance))):
            sought = "classes are" if self.relevance_kind == BY_CONTENT else "instance is"
            raise InputError(
                f"--benchmark={self.directory} has no query whose {sought} in the database beside the query itself; "
                "one or more are wanted."
            )
        return relevance

    def match(self, directory: str | Path, split: str) -> MatchedDescriptors:
        """Opens saved descriptors and takes those of one split's photos.

        Args:
            directory: what `Descriptors.save` wrote; may hold further photos.
            split: "queries" or "database", also the flag's name in errors.

        Raises:
            InputError: photos are missing, vectors are not finite or not L2-normalised, or the descriptors were
                extracted from other records.
        """
        flag = f"--{split}={directory}"
        descriptors = Descriptors.load(directory)
        noted = self.check_records(descriptors.meta, flag)
        photos = getattr(self, split).ids
        vectors = descriptors.rows(photos, f"the descriptors of {flag}")
        check_vectors(vectors, photos, flag)
        return MatchedDescriptors(vectors, descriptors.meta, files.sha256(Path(directory) / "vectors.npy"), noted)

    def check_records(self, meta: dict, flag: str) -> bool:
        """Returns whether saved descriptors' `meta.json` tells which records they are of.

        Args:
            meta: its content.
            flag: the flag and its value that named them, for the error's sentence.

        Raises:
            InputError: they were extracted from other records.
        """
        found = _recorded(meta, "data", "records")
        if found is not None and found != self.sha256:
            raise InputError(
                f"{flag} was extracted from the records {str(found)[:12]}, and --benchmark={self.directory} holds "
                f"{self.sha256[:12]}; descriptors of the benchmark's own records are wanted."
            )
        return found is not None


def _check_kind(directory: Path, kind: object, records: RecordSet) -> None:
    """Checks that the records have what their benchmark's kind of relevance needs."""
    path = directory / BENCHMARK
    if kind not in (BY_INSTANCE, BY_CONTENT, JUDGED):
        raise InputError(f"{path} has the relevance {kind!r}; {BY_INSTANCE!r}, {BY_CONTENT!r} or {JUDGED!r} is wanted.")
    if kind == BY_CONTENT and not records.classes:
        raise InputError(
            f"{path} has the relevance {kind!r}, and the photos of the records beside it have no objects; records of a "
            "source with objects are wanted."
        )
    if kind == JUDGED and records.split("queries").judgements is None:
        raise InputError(
            f"{path} has the relevance {kind!r}, and the queries of the records beside it have no judgements; records "
            "of a source with judgements are wanted."
        )


def check_pair(queries: MatchedDescriptors, database: MatchedDescriptors) -> list[str]:
    """Checks that queries and database can be compared, and returns what a reader of the numbers should know.

    Returns:
        Sentences: different models (an asymmetric comparison), different image sizes, records not noted.

    Raises:
        InputError: the dimensions differ.
    """
    if queries.vectors.shape[1] != database.vectors.shape[1]:
        raise InputError(
            f"--queries holds descriptors of {queries.vectors.shape[1]} dimensions and --database of "
            f"{database.vectors.shape[1]}; equal dimensions are wanted."
        )
    notes = []
    hashes = [matched.meta.get("model_sha256") for matched in (queries, database)]
    sizes = [matched.meta.get("image_size") for matched in (queries, database)]
    if hashes[0] != hashes[1]:
        notes.append(
            f"Queries and database were described by different models ({_short(hashes[0])} and {_short(hashes[1])}): "
            "the comparison is asymmetric."
        )
    if sizes[0] != sizes[1]:
        notes.append(f"Queries and database were described at different image sizes ({sizes[0]} and {sizes[1]}).")
    for flag, matched in (("--queries", queries), ("--database", database)):
        if not matched.records_noted:
            notes.append(f"The descriptors of {flag} do not say which records they were extracted from.")
    return notes


def _recorded(meta: dict, *keys: str) -> object:
    """Follows keys into `meta`, which may come from elsewhere; None where one is missing."""
    value: object = meta
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _short(digest: object) -> str:
    return "not recorded" if digest is None else str(digest)[:12]


def check_vectors(vectors: np.ndarray, photos: tuple[str, ...], flag: str) -> None:
    """Checks that descriptors are finite and of length 1.

    Args:
        vectors: float32 [N, D].
        photos: N ids of photos, or of objects in them.
        flag: the flag and its value that named them.

    Raises:
        InputError: some are not; the sentence names the first and counts them.
    """
    parts = range(0, len(vectors), _CHECKED_AT_A_TIME)
    norms = [np.linalg.norm(vectors[at : at + _CHECKED_AT_A_TIME], axis=1) for at in parts]
    lengths = np.concatenate([np.empty(0, np.float32), *norms])
    wrong = np.flatnonzero(~np.isfinite(lengths))
    if len(wrong):
        raise InputError(
            f"{flag} holds values that are not finite for {len(wrong)} of {len(photos)} photos, first "
            f"{photos[wrong[0]]!r}; finite descriptors are wanted."
        )
    wrong = np.flatnonzero(np.abs(lengths - 1) > _LENGTH_TOLERANCE)
    if len(wrong):
        raise InputError(
            f"{flag} holds a descriptor of length {lengths[wrong[0]]:.4g} for {photos[wrong[0]]!r} ({len(wrong)} of "
            f"{len(photos)} photos are so); L2-normalised descriptors, of length 1, are wanted."
        )
