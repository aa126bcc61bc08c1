"""Why a photo was found: places of both photos that look alike, and what the network's positions add."""

import base64
import io
import threading

import numpy as np
from PIL import Image

from export.saving import load_source
from export.search_page.index import PhotoIndex
from tfretrieval.data.query_crops import SCALED, crop_limit
from tfretrieval.errors import InputError
from tfretrieval.evaluation import heat
from tfretrieval.evaluation.confusions import MATCH_SIDE, Explain, Matches, explainer, match_places

Window = tuple[int, int, int, int]
_LINES = 60  # of a kind; more hide the photos


def places(photo: Image.Image, window: Window, other: Image.Image) -> dict:
    """Finds places that look alike in a part of a photo and in another photo; see `match_places`.

    Args:
        photo: RGB.
        window: left, top, right, bottom of the part, in pixels.
        other: RGB.

    Returns:
        `count` of places that look alike, `agreeing` how many of them one motion explains, and `lines` of at most 60:
        [x, y, u, v, agrees], shares of the whole photo's sides and of the other's, those that agree where there are.
    """
    matches = match_places(_small(photo.crop(window)), _small(other))
    return {
        "count": len(matches.agree),
        "agreeing": int(matches.agree.sum()),
        "lines": _lines(matches, window, photo.size),
    }


def _lines(matches: Matches, window: Window, size: tuple[int, int]) -> list[list]:
    first = np.array(window[:2]) / size
    scale = (np.array(window[2:]) - window[:2]) / size
    chosen = np.flatnonzero(matches.agree) if matches.agree.any() else np.arange(len(matches.agree))
    chosen = chosen[:: max(1, -(-len(chosen) // _LINES))]
    ends = np.hstack([first + matches.first[chosen] * scale, matches.second[chosen]])
    pairs = zip(ends.tolist(), matches.agree[chosen].tolist(), strict=True)
    return [[*(round(value, 4) for value in line), agrees] for line, agrees in pairs]


class Contributions:
    """Pictures of what a network's positions add to the similarity of two photos. Threads may share it.

    Args:
        explain: see `confusions.explainer`.
        image_size: pixels of whole photos' longer sides.
    """

    def __init__(self, explain: Explain, image_size: int):
        self._explain, self._image_size = explain, image_size
        self._running = threading.Lock()

    @classmethod
    def load(cls, checkpoint: str, index: PhotoIndex) -> "Contributions":
        """Loads the network of a run directory, which has to be the one that made the index.

        Raises:
            InputError: it cannot be loaded, finds objects, or is not that network.
        """
        source = load_source(checkpoint)
        if source.finds_objects:
            raise InputError(
                f"--checkpoint={checkpoint} finds objects, whose similarity is not split over positions; leave it out."
            )
        if index.model_sha256 and index.model_sha256 != source.sha256:
            raise InputError(
                f"--checkpoint={checkpoint} is the network {source.sha256[:12]} and the index {index.name} was made "
                f"with {index.model_sha256[:12]}; its own network is wanted."
            )
        return cls(explainer(source.model, source.image_size), source.image_size)

    def pictures(self, photo: Image.Image, window: Window, other: Image.Image) -> list[str]:
        """Returns the part of the photo, and the other photo, under colours of their contributions.

        Args:
            photo: RGB.
            window: as of `places`; the part is described in the size that the signature `query` describes it in.
            other: RGB.

        Returns:
            Two data URLs of JPEGs.

        Raises:
            InputError: the network's similarity cannot be split over positions.
        """
        limit = crop_limit(window, photo.size, self._image_size, SCALED)
        seen = _small(photo.crop(window), limit), _small(other, self._image_size)
        with self._running:
            found = [self._explain(*seen), self._explain(*seen[::-1])]
        values = [heat.densities(each) for each in found]
        most = max(float(np.abs(value).max()) for value in values) or 1.0
        shown = (_small(photo.crop(window)), _small(other))
        return [_data_url(heat.overlay(each, value, most)) for each, value in zip(shown, values, strict=True)]


def _small(image: Image.Image, side: int = MATCH_SIDE) -> np.ndarray:
    image = image.copy()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _data_url(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
