"""Wrong requests and broken files sent to a server with right requests among them, and what comes of it."""

import collections
import re
import statistics
from collections.abc import Callable, Iterable
from concurrent import futures
from pathlib import Path

import numpy as np

from benchmarks.served.fuzz_client import FuzzClient, Outcome
from benchmarks.served.mutated_files import mutated_files
from benchmarks.served.mutated_requests import mutated_requests
from benchmarks.served.odd_photos import encode, huge_headers, odd_photos, picture
from export.served_session import ServedSession
from tfretrieval import console

# Among so many wrong requests comes a right one.
RIGHT_AFTER = 8
HEADER_ROUNDS = 15
_OF_LIBRARIES = re.compile(
    r"JPEG|[Hh]uffman|marker|scan|SOS|SOF|component|revision number|Quantization table|Input file|Bogus|Unsupported|"
    r"Invalid progressive|sampling|Arithmetic|Empty|Maximum|progression|libpng|^I0000|^WARNING: All log"
)


def known_photos(version: Path, count: int = 6) -> tuple[list[bytes], np.ndarray]:
    """Returns photos, and their descriptors by the SavedModel itself: float32 [count, D]."""
    odd = odd_photos(7)
    names = ("JPEG turned 6", "PNG with alpha", "animated GIF", "WebP turned 3", "BMP", "JPEG of CMYK")
    photos = [odd[name] for name in names[:count]]
    with ServedSession(version) as session:
        return photos, session("serving_default", {"image_bytes": photos})["descriptors"]


def fuzz(client: FuzzClient, requests: int, broken: int, seed: int, workers: int) -> list[Outcome]:
    """Sends wrong requests, then broken files, with right requests between them.

    Returns:
        What came of each.
    """
    attacks = mutated_requests(requests, seed, encode(picture(np.random.default_rng(seed)), "JPEG"))
    found = _sent(client, client.attack, attacks, requests, "requests", workers)
    return found + _sent(client, client.describe_broken, mutated_files(broken, seed), broken, "files", workers)


def _sent(
    client: FuzzClient, send: Callable[[object], Outcome], wrong: Iterable, count: int, what: str, workers: int
) -> list[Outcome]:
    """Sends what is wrong, some at a time; stops when the server is gone."""
    bar, found = console.progress(None, what, total=count), []
    with futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[futures.Future] = collections.deque()
        for number, each in enumerate(wrong):
            waiting.append(pool.submit(send, each))
            if number % RIGHT_AFTER == 0:
                waiting.append(pool.submit(client.describe_known, number // RIGHT_AFTER))
            while len(waiting) > 4 * workers:
                found.append(waiting.popleft().result())
            bar.update(1)
            if not client.is_there():
                break
        found += [each.result() for each in waiting]
    bar.close()
    return found


def header_milliseconds(client: FuzzClient) -> dict[str, float]:
    """Returns how long the refusal of each file takes whose header asks for gigabytes, in ms, the median of some."""
    found = {}
    for name, encoded in huge_headers().items():
        outcomes = [client.describe_bytes(encoded, name) for _ in range(HEADER_ROUNDS)]
        if {outcome.status for outcome in outcomes} != {"INVALID_ARGUMENT"}:
            raise AssertionError(f"{name} was answered {[outcome.status for outcome in outcomes]}")
        found[name] = 1000 * statistics.median(outcome.seconds for outcome in outcomes)
    return found


def summary(outcomes: list[Outcome]) -> dict:
    """Returns counts by kind and status, the slowest answer, and the faults."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        counts[outcome.kind][str(outcome.status)] += 1
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    faults = [outcome for outcome in outcomes if outcome.fault]
    return {
        "answers": {kind: dict(sorted(statuses.items())) for kind, statuses in sorted(counts.items())},
        "right_requests": sum(counts[FuzzClient.RIGHT].values()),
        "slowest": {"kind": slowest.kind, "seconds": slowest.seconds},
        "faults": len(faults),
        "first_faults": list({outcome.kind: f"{outcome.kind}: {outcome.fault}" for outcome in faults[::-1]}.values()),
    }


def own_lines(log: str) -> str:
    """Returns the end of a log without what the JPEG library writes about broken files."""
    lines = [line for line in log.splitlines() if not _OF_LIBRARIES.search(line)]
    return "\n".join(lines)[-2000:]


def faults_of_the_process(found: dict, most_megabytes: float) -> list[str]:
    """Returns the faults of the server's process itself."""
    if not found["server_is_running"]:
        return ["the server has ended"]
    grown = found["megabytes"]["peak"] - found["megabytes"]["before"]
    told = [f"the server's memory grew by {grown:.0f} MB"] if grown > most_megabytes else []
    return told + ["the server wrote a traceback on its log"] * ("Traceback" in found["log"])
