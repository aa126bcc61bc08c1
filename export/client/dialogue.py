"""What a client does about a question, step by step, without doing it: the blocking client and asyncio's share it.

A question is a generator. It yields a `Call` and is sent the answer, or is thrown `CallFailed`; it yields a `Pause` and
is resumed when that has passed; it returns what the caller gets, or raises what the caller sees. Who drives it decides
how calls are made and time is passed.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Generator, Mapping
from typing import TypeVar

import grpc
import numpy as np

from export.client import messages
from export.client.batches import Batch
from export.client.errors import CallFailed, ServingError, with_callers_places
from export.client.messages import Target
from export.client.results import PhotoResult, RefusedPhoto, results_of
from export.client.retries import Retries, RetryBudget
from export.described_objects import ObjectArrays

PREDICT, METADATA, STATUS = "Predict", "GetModelMetadata", "GetModelStatus"
# What another server, or another moment, may not say: of two equal requests, the other one's answer is waited for.
OF_ONE_SERVER = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


@dataclasses.dataclass(frozen=True)
class Call:
    """A request to send.

    Attributes:
        method: one of `PREDICT`, `METADATA`, `STATUS`.
        request: its message.
        timeout: seconds that it may take.
    """

    method: str
    request: object
    timeout: float


@dataclasses.dataclass(frozen=True)
class Pause:
    """Seconds to let pass."""

    seconds: float


Result = TypeVar("Result")
Steps = Generator[Call | Pause, object, Result]


class Dialogue:
    """The questions of one client.

    Args:
        target: whom they go to.
        address: the server's, for messages.
        timeout: seconds that one question may take with its retries.
        retries: when to ask again.

    Attributes:
        budget: of retries and hedges, of all questions together.
    """

    def __init__(self, target: Target, address: str, timeout: float, retries: Retries):
        self.target = target
        self.budget = RetryBudget(retries.tokens, retries.share)
        self._address, self._timeout, self._retries = address, timeout, retries
        self._random = np.random.default_rng(retries.seed)

    def describe(self, batch: Batch) -> Steps[np.ndarray]:
        """Asks for the descriptors of a batch's N photos, float32 [N, D]."""
        response = yield from self._predict(messages.describe_request(self.target, batch), batch)
        return messages.descriptors_of(response, self.target, batch)

    def objects(self, batch: Batch, signature_name: str, thresholds: Mapping[str, float | None]) -> Steps[ObjectArrays]:
        """Asks for the objects of a batch's photos."""
        request = messages.objects_request(self.target, batch, signature_name, thresholds)
        response = yield from self._predict(request, batch)
        return messages.objects_of(response, batch, signature_name)

    def results(self, batch: Batch, ask: Callable[[Batch], Steps], skip_refused: bool) -> Steps[list[PhotoResult]]:
        """Asks for a batch and, when photos of it are refused and shall be skipped, for the others again.

        Photos that the refusal names are left out. When it names none, the batch is halved until the refused ones stand
        alone; but where a request without photos is refused too, it is not the photos that are at fault.

        Args:
            batch: photos with ids.
            ask: asks for a part of the batch: `describe`, or `objects` with its settings.
            skip_refused: whether a refused photo becomes a `RefusedPhoto`; else its refusal is raised.

        Returns:
            A value for each photo, in order.
        """
        found: dict[int, PhotoResult] = {}
        waiting = [batch]
        while waiting:
            part = waiting.pop()
            try:
                rows = yield from ask(part)
            except ServingError as refusal:
                if not skip_refused or refusal.code != grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                if not refusal.photos:
                    yield from self._check_without_photos(ask, part, refusal)
                refused, rest = after_refusal(part, refusal, self.target.input_name, self._address)
                found |= {photo.place: photo for photo in refused}
                waiting += rest
            else:
                found |= {photo.place: photo for photo in results_of(part, rows)}
        return [found[place] for place in batch.places]

    def status(self) -> Steps[dict[int, str]]:
        """Asks for the states of the model's versions."""
        return messages.status_of((yield from self._ask(STATUS, messages.status_request(self.target))))

    def metadata(self) -> Steps[dict]:
        """Asks for the model's signatures."""
        return messages.metadata_of((yield from self._ask(METADATA, messages.metadata_request(self.target))))

    def card(self) -> Steps[dict]:
        """Asks for the model's card; empty for a model without one."""
        try:
            response = yield from self._ask(PREDICT, messages.card_request(self.target))
        except ServingError as error:
            if error.code == grpc.StatusCode.FAILED_PRECONDITION:
                return {}
            raise
        return messages.card_of(response, self._address)

    def _check_without_photos(self, ask: Callable[[Batch], Steps], part: Batch, refusal: ServingError) -> Steps[None]:
        try:
            yield from ask(part.take([]))
        except ServingError:
            raise refusal from None

    def _predict(self, request: object, batch: Batch) -> Steps[object]:
        try:
            return (yield from self._ask(PREDICT, request))
        except ServingError as error:
            if error.code != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            raise with_callers_places(error, self.target.input_name, batch.places) from error

    def _ask(self, method: str, request: object) -> Steps[object]:
        """Asks, again after UNAVAILABLE while attempts, time and the budget last."""
        deadline = time.monotonic() + self._timeout
        waits = self._retries.waits(self._random)
        while True:
            try:
                answer = yield Call(method, request, max(0.0, deadline - time.monotonic()))
            except CallFailed as error:
                wait = next(waits, None) if error.code == grpc.StatusCode.UNAVAILABLE else None
                if wait is None or time.monotonic() + wait >= deadline or not self.budget.take():
                    raise error.told(self._address) from error
            else:
                self.budget.answered()
                return answer
            yield Pause(wait)


class OneWidth:
    """Checks that the descriptors of a stream all have as many dimensions: a model may be replaced on the way."""

    def __init__(self):
        self._width: int | None = None

    def check(self, first: int, width: int) -> None:
        """Notes the width of the descriptors from photo `first` on.

        Raises:
            ServingError: INTERNAL; it differs from that before.
        """
        if self._width not in (None, width):
            raise ServingError(
                grpc.StatusCode.INTERNAL,
                f"descriptors have {width} dimensions from photo {first} on and {self._width} before; "
                "the model was replaced on the way.",
            )
        self._width = width

    def check_results(self, results: list[PhotoResult]) -> None:
        """Checks those of the results that have a descriptor."""
        for result in results:
            if not isinstance(result, RefusedPhoto):
                self.check(result.place, len(result.descriptor))


def after_refusal(
    batch: Batch, refusal: ServingError, input_name: str, address: str = ""
) -> tuple[list[RefusedPhoto], list[Batch]]:
    """Returns which photos of a refused batch are refused for certain, and what to ask again.

    Args:
        batch: one or more photos with ids.
        refusal: the server's, its rows already counted as the caller's.
        input_name: the input that rows are named by.
        address: of the server, which ends the refusal's message.

    Returns:
        The named photos and a batch of the others; of a batch of one photo, that photo; else none and two halves.
    """
    message = refusal.message.removesuffix(f" ({address})")
    named = set(refusal.photos)
    if not named and len(batch) > 1:
        middle = len(batch) // 2
        return [], [batch.take(range(middle)), batch.take(range(middle, len(batch)))]
    one = rf"{re.escape(input_name)}\[(\d+)\]: "
    parts = re.split(one, message)
    reasons = {int(place): told.removesuffix("; ") for place, told in zip(parts[1::2], parts[2::2], strict=True)}
    refused, rest = [], []
    for row, place in enumerate(batch.places):
        if place in named or not named:
            whole = re.sub(r"^among photos \d+ to \d+: ", "", message)
            refused.append(RefusedPhoto(batch.ids[row], place, reasons.get(place, whole)))
        else:
            rest.append(row)
    return refused, [batch.take(rest)] if rest else []
