"""grocery-unseen, every descriptor under one short budget: pooling, attention, whitening, scales. Makes one table.

Networks that are trained are trained alike, once for each seed: 80 steps of 48 photos at 192 px. What is finished is
kept in --output: the command can be stopped and given again. Records are those of benchmarks.grocery_unseen.
Example: python -m benchmarks.grocery_descriptors --records=runs/grocery/records --output=runs/grocery_descriptors
"""

import dataclasses
import statistics
import time
from pathlib import Path

import keras
import numpy as np
from absl import flags

from pipelines import script
from tfretrieval import console, files, provenance, whitening
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.record_set import RecordSet
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.evaluate import evaluate
from tfretrieval.extraction import Extractor
from tfretrieval.models.attention import AttentionConfig
from tfretrieval.models.descriptor import DescriptorConfig, add_scales, build_descriptor
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.train import train

FLAGS = flags.FLAGS

flags.DEFINE_string("records", "runs/grocery/records", "Record set of grocery-unseen.")
flags.DEFINE_string(
    "weights", "../shared/data/weights/mobilenetv2_1.0_224_imagenet_notop.weights.h5", "ImageNet weights."
)
flags.DEFINE_string("output", "runs/grocery_descriptors", "Directory for everything.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the trained rows.")
flags.DEFINE_integer("steps", 80, "Steps of each training.", lower_bound=1)

BACKBONE, IMAGE_SIZE, SCALES = "mobilenet_v2_1.0", 256, (1.0, 0.7071, 0.5)
OFF_THE_SHELF = {name: {"pooling": name} for name in ("spoc", "mac", "rmac", "crow", "gem")}
TRAINED = {
    "spoc": {"pooling": "spoc"},
    "gem": {"pooling": "gem"},
    "gem, p per channel": {"pooling": "gem", "p_per_channel": True},
    "agem": {"attention": AttentionConfig("agem")},
    "agem, open gates": {"attention": AttentionConfig("agem", gate_bias=3.0, final_bias=-3.0)},
    "second-order attention": {"attention": AttentionConfig("second_order")},
}
WHITENINGS = {
    "plain PCA": {"method": "pca", "shrinkage": 0.0},
    "plain Lw": {"method": "lw", "shrinkage": 0.0},
    "shrunk PCA": {"method": "pca"},
    "shrunk Lw": {"method": "lw"},
    "default": {"method": "discriminative"},
}


def file_name(row: str) -> str:
    """Returns a row's name as part of a path."""
    return row.replace(" ", "_").replace(",", "")


@dataclasses.dataclass(frozen=True)
class Described:
    """Descriptors of the splits, each float32 [N, D]; those of the training photos where a whitening is fitted."""

    queries: np.ndarray
    database: np.ndarray
    train: np.ndarray | None = None

    def whitened(self, fitted: whitening.Whitening) -> "Described":
        """Returns the searched descriptors after a whitening."""
        return Described(fitted.apply(self.queries), fitted.apply(self.database))


class Table:
    """The rows as they come about; everything finished is read back from `output`."""

    def __init__(self, output: Path, records: RecordSet, benchmark: Benchmark):
        self.output, self.records, self.benchmark = output, records, benchmark
        self.relevance, self.path = benchmark.relevance(), output / "rows.json"
        self.rows = files.read_json(self.path, "the table's rows")["rows"] if self.path.is_file() else {}

    def describe(self, name: str, make_model, train: bool = False) -> Described:
        """Returns the descriptors of a network, from the network or from the file of an earlier run."""
        path = self.output / "descriptors" / f"{file_name(name)}.npz"
        if not path.is_file():
            extractor = Extractor(make_model(), IMAGE_SIZE)
            bar = lambda total: console.progress(None, "extracting", total=total)  # noqa: E731
            parts = ("queries", "database", "train") if train else ("queries", "database")
            splits = {part: extractor(self.records.split(part), None, bar) for part in parts}
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path.with_suffix(".partial.npz"), **splits)
            path.with_suffix(".partial.npz").replace(path)
        with np.load(path) as stored:
            return Described(**stored)

    def add(self, row: str, seed: str, described: Described, **facts: object) -> None:
        """Evaluates one row for one seed, and saves the table."""
        found = evaluate(described.queries, described.database, self.relevance)
        entry = {"map": float(found.map), "recall_at_1": float(found.recall_at[1]), **facts}
        self.rows.setdefault(row, {})[seed] = entry
        console.say(f"{row} (seed {seed}): mAP {entry['map']:.4f}, R@1 {entry['recall_at_1']:.4f}")
        head = provenance.header(script.flag_values(main), None, {"records": self.records.sha256})
        files.write_json(self.path, {**head, "rows": self.rows})

    def markdown(self) -> str:
        """Returns the table: means over seeds, and from the lowest to the highest."""
        lines = ["| descriptor | R@1 | mAP | lowest to highest mAP |", "|---|---|---|---|"]
        for row, seeds in self.rows.items():
            recall, value = ([entry[key] for entry in seeds.values()] for key in ("recall_at_1", "map"))
            spread = f"{min(value):.3f} to {max(value):.3f}" if len(value) > 1 else ""
            lines.append(f"| {row} | {statistics.mean(recall):.3f} | {statistics.mean(value):.3f} | {spread} |")
        return "\n".join(lines)


def trained_run(name: str, changes: dict, seed: str, records: RecordSet, output: Path) -> RunDirectory:
    """Trains a network, or opens the finished run of it."""
    path = output / "runs" / f"{file_name(name)}-{seed}"
    config = TrainingConfig(
        loss="supervised_contrastive", instances=12, photos=4, image_size=IMAGE_SIZE, train_size=192, epochs=1,
        steps=FLAGS.steps, learning_rate=1e-4, freeze_through="block_5_add", validation_share=0.0, seed=int(seed),
        attention_multiplier=10.0,
    )  # fmt: skip
    descriptor = DescriptorConfig(BACKBONE, FLAGS.weights, **changes)
    start = time.perf_counter()
    run, history = train(records, path, descriptor, config, Augmentation(), {"row": name}, resume=True)
    console.say(f"{name}, seed {seed}: {time.perf_counter() - start:.0f} s, loss {history[-1]['loss']:.3f}")
    return run


def main() -> None:
    """Fills the table row by row and prints it."""
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    records = RecordSet.load(FLAGS.records)
    table, labels = Table(output, records, Benchmark.load(FLAGS.records)), records.split("train").labels
    for name, changes in OFF_THE_SHELF.items():
        config = DescriptorConfig(BACKBONE, FLAGS.weights, **changes)
        found = table.describe(f"off the shelf {name}", lambda config=config: build_descriptor(config))
        table.add(f"off the shelf: {name}", "none", found)
    for name, changes in TRAINED.items():
        for seed in FLAGS.seeds:
            keras.backend.clear_session()
            run = trained_run(name, changes, seed, records, output)
            found = table.describe(f"{name} {seed}", run.load_model, train=name == "gem")
            table.add(f"trained: {name}", seed, found)
            if name != "gem":
                continue
            for title, method in WHITENINGS.items():
                fitted = whitening.fit(vectors=found.train, labels=labels, **method)
                table.add(f"gem, {title} whitening", seed, found.whitened(fitted))
            scaled = table.describe(f"{name} scales {seed}", lambda run=run: add_scales(run.load_model(), SCALES), True)
            table.add("gem, three scales (power p)", seed, scaled)
            plain = table.describe(f"{name} mean {seed}", lambda run=run: add_scales(run.load_model(), SCALES, 1.0))
            table.add("gem, three scales (power 1)", seed, plain)
            fitted = whitening.fit(vectors=scaled.train, labels=labels, **WHITENINGS["default"])
            table.add("gem, three scales, default whitening", seed, scaled.whitened(fitted))
    (output / "table.md").write_text(table.markdown() + "\n", encoding="utf-8")
    print(table.markdown())


if __name__ == "__main__":
    script.run_main(main)
