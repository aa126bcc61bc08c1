"""Versions of one model in a folder: finding, loading and swapping them while requests run."""

import collections
import contextlib
import logging as python_logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow_serving.apis import get_model_status_pb2, model_pb2

from export.server.errors import StatusError, invalid, useful_line
from tfretrieval.errors import InputError

State = get_model_status_pb2.ModelVersionStatus.State


def complete_versions(base_path: str | Path) -> dict[int, Path]:
    """Returns the version folders below `base_path` that hold a SavedModel, by version number.

    A version folder is named by a whole number; one without `saved_model.pb` is still being copied and is left out.

    Raises:
        OSError: `base_path` cannot be listed.
    """
    return {
        int(folder.name): folder
        for folder in Path(base_path).iterdir()
        if folder.name.isascii() and folder.name.isdecimal() and (folder / "saved_model.pb").is_file()
    }


class Servable:
    """One loaded version of a SavedModel.

    It is loaded into a session, as the real server does, so signatures, defaults, timeouts and error texts are those
    of the graph itself.

    Args:
        folder: the version's folder.
        version: its number.
        session_parallelism: threads of TensorFlow's pools; 0 leaves the choice to TensorFlow.

    Attributes:
        version: the number.
        signatures: the `SignatureDef`s by name.
    """

    def __init__(self, folder: Path, version: int, session_parallelism: int = 0):
        self.version = version
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=session_parallelism, inter_op_parallelism_threads=session_parallelism
        )
        config.gpu_options.allow_growth = True
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default(), _no_deprecation_notes():
                graph = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        except BaseException:
            self._session.close()
            raise
        self.signatures = graph.signature_def

    def run(self, fetches: list[str], feeds: Mapping[str, np.ndarray], timeout: float | None = None) -> list:
        """Returns the values of the tensors named in `fetches`, for tensors fed by name.

        Args:
            fetches: tensor names.
            feeds: arrays by tensor name, of the tensors' dtypes and compatible shapes.
            timeout: seconds after which the run is cancelled; None waits for ever.

        Raises:
            tf.errors.OpError: the graph failed, or the time was over.
        """
        # Zero milliseconds mean no limit; a gRPC client without a deadline counts down from centuries.
        limit = 0 if timeout is None else int(max(1, min(1000 * timeout, 2**31 - 1)))
        return self._session.run(fetches, feeds, options=tf.compat.v1.RunOptions(timeout_in_ms=limit))

    def close(self) -> None:
        """Frees the model; no run may be under way."""
        self._session.close()


class ModelManager:
    """Serves the latest complete version below a folder and swaps to a newer one without a gap.

    Rules of the real server's default policy: only the latest version is loaded; the new version is loaded fully
    before the old one is dropped; requests under way finish on the version they began with. A version that fails to
    load is logged and tried again when its files change; the old one keeps serving.

    Args:
        name: the model's name in requests.
        base_path: the folder of version folders.
        poll_wait_seconds: seconds between looks at the folder; 0 looks once, at the start.
        session_parallelism: see `Servable`.

    Raises:
        InputError: the folder does not exist, holds no version, or none of them loads.
    """

    def __init__(self, name: str, base_path: str | Path, poll_wait_seconds: float = 1.0, session_parallelism: int = 0):
        self.name = name
        self._base_path = Path(base_path)
        self._session_parallelism = session_parallelism
        self._changed = threading.Condition()
        self._current: Servable | None = None
        self._leases: collections.Counter[int] = collections.Counter()
        self._statuses: dict[int, get_model_status_pb2.ModelVersionStatus] = {}
        self._failed: dict[int, tuple] = {}
        self._stop = threading.Event()
        self._load_first()
        self._poller = threading.Thread(target=self._poll, args=(poll_wait_seconds,), name="model-poll", daemon=True)
        if poll_wait_seconds > 0:
            self._poller.start()

    @property
    def version(self) -> int:
        """The version that answers requests which name none."""
        return self._current.version

    def statuses(self) -> dict[int, get_model_status_pb2.ModelVersionStatus]:
        """Returns the status of every version this server has loaded or tried to, by number."""
        with self._changed:
            return dict(sorted(self._statuses.items()))

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Yields the version that a request asks for and keeps it loaded meanwhile.

        Raises:
            StatusError: NOT_FOUND when the model or version is not loaded; INVALID_ARGUMENT for an empty name or a
                version label.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        chosen = spec.WhichOneof("version_choice")
        if chosen == "version_label":
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        with self._changed:
            servable = self._current
            known = spec.name == self.name and servable is not None
            if not known or (chosen == "version" and spec.version.value != servable.version):
                wanted = f"Specific({spec.name}, {spec.version.value})" if chosen else f"Latest({spec.name})"
                raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
            self._leases[servable.version] += 1
        try:
            yield servable
        finally:
            with self._changed:
                self._leases[servable.version] -= 1
                self._changed.notify_all()

    def refresh(self) -> None:
        """Loads the newest version that can be loaded, where it is not the one being served.

        Raises:
            OSError: the folder cannot be listed.
        """
        versions = complete_versions(self._base_path)
        for version in sorted(versions, reverse=True):
            if self._current is not None and version == self._current.version:
                return
            files = _fingerprint(versions[version])
            if self._failed.get(version) == files:
                continue
            loaded = self._load(version, versions[version])
            if loaded is not None:
                self._swap(loaded)
                return
            self._failed[version] = files

    def close(self, grace: float = 5.0) -> None:
        """Stops polling and frees the model once its requests have ended, or after `grace` seconds."""
        self._stop.set()
        if self._poller.is_alive():
            self._poller.join(grace)
        with self._changed:
            last, self._current = self._current, None
        if last is not None:
            self._retire(last, grace)

    def _load_first(self) -> None:
        try:
            found = complete_versions(self._base_path)
        except OSError as error:
            reason = error.strerror.lower()
            raise InputError(
                f"--model_base_path={self._base_path}: {reason}; wanted a folder with numbered versions."
            ) from error
        if not found:
            raise InputError(
                f"--model_base_path={self._base_path} holds no version; wanted folders 1, 2, ... with a saved_model.pb."
            )
        self.refresh()
        if self._current is None:
            version, status = max(self.statuses().items())
            raise InputError(
                f"--model_base_path={self._base_path}: version {version} does not load: {status.status.error_message}"
            )

    def _load(self, version: int, folder: Path) -> Servable | None:
        self._set_state(version, State.LOADING)
        try:
            servable = Servable(folder, version, self._session_parallelism)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a new version, the old one must go on
            reason = useful_line(str(error))
            logging.warning("%s version %d does not load and is left out: %s", self.name, version, reason)
            self._set_state(version, State.END, getattr(error, "error_code", grpc.StatusCode.UNKNOWN.value[0]), reason)
            return None
        self._set_state(version, State.AVAILABLE)
        return servable

    def _swap(self, new: Servable) -> None:
        with self._changed:
            old, self._current = self._current, new
        if old is not None:
            logging.info("%s: version %d replaces version %d", self.name, new.version, old.version)
            self._retire(old)

    def _retire(self, servable: Servable, grace: float | None = None) -> None:
        self._set_state(servable.version, State.UNLOADING)
        with self._changed:
            self._changed.wait_for(lambda: not self._leases[servable.version], grace)
        servable.close()
        self._set_state(servable.version, State.END)

    def _set_state(self, version: int, state: int, code: int = 0, message: str = "") -> None:
        status = get_model_status_pb2.ModelVersionStatus(version=version, state=state)
        status.status.error_code = code
        status.status.error_message = message
        with self._changed:
            self._statuses[version] = status

    def _poll(self, wait_seconds: float) -> None:
        while not self._stop.wait(wait_seconds):
            try:
                self.refresh()
            except OSError as error:
                logging.log_every_n_seconds(logging.WARNING, "cannot look for new versions: %s", 60, error)


def _fingerprint(folder: Path) -> tuple:
    """Returns what changes while a folder is being copied: names, sizes and times of its files."""
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            known = path.stat()
            found.append((str(path), known.st_size, known.st_mtime_ns))
    return tuple(found)


@contextlib.contextmanager
def _no_deprecation_notes() -> Iterator[None]:
    """Hides TensorFlow's advice to use `tf.saved_model.load`, which does not load into a session."""

    def keep(record: python_logging.LogRecord) -> bool:
        return "is deprecated" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
