"""Bounds of the gRPC side: how many requests wait, and that status and health are answered however many do."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc


class Pool(futures.ThreadPoolExecutor):
    """Threads for some of a server's methods.

    Args:
        name: of the threads.
        threads: jobs that run at a time.
        waiting: jobs that may wait besides; `Admission` refuses more.
    """

    def __init__(self, name: str, threads: int, waiting: int):
        super().__init__(threads, thread_name_prefix=name)
        self._most = threads + waiting
        self._unfinished = 0
        self._lock = threading.Lock()
        self._streams: set[grpc.ServicerContext] = set()

    @property
    def is_full(self) -> bool:
        """Whether no more jobs may come."""
        return self._unfinished >= self._most

    def submit(self, fn: Callable, /, *args: object, **kwargs: object) -> futures.Future:
        """Queues a job and counts it until it has ended."""
        self._count(1)
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(lambda _: self._count(-1))
        return future

    def method(self, method: Callable) -> Callable:
        """Returns a service's method, which gRPC then runs here and not in the server's own pool."""

        def run(request: object, context: grpc.ServicerContext) -> object:
            return method(request, context)

        run.experimental_thread_pool = self
        return run

    def stream(self, method: Callable) -> Callable:
        """Returns a method that answers with a stream, which `end_streams` ends."""

        def run(request: object, context: grpc.ServicerContext) -> Iterator[object]:
            self._streams.add(context)
            try:
                yield from method(request, context)
            finally:
                self._streams.discard(context)

        run.experimental_thread_pool = self
        return run

    def end_streams(self) -> None:
        """Cancels the streams that are open: a client may keep one for days."""
        for context in list(self._streams):
            context.cancel()

    def _count(self, change: int) -> None:
        with self._lock:
            self._unfinished += change


class Admission(grpc.ServerInterceptor):
    """Refuses requests with RESOURCE_EXHAUSTED when too many wait, before their messages are read.

    Args:
        pool: the server's own pool.
        refusals: where refusals are sent from.
        refused: called with each refused method.
    """

    def __init__(self, pool: Pool, refusals: Pool, refused: Callable[[str], None]):
        self._pool = pool
        self._refused = refused

        def refuse(requests: object, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests are running or waiting.")

        # Taken for a stream, the request is not read.
        self._refuse = grpc.stream_unary_rpc_method_handler(refusals.method(refuse))

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Returns what answers a request."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method = handler.unary_unary or handler.unary_stream or handler.stream_stream
        if not getattr(method, "experimental_thread_pool", self._pool).is_full:
            return handler
        self._refused(handler_call_details.method)
        return self._refuse
