"""The photos of a page: each is made a thumbnail and embedded once, however often the page shows it."""

import base64
import dataclasses
import html
import io
import json
from collections.abc import Callable, Sequence

from PIL import Image

from tfretrieval.data.record_set import Split
from tfretrieval.data.records import decode_record
from tfretrieval.errors import InputError

JPEG_QUALITY = 72


@dataclasses.dataclass(frozen=True, eq=False)
class Photos:
    """Photos that a page can show.

    Attributes:
        ids: N photo ids.
        instances: N instance names.
        read: returns the encoded photo (JPEG or PNG) of a row.
    """

    ids: Sequence[str]
    instances: Sequence[str]
    read: Callable[[int], bytes]

    @classmethod
    def from_split(cls, split: Split, instances: Sequence[str]) -> "Photos":
        """Returns the photos of a record set's split; `instances` are the set's instance names."""
        names = [instances[label] for label in split.labels.tolist()]
        return cls(split.ids, names, lambda row: decode_record(split.read(row)).photo.encoded)


class Album:
    """Collects the photos that a page shows.

    Args:
        side: pixels of the thumbnails' longer side.
    """

    def __init__(self, side: int):
        self._side = side
        self._keys: dict[tuple[Photos, int], str] = {}
        self._thumbnails: dict[str, str] = {}  # base64 JPEG -> key

    def __len__(self) -> int:
        return len(self._thumbnails)

    def image(self, photos: Photos, row: int, alt: str) -> str:
        """Returns an `img` element of one photo; the page's script gives it its picture.

        Args:
            photos: where the photo is from.
            row: which one.
            alt: what it is, for those who do not see it; plain text.

        Raises:
            InputError: the photo cannot be decoded.
        """
        place = (photos, int(row))
        if place not in self._keys:
            thumbnail = self._thumbnail(photos, int(row))
            self._keys[place] = self._thumbnails.setdefault(thumbnail, f"p{len(self._thumbnails)}")
        # The size keeps the place free while a picture is missing; the style sheet decides what is shown.
        return (
            f'<img data-photo="{self._keys[place]}" alt="{html.escape(alt)}" width="{self._side}" '
            f'height="{self._side}" loading="lazy" decoding="async">'
        )

    def json(self) -> str:
        """Returns the map from keys to base64 JPEG that the page's script reads."""
        return json.dumps({key: thumbnail for thumbnail, key in self._thumbnails.items()})

    def _thumbnail(self, photos: Photos, row: int) -> str:
        try:
            image = Image.open(io.BytesIO(photos.read(row)))
            image.draft("RGB", (2 * self._side, 2 * self._side))  # JPEG decodes several times faster at a half or less
            image = image.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise InputError(f"the photo {photos.ids[row]!r} cannot be decoded ({error}); make it again.") from error
        image.thumbnail((self._side, self._side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
        return base64.b64encode(buffer.getvalue()).decode("ascii")
