"""The photos of a page: each is made a thumbnail and kept once, in the page or in a file beside it."""

import base64
import dataclasses
import hashlib
import html
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tfretrieval.data.judgements import UNLABELLED
from tfretrieval.data.record_set import Split
from tfretrieval.data.records import decode_record
from tfretrieval.errors import InputError

JPEG_QUALITY = 72
FOLDER = "strips"  # beside the page: thumbnails that do not fit into it, and further strips
WHOLE, CROP, BOXED = "whole", "crop", "boxed"
_OUTLINE, _DIMMED = (255, 210, 31), 0.45
_BASE64_BITS = 4 / 3

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Photos:
    """Photos that a page can show.

    Attributes:
        ids: N photo ids.
        instances: N instance names; empty where a photo's is not known.
        read: returns the encoded photo (JPEG or PNG) of a row; None where there is none at hand.
        shows: N tuples of the names of all that a photo shows, in benchmarks where more than one thing counts.
        boxes: N boxes (x1, y1, x2, y2) as shares of width and height, of the part that is searched for; None for
            photos that are searched for whole.
    """

    ids: Sequence[str]
    instances: Sequence[str]
    read: Callable[[int], bytes | None]
    shows: Sequence[tuple[str, ...]] | None = None
    boxes: Sequence[Box | None] | None = None

    @classmethod
    def from_split(cls, split: Split, instances: Sequence[str]) -> "Photos":
        """Returns the photos of a record set's split; `instances` are the set's instance names.

        Photos of a split with objects show the classes of those that are not difficult; judged queries have the boxes
        of their judgements.
        """
        names = ["" if instances[label] == UNLABELLED else instances[label] for label in split.labels.tolist()]
        boxes = None
        if split.judgements is not None:
            places = zip(split.judgements, split.sizes.tolist(), strict=True)
            boxes = [_share(judgement.box, *size) for judgement, size in places]
        read = lambda row: decode_record(split.read(row)).photo.encoded  # noqa: E731
        return cls(split.ids, names, read, _classes_shown(split, instances), boxes)

    def label(self, row: int) -> str:
        """Returns what a photo is captioned with: what it shows, or its id where that is not known."""
        names = self.names(row)
        return ", ".join(names) if names else self.ids[row]

    def names(self, row: int) -> tuple[str, ...]:
        """Returns the names of what a photo shows; none where that is not known."""
        if self.shows is not None and self.shows[row]:
            return self.shows[row]
        return (self.instances[row],) if self.instances[row] else ()

    def are_named(self) -> bool:
        """Returns whether what photos show is known of any."""
        return self.shows is not None or any(self.instances)

    def box(self, row: int) -> Box | None:
        """Returns the part of a photo that is searched for, as shares; None for the whole."""
        return None if self.boxes is None else self.boxes[row]


def _share(box: Box | None, height: int, width: int) -> Box | None:
    return None if box is None else (box[0] / width, box[1] / height, box[2] / width, box[3] / height)


def _classes_shown(split: Split, names: Sequence[str]) -> list[tuple[str, ...]] | None:
    """Returns the classes of each photo's objects, the largest object's first; difficult ones decide nothing."""
    if split.objects is None:
        return None
    objects, shown = split.objects, []
    clear = ~objects.flag("difficult")
    areas = np.prod(objects.boxes[:, 2:] - objects.boxes[:, :2], axis=1)
    for start, stop in zip(objects.offsets[:-1].tolist(), objects.offsets[1:].tolist(), strict=True):
        largest_first = start + np.argsort(-areas[start:stop], kind="stable")
        classes = objects.classes[largest_first[clear[largest_first]]].tolist()
        shown.append(tuple(names[each] for each in dict.fromkeys(classes)))
    return shown


class Album:
    """Collects the photos that a page shows.

    They are embedded in the page until they are more than it should hold; then all of them are files beside it, which
    a browser loads when they come into view. Their names are hashes, so that pages of one folder may share them.

    Args:
        side: pixels of the thumbnails' longer side.
        beside: the folder of the page; without one, photos are embedded however many they are.
        most: bytes of photos that are embedded at most, as base64.
        prefix: what its keys begin with; albums of one page have different ones.
    """

    def __init__(self, side: int, beside: Path | None = None, most: int = 8_000_000, prefix: str = "p"):
        self._side, self._beside, self._most, self._prefix = side, beside, most, prefix
        self._keys: dict[tuple[Photos, int, str], str] = {}
        self._key_of: dict[str, str] = {}  # hash of the JPEG -> key
        self._embedded: dict[str, bytes] = {}  # hash -> JPEG
        self._size = 0
        self._in_files = False

    def __len__(self) -> int:
        return len(self._key_of)

    @property
    def in_files(self) -> bool:
        """Whether the photos are files beside the page."""
        return self._in_files

    def image(self, photos: Photos, row: int, alt: str, part: str = WHOLE) -> str:
        """Returns an `img` element of one photo, whose picture `placed` or the page's script gives it.

        A photo that is not at hand is a box that says so.

        Args:
            photos: where the photo is from.
            row: which one.
            alt: what it is, for those who do not see it; plain text.
            part: WHOLE, CROP for what lies in its box, or BOXED for the whole with its box drawn.

        Raises:
            InputError: the photo cannot be decoded.
        """
        key = self.key(photos, row, part)
        if not key:
            return f'<span class="missing" role="img" aria-label="{html.escape(alt)}; no photo">no photo</span>'
        return self._element(key, alt)

    def picture(self, pixels: np.ndarray, alt: str) -> str:
        """Returns an `img` element of pixels, uint8 [H, W, 3], RGB."""
        return self._element(self._add(self._small(Image.fromarray(pixels))), alt)

    def key(self, photos: Photos, row: int, part: str = WHOLE) -> str:
        """Returns the key of one photo's thumbnail; empty where the photo is not at hand.

        Raises:
            InputError: the photo cannot be decoded.
        """
        place = (photos, int(row), part if photos.box(int(row)) else WHOLE)
        if place not in self._keys:
            encoded = photos.read(int(row))
            self._keys[place] = "" if encoded is None else self._add(self._thumbnail(encoded, *place))
        return self._keys[place]

    def to_files(self) -> None:
        """Has the photos lie in files, however few they are: for further pages that show them too."""
        self._in_files = True
        self._folder().mkdir(exist_ok=True)
        for digest, jpeg in self._embedded.items():
            self._write(digest, jpeg)
        self._embedded.clear()

    def placed(self, page: str, folder: str = f"{FOLDER}/") -> str:
        """Returns HTML of `image` elements with the files' addresses; as it is where photos are embedded.

        Args:
            page: the HTML.
            folder: where the files are, seen from the page; empty for a page that lies among them.
        """
        if not self._in_files:
            return page
        files = {key: f"{folder}{digest}.jpg" for digest, key in self._key_of.items()}
        # In texts and attributes every quote is escaped, so that this is found in `img` elements only.
        pattern = re.compile(f'data-photo="({self._prefix}[0-9]+)"')
        return pattern.sub(lambda found: f'src="{files[found[1]]}"', page)

    def sources(self) -> dict[str, str]:
        """Returns what the page's script needs of each key: base64 JPEG, or the file's address."""
        if self._in_files:
            return {key: f"{FOLDER}/{digest}.jpg" for digest, key in self._key_of.items()}
        return {key: base64.b64encode(self._embedded[digest]).decode("ascii") for digest, key in self._key_of.items()}

    def json(self) -> str:
        """Returns `sources` as JSON."""
        return json.dumps(self.sources())

    def _element(self, key: str, alt: str) -> str:
        # The size keeps the place free while a picture is missing; the style sheet decides what is shown.
        return (
            f'<img data-photo="{key}" alt="{html.escape(alt)}" width="{self._side}" '
            f'height="{self._side}" loading="lazy" decoding="async">'
        )

    def _add(self, jpeg: bytes) -> str:
        digest = hashlib.sha256(jpeg).hexdigest()[:20]
        if digest not in self._key_of:
            self._key_of[digest] = f"{self._prefix}{len(self._key_of)}"
            self._size += int(len(jpeg) * _BASE64_BITS)
            if self._in_files:
                self._write(digest, jpeg)
            else:
                self._embedded[digest] = jpeg
                if self._beside is not None and self._size > self._most:
                    self.to_files()
        return self._key_of[digest]

    def _folder(self) -> Path:
        if self._beside is None:
            raise ValueError("this album has no folder for files.")
        return self._beside / FOLDER

    def _write(self, digest: str, jpeg: bytes) -> None:
        path = self._folder() / f"{digest}.jpg"
        if not path.exists():
            path.write_bytes(jpeg)

    def _thumbnail(self, encoded: bytes, photos: Photos, row: int, part: str) -> bytes:
        box = photos.box(row) if part != WHOLE else None
        image = decoded(encoded, photos.ids[row], 2 * self._side if part != CROP else None)
        return self._small(cropped(image, box if part == CROP else None), box if part == BOXED else None)

    def _small(self, image: Image.Image, box: Box | None = None) -> bytes:
        image.thumbnail((self._side, self._side), Image.Resampling.LANCZOS)
        if box:
            image = _with_box(image, _pixels(box, image.size))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
        return buffer.getvalue()


def decoded(encoded: bytes, photo: str, wanted: int | None = None) -> Image.Image:
    """Decodes a photo to RGB.

    Args:
        encoded: JPEG or PNG.
        photo: its id, for the error.
        wanted: pixels a side that are enough: a JPEG may come smaller than it is, and several times faster.

    Raises:
        InputError: it cannot be decoded.
    """
    try:
        image = Image.open(io.BytesIO(encoded))
        if wanted:
            image.draft("RGB", (wanted, wanted))
        return image.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise InputError(f"the photo {photo!r} cannot be decoded ({error}); make it again.") from error


def cropped(image: Image.Image, box: Box | None) -> Image.Image:
    """Returns what lies in a box of shares of an image; the image itself where there is none."""
    return image if box is None else image.crop(_pixels(box, image.size))


def _pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns a box in whole pixels of an image of (width, height), inside it and of one pixel at least."""
    width, height = size
    left, top = min(max(int(box[0] * width), 0), width - 1), min(max(int(box[1] * height), 0), height - 1)
    right, bottom = min(max(round(box[2] * width), left + 1), width), min(max(round(box[3] * height), top + 1), height)
    return left, top, right, bottom


def _with_box(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Returns an image that is dark outside of a box, with the box's outline."""
    dark = Image.eval(image, lambda value: int(value * _DIMMED))
    dark.paste(image.crop(box), box[:2])
    left, top, right, bottom = box
    ImageDraw.Draw(dark).rectangle((left, top, right - 1, bottom - 1), outline=_OUTLINE, width=2)
    return dark
