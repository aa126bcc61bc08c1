"""The clients of benchmarks.load_server: their folder, their processes, and what their notes add up to."""

import collections
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from google.protobuf import descriptor, descriptor_pb2
from tensorflow_serving.apis import predict_pb2

from benchmarks.served.load_client import ANSWERED, SENT
from benchmarks.served.mutated_messages import predict_request

# Requests: of each photo alone; of several; and of a broken one, by itself and among others.
_SEVERAL = 4
# What refuses an accepted request's neighbour, and what overload may answer.
REFUSALS = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")


def write_requests(folder: Path, photos: Sequence[bytes], broken: bytes, expected: np.ndarray) -> None:
    """Writes what clients send, of which one in twenty has to be refused.

    Args:
        folder: where.
        photos: encoded photos.
        broken: what is none.
        expected: float32 [2, N, D], the photos' descriptors by even and by odd versions.
    """
    folder.mkdir(parents=True)
    np.save(folder / "expected.npy", expected)
    (folder / "messages.pb").write_bytes(_declarations(predict_pb2.DESCRIPTOR).SerializeToString())
    listed = []
    for number in range(20):
        rows = [number % len(photos)]
        if number % 5 == 4:
            rows = [(number + step) % len(photos) for step in range(_SEVERAL)]
        request = predict_request(photos[rows[0]])
        request.inputs["image_bytes"].string_val[:] = [photos[row] for row in rows]
        request.inputs["image_bytes"].tensor_shape.dim[0].size = len(rows)
        if number == 0:
            request.inputs["image_bytes"].string_val[0], rows = broken, []
        (folder / f"{number}.request").write_bytes(request.SerializeToString())
        listed.append({"file": f"{number}.request", "rows": rows})
    (folder / "requests.json").write_text(json.dumps(listed), encoding="utf-8")


def _declarations(file: descriptor.FileDescriptor) -> descriptor_pb2.FileDescriptorSet:
    """Returns a file's declaration and those of all files that it needs, these first."""
    found, done = descriptor_pb2.FileDescriptorSet(), set()

    def add(each: descriptor.FileDescriptor) -> None:
        for needed in each.dependencies:
            add(needed)
        if each.name not in done:
            done.add(each.name)
            each.CopyToProto(found.file.add())

    add(file)
    return found


class Clients:
    """Client processes.

    Args:
        folder: what they send, and where their notes go.
        address: the server's.
        rate: requests a second of each; 0 for one after the other.
        threads: of a client without a rate.
        name: of their notes' files.
    """

    def __init__(self, folder: Path, address: str, rate: float = 0.0, threads: int = 8, name: str = "client"):
        self._folder, self._arguments, self._name = folder, (str(rate), str(threads)), name
        self._address = address
        self._running: list[subprocess.Popen] = []
        self._killed: set[int] = set()
        self._count = 0

    def start(self, count: int) -> None:
        """Starts some more."""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for _ in range(count):
            command = [sys.executable, "-m", "benchmarks.served.load_client", str(self._folder), self._address]
            command += [str(self._notes(self._count)), *self._arguments, str(self._count)]
            self._running.append(subprocess.Popen(command, env=env))
            self._count += 1

    def kill(self, random: np.random.Generator) -> None:
        """Kills one of them as it is, and starts another."""
        place = int(random.integers(len(self._running)))
        process = self._running.pop(place)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._killed.add(int(process.args[-1]))
        self.start(1)

    def stop(self) -> None:
        """Lets them wait for their answers, and ends them."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
        self._running = []

    def notes(self) -> "Notes":
        """Returns what they noted."""
        return Notes.of((self._lines(number), number in self._killed) for number in range(self._count))

    def _notes(self, number: int) -> Path:
        return self._folder / f"{self._name}_{number}.notes"

    def _lines(self, number: int) -> list[list]:
        path = self._notes(number)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("]")]  # a killed one leaves half a line


@dataclasses.dataclass(frozen=True)
class Notes:
    """What clients noted, added up.

    Attributes:
        sent: requests sent.
        statuses: answers by status and, of refusals, by what was told.
        photos: photos that were described.
        milliseconds: how long each accepted request took.
        versions: accepted requests by version.
        wrong: what was wrong with answers, at most twenty.
        wrong_count: how many answers were wrong.
        unanswered: requests without an answer of clients that were not killed.
        killed: clients killed.
        unanswered_of_killed: their requests without an answer.
        seconds: between the first note and the last.
        longest_silence: most seconds in which no client noted anything, which is the machine's doing: clients send
            whether or not they are answered.
    """

    sent: int
    statuses: dict[str, int]
    photos: int
    milliseconds: list[float]
    versions: dict[int, int]
    wrong: list[str]
    wrong_count: int
    unanswered: int
    killed: int
    unanswered_of_killed: int
    seconds: float
    longest_silence: float

    @classmethod
    def of(cls, notes: Iterable[tuple[list[list], bool]]) -> "Notes":
        """Adds up the lines of each client, and whether it was killed."""
        statuses, versions = collections.Counter(), collections.Counter()
        wrong, milliseconds, times, photos, killed = [], [], [], 0, 0
        sent, open_of = 0, {True: 0, False: 0}
        for lines, was_killed in notes:
            killed += was_killed
            times += [line[0] for line in lines]
            begun = sum(line[1] == SENT for line in lines)
            answers = [line[2:] for line in lines if line[1] == ANSWERED]
            sent, open_of[was_killed] = sent + begun, open_of[was_killed] + begun - len(answers)
            for status, taken, version, count, fault, told in answers:
                statuses[f"{status}: {told}" if status in REFUSALS else status] += 1
                wrong += [fault] if fault else []
                if status == "OK":
                    milliseconds.append(taken)
                    versions[version] += 1
                    photos += count
        seconds, gaps = max(times, default=0.0) - min(times, default=0.0), np.diff(np.sort(times))
        return cls(
            sent, dict(statuses), photos, milliseconds, dict(sorted(versions.items())), wrong[:20], len(wrong),
            open_of[False], killed, open_of[True], seconds, float(gaps.max(initial=0.0)),
        )  # fmt: skip

    @property
    def lost(self) -> dict[str, int]:
        """Answers that are neither descriptors nor a refusal, by status."""
        known = ("OK", "INVALID_ARGUMENT", *REFUSALS)
        lost = {told: count for told, count in self.statuses.items() if not told.startswith(known)}
        # An UNAVAILABLE of gRPC's own says that no server was there.
        away = {told: n for told, n in self.statuses.items() if told.startswith("UNAVAILABLE") and "connect" in told}
        return {**lost, **away}

    def milliseconds_at(self, *shares: float) -> dict[str, float]:
        """Returns quantiles of the time of accepted requests."""
        if not self.milliseconds:
            return {}
        return {f"p{100 * share:g}": float(np.quantile(self.milliseconds, share)) for share in shares}
