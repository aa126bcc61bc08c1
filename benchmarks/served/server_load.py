"""Load on a server whose versions change and whose clients are killed, and what is wrong with what comes back."""

import dataclasses
import json
import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.served import serving
from benchmarks.served.load_clients import Clients, Notes, write_requests
from benchmarks.served.odd_photos import broken_photos
from export.served_session import ServedSession
from tfretrieval import console
from tfretrieval.errors import InputError

MONITORING = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'
BATCHING = (
    "max_batch_size { value: 16 } batch_timeout_micros { value: 2000 } num_batch_threads { value: 2 } "
    "max_enqueued_batches { value: 20 }"
)


@dataclasses.dataclass(frozen=True)
class LoadSettings:
    """How much load, and what happens meanwhile.

    Attributes:
        factor: Times the measured capacity that clients send.
        clients: Client processes.
        measure_seconds: How long the capacity is measured.
        swap_seconds: Seconds between two swaps of the version.
        kill_seconds: Seconds between two killed clients, on average.
        most_cosine: Descriptors of two photos or networks may not be nearer to each other than this.
        most_megabytes: How far the server's memory may grow from the first swap to the last, in MB.
        seed: Seed of the kills.
    """

    factor: float = 2.0
    clients: int = 4
    measure_seconds: float = 15.0
    swap_seconds: float = 30.0
    kill_seconds: float = 5.0
    most_cosine: float = 0.995
    most_megabytes: float = 500.0
    seed: int = 0


class Versions:
    """The folder of a model whose versions come and go, as operators change it.

    Args:
        base: the folder; it holds version 1.
        sources: folders of the even and of the odd versions.
        rest_url: of the server that watches it.
    """

    def __init__(self, base: Path, sources: Sequence[Path], rest_url: str):
        self._base, self._sources = base, sources
        self._status_url = f"{rest_url}/v1/models/{serving.MODEL}"
        self.current = 1
        self.faults: list[str] = []
        self.load_seconds: list[float] = []
        self.half_copied = self.damaged = 0

    def swap(self) -> None:
        """Puts the next version there, waits until it answers, and takes the one before away."""
        before, self.current, start = self.current, self.current + 1, time.perf_counter()
        self._put(self.current, lambda partial: None)
        if self._wait(
            lambda states: states.get(self.current) == "AVAILABLE", f"version {self.current} does not answer"
        ):
            self.load_seconds.append(time.perf_counter() - start)
        shutil.rmtree(self._base / str(before))

    def half_copy(self, seconds: float) -> None:
        """Copies a part of a version under its final name, and takes it away; nobody may notice."""
        number = self.current + 100
        folder = self._base / str(number)
        folder.mkdir()
        shutil.copy(self._sources[number % 2] / "saved_model.pb", folder)
        (folder / "variables").mkdir()
        for path in sorted((self._sources[number % 2] / "variables").glob("*.data-*")):
            shutil.copy(path, folder / "variables")  # without the index
        time.sleep(seconds)
        if number in self._states():
            self.faults.append(f"the half-copied version {number} was tried")
        shutil.rmtree(folder)
        self.half_copied += 1

    def damage(self) -> None:
        """Puts a version of which nothing is right there; the one before has to go on."""
        number = self.current + 1000

        def spoil(partial: Path) -> None:
            graph = (partial / "saved_model.pb").read_bytes()
            (partial / "saved_model.pb").write_bytes(graph[: len(graph) // 2])

        self._put(number, spoil)
        self._wait(lambda states: states.get(number) == "END", f"the damaged version {number} was not refused")
        if self._states().get(self.current) != "AVAILABLE":
            self.faults.append(f"version {self.current} went with the damaged version {number}")
        shutil.rmtree(self._base / str(number))
        self.damaged += 1

    def _put(self, number: int, change: Callable[[Path], None]) -> None:
        partial = self._base / ".partial"
        shutil.copytree(self._sources[number % 2], partial)
        change(partial)
        partial.rename(self._base / str(number))

    def _states(self) -> dict[int, str]:
        with urllib.request.urlopen(self._status_url, timeout=60) as response:
            found = json.loads(response.read())["model_version_status"]
        return {int(each["version"]): each["state"] for each in found}

    def _wait(self, condition: Callable[[dict[int, str]], bool], fault: str, seconds: float = 60.0) -> bool:
        end = time.monotonic() + seconds
        while not condition(self._states()):
            if time.monotonic() > end:
                self.faults.append(fault)
                return False
            time.sleep(0.1)
        return True


def known_descriptors(sources: Sequence[Path], photos: Sequence[bytes], most_cosine: float) -> np.ndarray:
    """Returns the descriptors of photos by both networks, float32 [2, N, D].

    Raises:
        InputError: two of these are alike, so that one's answers could pass for another's.
    """
    found = []
    for source in sources:
        with ServedSession(source) as session:
            found.append(session("serving_default", {"image_bytes": list(photos)})["descriptors"])
    rows = np.concatenate(found)
    nearest = float((rows @ rows.T - 2 * np.eye(len(rows), dtype=np.float32)).max())
    if nearest > most_cosine:
        raise InputError(f"two descriptors are alike (cosine {nearest:.4f}); other networks or photos are wanted.")
    return np.stack(found)


def load(base: Path, sources: Sequence[Path], photos: Sequence[bytes], seconds: float, settings: LoadSettings) -> dict:
    """Measures the capacity, and then loads the server.

    Args:
        base: empty folder for the model.
        sources: version folders of two networks, of the even and of the odd versions.
        photos: encoded photos.
        seconds: how long.
        settings: how much.

    Returns:
        The figures, with `faults`.
    """
    shutil.copytree(sources[1], base / "1")
    folder = base.parent / "clients"
    expected = known_descriptors(sources, photos, settings.most_cosine)
    write_requests(folder, photos, broken_photos()["truncated JPEG"], expected)
    monitoring, batching = folder / "monitoring.config", folder / "batching.config"
    monitoring.write_text(MONITORING, encoding="utf-8")
    batching.write_text(BATCHING, encoding="utf-8")
    options = [f"--monitoring_config_file={monitoring}", "--enable_batching", f"--batching_parameters_file={batching}"]
    with serving.ServerProcess(base, *options, "--file_system_poll_wait_seconds=0.2") as server:
        capacity = _measured(folder, server.grpc_address, settings)
        rate = settings.factor * capacity.statuses.get("OK", 0) / max(capacity.seconds, 1e-9)
        console.say(f"capacity {rate / settings.factor:.1f} requests/s; sending {rate:.1f} for {seconds:.0f} s")
        versions = Versions(base, sources, server.rest_url)
        clients = Clients(folder, server.grpc_address, rate / settings.clients)
        megabytes = _under_load(server, clients, versions, seconds, settings)
        notes, answered = clients.notes(), _answered(server)
        told = {
            "capacity_requests_per_second": rate / settings.factor,
            "capacity_photos_per_second": capacity.photos / max(capacity.seconds, 1e-9),
            "capacity_milliseconds": capacity.milliseconds_at(0.5, 0.99),
            "server_answered_ok": answered,
            "megabytes": megabytes,
            "peak_megabytes": server.megabytes(peak=True),
            "server_is_running": server.is_running,
            "log": [line for line in server.log().splitlines() if "Error" in line or "Traceback" in line][:20],
        }
    return {**told, **_told(notes, versions), "faults": _faults(capacity, notes, versions, told, settings)}


def _measured(folder: Path, address: str, settings: LoadSettings) -> Notes:
    """Returns what clients noted that send as soon as they are answered."""
    clients = Clients(folder, address, threads=8, name="capacity")
    clients.start(settings.clients)
    time.sleep(settings.measure_seconds)
    clients.stop()
    return clients.notes()


def _under_load(
    server: serving.ServerProcess, clients: Clients, versions: Versions, seconds: float, settings: LoadSettings
) -> list[float]:
    """Lets clients send, kills some, and changes versions; returns the server's memory after each swap, in MB."""
    random, end, megabytes = np.random.default_rng(settings.seed), time.monotonic() + seconds, []
    stop = threading.Event()

    def change() -> None:
        due = time.monotonic()
        try:
            while not stop.is_set():
                due += settings.swap_seconds  # later than that where the machine is slower than its versions
                versions.half_copy(settings.swap_seconds / 10)
                versions.damage()
                if stop.wait(max(0.0, due - time.monotonic())):
                    return
                versions.swap()
                megabytes.append(server.megabytes())
        except OSError as error:  # the status was not answered
            versions.faults.append(f"versions could not be changed: {error}")

    changing = threading.Thread(target=change, name="versions")
    clients.start(settings.clients)
    changing.start()
    while time.monotonic() < end and server.is_running:
        time.sleep(min(float(random.exponential(settings.kill_seconds)), max(0.0, end - time.monotonic())))
        clients.kill(random)
    stop.set()
    changing.join()
    clients.stop()
    return megabytes


def _answered(server: serving.ServerProcess) -> int:
    """Returns how many requests the server says that it answered with OK."""
    with urllib.request.urlopen(f"{server.rest_url}/monitoring/prometheus/metrics", timeout=60) as response:
        page = response.read().decode()
    counts = re.findall(r':tensorflow:serving:request_count\{[^}]*status="OK"\} (\d+)', page)
    return sum(map(int, counts))


def _told(notes: Notes, versions: Versions) -> dict:
    return {
        "sent": notes.sent,
        "seconds": notes.seconds,
        "longest_silence_seconds": notes.longest_silence,
        "answers": notes.statuses,
        "photos_per_second": notes.photos / max(notes.seconds, 1e-9),
        "milliseconds": notes.milliseconds_at(0.5, 0.9, 0.99, 1.0),
        "accepted_by_version": notes.versions,
        "wrong": notes.wrong_count,
        "lost": notes.lost,
        "unanswered": notes.unanswered,
        "clients_killed": notes.killed,
        "unanswered_of_killed": notes.unanswered_of_killed,
        "swaps": len(versions.load_seconds),
        "load_seconds": versions.load_seconds,
        "half_copied": versions.half_copied,
        "damaged": versions.damaged,
    }


def _faults(capacity: Notes, notes: Notes, versions: Versions, told: dict, settings: LoadSettings) -> list[str]:
    faults = [*capacity.wrong, *notes.wrong, *versions.faults]
    accepted = capacity.statuses.get("OK", 0) + notes.statuses.get("OK", 0)
    surplus = told["server_answered_ok"] - accepted
    if notes.unanswered or notes.lost:
        faults.append(f"{notes.unanswered} requests without an answer; answers that are none: {notes.lost}")
    if not 0 <= surplus <= notes.unanswered_of_killed:
        faults.append(
            f"the server answered {surplus} requests more than clients noted, and killed ones had "
            f"{notes.unanswered_of_killed} open"
        )
    if told["megabytes"] and told["megabytes"][-1] - told["megabytes"][0] > settings.most_megabytes:
        faults.append(f"the server's memory grew from swap to swap: {told['megabytes']}")
    if not versions.load_seconds:
        faults.append("no version was swapped")
    if not told["server_is_running"]:
        faults.append("the server has ended")
    return faults
