"""The client for programs without an event loop; threads may share one."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

import grpc
import numpy as np

from export.client import messages
from export.client.base import OBJECTS, ClientBase, Progress, moving_bar
from export.client.batches import in_batches
from export.client.blocking import Driver
from export.client.channels import ChannelPool, opener
from export.client.dialogue import OneWidth
from export.client.results import PhotoDescriptor, PhotoWithObjects, RefusedPhoto
from export.described_objects import DescribedPhoto, ObjectArrays


class DescriptorClient(ClientBase):
    """Asks a TensorFlow Serving server for the descriptors of photos. Threads may share one client.

    Example:
        with DescriptorClient("127.0.0.1:8500") as client:
            descriptors = client.describe([path.read_bytes() for path in paths])

    See `ClientBase` for its arguments.
    """

    _driver: Driver

    def _make_driver(self) -> Driver:
        pool = ChannelPool(opener(grpc, self.address, self._tls), self._channels)
        return Driver(pool, self.address, self._dialogue.budget, self._hedge_after)

    def describe(self, photos: Iterable[bytes]) -> np.ndarray:
        """Returns the descriptors of photos, float32 [N, D], in their order.

        Without photos, N is 0 and D is what the server's signature says (0 where it leaves D open).

        Args:
            photos: encoded images, JPEG or PNG for instance.

        Raises:
            ServingError: see `describe_batches`.
            TypeError: a photo is not bytes.
        """
        batches = list(self.describe_batches(photos))
        return np.concatenate(batches) if batches else messages.no_descriptors(self.metadata(), self._target)

    def describe_batches(self, photos: Iterable[bytes]) -> Iterator[np.ndarray]:
        """Yields the descriptors of photos batch by batch, float32 [n, D], reading photos only as they are needed.

        Args:
            photos: encoded images; each batch keeps to `max_batch_bytes` and `max_batch_photos`, and `in_flight`
                batches are under way at a time.

        Raises:
            ServingError: INVALID_ARGUMENT when a photo is refused, with its place among all photos; UNAVAILABLE when
                every attempt failed; DEADLINE_EXCEEDED after `timeout`; INTERNAL when the answer is not finite
                float32 [n, D]; CANCELLED when the client is closed meanwhile; other statuses as the server gives them.
            TypeError: a photo is not bytes.
        """
        batches, width = in_batches(photos, self._limits), OneWidth()
        with contextlib.closing(self._driver.in_order(batches, self._dialogue.describe, self._in_flight)) as answers:
            for batch, descriptors in answers:
                width.check(batch.places[0], descriptors.shape[1])
                yield descriptors

    def stream(
        self, photos: Iterable[tuple[str, bytes]], *, skip_refused: bool = False, progress: Progress | None = None
    ) -> Iterator[PhotoDescriptor | RefusedPhoto]:
        """Yields the descriptor of each photo, in order, with several requests under way and memory bounded.

        At most `in_flight` batches of photos and their answers are in memory, and one that is being read.

        Args:
            photos: pairs (id, encoded image), read only as they are needed; `photos_in_folder` and `photos_of_split`
                make them.
            skip_refused: yields a `RefusedPhoto` for a photo that the server refuses, and describes the others; else
                the refusal is raised.
            progress: makes a bar with `update` and `close` from the number of photos, 0 where `photos` has no length.

        Raises:
            ServingError: as `describe_batches`.
            TypeError: a photo is not a pair of a str and bytes.
        """
        return self._stream(photos, self._results_of(self._dialogue.describe, skip_refused), progress)

    def stream_objects(
        self,
        photos: Iterable[tuple[str, bytes]],
        least_score: float | None = None,
        overlap: float | None = None,
        signature_name: str = OBJECTS,
        *,
        skip_refused: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[PhotoWithObjects | RefusedPhoto]:
        """Yields each photo's descriptor and objects; see `stream` and `describe_objects`."""
        ask = self._objects_of(signature_name, least_score=least_score, overlap=overlap)
        return self._stream(photos, self._results_of(ask, skip_refused), progress)

    def describe_objects(
        self,
        photos: Iterable[bytes],
        least_score: float | None = None,
        overlap: float | None = None,
        signature_name: str = OBJECTS,
    ) -> Iterator[DescribedPhoto]:
        """Yields each photo's descriptor and its objects, reading photos only as they are needed.

        Args:
            photos: encoded images, in batches as those of `describe_batches`.
            least_score: objects below it are dropped, in [0, 1]; None takes the export's own.
            overlap: intersection over union above which the lesser of two objects of one class is dropped, in [0, 1];
                None takes the export's own.
            signature_name: the signature of the model that finds objects.

        Raises:
            ServingError: as `describe_batches`; FAILED_PRECONDITION when the model finds no objects.
            TypeError: a photo is not bytes.
        """
        for batch in self.describe_object_batches(photos, least_score, overlap, signature_name):
            yield from batch.photos()

    def describe_object_batches(
        self,
        photos: Iterable[bytes],
        least_score: float | None = None,
        overlap: float | None = None,
        signature_name: str = OBJECTS,
    ) -> Iterator[ObjectArrays]:
        """Yields what `describe_objects` does as arrays, batch by batch."""
        ask = self._objects_of(signature_name, least_score=least_score, overlap=overlap)
        batches = in_batches(photos, self._limits)
        with contextlib.closing(self._driver.in_order(batches, ask, self._in_flight)) as answers:
            for _, found in answers:
                yield found

    def status(self) -> dict[int, str]:
        """Returns the state of each version the server knows, such as `{1: "AVAILABLE"}`.

        Raises:
            ServingError: the server refused or could not be reached.
        """
        return self._driver.ask(self._dialogue.status())

    def metadata(self) -> dict:
        """Returns the served version and its signatures.

        Returns:
            `{"version": 1, "signatures": {"serving_default": {"inputs": {"image_bytes": {"dtype": "DT_STRING",
            "shape": [-1]}}, "outputs": {...}}}}`; -1 is an open dimension, a shape of None an open rank.

        Raises:
            ServingError: the server refused or could not be reached.
        """
        return self._driver.ask(self._dialogue.metadata())

    def card(self) -> dict:
        """Returns what a model exported by this toolkit says of itself; empty for a model without a card.

        Returns:
            `{"dimension": 1280, "image_size": 1024, "model_sha256": "..."}`.

        Raises:
            ServingError: the server refused or could not be reached, or the card is not a JSON object.
        """
        return self._driver.ask(self._dialogue.card())

    def close(self) -> None:
        """Closes the connections; questions under way end with CANCELLED."""
        self._driver.close()

    def __enter__(self) -> "DescriptorClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _stream(self, photos: Iterable[tuple[str, bytes]], question: Callable, progress: Progress | None) -> Iterator:
        batches, width = in_batches(photos, self._limits, named=True), OneWidth()
        with (
            moving_bar(progress, photos) as bar,
            contextlib.closing(self._driver.in_order(batches, question, self._in_flight)) as answers,
        ):
            for batch, results in answers:
                width.check_results(results)
                yield from results
                bar(len(batch))
