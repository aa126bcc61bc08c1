"""What the blocking client and asyncio's are both made from: an address, a target, and limits."""

import contextlib
from collections.abc import Callable, Iterator

from export.client.batches import Batch, BatchLimits
from export.client.dialogue import Dialogue, Steps
from export.client.messages import Target
from export.client.retries import Retries
from export.client.tls import Tls
from export.described_objects import ObjectArrays

OBJECTS = "objects"
Progress = Callable[[int], object]


class ClientBase:
    """Settings of a client.

    Args:
        address: `host:port` of the server's gRPC port. A name with several addresses (`dns:///name:port`) is several
            servers, which take turns.
        model_name: the model's name on the server.
        signature_name: a signature that takes photos as bytes [N] and gives descriptors float32 [N, D].
        version: version to ask; None asks the latest that is loaded.
        timeout: seconds that one batch, or one question, may take with its retries.
        retries: when to ask again, and how often at most.
        max_batch_bytes: encoded bytes in one request; a photo that is larger alone goes alone.
        max_batch_photos: photos in one request.
        input_name: the signature's input.
        output_name: the signature's output.
        in_flight: requests of one stream of photos that are under way, or answered and not yet taken, at a time.
        channels: connections to the server; each call takes the least busy one.
        hedge_after: seconds after which a request without an answer is sent a second time, on another connection where
            there is one; the first answer wins and the other request is cancelled. None sends none. Hedges are paid
            from the budget of retries.
        tls: how the connection is secured; None leaves it open.

    Raises:
        InputError: the files of `tls` cannot be used.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:8500",
        model_name: str = "descriptor",
        signature_name: str = "serving_default",
        *,
        version: int | None = None,
        timeout: float = 30.0,
        retries: Retries | None = None,
        max_batch_bytes: int = 8 * 2**20,
        max_batch_photos: int = 32,
        input_name: str = "image_bytes",
        output_name: str = "descriptors",
        in_flight: int = 2,
        channels: int = 1,
        hedge_after: float | None = None,
        tls: Tls | None = None,
    ):
        if in_flight < 1:
            raise ValueError(f"in_flight is {in_flight}; 1 or more is wanted.")
        if hedge_after is not None and hedge_after <= 0:
            raise ValueError(f"hedge_after is {hedge_after}; seconds above 0, or None, are wanted.")
        self.address = address
        self._target = Target(model_name, signature_name, version, input_name, output_name)
        self._dialogue = Dialogue(self._target, address, timeout, retries or Retries())
        self._limits = BatchLimits(max_batch_bytes, max_batch_photos)
        self._in_flight, self._channels, self._hedge_after, self._tls = in_flight, channels, hedge_after, tls
        self._driver = self._make_driver()

    def _make_driver(self) -> object:
        """Returns what asks the questions of `Dialogue`."""
        raise NotImplementedError

    def _objects_of(self, signature_name: str, **thresholds: float | None) -> Callable[[Batch], Steps[ObjectArrays]]:
        """Returns what asks for the objects of a batch, by these thresholds."""
        return lambda batch: self._dialogue.objects(batch, signature_name, thresholds)

    def _results_of(self, ask: Callable[[Batch], Steps], skip_refused: bool) -> Callable[[Batch], Steps[list]]:
        """Returns what asks for the results of a batch."""
        return lambda batch: self._dialogue.results(batch, ask, skip_refused)


@contextlib.contextmanager
def moving_bar(progress: Progress | None, photos: object) -> Iterator[Callable[[int], object]]:
    """Makes a bar for the length of a block; gives what moves it.

    Args:
        progress: makes a bar from a number of photos; None makes none.
        photos: the photos; where they have no length, the number is 0, with which a bar counts without an end.
    """
    if progress is None:
        yield lambda count: None
        return
    with contextlib.closing(progress(len(photos) if hasattr(photos, "__len__") else 0)) as bar:
        yield bar.update
