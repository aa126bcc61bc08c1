"""The analysis of object embeddings: the same photos found by six kinds of descriptors, from one table."""

import dataclasses
import functools
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfretrieval.data.object_index import SplitObjects
from tfretrieval.data.objects import NOT_CROPPED
from tfretrieval.data.record_set import Split
from tfretrieval.errors import InputError
from tfretrieval.evaluation.evaluate import evaluate_parts
from tfretrieval.evaluation.relevance import Relevance, own_rows
from tfretrieval.extraction import Extractor
from tfretrieval.layers import GeM, MinimumSize
from tfretrieval.models import retinanet
from tfretrieval.models.detector import find_objects, kind_of
from tfretrieval.models.guided import GuidedObjectEmbedder, plain_branch
from tfretrieval.models.objects import from_descriptor
from tfretrieval.object_descriptors import ObjectBoxes
from tfretrieval.object_extraction import ANNOTATED, FOUND, ExtractionOptions, ObjectExtractor
from tfretrieval.search.object_search import DescriptorSets, ObjectSearch

METHODS = {
    "a": "classifier, whole photo",
    "b": "detector's trunk, whole photo",
    "c": "classifier on crops",
    "d": "classifier's map, boxes as hard attention",
    "e": "detector's box features",
    "f": "guided student",
}
TIMED_OBJECTS = 10
TIMED_ASPECTS = np.linspace(0.5, 1.0, TIMED_OBJECTS)  # of the crops, every other one lying
PASSES = {"a": 1, "b": 1, "c": 1 + TIMED_OBJECTS, "d": 2, "e": 1, "f": 1}  # of a network for a photo of so many objects


@dataclasses.dataclass(frozen=True)
class AnalysisOptions:
    """How photos are compared; `pipelines.analyse_embeddings` has a flag for each.

    Attributes:
        boxes: of database photos: found, by the student's detector; or annotated, those of the records.
        image_size: longer side of whole photos in pixels.
        crop_size: longer side of crops in pixels (never enlarged).
        most_objects: found objects of each photo at most.
        least_score: found objects below it are dropped.
    """

    boxes: str = dataclasses.field(default=FOUND, metadata={"choices": (FOUND, ANNOTATED)})
    image_size: int = 384
    crop_size: int = 224
    most_objects: int = 10
    least_score: float = 0.3

    def __post_init__(self):
        for name in ("image_size", "crop_size"):
            if getattr(self, name) < 32:
                raise InputError(f"--{name}={getattr(self, name)}; 32 pixels or more are wanted.")
        self.extraction()

    def extraction(self) -> ExtractionOptions:
        """Returns which objects are found.

        Raises:
            InputError: a number is out of range.
        """
        return ExtractionOptions(most_objects=self.most_objects, least_score=self.least_score)


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """One row of the table.

    Attributes:
        method: key of `METHODS`.
        map: mean average precision, rectangular.
        recall_at_1: share of the queries whose first photo is relevant.
        passes: passes of a network for a photo with `TIMED_OBJECTS` objects.
        milliseconds: of these passes, without decoding, in the median.
    """

    method: str
    map: float
    recall_at_1: float
    passes: int
    milliseconds: float


def trunk_descriptor(detector: keras.Model) -> keras.Model:
    """Returns the network that describes whole photos by GeM over the last map of a detector's trunk.

    Photos are scaled and made at least 32 pixels large as for a network of `build_descriptor`; the grey that the
    RetinaNet pads photos with would be pooled too, and be much of a crop. D-FINE resizes all photos to one size.
    """
    photos = keras.Input((None, None, 3), name="photos")
    if kind_of(detector) is retinanet:
        encoder = detector.backbone.image_encoder
        maps = encoder.trunk(encoder.get_layer("input_scaling")(MinimumSize(name="minimum_size")(photos)))[-1]
    else:
        trunk = kind_of(detector).maps(detector, photos)["trunk"]
        maps = trunk[max(trunk)]  # levels are single digits
    pooled = GeM(name="pooling")(maps)
    return keras.Model(photos, keras.layers.UnitNormalization(dtype="float32")(pooled), name="trunk_descriptor")


class ObjectAnalysis:
    """Compares kinds of descriptors on the objects of some photos, searched for among others.

    Each annotated object of the query photos is a query, those flagged difficult, crowd or group left out; a database
    photo is relevant when it shows an object of its class. A query is described as database objects are: as a crop in
    (a), (b) and (c), as a box of its photo in (d), (e) and (f). A photo's similarity is that of its most similar
    object; in (c) to (f), a photo without one comes last. The six rows are those of the analysis of Chen, Davis, Lim,
    arXiv 1905.11903; their protocol is not known, and this one is this toolkit's.

    Args:
        queries: photos with objects.
        database: photos with objects.
        options: how photos are compared.
        query_classes: classes whose objects are queries, as indices; all when None.
        progress: makes a bar with an `update(n)` method from a number of photos.

    Raises:
        InputError: photos without annotations, or no query object has a relevant photo.
    """

    def __init__(
        self,
        queries: Split,
        database: Split,
        options: AnalysisOptions,
        query_classes: np.ndarray | None = None,
        progress: Callable | None = None,
    ):
        self._queries, self._database, self._options, self._bar = queries, database, options, progress
        for split in (queries, database):
            if split.objects is None:
                raise InputError(
                    f"the photos of the split {split.name!r} have no annotated objects; records of --source=voc, coco "
                    "or open_images are wanted."
                )
        objects = queries.objects
        kept = ~np.any([objects.flag(name) for name in sorted(NOT_CROPPED)], axis=0)
        if query_classes is not None:
            kept &= np.isin(objects.classes, query_classes)
        chosen = np.flatnonzero(kept)
        self._asked = _boxes_of(objects, chosen)
        own = own_rows([queries.ids[row] for row in self._asked.rows()], database.ids)
        self.relevance = Relevance.by_content(_one_each(objects, chosen), database.objects, own)
        if self.counts()["queries_without_relevant"] == len(chosen):
            raise InputError("no object of the query photos has a class that a database photo shows; nothing to find.")

    def counts(self) -> dict[str, int]:
        """Returns the numbers of queries, of those with nothing to find, of their photos and of database photos."""
        without = sum(not self.relevance.masks(query)[0].any() for query in range(len(self.relevance)))
        return {
            "queries": len(self.relevance),
            "queries_without_relevant": without,
            "query_photos": int(np.count_nonzero(self._asked.counts())),
            "database": len(self._database),
        }

    def rows(
        self, classifier: keras.Model, student: GuidedObjectEmbedder, names: tuple[str, ...]
    ) -> list[MethodResult]:
        """Measures all methods.

        Args:
            classifier: a descriptor network, the teacher.
            student: the guided one.
            names: of the detector's classes.
        """
        size, crop = self._options.image_size, self._options.crop_size
        passes = passes_of(classifier, student)  # refuses networks that cannot be compared before any work
        found, asked = self._boxes(student, names), self._asked
        whole, crops = ObjectExtractor(classifier, size), ObjectExtractor(classifier, crop)
        trunk = ObjectExtractor(trunk_descriptor(student.detector), size)
        plain, guided = ObjectExtractor(plain_branch(student.detector), size), ObjectExtractor(student, size)
        described = {}
        for method, extractor in (("a", whole), ("b", trunk)):
            vectors = extractor.describe_crops(self._queries, asked, self._bar).vectors
            database = Extractor(extractor.model, size)(self._database, None, self._bar)
            described[method] = vectors, DescriptorSets.single(database)
        for method, extractor in (("c", crops), ("d", whole), ("e", plain), ("f", guided)):
            describe = extractor.describe_crops if method == "c" else extractor.describe
            vectors = describe(self._queries, asked, self._bar).vectors
            database = describe(self._database, found, self._bar).vectors
            described[method] = vectors, DescriptorSets(found.offsets, database)
        times = self._milliseconds(passes)
        return [self._result(method, *described[method], times[method]) for method in METHODS]

    def _boxes(self, student: GuidedObjectEmbedder, names: tuple[str, ...]) -> ObjectBoxes:
        if self._options.boxes == ANNOTATED:
            objects = self._database.objects
            return _boxes_of(objects, np.arange(len(objects.classes)))
        extractor = ObjectExtractor(student, self._options.image_size, classes=names)
        return extractor.find(self._database, self._options.extraction(), self._bar).objects

    def _result(self, method: str, vectors: np.ndarray, database: DescriptorSets, milliseconds: float) -> MethodResult:
        rankings = ObjectSearch().rankings(DescriptorSets.single(vectors), database)
        found = evaluate_parts(rankings, self.relevance)
        return MethodResult(method, float(found.map), float(found.recall_at[1]), PASSES[method], milliseconds)

    def _milliseconds(self, passes: dict[str, Callable]) -> dict[str, float]:
        """Returns the median for one photo of 3 : 4 with `TIMED_OBJECTS` objects, by method."""
        photo, crops = timed_pixels(self._options.image_size, self._options.crop_size)
        return {method: median_milliseconds(functools.partial(run, photo, crops)) for method, run in passes.items()}


def timed_pixels(size: int, crop: int) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns what is timed: noise for a photo [1, size, 3 size / 4, 3] and for `TIMED_OBJECTS` crops [1, h, w, 3].

    As crops of one photo are, each is of a shape of its own, its longer side `crop` pixels.
    """
    sides = [(crop, round(crop * aspect)) for aspect in TIMED_ASPECTS]
    shapes = [(size, size * 3 // 4), *(pair[:: 1 - 2 * (place % 2)] for place, pair in enumerate(sides))]
    photo, *crops = (tf.random.stateless_uniform([1, *shape, 3], (0, 1), 0, 255) for shape in shapes)
    return photo, crops


def passes_of(classifier: keras.Model, student: GuidedObjectEmbedder) -> dict[str, Callable]:
    """Returns functions that do the passes of each method, of a photo [1, H, W, 3] and a list of crops [n, h, w, 3].

    Methods that look at boxes find them first, by the student's detector and its non-maximum suppression:
    `find_and_describe` in (e) and (f), the detector alone in (c) and (d). What is then described does not depend on
    what was found, so that each method describes `TIMED_OBJECTS` objects. The classifier runs once for each item of
    the crops in (c): crops keep their aspect, and those of one photo are seldom of one shape.
    """
    detector = student.detector
    attention, plain, trunk = from_descriptor(classifier), plain_branch(detector), trunk_descriptor(detector)
    boxes = tf.tile(tf.constant([[[0.2, 0.3, 0.6, 0.7]]]), [1, TIMED_OBJECTS, 1])
    valid = tf.ones([1, TIMED_OBJECTS], tf.bool)

    def find(photo: tf.Tensor) -> tf.Tensor:
        outputs = detector(photo, training=False)
        return find_objects(detector, outputs, tf.unstack(tf.shape(photo)[1:3]), TIMED_OBJECTS, 0.0)["boxes"]

    hard = lambda photo: attention({"photos": photo, "boxes": boxes, "valid": valid}, training=False)  # noqa: E731
    both = lambda model, photo: model.find_and_describe(photo, TIMED_OBJECTS, 0.0)["object_descriptors"]  # noqa: E731
    of_any_shape = tf.function(
        lambda photos: classifier(photos, training=False), input_signature=[tf.TensorSpec([None, None, None, 3])]
    )
    finding = tf.function(find)
    return {
        "a": lambda photo, crops: of_any_shape(photo),
        "b": _of_photo(lambda photo: trunk(photo, training=False)),
        "c": lambda photo, crops: (finding(photo), *map(of_any_shape, crops)),
        "d": _of_photo(lambda photo: (find(photo), hard(photo)["object_descriptors"])),
        "e": _of_photo(lambda photo: both(plain, photo)),
        "f": _of_photo(lambda photo: both(student, photo)),
    }


def _of_photo(run: Callable) -> Callable:
    graph = tf.function(run)
    return lambda photo, crops: graph(photo)


def median_milliseconds(run: Callable, times: int = 9) -> float:
    """Returns the median time of a call in milliseconds, after two calls that are not counted."""
    seconds = []
    for call in range(times + 2):
        start = time.perf_counter()
        tf.nest.map_structure(lambda value: value.numpy(), run())
        if call > 1:
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1000


def _one_each(objects: SplitObjects, chosen: np.ndarray) -> SplitObjects:
    """Returns chosen objects, each as of a photo of its own."""
    return SplitObjects(
        np.arange(len(chosen) + 1),
        objects.boxes[chosen],
        objects.classes[chosen],
        objects.numbers[chosen],
        objects.flags[chosen],
    )


def _boxes_of(objects: SplitObjects, chosen: np.ndarray) -> ObjectBoxes:
    """Returns chosen objects, rising, of the same photos, with numbers for their classes' names."""
    return ObjectBoxes(
        np.searchsorted(objects.rows()[chosen], np.arange(len(objects) + 1)),
        objects.boxes[chosen],
        np.ones(len(chosen), np.float32),
        objects.classes[chosen],
        objects.numbers[chosen],
        tuple(map(str, range(1 + int(objects.classes.max(initial=0))))),
    )
