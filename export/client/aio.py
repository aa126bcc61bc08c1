"""Drives questions in an event loop: makes calls, waits, hedges, and keeps several requests of a stream under way."""

import asyncio
import collections
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TypeVar

import grpc

from export.client.batches import Batch, Batcher, BatchLimits, in_batches
from export.client.channels import Channel, ChannelPool
from export.client.dialogue import OF_ONE_SERVER, Call, Pause, Steps
from export.client.errors import CallFailed
from export.client.retries import RetryBudget

Job = TypeVar("Job")
Result = TypeVar("Result")


class AsyncDriver:
    """Asks questions over a pool of channels, which belong to the event loop of its first question.

    Args:
        make_pool: opens the channels.
        budget: pays for hedges.
        hedge_after: seconds before a second request; None sends none.
    """

    def __init__(self, make_pool: Callable[[], ChannelPool], budget: RetryBudget, hedge_after: float | None):
        self._make_pool, self._budget, self._hedge_after = make_pool, budget, hedge_after
        self._opened: ChannelPool | None = None
        self._closed = asyncio.Event()

    async def close(self) -> None:
        """Ends every question with CANCELLED, and closes the channels."""
        self._closed.set()
        for each in self._opened.channels if self._opened else ():
            await each.channel.close()

    async def ask(self, steps: Steps[Result]) -> Result:
        """Drives a question to its end; cancelling it cancels its calls.

        Args:
            steps: the question.

        Raises:
            ServingError: see the question; CANCELLED when the client is closed.
        """
        answer, failure = None, None
        while True:
            try:
                step = steps.throw(failure) if failure else steps.send(answer)
            except StopIteration as end:
                return end.value
            answer, failure = None, None
            if isinstance(step, Pause):
                await self._pause(step.seconds)  # after a close, the next call fails at once
                continue
            try:
                answer = await self._call(step)
            except CallFailed as failed:
                failure = failed

    async def in_order(
        self, jobs: AsyncGenerator[Job, None], question: Callable[[Job], Steps[Result]], in_flight: int
    ) -> AsyncIterator[tuple[Job, Result]]:
        """Yields each job with its answer, in order, taking jobs only as they are needed.

        At most `in_flight` jobs have been taken and not yielded, so that memory is bounded. When the caller stops, or a
        question fails, those under way are cancelled.
        """
        pending: collections.deque[tuple[Job, asyncio.Task]] = collections.deque()
        try:
            async for job in jobs:
                pending.append((job, asyncio.create_task(self.ask(question(job)))))
                if len(pending) == in_flight:
                    yield await _first(pending)
            while pending:
                yield await _first(pending)
        finally:
            for _, task in pending:
                task.cancel()
            await asyncio.gather(*(task for _, task in pending), return_exceptions=True)
            await jobs.aclose()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except TimeoutError:
            return

    async def _call(self, call: Call) -> object:
        """Sends a request, perhaps a second one; returns the first answer.

        Raises:
            CallFailed: of two requests, with the first status that says something of the request itself, or with the
                later one's (`OF_ONE_SERVER`).
        """
        with self._pool().using() as channel:
            if self._hedge_after is None:
                return await self._once(call, call.timeout, channel)
            tasks = {asyncio.create_task(self._once(call, call.timeout, channel))}
            try:
                unanswered = (await asyncio.wait(tasks, timeout=self._hedge_after))[1]
                if unanswered and self._budget.take():
                    tasks.add(asyncio.create_task(self._second(call, channel)))
                return await _first_answer(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _second(self, call: Call, first: Channel) -> object:
        with self._pool().using(other_than=first) as channel:
            return await self._once(call, max(0.0, call.timeout - self._hedge_after), channel)

    async def _once(self, call: Call, timeout: float, channel: Channel) -> object:
        try:
            return await channel.methods[call.method](call.request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(error.code(), error.details()) from None
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # A closed channel cancels its calls, which is not the cancellation of the caller's task.
            if asyncio.current_task().cancelling() or not self._closed.is_set():
                raise
            raise CallFailed(grpc.StatusCode.CANCELLED, "the client was closed") from None

    def _pool(self) -> ChannelPool:
        if self._closed.is_set():
            raise CallFailed(grpc.StatusCode.CANCELLED, "the client was closed")
        if self._opened is None:
            self._opened = self._make_pool()
        return self._opened


async def batches_of(
    photos: Iterable | AsyncIterable, limits: BatchLimits, named: bool = False
) -> AsyncIterator[Batch]:
    """Yields photos in batches, in order; what is not asynchronous is read in a thread, since it may read files.

    Raises:
        TypeError: a photo is not bytes, or is not named where names are wanted.
    """
    if not isinstance(photos, AsyncIterable):
        batches = in_batches(photos, limits, named)
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            yield batch
        return
    batcher = Batcher(limits, named)
    async for photo in photos:
        if batch := batcher.add(photo):
            yield batch
    if batch := batcher.rest():
        yield batch


async def _first(pending: collections.deque) -> tuple:
    """Takes the oldest job out, and waits for its answer."""
    job, task = pending[0]
    answer = await task
    pending.popleft()
    return job, answer


async def _first_answer(tasks: set[asyncio.Task]) -> object:
    """Returns the first answer of equal calls; see `AsyncDriver._call`."""
    while True:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            failed = task.exception()
            if not (isinstance(failed, CallFailed) and failed.code in OF_ONE_SERVER):
                return task.result()
        if not tasks:
            return done.pop().result()
