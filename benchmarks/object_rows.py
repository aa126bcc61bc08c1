"""What the benchmarks of object embeddings share: a teacher, a detector, students, and the table of the six rows."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras

from tfretrieval import console
from tfretrieval.data.augmentation import SHOWN, Augmentation
from tfretrieval.data.detection_views import ViewConfig
from tfretrieval.data.record_set import RecordSet
from tfretrieval.descriptors import Descriptors
from tfretrieval.evaluation.object_analysis import METHODS, MethodResult
from tfretrieval.evaluation.object_findings import findings
from tfretrieval.extraction import Extractor
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor
from tfretrieval.models.detector import DetectorConfig
from tfretrieval.models.guided import BranchConfig
from tfretrieval.training.detector_config import DetectorTraining
from tfretrieval.training.guided import Guidance
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.train_objects import ObjectData, train_detector, train_guided

WEIGHTS = "mobilenetv2_{}_224_imagenet_notop.weights.h5"
CROP = 224
COLOURS = Augmentation(**SHOWN)
BRANCH = BranchConfig(branch_maps="pyramid", branch_level=4, branch_layers=1, branch_width=512)


def bar(total: int):
    """Returns a progress bar over photos."""
    return console.progress(None, "describing", total=total)


def teacher_network(weights: str | Path) -> keras.Model:
    """Returns the teacher: MobileNetV2-1.0 with ImageNet's weights, GeM with p = 3, L2."""
    return build_descriptor(DescriptorConfig("mobilenet_v2_1.0", str(Path(weights) / WEIGHTS.format("1.0"))))


def detector_config(weights: str | None, width: str = "0.35") -> DetectorConfig:
    """Returns what the detector is made of: a MobileNetV2 with a pyramid of three levels."""
    return DetectorConfig(f"mobilenet_v2_{width}", weights, min_level=4, max_level=6, head_layers=1)


def teacher_vectors(path: Path, weights: str | Path, crops: Callable[[], RecordSet]) -> Path:
    """Describes the crops of the training objects by the teacher, or finds them described."""
    if not path.is_dir():
        split = crops().split("train")
        vectors = Extractor(teacher_network(weights), CROP)(split, None, bar)
        Descriptors(vectors, split.ids, {"model": "off the shelf"}).save(path)
    return path


@dataclasses.dataclass(frozen=True)
class Training:
    """How the detector and the students of a set are trained.

    Attributes:
        name: of the set; part of the run directories' names.
        folder: where the runs go.
        weights: folder of the MobileNetV2 weights.
        data: the photos.
        views: how they are varied.
        config: the detector's training.
        student_epochs: epochs of the students' training, which is the detector's otherwise.
        width: of the trunk, a MobileNetV2.
        branch: of the students.
        student_rate: learning rate of the students' training at its highest; the detector's when 0.
        branch_ridge: see `Guidance`.
    """

    name: str
    folder: Path
    weights: str
    data: ObjectData
    views: ViewConfig
    config: DetectorTraining
    student_epochs: int
    width: str = "0.35"
    branch: BranchConfig = BRANCH
    student_rate: float = 0.0
    branch_ridge: float = 0.0

    def detector(self) -> RunDirectory:
        """Trains the detector, or opens it where it is finished."""
        start = time.perf_counter()
        detector = detector_config(str(Path(self.weights) / WEIGHTS.format(self.width)), self.width)
        noted = {"set": self.name, "epochs": self.config.epochs}
        path = self.folder / f"detector_{self.name}"
        run, _ = train_detector(self.data, path, detector, self.config, self.views, COLOURS, noted, resume=True)
        console.say(f"detector of {self.name}: {time.perf_counter() - start:.0f} s")
        return run

    def student(self, detector: RunDirectory, teacher: Path, seed: int) -> RunDirectory:
        """Trains a student of a seed on a detector, or opens it where it is finished."""
        start = time.perf_counter()
        rate = self.student_rate or self.config.learning_rate
        config = dataclasses.replace(self.config, seed=seed, epochs=self.student_epochs, learning_rate=rate)
        guidance = Guidance("regress_l2+rkd_distance", "10+1", branch_ridge=self.branch_ridge)
        noted = {"set": self.name, "epochs": config.epochs}
        run, history = train_guided(
            self.data, self.folder / f"student_{self.name}_{seed}", detector, self.branch, teacher, config, guidance,
            self.views, COLOURS, noted, resume=True,
        )  # fmt: skip
        told = f"{time.perf_counter() - start:.0f} s, loss {history[-1]['loss']:.3f}"
        console.say(f"student of {self.name}, seed {seed}: {told}")
        return run


def mean_rows(seeds: dict) -> list[MethodResult]:
    """Returns the rows of a set, means over the students' seeds.

    Args:
        seeds: entries by seed, each with a `MethodResult` as a dictionary for each method.
    """
    averaged = ("map", "recall_at_1", "milliseconds")
    rows = {method: [entry[method] for entry in seeds.values()] for method in METHODS}
    return [
        MethodResult(**{**found[0], **{key: statistics.mean(row[key] for row in found) for key in averaged}})
        for found in rows.values()
    ]


def markdown(name: str, seeds: dict) -> str:
    """Returns the table of a set and the findings, over means of the students' seeds.

    Args:
        name: of the set.
        seeds: see `mean_rows`; each entry has "ap50" too, figures by what they are of.
    """
    lines = [name, "", "| | mAP | R@1 | passes | ms a photo |", "|---|---|---|---|---|"]
    rows = mean_rows(seeds)
    for row in rows:
        spread = [entry[row.method]["map"] for entry in seeds.values()]
        between = f" ({min(spread):.3f} to {max(spread):.3f})" if max(spread) - min(spread) > 5e-4 else ""
        lines.append(
            f"| ({row.method}) {METHODS[row.method]} | {row.map:.3f}{between} | {row.recall_at_1:.3f} | {row.passes} | "
            f"{row.milliseconds:.0f} |"
        )
    ap50 = ", ".join(f"{value:.3f} of {what}" for what, value in next(iter(seeds.values()))["ap50"].items())
    lines += ["", f"AP50: {ap50}.", "", *(f"- {one.claim}: {one.verdict}. {one.figures}" for one in findings(rows))]
    return "\n".join(lines)
