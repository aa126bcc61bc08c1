"""One photo of a source made into what is written of it: a record, or one for each of its objects."""

import dataclasses
from collections.abc import Mapping

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.objects import NO_OBJECT, ObjectFault, PhotoObjects, PlacedObject, place_objects
from tfretrieval.data.photos import PhotoError, RecordPhoto, crop_photo, prepare_photo, stored_photo, upright_box
from tfretrieval.data.query_crops import pixel_window
from tfretrieval.data.records import Record, RecordObject
from tfretrieval.data.sources import PhotoEntry

WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What one entry of a source becomes.

    Attributes:
        records: the records to write.
        numbers: for each record, its objects' numbers (`objects.Object`).
        fault: why the photo is left out; empty where it is not.
        faults: objects left out.
        clipped: boxes cut off at the photo's border.
    """

    records: tuple[Record, ...] = ()
    numbers: tuple[tuple[int, ...], ...] = ()
    fault: str = ""
    faults: tuple[ObjectFault, ...] = ()
    clipped: int = 0


def prepare_entry(
    entry: PhotoEntry, max_pixels: int, label_of: Mapping[str, int], judgement: QueryJudgement | None = None
) -> Prepared:
    """Reads a photo and checks its boxes.

    Args:
        entry: the photo.
        max_pixels: see `prepare_photo`.
        label_of: label of every instance and class.
        judgement: of a judged query; its box is turned as the photo is.
    """
    known = entry.objects.annotation.faults if entry.objects else ()
    try:
        if entry.objects and entry.objects.annotation.fault:
            return Prepared(fault=entry.objects.annotation.fault, faults=known)
        encoded = entry.path.read_bytes()
        photo = prepare_photo(encoded, max_pixels)
        if entry.objects:
            return _with_objects(entry, encoded, photo, label_of)
        boxes = tuple(_relative_box(box, photo) for box in entry.boxes)
        judgement = _upright_judgement(judgement, encoded)
        record = Record(photo, entry.photo_id, label_of[entry.instance], entry.instance, boxes, (), judgement)
        return Prepared((record,), ((),))
    except OSError as error:
        return Prepared(fault=f"the file cannot be read: {error.strerror or error}", faults=known)
    except PhotoError as error:
        return Prepared(fault=str(error), faults=known)


def _upright_judgement(judgement: QueryJudgement | None, encoded: bytes) -> QueryJudgement | None:
    """Turns the box of a query, and checks that it can be cut out."""
    if judgement is None or judgement.box is None:
        return judgement
    box = upright_box(judgement.box, stored_photo(encoded))
    try:
        pixel_window(box)
    except ValueError as error:
        raise PhotoError(str(error)) from None
    return dataclasses.replace(judgement, box=box)


def _relative_box(box: tuple[float, float, float, float], photo: RecordPhoto) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = box
    if xmax > photo.width or ymax > photo.height:
        raise PhotoError(f"the box {box} reaches outside the photo of {photo.width}x{photo.height} pixels")
    return xmin / photo.width, ymin / photo.height, xmax / photo.width, ymax / photo.height


def _with_objects(entry: PhotoEntry, encoded: bytes, photo: RecordPhoto, label_of: Mapping[str, int]) -> Prepared:
    wanted: PhotoObjects = entry.objects
    placed, faults, clipped = place_objects(wanted.annotation, (photo.height, photo.width), stored_photo(encoded))
    faults = tuple(sorted((*wanted.annotation.faults, *faults), key=lambda fault: fault.number))
    if not placed and faults and not wanted.keep_empty:
        first = f"first object {faults[0].number}: {faults[0].reason}"
        return Prepared(fault=f"all of its {len(faults)} objects had to be rejected ({first})", faults=faults)
    if wanted.cropped:
        crops = crop_photo(photo, [item.box for item in placed])
        records = tuple(
            _record(crop, f"{entry.photo_id}#{item.number}", (dataclasses.replace(item, box=WHOLE),), label_of)
            for crop, item in zip(crops, placed, strict=True)
        )
        return Prepared(records, tuple((item.number,) for item in placed), "", faults, clipped)
    record = _record(photo, entry.photo_id, placed, label_of)
    return Prepared((record,), (tuple(item.number for item in placed),), "", faults, clipped)


def _record(photo: RecordPhoto, photo_id: str, placed: tuple[PlacedObject, ...], label_of: Mapping[str, int]) -> Record:
    """Makes a record whose instance is the class of its largest object, the first of equal ones."""
    objects = tuple(RecordObject(item.box, label_of[item.name], item.name, item.flags) for item in placed)
    areas = [(item.box[2] - item.box[0]) * (item.box[3] - item.box[1]) for item in objects]
    instance = objects[areas.index(max(areas))].name if objects else NO_OBJECT
    return Record(photo, photo_id, label_of[instance], instance, (), objects)
