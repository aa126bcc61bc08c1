"""The stages of the quickstart, each a few calls of the library."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from export import describing, parity, saving
from export.client import DescriptorClient
from export.server.local_server import LocalServer
from tfretrieval import console, files, provenance
from tfretrieval.data import scenes
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.record_set import RecordSet
from tfretrieval.data.sources import SourceOptions, read_folder
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.train import train

MARKER = "quickstart.json"
EVALUATED = ("queries", "database")


@dataclasses.dataclass(frozen=True)
class QuickstartConfig:
    """Settings of the quickstart; 0 or nothing stands for what suits the photos.

    Attributes:
        photos: folder with one folder of photos per instance; drawn buildings when not given.
        weights: `.weights.h5` file or "imagenet" for the backbone; random weights when not given.
        backbone: network trunk; small_resnet without weights, mobilenet_v2_1.0 with them, when not given.
        instances: drawn buildings.
        photos_per_instance: photos of each.
        holdout_share: share of the instances held out for evaluation.
        epochs: training epochs.
        image_size: longer side of the photos for the network, in pixels.
        seed: seed of everything random.
    """

    photos: str | None = None
    weights: str | None = None
    backbone: str | None = None
    instances: int = 120
    photos_per_instance: int = 12
    holdout_share: float = 0.25
    epochs: int = 0
    image_size: int = 0
    seed: int = 0

    def descriptor(self) -> DescriptorConfig:
        """Returns the network that suits the photos and weights."""
        backbone = self.backbone or ("mobilenet_v2_1.0" if self.weights else "small_resnet")
        return DescriptorConfig(backbone=backbone, weights=self.weights)

    def training(self) -> tuple[TrainingConfig, Augmentation]:
        """Returns a training that suits them: short and gentle from weights, longer and faster from nothing."""
        common = {"loss": "supervised_contrastive", "instances": 16, "photos": 4, "seed": self.seed}
        if self.weights:
            config = TrainingConfig(
                image_size=self.image_size or 192, epochs=self.epochs or 5, learning_rate=1e-4, average=0.98, **common
            )
            return config, Augmentation(min_area=0.3, rotation=15.0, hue=0.05)
        config = TrainingConfig(
            image_size=self.image_size or 96, epochs=self.epochs or 16, learning_rate=2e-3, average=0.98, **common
        )
        return config, Augmentation(min_area=0.5, flip=False)


class Quickstart:
    """One run of the job.

    Args:
        output: directory for everything.
        config: its settings.
        flags: what to note in the result files.
    """

    def __init__(self, output: str | Path, config: QuickstartConfig, flags: Mapping[str, object]):
        self._output, self._config, self._flags = Path(output), config, dict(flags)
        self._seconds: dict[str, float] = {}

    def run(self) -> None:
        """Runs all stages; ends with the page's path and the command that hosts the model."""
        self._begin()
        photos = Path(self._config.photos) if self._config.photos else self._draw()
        records = self._make_records(photos)
        run = self._train(records)
        model = self._export(run)
        served, agreement = self._serve(records, run, model)
        self._evaluate(records, run, served, agreement)
        print(f"\nThe page:   {self._output / 'index.html'}")
        print(f"The server: {saving.serving_command(model)}\n")

    def _begin(self) -> None:
        """Clears an earlier quickstart's directory, and nothing else's."""
        if self._output.is_dir() and any(self._output.iterdir()):
            if not (self._output / MARKER).is_file():
                raise InputError(f"--output={self._output} holds other files; an empty or new directory is wanted.")
            shutil.rmtree(self._output)
        self._output.mkdir(parents=True, exist_ok=True)
        files.write_json(self._output / MARKER, {"flags": self._flags, "versions": provenance.versions()})
        files.write_text(self._output / "flags.txt", provenance.flag_file(self._flags))

    @contextlib.contextmanager
    def _stage(self, name: str, title: str) -> Iterator[None]:
        with console.stage(title, self._seconds, name):
            yield
        console.say(f"{self._seconds[name]:.1f} s")

    def _draw(self) -> Path:
        config = self._config
        with self._stage("scenes", "Drawing buildings"):
            total = max(0, config.instances * config.photos_per_instance)
            with console.progress(None, "drawing", total) as bar:
                directory = self._output / "scenes"
                scenes.render_scenes(
                    directory, config.instances, config.photos_per_instance, config.seed, progress=bar.update
                )
        return directory / "photos"

    def _make_records(self, photos: Path) -> RecordSet:
        config = self._config
        with self._stage("records", f"Making records of {photos}"):
            entries = read_folder(photos, SourceOptions(holdout_share=config.holdout_share, seed=config.seed))
            options = WriteOptions(name=photos.resolve().name, flags=self._flags, seed=config.seed)
            bar = lambda items: iter(console.progress(items, "photos to records", total=len(entries)))  # noqa: E731
            made, rejected = write_record_set(entries, self._output / "records", options, progress=bar)
            for name, split in made.splits.items():
                console.say(f"{name}: {len(split)} photos of {len(np.unique(split.labels))} instances")
            if rejected:
                console.say(f"rejected: {len(rejected)} photos, reasons in {self._output / 'records' / 'rejected.csv'}")
        return made

    def _train(self, records: RecordSet) -> RunDirectory:
        training, augmentation = self._config.training()
        descriptor = self._config.descriptor()
        with self._stage("train", f"Training {descriptor.backbone} at {training.image_size} px"):
            run, _ = train(records, self._output / "training", descriptor, training, augmentation, self._flags)
        return run

    def _export(self, run: RunDirectory) -> Path:
        with self._stage("export", "Exporting a SavedModel"):
            output = self._output / "models" / "descriptor"
            version = saving.write_version(saving.load_source(run.path), output, self._flags)
            console.say(f"wrote {version}")
        return output

    def _serve(
        self, records: RecordSet, run: RunDirectory, model: Path
    ) -> tuple[dict[str, Descriptors], parity.Parity]:
        """Extracts all descriptors through a server, and the queries' also from the SavedModel and the network."""
        header = provenance.header(self._flags, self._config.seed, {"records": records.sha256})
        bar = lambda total: console.progress(None, "describing", total)  # noqa: E731
        with self._stage("serve", "Serving it, and extracting descriptors through the server"):
            with LocalServer("descriptor", model) as server, DescriptorClient(server.grpc_address) as client:
                console.say(str(server))
                source = describing.from_server(client)
                served = {name: source.extract(records.split(name), bar, header) for name in EVALUATED}
            queries = records.split("queries")
            ways = {
                "Keras model": describing.from_model(run.path).describe(queries, bar),
                "SavedModel": describing.from_model(model).describe(queries, bar),
                "server": served["queries"].vectors,
            }
            agreement = parity.compare(ways)
            console.say(f"Keras model, SavedModel and server agree: smallest cosine {agreement.min_cosine:.7f}")
            for name, descriptors in served.items():
                descriptors.save(self._output / "descriptors" / name)
        return served, agreement
