"""Photos as the page shows them: upright JPEGs of a bounded size."""

import io
import threading
from collections import OrderedDict

import numpy as np
from PIL import Image, ImageOps

from export.search_page.errors import PageError
from tfretrieval.data.photos import ORIENTATION, to_rgb
from tfretrieval.evaluation.album import Photos

THUMBNAIL, LARGE = 320, 1600  # pixels of the longer side
MAX_PIXELS = 100_000_000
_QUALITY = {THUMBNAIL: 78, LARGE: 88}
_KEPT = 2000  # thumbnails of about 12 KB


class Pictures:
    """Makes the pictures of indexed photos and keeps the thumbnails that were asked for last. Threads may share it.

    Args:
        photos: the photos.
    """

    def __init__(self, photos: Photos):
        self._photos = photos
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._changing = threading.Lock()

    def encoded(self, row: int) -> bytes:
        """Returns a photo's file.

        Raises:
            PageError: 404 where it is not at hand.
        """
        found = self._photos.read(row)
        if found is None:
            raise PageError(404, f"The photo {self._photos.ids[row]!r} is not there.")
        return found

    def jpeg(self, row: int, side: int) -> bytes:
        """Returns an upright JPEG of a photo.

        Args:
            row: the photo.
            side: `THUMBNAIL` or `LARGE`, which its longer side does not exceed.

        Raises:
            PageError: 404 where it is not at hand, 422 where it cannot be decoded.
        """
        with self._changing:
            if side == THUMBNAIL and row in self._kept:
                self._kept.move_to_end(row)
                return self._kept[row]
        try:
            made = _jpeg(upright(self.encoded(row), side), side)
        except PageError as error:
            if error.status == 400:
                raise PageError(422, f"The indexed photo {self._photos.ids[row]!r} cannot be shown.") from error
            raise
        if side == THUMBNAIL:
            with self._changing:
                self._kept[row] = made
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return made


def upright(encoded: bytes, side: int | None = None) -> Image.Image:
    """Decodes a photo, RGB, turned as its EXIF orientation says.

    Args:
        encoded: its file.
        side: pixels that its longer side is reduced to; None keeps its size.

    Raises:
        PageError: 400 where it is not a photo, too large or broken.
    """
    try:
        image = _opened(encoded)
        if side:
            image.draft(None, (2 * side, 2 * side))
        image = to_rgb(ImageOps.exif_transpose(image))
        if side:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return image
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise PageError(400, f"The photo is broken: {str(error).rstrip('.') or type(error).__name__}.") from error


def upright_size(encoded: bytes) -> tuple[int, int]:
    """Returns width and height of a photo as it is shown, by its header alone.

    Raises:
        PageError: 400 where it is not a photo, or too large.
    """
    try:
        image = _opened(encoded)
        turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise PageError(400, f"The photo is broken: {str(error).rstrip('.') or type(error).__name__}.") from error
    return image.size[::-1] if turned else image.size


def pixels(image: Image.Image) -> np.ndarray:
    """Returns an image as uint8 [H, W, 3]."""
    return np.asarray(image.convert("RGB"))


def _opened(encoded: bytes) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = None  # the limit is the one below, and no warning
    try:
        image = Image.open(io.BytesIO(encoded))
    except OSError:
        raise PageError(400, "The file is not a photo; JPEG, PNG, WebP, GIF or BMP is wanted.") from None
    if image.width * image.height > MAX_PIXELS:
        raise PageError(400, f"The photo has {image.width}x{image.height} pixels, more than {MAX_PIXELS}.")
    return image


def _jpeg(image: Image.Image, side: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY[side], optimize=side == THUMBNAIL)
    return buffer.getvalue()
