"""All models of a server: finding the one that a request means, and changing the configuration while requests run."""

import contextlib
import threading
from collections.abc import Iterator, Mapping

import grpc
from absl import logging
from tensorflow_serving.apis import model_pb2

from export.server.errors import StatusError, invalid
from export.server.model import Loading, Model, Status
from export.server.model_config import ModelSettings
from export.server.servable import Servable
from tfretrieval.errors import InputError


class ModelManager:
    """Serves the models of a configuration and follows changes of it and of their folders.

    Args:
        settings: the models by name.
        loading: how versions are loaded.
        poll_wait_seconds: seconds between looks at the folders; 0 looks once, at the start.
        free_labels: whether a new label may name a version that is not loaded.

    Raises:
        InputError: a folder does not exist, holds no version, or none of them loads; or a label names a version that is
            not loaded.
    """

    def __init__(
        self,
        settings: Mapping[str, ModelSettings],
        loading: Loading | None = None,
        poll_wait_seconds: float = 1.0,
        free_labels: bool = False,
    ):
        self._how = loading or Loading()
        self._free_labels = free_labels
        self._changing = threading.Lock()
        self._models: dict[str, Model] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._stop = threading.Event()
        try:
            for each in settings.values():
                self._models[each.name] = self._first_load(each)
            self._labels = self._checked_labels(settings)
        except BaseException:
            self.close(0)
            raise
        self._poller = threading.Thread(target=self._poll, args=(poll_wait_seconds,), name="model-poll", daemon=True)
        if poll_wait_seconds > 0:
            self._poller.start()

    @property
    def versions(self) -> dict[str, list[int]]:
        """The versions that answer, by model."""
        return {name: model.versions for name, model in self._models.items()}

    @property
    def is_ready(self) -> bool:
        """Whether every model has a version that answers."""
        return all(self.versions.values())

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Yields the version that a request asks for and keeps it loaded meanwhile.

        Raises:
            StatusError: NOT_FOUND when the model or version is not loaded; INVALID_ARGUMENT for an empty name or an
                unknown version label.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        version = self.version_of(spec)
        model = self._models.get(spec.name)
        if model is None:
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        with model.lease(version) as servable:
            yield servable

    def version_of(self, spec: model_pb2.ModelSpec) -> int | None:
        """Returns the version that a request names, by number or by label; None for the highest.

        Raises:
            StatusError: INVALID_ARGUMENT for an unknown label.
        """
        chosen = spec.WhichOneof("version_choice")
        if chosen != "version_label":
            return spec.version.value if chosen else None
        version = self._labels.get(spec.name, {}).get(spec.version_label)
        if version is None:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return version

    def statuses(self, name: str) -> dict[int, Status]:
        """Returns the status of every version of a model, by number; empty for a model that there is not."""
        model = self._models.get(name)
        return {} if model is None else model.statuses()

    def refresh(self) -> None:
        """Looks at all folders once; a folder that cannot be listed leaves its model as it is."""
        for model in list(self._models.values()):
            try:
                model.refresh(settle=True)
            except OSError as error:
                logging.log_every_n_seconds(logging.WARNING, "cannot look for new versions: %s", 60, error)

    def reload(self, settings: Mapping[str, ModelSettings]) -> None:
        """Takes over a new configuration, whole or not at all: models are added, changed and dropped.

        Raises:
            InputError: a new model does not load, or a label names a version that is not loaded; nothing has changed
                then.
        """
        with self._changing:
            labels = self._checked_labels(settings)
            added: dict[str, Model] = {}
            try:
                for each in settings.values():
                    if not self._keeps(each):
                        added[each.name] = self._first_load(each)
            except BaseException:
                for model in added.values():
                    model.close(0)
                raise
            kept = {each.name: self._models[each.name] for each in settings.values() if self._keeps(each)}
            dropped = [model for name, model in self._models.items() if name not in kept]
            self._models = {**kept, **added}
            self._labels = labels
            for name, model in kept.items():
                model.configure(settings[name])
                try:
                    model.refresh()
                except OSError as error:
                    logging.warning("%s: cannot look for versions: %s", name, error)
            for model in dropped:
                threading.Thread(target=model.close, args=(None,), daemon=True).start()

    def close(self, grace: float = 5.0) -> None:
        """Stops polling and frees all models once their requests have ended, or after `grace` seconds."""
        self._stop.set()
        poller = getattr(self, "_poller", None)
        if poller is not None and poller.is_alive():
            poller.join(grace)
        models, self._models = self._models, {}
        for model in models.values():
            model.close(grace)

    def _keeps(self, settings: ModelSettings) -> bool:
        """Says whether a model stays: one from another folder is another one, whatever its versions are numbered."""
        model = self._models.get(settings.name)
        return model is not None and model.settings.base_path == settings.base_path

    def _first_load(self, settings: ModelSettings) -> Model:
        """Returns a model with a version that answers."""
        model = Model(settings, self._how)
        origin = settings.origin or f"model {settings.name!r}: base_path {settings.base_path}"
        try:
            model.refresh()
        except OSError as error:
            reason = error.strerror.lower()
            raise InputError(f"{origin}: {reason}; wanted a folder with numbered versions.") from error
        if model.versions:
            return model
        failed = model.statuses()
        if not failed:
            policy = settings.policy
            wanted = "1, 2, ..." if policy.specific is None else ", ".join(map(str, sorted(policy.specific)))
            raise InputError(f"{origin} holds no version; wanted folders {wanted} with a saved_model.pb.")
        version, status = max(failed.items())
        raise InputError(f"{origin}: version {version} does not load: {status.status.error_message}")

    def _checked_labels(self, settings: Mapping[str, ModelSettings]) -> dict[str, dict[str, int]]:
        """Returns the labels of a configuration by model, once each names a version that may have it."""
        for name, each in settings.items():
            available = self._models[name].versions if name in self._models else ()
            for label, version in each.labels.items():
                held = self._labels.get(name, {}).get(label)
                if version not in available and not (self._free_labels and held in (None, version)):
                    raise InputError(
                        f"Request to assign label to version {version} of model {name}, which is not currently "
                        "available for inference"
                    )
        return {name: dict(each.labels) for name, each in settings.items() if each.labels}

    def _poll(self, wait_seconds: float) -> None:
        while not self._stop.wait(wait_seconds):
            self.refresh()
