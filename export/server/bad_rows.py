"""Which rows of a refused batch are at fault: asked of the model itself, by running parts of the batch."""

import re
from collections.abc import Callable

import grpc
import numpy as np

from export.server.errors import StatusError, invalid

Run = Callable[[dict[str, np.ndarray]], list]

# Bounds of the search for bad rows: 64 runs find the first one among 2 ** 32, and eight names fit in a message.
MAX_SEARCH_RUNS = 64
MAX_NAMED_ROWS = 8


def run_naming_rows(run: Run, alone: Run, inputs: dict[str, np.ndarray]) -> list:
    """Runs a batch; when it is refused without saying which row is at fault, finds out by running parts of it.

    Args:
        run: answers the batch.
        alone: answers parts of it, without waiting for other requests.
        inputs: arrays by alias.

    Raises:
        StatusError: the batch is refused; the message names its rows where they are at fault.
    """
    try:
        return run(inputs)
    except StatusError as error:
        told = _named_rows(alone, inputs, error)
        if told is None:
            raise
        raise invalid(told) from error


def _named_rows(run: Run, inputs: dict[str, np.ndarray], error: StatusError) -> str | None:
    """Returns a refusal with the rows that are to blame; None where no row is, or the refusal names it already."""
    columns = {alias: array for alias, array in inputs.items() if array.ndim}  # a scalar is for every row
    lengths = {len(array) for array in columns.values()}
    if error.code != grpc.StatusCode.INVALID_ARGUMENT or len(lengths) != 1 or lengths == {0}:
        return None
    prefix = next(iter(columns)) if len(columns) == 1 else "instances"
    rows_named = "|".join(re.escape(alias) for alias in (prefix, *columns))
    scalar_named = "|".join(re.escape(alias) for alias in inputs.keys() - columns) or "(?!)"
    if re.search(rf"\b(?:{rows_named})\[\d+\]|\brow \d+|^(?:{scalar_named}): ", error.message):
        return None
    rows = lengths.pop()

    def refusal(start: int, stop: int) -> str | None:
        if (start, stop) == (0, rows):
            return error.message
        try:
            run({**inputs, **{alias: array[start:stop] for alias, array in columns.items()}})
        except StatusError as part:
            if part.code != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return part.message
        return None

    reasons, unchecked = find_bad_rows(refusal, rows)
    if not reasons:
        return None
    # A model that names rows counted those of the part it was given.
    part_row = re.compile(rf"^{re.escape(prefix)}\[\d+\]: ")
    told = "; ".join(f"{prefix}[{row}]: {part_row.sub('', reason)}" for row, reason in reasons.items())
    return told + (f" (not checked from row {unchecked} on)" if unchecked < rows else "")


def find_bad_rows(refusal: Callable[[int, int], str | None], rows: int) -> tuple[dict[int, str], int]:
    """Finds, by halving, the rows of a refused batch that are refused alone.

    Args:
        refusal: says why rows `start` to `stop` (exclusive) are refused together; None when they are not. It may raise
            `StatusError` to end the search.
        rows: length of the batch, at least 1.

    Returns:
        Reasons by row, at most `MAX_NAMED_ROWS` of them, in order; and the first row that was not looked at.
    """
    reasons: dict[int, str] = {}
    spans = [(0, rows)]
    try:
        for _ in range(MAX_SEARCH_RUNS):
            if not spans or len(reasons) == MAX_NAMED_ROWS:
                break
            start, stop = spans[-1]
            reason = refusal(start, stop)
            spans.pop()
            if reason is None:
                continue
            if stop - start == 1:
                reasons[start] = reason
            else:
                middle = (start + stop) // 2
                spans += [(middle, stop), (start, middle)]
    except StatusError:
        # The deadline, most often: what is known so far is still the better answer.
        pass
    return reasons, spans[-1][0] if spans else rows
