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
from tfretrieval.evaluation import results
from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.evaluate import Evaluation, evaluate
from tfretrieval.evaluation.report import ReportOptions, render_report
from tfretrieval.evaluation.story import Section, Table, TrainingCourse, comparison_section
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
        """Returns a training that suits them: gentle from weights, long and fast from nothing.

        Steps are given, not passes over the photos, so that the quickstart is quick whatever the folder holds.
        """
        common = {"instances": 16, "photos": 4, "average": 0.98, "seed": self.seed}
        if self.weights:
            config = TrainingConfig(
                loss="norm_softmax+supervised_contrastive",
                loss_weights="1+0.5",
                image_size=self.image_size or 192,
                epochs=self.epochs or 5,
                steps=30,
                learning_rate=1e-4,
                initial_share=0.3,
                **common,
            )
            return config, Augmentation(min_area=0.5, aspect=1.333, rotation=5.0, hue=0.02)
        config = TrainingConfig(
            loss="supervised_contrastive",
            image_size=self.image_size or 96,
            epochs=self.epochs or 24,
            steps=16,
            learning_rate=2e-3,
            **common,
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
        run, history = self._train(records)
        model = self._export(run)
        agreement = self._serve(records, run, model)
        self._evaluate(run, history, agreement)
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
            options = WriteOptions(name=self._name(), flags=self._flags, seed=config.seed)
            bar = lambda items: iter(console.progress(items, "photos to records", total=len(entries)))  # noqa: E731
            made, rejected = write_record_set(entries, self._output / "records", options, progress=bar)
            for name, split in made.splits.items():
                console.say(f"{name}: {len(split)} photos of {len(np.unique(split.labels))} instances")
            if rejected:
                console.say(f"rejected: {len(rejected)} photos, reasons in {self._output / 'records' / 'rejected.csv'}")
        return made

    def _name(self) -> str:
        return Path(self._config.photos).resolve().name if self._config.photos else "drawn buildings"

    def _train(self, records: RecordSet) -> tuple[RunDirectory, list[dict]]:
        training, augmentation = self._config.training()
        descriptor = self._config.descriptor()
        with self._stage("train", f"Training {descriptor.backbone} at {training.image_size} px"):
            return train(records, self._output / "training", descriptor, training, augmentation, self._flags)

    def _export(self, run: RunDirectory) -> Path:
        with self._stage("export", "Exporting a SavedModel"):
            output = self._output / "models" / "descriptor"
            version = saving.write_version(saving.load_source(run.path), output, self._flags)
            console.say(f"wrote {version}")
        return output

    def _serve(self, records: RecordSet, run: RunDirectory, model: Path) -> parity.Parity:
        """Extracts all descriptors through a server, and the queries' also from the SavedModel and the network."""
        header = provenance.header(self._flags, self._config.seed, {"records": records.sha256})
        bar = lambda total: console.progress(None, "describing", total)  # noqa: E731
        with self._stage("serve", "Serving it, and extracting descriptors through the server"):
            with LocalServer("descriptor", model) as server, DescriptorClient(server.grpc_address) as client:
                console.say(str(server))
                source = describing.from_server(client)
                for name in EVALUATED:
                    found = source.extract(records.split(name), bar, header)
                    found.save(self._descriptors("trained", name))
            queries = records.split("queries")
            ways = {
                "Keras model": describing.from_model(run.path).describe(queries, bar),
                "SavedModel": describing.from_model(model).describe(queries, bar),
                "server": np.asarray(Descriptors.load(self._descriptors("trained", "queries")).vectors),
            }
            agreement = parity.compare(ways)
            console.say(f"Keras model, SavedModel and server agree: smallest cosine {agreement.min_cosine:.7f}")
            untrained = describing.from_model(run.path, which="untrained")
            for name in EVALUATED:
                untrained.extract(records.split(name), bar, header).save(self._descriptors("untrained", name))
        return agreement

    def _descriptors(self, network: str, split: str) -> Path:
        return self._output / "descriptors" / network / split

    def _evaluate(self, run: RunDirectory, history: list[dict], agreement: parity.Parity) -> None:
        """Evaluates both networks and writes `metrics.json` and `index.html`."""
        with self._stage("evaluate", "Evaluating on instances that were never trained on"):
            benchmark = Benchmark.load(self._output / "records")
            found = {network: self._measure(benchmark, network) for network in ("untrained", "trained")}
            for network, evaluation in found.items():
                console.say(f"{network:>9}: mAP {evaluation.map:.3f}, R@1 {evaluation.recall_at[1]:.3f}")
            matched = [benchmark.match(self._descriptors("trained", split), split) for split in EVALUATED]
            header = results.result_header(self._flags, benchmark, *matched) | {"seed": self._config.seed}
            photos = [
                Photos.from_split(split, benchmark.instances) for split in (benchmark.queries, benchmark.database)
            ]
            sections = (
                comparison_section(("untrained", "trained"), (found["untrained"], found["trained"]), *photos),
                Section("Training", f"{self._config.descriptor().backbone}, {run.path}", (TrainingCourse(history),)),
                self._served_section(agreement),
            )
            options = ReportOptions(f"Quickstart: {benchmark.name}", 60, (), header, sections)
            render_report(self._output / results.REPORT, found["trained"], *photos, options)
        numbers = {network: _numbers(evaluation) for network, evaluation in found.items()}
        served = {**dataclasses.asdict(agreement), "ways": list(agreement.ways)}
        seconds = {**self._seconds, "total": round(sum(self._seconds.values()), 2)}
        files.write_json(self._output / results.METRICS, {**header, **numbers, "served": served, "seconds": seconds})

    def _measure(self, benchmark: Benchmark, network: str) -> Evaluation:
        vectors = [benchmark.match(self._descriptors(network, split), split).vectors for split in EVALUATED]
        return evaluate(*vectors, benchmark.relevance())

    def _served_section(self, agreement: parity.Parity) -> Section:
        text = (
            f"{' = '.join(agreement.ways)}: the {agreement.photos} query photos have the same descriptors in each, "
            f"smallest cosine {agreement.min_cosine:.7f}. All descriptors on this page came through the server."
        )
        rows = tuple((stage, f"{seconds:.1f}") for stage, seconds in self._seconds.items())
        return Section("Serving and time", text, (Table(("stage", "seconds"), rows),))


def _numbers(evaluation: Evaluation) -> dict:
    return {
        "map": evaluation.map,
        **{f"recall_at_{k}": value for k, value in evaluation.recall_at.items()},
        "queries": evaluation.queries,
        "database": evaluation.database,
    }
