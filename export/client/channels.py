"""Several connections to one server, of which each call takes the one with the least to do."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from export.client.dialogue import METADATA, PREDICT, STATUS
from export.client.tls import Tls

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that restarts is found again within the client's retries, not after gRPC's own one to twenty seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A name with several addresses, such as that of a headless Kubernetes Service, is several servers to share between.
    ("grpc.lb_policy_name", "round_robin"),
    # Else channels to one address share one connection, and with it one stream of bytes.
    ("grpc.use_local_subchannel_pool", 1),
)


class Channel:
    """One connection.

    Args:
        channel: of gRPC, or of its asyncio side.

    Attributes:
        channel: the same.
        methods: what calls a method, by name.
        busy: calls under way.
        calls: calls so far.
    """

    def __init__(self, channel: object):
        self.channel = channel
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.methods = {
            PREDICT: predictions.Predict,
            METADATA: predictions.GetModelMetadata,
            STATUS: models.GetModelStatus,
        }
        self.busy = self.calls = 0


class ChannelPool:
    """A fixed number of connections. Threads may share one.

    Args:
        make: opens a channel.
        count: how many, at least 1.

    Raises:
        ValueError: `count` is below 1.
    """

    def __init__(self, make: Callable[[], object], count: int):
        if count < 1:
            raise ValueError(f"channels is {count}; 1 or more is wanted.")
        self.channels = [Channel(make()) for _ in range(count)]
        self._lock = threading.Lock()

    def take(self, other_than: Channel | None = None) -> Channel:
        """Returns the channel with the fewest calls under way, then the fewest so far; `release` gives it back.

        Args:
            other_than: a channel to avoid, where there is another.
        """
        with self._lock:
            others = [channel for channel in self.channels if channel is not other_than]
            channel = min(others or self.channels, key=lambda each: (each.busy, each.calls))
            channel.busy += 1
            channel.calls += 1
            return channel

    def release(self, channel: Channel) -> None:
        """Notes that a call has ended."""
        with self._lock:
            channel.busy -= 1

    @contextlib.contextmanager
    def using(self, other_than: Channel | None = None) -> Iterator[Channel]:
        """Takes a channel for the length of a block."""
        channel = self.take(other_than)
        try:
            yield channel
        finally:
            self.release(channel)


def opener(module: object, address: str, tls: Tls | None) -> Callable[[], object]:
    """Returns what opens a channel.

    Args:
        module: `grpc` or `grpc.aio`.
        address: `host:port`, or any target that gRPC knows.
        tls: how to secure it; None leaves it open.

    Raises:
        InputError: see `Tls.credentials`.
    """
    if tls is None:
        return lambda: module.insecure_channel(address, options=list(_OPTIONS))
    credentials: grpc.ChannelCredentials = tls.credentials()
    return lambda: module.secure_channel(address, credentials, options=[*_OPTIONS, *tls.options()])
