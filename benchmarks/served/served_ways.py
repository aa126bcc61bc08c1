"""Descriptors of the same photos in every way that there is to get them from an export."""

import base64
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.served.odd_photos import encode, upright_pixels
from benchmarks.served.serving import MODEL
from export.client import DescriptorClient, ServingError
from export.saving import ServedModel
from export.served_session import ServedSession
from tfretrieval.data.photos import prepare_photo

Way = Callable[[Sequence[bytes]], np.ndarray]
MOST_PIXELS = 1 << 30


class RefusedError(Exception):
    """A way refused photos; the message is what it said."""


@contextlib.contextmanager
def served_ways(version: Path, grpc_address: str, rest_url: str, batch: int = 32) -> Iterator[dict[str, Way]]:
    """Yields the ways by name: encoded photos in, float32 [N, D] out; each raises `RefusedError`.

    Args:
        version: a version's folder.
        grpc_address: of a server of it.
        rest_url: of the same server.
        batch: most photos run together.
    """
    model = ServedModel.load(version)
    with ServedSession(version) as session, DescriptorClient(grpc_address, MODEL, max_batch_photos=batch) as client:
        yield {
            "SavedModel": _in_batches(lambda photos: model.describe(list(photos)), batch),
            "session": _in_batches(
                lambda photos: session("serving_default", {"image_bytes": list(photos)})["descriptors"], batch
            ),
            "gRPC": _in_batches(lambda photos: client.describe(photos), batch),
            "REST": _in_batches(lambda photos: by_rest(rest_url, photos), batch),
        }


def by_rest(rest_url: str, photos: Sequence[bytes]) -> np.ndarray:
    """Asks for descriptors by a JSON body, photos as base64.

    Raises:
        RefusedError: the server refused.
    """
    body = {"instances": [{"b64": base64.b64encode(photo).decode()} for photo in photos]}
    request = urllib.request.Request(f"{rest_url}/v1/models/{MODEL}:predict", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return np.array(json.loads(response.read())["predictions"], np.float32)
    except urllib.error.HTTPError as error:
        raise RefusedError(f"{error.code} {json.loads(error.read())['error']}") from error


def _in_batches(describe: Way, batch: int) -> Way:
    def run(photos: Sequence[bytes]) -> np.ndarray:
        try:
            return np.concatenate([describe(photos[at : at + batch]) for at in range(0, len(photos), batch)])
        except tf.errors.InvalidArgumentError as error:
            raise RefusedError(f"INVALID_ARGUMENT {error.message}") from error
        except ServingError as error:
            raise RefusedError(str(error)) from error

    return run


def as_evaluated(sent: bytes) -> bytes:
    """Returns what a record has to hold to show this photo without loss.

    A photo that records hold as it is comes back unchanged; of others come Pillow's upright pixels, as a PNG.
    """
    record = prepare_photo(sent, MOST_PIXELS)
    return sent if record.encoded == sent else encode(Image.fromarray(upright_pixels(sent)), "PNG")
