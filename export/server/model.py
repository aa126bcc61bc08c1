"""One model: its versions on disk, which of them are loaded, and changing them while requests run."""

import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from absl import logging
from tensorflow_serving.apis import get_model_status_pb2

from export.server.batching_settings import BatchingSettings
from export.server.errors import StatusError, useful_line
from export.server.metrics import Metrics, microseconds_since
from export.server.model_config import ModelSettings
from export.server.servable import Servable
from export.server.versions import complete_versions, fingerprint
from export.server.warmup import warm_up

State = get_model_status_pb2.ModelVersionStatus.State
Status = get_model_status_pb2.ModelVersionStatus

# Ended versions whose status is still told; the real server tells of all until it restarts.
MAX_ENDED = 100


@dataclasses.dataclass(frozen=True)
class Loading:
    """How versions are loaded.

    Attributes:
        session_parallelism: see `Servable`.
        batching: see `Servable`.
        warmup_iterations: how often each warm-up record is answered; 0 skips warm-up.
        metrics: where loads are counted.
    """

    session_parallelism: int = 0
    batching: BatchingSettings | None = None
    warmup_iterations: int = 1
    metrics: Metrics = dataclasses.field(default_factory=Metrics)


class Model:
    """The versions of one model, those that its policy asks for loaded.

    Rules of the real server: a new version is loaded and warmed up before an old one is dropped; requests under way
    finish on the version they began with. This server's own: a version that fails to load is tried again when its
    files change, and the next lower one stands in for it; where no version is left on disk, the loaded ones stay.

    Args:
        settings: name, folder and policy.
        loading: how versions are loaded.
    """

    def __init__(self, settings: ModelSettings, loading: Loading):
        self._settings = settings
        self._how = loading
        self._refreshing = threading.Lock()
        self._changed = threading.Condition()
        self._loaded: dict[int, Servable] = {}
        self._leases: collections.Counter[Servable] = collections.Counter()
        self._statuses: dict[int, Status] = {}
        self._failed: dict[int, tuple] = {}
        self._seen: dict[int, tuple] = {}
        self._retiring: list[threading.Thread] = []
        self._closed = False

    @property
    def settings(self) -> ModelSettings:
        """Name, folder, policy and labels."""
        return self._settings

    @property
    def versions(self) -> list[int]:
        """The versions that answer, in order."""
        with self._changed:
            return sorted(self._loaded)

    def statuses(self) -> dict[int, Status]:
        """Returns the status of every version that was loaded or tried, by number."""
        with self._changed:
            return dict(sorted(self._statuses.items()))

    @contextlib.contextmanager
    def lease(self, version: int | None) -> Iterator[Servable]:
        """Yields a version, the highest where none is named, and keeps it loaded meanwhile.

        Raises:
            StatusError: NOT_FOUND when it is not loaded.
        """
        with self._changed:
            servable = self._loaded.get(max(self._loaded, default=None) if version is None else version)
            if servable is None:
                name = self._settings.name
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
            self._leases[servable] += 1
        try:
            yield servable
        finally:
            with self._changed:
                self._leases[servable] -= 1
                self._changed.notify_all()

    def configure(self, settings: ModelSettings) -> None:
        """Takes over a new policy and labels for the same folder; the next `refresh` acts on them."""
        with self._refreshing:
            self._settings = settings

    def refresh(self, settle: bool = False) -> None:
        """Loads the versions that the policy asks for, and then drops the others.

        Args:
            settle: leave versions whose files are not as they were at the last call: they may still be being copied.

        Raises:
            OSError: the folder cannot be listed.
        """
        with self._refreshing:
            if self._closed:
                return
            found = complete_versions(self._settings.base_path)
            prints = {version: fingerprint(found[version]) for version in found.keys() - set(self.versions)}
            unsettled = {version for version, files in prints.items() if settle and self._seen.get(version) != files}
            self._seen = prints
            while True:
                broken = {version for version, files in prints.items() if self._failed.get(version) == files}
                wanted = self._settings.policy.choose(found.keys() - broken - unsettled)
                missing = wanted - set(self.versions)
                if not missing:
                    break
                version = max(missing)
                if not self._load(version, found[version]):
                    self._failed[version] = prints[version]
            for version in set(self.versions) - wanted if wanted else ():
                self._retire(version)

    def close(self, grace: float | None) -> None:
        """Drops all versions once their requests have ended, or after `grace` seconds; None waits for ever."""
        with self._refreshing:
            self._closed = True
            for version in self.versions:
                self._retire(version, grace)
        for thread in self._retiring:
            thread.join(None if grace is None else grace + 1)

    def _load(self, version: int, folder: Path) -> bool:
        how, name, path = self._how, self._settings.name, str(folder)
        self._set_state(version, State.LOADING)
        start, servable = time.perf_counter(), None
        try:
            servable = Servable(folder, version, how.session_parallelism, how.batching, how.metrics, name)
            how.metrics.load_latency.add(path, amount=round(microseconds_since(start)))
            if how.warmup_iterations:
                warm_up(servable, folder, how.warmup_iterations, how.metrics)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a new version, the old one must go on
            reason = useful_line(str(error)) or type(error).__name__
            logging.warning("%s version %d does not load and is left out: %s", name, version, reason)
            self._set_state(version, State.END, _code(error), reason)
            how.metrics.load_attempt_count.add(path, "fail")
            if servable is not None:
                servable.close()
            return False
        how.metrics.load_attempt_count.add(path, "success")
        with self._changed:
            self._loaded[version] = servable
            self._set_state(version, State.AVAILABLE)
        logging.info("%s: version %d is available", name, version)
        return True

    def _retire(self, version: int, grace: float | None = None) -> None:
        """Stops giving out a version, and frees it in the background once its requests have ended."""
        with self._changed:
            servable = self._loaded.pop(version)
            self._set_state(version, State.UNLOADING)

        def free() -> None:
            with self._changed:
                self._changed.wait_for(lambda: not self._leases[servable], grace)
                del self._leases[servable]
            servable.close()
            with self._changed:
                if version not in self._loaded:  # a rollback may have loaded it again
                    self._set_state(version, State.END)

        thread = threading.Thread(target=free, name=f"unload-{self._settings.name}-{version}", daemon=True)
        self._retiring = [each for each in self._retiring if each.is_alive()] + [thread]
        thread.start()

    def _set_state(self, version: int, state: int, code: int = 0, message: str = "") -> None:
        status = Status(version=version, state=state)
        status.status.error_code = code
        status.status.error_message = message
        with self._changed:
            self._statuses[version] = status
            ended = [number for number, each in self._statuses.items() if each.state == State.END]
            for number in sorted(ended)[: max(0, len(ended) - MAX_ENDED)]:
                del self._statuses[number]


def _code(error: Exception) -> int:
    """Returns the canonical code of a failed load."""
    if isinstance(error, StatusError):
        return error.code.value[0]
    return getattr(error, "error_code", grpc.StatusCode.UNKNOWN.value[0])
