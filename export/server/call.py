"""One request's own circumstances: until when an answer is wanted, and whether anyone still waits for it."""

import dataclasses
import time
from collections.abc import Callable

import grpc

from export.server.errors import StatusError


@dataclasses.dataclass(frozen=True)
class Call:
    """When and for whom a request is answered.

    Attributes:
        deadline: `time.monotonic()` after which nobody wants the answer; None for no limit.
        is_wanted: says whether the client still waits.
    """

    deadline: float | None = None
    is_wanted: Callable[[], bool] = lambda: True

    @classmethod
    def within(cls, seconds: float | None, is_wanted: Callable[[], bool] = lambda: True) -> "Call":
        """Returns a call that may take `seconds`; None for no limit."""
        return cls(None if seconds is None else time.monotonic() + seconds, is_wanted)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, negative after it; None for no limit."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def check(self) -> None:
        """Ends a request that nobody waits for.

        Raises:
            StatusError: CANCELLED when the client is gone, DEADLINE_EXCEEDED when the time is over.
        """
        left = self.seconds_left
        if left is not None and left <= 0:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        if not self.is_wanted():
            raise StatusError(grpc.StatusCode.CANCELLED, "Cancelled")
