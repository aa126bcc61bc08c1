"""grocery-unseen: MobileNetV2-0.35 taught by the fine-tuned MobileNetV2-1.0. Makes one table, and times both networks.

The teacher is the mean of the three seeds of benchmarks.grocery_unseen at 256 px, its best network that sees a photo
once, turned to the principal axes of the training photos, of which --dimension are kept (what is left out is next to
nothing to the teacher, and is what a student on photos of other products learns worst). The student sees the 2,640
photos of training products in the dataset's three lists, twice the teacher's, as it needs no labels: each view is also
described by the teacher (online). It ends in a linear layer to as many dimensions, which begins in closed form
(--head_ridge). It searches the teacher's database as it is, and after pipelines.align: fitted to the database's photos
as both networks describe them, without labels and without queries. Beside it stands the same student trained without
the teacher, on the same photos, for as many steps, with the teacher's own losses over labels: with all its dimensions,
and turned and cut to as many as the student has. What is finished is kept in --output: the command can be stopped and
given again.
Example: python -m benchmarks.grocery_students --teacher=runs/grocery/averaged --output=runs/students
"""

import dataclasses
import gc
import statistics
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import grocery, timing
from benchmarks.table import Described, Table, file_name
from export.precision import FrozenNetwork
from pipelines import script
from tfretrieval import console, files, whitening
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.record_set import RecordSet
from tfretrieval.data.sources import SourceOptions, read_csv
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.descriptors import Descriptors
from tfretrieval.extraction import Extractor
from tfretrieval.models.descriptor import DescriptorConfig
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.derived_runs import write_whitened_run
from tfretrieval.training.distillation import DistillationConfig
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.train import train
from tfretrieval.whitening.to_teacher import align

FLAGS = flags.FLAGS

flags.DEFINE_string("records", "runs/grocery/records", "Record set of grocery-unseen.")
flags.DEFINE_string("data", "../shared/data", "Folder with grocery/dataset.")
flags.DEFINE_string("teacher", "runs/grocery/averaged", "Run directory of the teacher.")
flags.DEFINE_string(
    "weights", "../shared/data/weights/mobilenetv2_0.35_224_imagenet_notop.weights.h5", "ImageNet weights."
)
flags.DEFINE_string("output", "runs/students", "Directory for everything.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the trainings.")
flags.DEFINE_integer("dimension", 128, "Dimensions kept of the teacher's, and learned.", lower_bound=1)
flags.DEFINE_integer("steps", 1000, "Steps of each training, of 64 photos.", lower_bound=1)
flags.DEFINE_integer("rounds", 15, "Timed runs of each network.", lower_bound=1)

BACKBONE, IMAGE_SIZE, TIMED_PHOTOS = "mobilenet_v2_0.35", 256, 16
FULL, TEACHER, TAUGHT = "teacher, all dimensions", "teacher", "student"
ASYMMETRIC, UNTAUGHT = "student in teacher's database", "without a teacher"
ALIGNED = "student aligned to that database, in it"
UNTAUGHT_CUT = "without a teacher, cut as the teacher is"
VIEWS = Augmentation(min_area=0.2, aspect=1.333, rotation=5.0, hue=0.02)
COMMON = {
    "image_size": IMAGE_SIZE, "train_size": 192, "instances": 16, "photos": 4, "epochs": 1, "validation_share": 0.0,
    "weight_decay": 0.0, "average": 0.98,
}  # fmt: skip
WITH_TEACHER = {"loss": "none", "sampler": "shuffled", "learning_rate": 1e-3}
# As benchmarks.grocery_unseen trains the teacher.
WITH_LABELS = {
    "loss": "norm_softmax+supervised_contrastive", "loss_weights": "1+0.5", "temperature": 0.1,
    "learning_rate": 1e-4, "freeze_through": "block_5_add", "average": 0.99, "initial_share": 0.3,
}  # fmt: skip
WANTED = {TAUGHT: 0.95, ASYMMETRIC: 0.97, ALIGNED: 0.97}
WANTED_SPEED = 2.5


def trained(
    row: str, settings: dict, seed: str, records: RecordSet, teacher: DistillationConfig | None
) -> RunDirectory:
    """Trains a student, or opens or finishes the earlier run of it."""
    path = Path(FLAGS.output) / "runs" / f"{file_name(row)}-{seed}"
    config = TrainingConfig(**{**COMMON, **settings}, steps=FLAGS.steps, seed=int(seed))
    keras.backend.clear_session()
    gc.collect()
    noted = {"row": row, **dataclasses.asdict(config)}
    student = DescriptorConfig(BACKBONE, FLAGS.weights, whitening=FLAGS.dimension if teacher else 0)
    return train(records, path, student, config, VIEWS, noted, resume=True, distillation=teacher)[0]


def turn_of(vectors: np.ndarray) -> whitening.Whitening:
    """Returns the turn of descriptors to their first --dimension principal axes."""
    return whitening.fit("pca", vectors, dimension=FLAGS.dimension, shrinkage=0.0, power=0.0)


def turned_teacher(records: RecordSet) -> RunDirectory:
    """Returns the teacher with --dimension dimensions, from an earlier run or made now."""
    full, path = RunDirectory.load(FLAGS.teacher), Path(FLAGS.output) / TEACHER
    if not RunDirectory(path).description.is_file():
        split = records.split("train")
        samples = Descriptors(Extractor(full.load_model(), IMAGE_SIZE)(split), split.ids)
        turn = turn_of(samples.vectors)
        write_whitened_run(full, "best", samples, turn, path, script.flag_values(main))
    return RunDirectory.load(path)


def training_photos() -> RecordSet:
    """Makes the record set that students train on, or opens the one made before."""
    path, dataset = Path(FLAGS.output) / "photos", Path(FLAGS.data) / "grocery/dataset"
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        listed = path.with_suffix(".csv")
        grocery.write_training_photos(dataset, listed)
        entries = read_csv(listed, SourceOptions(photos_root=str(dataset)))
        return write_record_set(entries, path, WriteOptions("grocery-training-photos"))[0]
    return RecordSet.load(path)


def fill(table: Table, records: RecordSet, photos: RecordSet) -> None:
    """Makes the rows that are missing; `records` is what is searched, `photos` what students train on."""
    table.add(FULL, "none", table.describe(FULL, RunDirectory.load(FLAGS.teacher).load_model))
    turned = turned_teacher(records)
    teacher = table.describe(TEACHER, turned.load_model)
    table.add(TEACHER, "none", teacher)
    online = DistillationConfig(str(turned.path), teacher_online=True, head_ridge=0.3)
    for seed in FLAGS.seeds:
        if not all(table.has(row, seed) for row in (TAUGHT, ASYMMETRIC, ALIGNED)):
            run = trained(TAUGHT, WITH_TEACHER, seed, photos, online)
            student = table.describe(f"{TAUGHT} {seed}", run.load_model)
            table.add(TAUGHT, seed, student)
            table.add(ASYMMETRIC, seed, Described(student.queries, teacher.database))
            fitted = align(student.database, teacher.database)
            table.add(ALIGNED, seed, Described(fitted.apply(student.queries), teacher.database))
        if not table.has(UNTAUGHT, seed):
            run = trained(UNTAUGHT, WITH_LABELS, seed, photos, None)
            table.add(UNTAUGHT, seed, table.describe(f"{UNTAUGHT} {seed}", run.load_model))
        if not table.has(UNTAUGHT_CUT, seed):
            run = trained(UNTAUGHT, WITH_LABELS, seed, photos, None)
            described = table.describe(f"{UNTAUGHT} {seed} with train", run.load_model, train=True)
            table.add(UNTAUGHT_CUT, seed, described.whitened(turn_of(described.train)))


def timed(output: Path) -> float:
    """Times both networks, frozen as extraction and servers run them; returns the student's over the teacher's."""
    runs = {TAUGHT: output / "runs" / f"{file_name(TAUGHT)}-{FLAGS.seeds[0]}", TEACHER: Path(FLAGS.teacher)}
    pixels = np.random.default_rng(0).integers(0, 256, (TIMED_PHOTOS, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    photos = tf.constant(pixels)

    def side(path: Path) -> Callable:
        network = FrozenNetwork(RunDirectory.load(path).load_model())
        return lambda: network(photos).numpy()

    seconds = timing.in_turn({name: side(path) for name, path in runs.items()}, FLAGS.rounds)
    return timing.report("speed", seconds, TIMED_PHOTOS, script.flag_values(main), output)["ratio"][TAUGHT]


def verdicts(table: Table, speed: float) -> list[str]:
    """Returns a line for each figure that was wanted: what was found, and whether it is enough."""
    means = {row: statistics.mean(entry["map"] for entry in entries.values()) for row, entries in table.rows.items()}
    lines = []
    for row, wanted in WANTED.items():
        share = means[row] / means[TEACHER]
        lines.append(f"{row}: {share:.1%} of the teacher's mAP, {wanted:.0%} wanted: {_held(share >= wanted)}")
    lines.append(f"{TAUGHT}: {means[TAUGHT] / means[FULL]:.1%} of the mAP of the {FULL}")
    for row in (UNTAUGHT_CUT, UNTAUGHT):
        gained = means[TAUGHT] - means[row]
        lines.append(f"student above the one {row}: {gained:+.3f} mAP: {_held(gained > 0)}")
    return [*lines, f"{speed:.2f} times the teacher's speed, {WANTED_SPEED} wanted: {_held(speed >= WANTED_SPEED)}"]


def _held(enough: bool) -> str:
    return "held" if enough else "not held"


def main() -> None:
    """Fills the table row by row, times, and prints both."""
    output, records = Path(FLAGS.output), RecordSet.load(FLAGS.records)
    table = Table(output, records, IMAGE_SIZE, script.flag_values(main), fixed=("steps", "teacher", "dimension"))
    fill(table, records, training_photos())
    text = "\n".join([table.markdown("network"), "", *verdicts(table, timed(output))])
    files.write_text(output / "table.md", text + "\n")
    console.say(text)


if __name__ == "__main__":
    script.run_main(main)
