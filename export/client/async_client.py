"""The client for programs with an event loop."""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType

import grpc
import numpy as np

from export.client import messages
from export.client.aio import AsyncDriver, batches_of
from export.client.base import OBJECTS, ClientBase, Progress, moving_bar
from export.client.channels import ChannelPool, opener
from export.client.dialogue import OneWidth
from export.client.results import PhotoDescriptor, PhotoWithObjects, RefusedPhoto
from export.described_objects import DescribedPhoto, ObjectArrays

Photos = Iterable[bytes] | AsyncIterable[bytes]
PhotoPairs = Iterable[tuple[str, bytes]] | AsyncIterable[tuple[str, bytes]]


class AsyncDescriptorClient(ClientBase):
    """What `DescriptorClient` is, for asyncio: the same questions, answers and errors, to be awaited.

    A client belongs to the event loop of its first question; many tasks may share it. Photos may come from an
    asynchronous iterable; others are read in a thread, a batch at a time, so that slow files do not hold the loop up.
    A task that is cancelled cancels its requests. The requests of a stream that is left early end with the iterator:
    at once with `contextlib.aclosing`, else when the loop collects it.

    Example:
        async with AsyncDescriptorClient("127.0.0.1:8500") as client:
            descriptors = await client.describe([path.read_bytes() for path in paths])

    See `ClientBase` for its arguments.
    """

    _driver: AsyncDriver

    def _make_driver(self) -> AsyncDriver:
        open_channel = opener(grpc.aio, self.address, self._tls)
        return AsyncDriver(lambda: ChannelPool(open_channel, self._channels), self._dialogue.budget, self._hedge_after)

    async def describe(self, photos: Photos) -> np.ndarray:
        """See `DescriptorClient.describe`."""
        batches = [batch async for batch in self.describe_batches(photos)]
        return np.concatenate(batches) if batches else messages.no_descriptors(await self.metadata(), self._target)

    async def describe_batches(self, photos: Photos) -> AsyncIterator[np.ndarray]:
        """See `DescriptorClient.describe_batches`."""
        width = OneWidth()
        async with self._answers(photos, self._dialogue.describe) as answers:
            async for batch, descriptors in answers:
                width.check(batch.places[0], descriptors.shape[1])
                yield descriptors

    def stream(
        self, photos: PhotoPairs, *, skip_refused: bool = False, progress: Progress | None = None
    ) -> AsyncIterator[PhotoDescriptor | RefusedPhoto]:
        """See `DescriptorClient.stream`."""
        return self._stream(photos, self._results_of(self._dialogue.describe, skip_refused), progress)

    def stream_objects(
        self,
        photos: PhotoPairs,
        least_score: float | None = None,
        overlap: float | None = None,
        signature_name: str = OBJECTS,
        *,
        skip_refused: bool = False,
        progress: Progress | None = None,
    ) -> AsyncIterator[PhotoWithObjects | RefusedPhoto]:
        """See `DescriptorClient.stream_objects`."""
        ask = self._objects_of(signature_name, least_score=least_score, overlap=overlap)
        return self._stream(photos, self._results_of(ask, skip_refused), progress)

    async def describe_objects(
        self,
        photos: Photos,
        least_score: float | None = None,
        overlap: float | None = None,
        signature_name: str = OBJECTS,
    ) -> AsyncIterator[DescribedPhoto]:
        """See `DescriptorClient.describe_objects`."""
        found = self.describe_object_batches(photos, least_score, overlap, signature_name)
        async with contextlib.aclosing(found) as batches:
            async for batch in batches:
                for photo in batch.photos():
                    yield photo

    async def describe_object_batches(
        self,
        photos: Photos,
        least_score: float | None = None,
        overlap: float | None = None,
        signature_name: str = OBJECTS,
    ) -> AsyncIterator[ObjectArrays]:
        """See `DescriptorClient.describe_object_batches`."""
        ask = self._objects_of(signature_name, least_score=least_score, overlap=overlap)
        async with self._answers(photos, ask) as answers:
            async for _, found in answers:
                yield found

    async def status(self) -> dict[int, str]:
        """See `DescriptorClient.status`."""
        return await self._driver.ask(self._dialogue.status())

    async def metadata(self) -> dict:
        """See `DescriptorClient.metadata`."""
        return await self._driver.ask(self._dialogue.metadata())

    async def card(self) -> dict:
        """See `DescriptorClient.card`."""
        return await self._driver.ask(self._dialogue.card())

    async def close(self) -> None:
        """Closes the connections; questions under way end with CANCELLED."""
        await self._driver.close()

    async def __aenter__(self) -> "AsyncDescriptorClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _answers(
        self, photos: Photos | PhotoPairs, question: Callable, named: bool = False
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[tuple]]:
        batches = batches_of(photos, self._limits, named)
        return contextlib.aclosing(self._driver.in_order(batches, question, self._in_flight))

    async def _stream(self, photos: PhotoPairs, question: Callable, progress: Progress | None) -> AsyncIterator:
        width = OneWidth()
        with moving_bar(progress, photos) as bar:
            async with self._answers(photos, question, named=True) as answers:
                async for batch, results in answers:
                    width.check_results(results)
                    for result in results:
                        yield result
                    bar(len(batch))
