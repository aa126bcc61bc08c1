"""When a client asks again, and how often all of its questions together may."""

import dataclasses
import threading
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Retries:
    """When to ask again after UNAVAILABLE, the one status which says that nothing was wrong with the request.

    Attributes:
        attempts: requests in all, at least 1.
        first_wait: seconds before the second attempt; each further wait is twice as long.
        longest_wait: seconds that no wait exceeds.
        seed: seed of the jitter, a factor between 0.5 and 1.5 on each wait; None draws one.
        tokens: retries and hedges that a client may send before any answer, see `RetryBudget`.
        share: further ones for each answer, 0.1 for one in ten.

    Raises:
        ValueError: a number is out of range.
    """

    attempts: int = 5
    first_wait: float = 0.1
    longest_wait: float = 2.0
    seed: int | None = None
    tokens: float = 20.0
    share: float = 0.1

    def __post_init__(self):
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; 1 or more is wanted.")
        for name in ("first_wait", "longest_wait", "tokens", "share"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; a number from 0 is wanted.")

    def waits(self, random: np.random.Generator) -> Iterator[float]:
        """Yields the seconds to wait after each failed attempt but the last."""
        for attempt in range(self.attempts - 1):
            yield min(self.longest_wait, self.first_wait * 2**attempt) * random.uniform(0.5, 1.5)


class RetryBudget:
    """Bounds what a client adds to its questions, so that it does not keep an overloaded server down.

    A bucket of tokens, full at first: each retry and each hedge takes one, each answer puts a share of one back, up to
    the bucket's size. So, at any time, retries + hedges <= tokens + share * answers. gRPC's retry throttling (its
    proposal A6) bounds retries by a bucket too, which failures empty and answers fill; to charge for what is sent, and
    for hedges too, is this toolkit's own rule. Threads may share one.

    Args:
        tokens: the bucket's size.
        share: what an answer puts back.
    """

    def __init__(self, tokens: float, share: float):
        self._most, self._tokens, self._share = tokens, tokens, share
        self._lock = threading.Lock()

    def answered(self) -> None:
        """Notes that a question was answered; a refusal is an answer."""
        with self._lock:
            self._tokens = min(self._most, self._tokens + self._share)

    def take(self) -> bool:
        """Takes a token for a retry or a hedge; False where none is left."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
