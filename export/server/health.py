"""gRPC's health service: whether the server's models answer."""

import threading
from collections.abc import Iterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

States = health_pb2.HealthCheckResponse
SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class HealthService(health_pb2_grpc.HealthServicer):
    """Check and Watch by the protocol of gRPC.

    The package's own servicer sends to watchers while it holds the lock that their leaving needs, and stops for ever
    when a watcher leaves at that moment; here each watcher waits in a thread of its own.

    Args:
        services: the names that are answered for, besides the empty one for the whole server.
    """

    def __init__(self, services: list[str]):
        self._services = {"", *services}
        self._changed = threading.Condition()
        self._is_ready = False
        self._closed = False

    def tell(self, is_ready: bool) -> None:
        """Sets what is answered."""
        with self._changed:
            self._is_ready = is_ready
            self._changed.notify_all()

    def close(self) -> None:
        """Answers NOT_SERVING from now on, and ends the watches."""
        with self._changed:
            self._is_ready, self._closed = False, True
            self._changed.notify_all()

    def Check(  # noqa: N802 - the service names its methods
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Answers with the state of the server or of one of its services; NOT_FOUND for another."""
        if request.service not in self._services:
            context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service {request.service!r} here.")
        return States(status=self._state())

    def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """Answers with the state now and whenever it changes, until the client leaves or the server closes."""
        if not context.add_callback(self._wake):
            return
        told = None
        while context.is_active():
            with self._changed:
                self._changed.wait_for(lambda told=told: self._now(request.service) != told or not context.is_active())
                state, closed = self._now(request.service), self._closed
            if state != told:
                told = state
                yield States(status=state)
            if closed:
                return

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _now(self, service: str) -> int:
        return self._state() if service in self._services else States.SERVICE_UNKNOWN

    def _state(self) -> int:
        return States.SERVING if self._is_ready else States.NOT_SERVING
