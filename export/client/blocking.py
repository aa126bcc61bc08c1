"""Drives questions in threads: makes calls, waits, hedges, and keeps several requests of a stream under way."""

import collections
import concurrent.futures
import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import grpc

from export.client.channels import Channel, ChannelPool
from export.client.dialogue import OF_ONE_SERVER, Call, Pause, Steps
from export.client.errors import CallFailed
from export.client.retries import RetryBudget

Job = TypeVar("Job")
Result = TypeVar("Result")


class Scope:
    """Calls that end together: those of one stream, or of one question."""

    def __init__(self):
        self._calls: set[grpc.Future] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def add(self, call: grpc.Future) -> None:
        """Takes a call in; cancels it where the scope has ended."""
        with self._lock:
            self._calls.add(call)
        if self._ended.is_set():
            call.cancel()

    def discard(self, call: grpc.Future) -> None:
        """Lets a call go that has ended."""
        with self._lock:
            self._calls.discard(call)

    def pause(self, seconds: float) -> None:
        """Lets time pass.

        Raises:
            CallFailed: CANCELLED; the scope ended meanwhile.
        """
        self._ended.wait(seconds)
        self.check()

    def check(self) -> None:
        """Checks that the scope has not ended.

        Raises:
            CallFailed: CANCELLED; it has.
        """
        if self._ended.is_set():
            raise CallFailed(grpc.StatusCode.CANCELLED, "the client was closed")

    def end(self) -> None:
        """Cancels all calls, those to come too."""
        self._ended.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()


class Driver:
    """Asks questions over a pool of channels. Threads may share one.

    Args:
        pool: the channels.
        address: the server's, for messages.
        budget: pays for hedges.
        hedge_after: seconds before a second request; None sends none.
    """

    def __init__(self, pool: ChannelPool, address: str, budget: RetryBudget, hedge_after: float | None):
        self._pool, self._address, self._budget, self._hedge_after = pool, address, budget, hedge_after
        self._scopes: set[Scope] = set()
        self._closed = False

    def close(self) -> None:
        """Ends every question with CANCELLED, and closes the channels."""
        self._closed = True
        for scope in list(self._scopes):
            scope.end()
        for each in self._pool.channels:
            each.channel.close()

    @contextlib.contextmanager
    def scope(self) -> Iterator[Scope]:
        """A scope that ends with its block, or when the client is closed."""
        scope = Scope()
        self._scopes.add(scope)
        try:
            if self._closed:
                scope.end()
            yield scope
        finally:
            scope.end()
            self._scopes.discard(scope)

    def ask(self, steps: Steps[Result], scope: Scope | None = None) -> Result:
        """Drives a question to its end.

        Args:
            steps: the question.
            scope: whose calls these are; one of its own by default.

        Raises:
            ServingError: see the question; CANCELLED when the scope ends or the client is closed.
        """
        if scope is None:
            with self.scope() as own:
                return self.ask(steps, own)
        answer, failure = None, None
        while True:
            try:
                step = steps.throw(failure) if failure else steps.send(answer)
            except StopIteration as end:
                return end.value
            answer, failure = None, None
            if isinstance(step, Pause):
                try:
                    scope.pause(step.seconds)
                except CallFailed as ended:
                    steps.close()
                    raise ended.told(self._address) from None
                continue
            try:
                answer = self._call(step, scope)
            except CallFailed as failed:
                failure = failed

    def in_order(
        self, jobs: Iterable[Job], question: Callable[[Job], Steps[Result]], in_flight: int
    ) -> Iterator[tuple[Job, Result]]:
        """Yields each job with its answer, in order, taking jobs only as they are needed.

        At most `in_flight` jobs have been taken and not yielded, so that memory is bounded. When the caller stops, or a
        question fails, those under way are cancelled.
        """
        jobs = iter(jobs)
        ahead = list(itertools.islice(jobs, min(in_flight, 2)))
        alone = len(ahead) < 2  # which needs no threads: making them costs as much as a small answer, 0.2 ms
        jobs = itertools.chain(ahead, jobs)
        del ahead
        with self.scope() as scope:
            if alone:
                for job in jobs:
                    yield job, self.ask(question(job), scope)
                return
            pending: collections.deque[tuple[Job, concurrent.futures.Future]] = collections.deque()
            with concurrent.futures.ThreadPoolExecutor(in_flight, "descriptor-client") as threads:
                try:
                    for job in jobs:
                        pending.append((job, threads.submit(self.ask, question(job), scope)))
                        if len(pending) == in_flight:
                            yield _first(pending)
                    while pending:
                        yield _first(pending)
                finally:
                    scope.end()

    def _call(self, call: Call, scope: Scope) -> object:
        """Sends a request, perhaps a second one; returns the first answer.

        Raises:
            CallFailed: of two requests, with the first status that says something of the request itself, or with the
                later one's (`OF_ONE_SERVER`).
        """
        deadline = time.monotonic() + call.timeout
        ended: queue.SimpleQueue[grpc.Future] = queue.SimpleQueue()
        started: list[grpc.Future] = []
        try:
            channel = self._start(call, call.timeout, scope, started, ended)
            open_calls, hedge_after = 1, self._hedge_after
            while True:
                try:
                    done = ended.get(timeout=hedge_after)
                except queue.Empty:
                    hedge_after = None
                    if self._budget.take():
                        self._start(call, max(0.0, deadline - time.monotonic()), scope, started, ended, channel)
                        open_calls += 1
                    continue
                open_calls -= 1
                if done.code() == grpc.StatusCode.OK:
                    return done.result()
                if done.code() == grpc.StatusCode.CANCELLED:
                    scope.check()
                if done.code() not in OF_ONE_SERVER or not open_calls:
                    raise CallFailed(done.code(), done.details())
        finally:
            for each in started:
                each.cancel()
                scope.discard(each)

    def _start(
        self,
        call: Call,
        timeout: float,
        scope: Scope,
        started: list[grpc.Future],
        ended: queue.SimpleQueue,
        other_than: Channel | None = None,
    ) -> Channel:
        """Sends a request on the least busy channel; its future goes to `started`, and to `ended` when it has ended."""
        channel = self._pool.take(other_than)
        try:
            future = channel.methods[call.method].future(call.request, timeout=timeout)
        except ValueError:  # gRPC's word for a closed channel
            self._pool.release(channel)
            raise CallFailed(grpc.StatusCode.CANCELLED, "the client was closed") from None
        future.add_done_callback(lambda _: self._pool.release(channel))
        started.append(future)
        scope.add(future)
        future.add_done_callback(ended.put)
        return channel


def _first(pending: collections.deque) -> tuple:
    """Takes the oldest job out, and waits for its answer."""
    job, future = pending[0]
    answer = future.result()
    pending.popleft()
    return job, answer
