"""grocery-unseen: train on half of the products of GroceryStoreDataset, search among the photos of the other half.

Trained on photos of train.txt with an odd fine id; queries are the photos of test.txt with an even one, the database
those of train.txt with an even one. Runs the toolkit's own commands in turn, and prints each before it runs.
Example: python -m benchmarks.grocery_unseen --data=../shared/data --output=runs/grocery
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from benchmarks import grocery
from pipelines import script
from tfretrieval.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("data", "../shared/data", "Folder with grocery/dataset and weights.")
flags.DEFINE_string("output", "runs/grocery", "Directory for everything; a training goes on where it was stopped.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the trainings whose networks are averaged, two or more.")
flags.DEFINE_boolean("all_stages", False, "Evaluate each stage before the last, too: each takes about a minute.")

WEIGHTS = "weights/mobilenetv2_1.0_224_imagenet_notop.weights.h5"
TRAINING = (
    "--backbone=mobilenet_v2_1.0", "--image_size=256", "--train_size=192",
    "--loss=norm_softmax+supervised_contrastive", "--loss_weights=1+0.5", "--temperature=0.1",
    "--instances=16", "--photos=4", "--epochs=1", "--steps=300", "--validation_share=0",
    "--learning_rate=1e-4", "--weight_decay=0", "--loss_learning_rate=3e-3", "--freeze_through=block_5_add",
    "--average=0.99", "--initial_share=0.3",
    "--min_area=0.5", "--aspect=1.333", "--rotation=5",
    "--brightness=0.15", "--contrast=0.15", "--saturation=0.15", "--hue=0.02",
)  # fmt: skip


def run(module: str, *arguments: str) -> float:
    """Runs one of the toolkit's commands; returns its seconds.

    Raises:
        InputError: it failed; what it said stands above.
    """
    command = [sys.executable, "-m", module, *arguments]
    print("\n$", " ".join(["python", *command[1:]]), flush=True)
    start = time.perf_counter()
    if subprocess.run(command, check=False).returncode:
        raise InputError(f"{module} failed; its message stands above.")
    return time.perf_counter() - start


def evaluate(model: Path, which: str, records: Path, output: Path) -> dict:
    """Extracts both splits with a model, evaluates, and returns `metrics.json`."""
    for split in ("queries", "database"):
        run("pipelines.extract", f"--model={model}", f"--which={which}", f"--records={records}", f"--split={split}",
            f"--output={output / split}")  # fmt: skip
    run("pipelines.evaluate", f"--benchmark={records}", f"--queries={output / 'queries'}",
        f"--database={output / 'database'}", f"--output={output / 'report'}")  # fmt: skip
    return json.loads((output / "report" / "metrics.json").read_text(encoding="utf-8"))


def main() -> None:
    """Runs the protocol and prints its figures."""
    data, output = Path(FLAGS.data), Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    dataset, records, listed = data / "grocery" / "dataset", output / "records", output / "grocery_unseen.csv"
    grocery.write_list(dataset, listed)
    run("pipelines.make_records", "--source=csv", f"--input={listed}", f"--photos_root={dataset}",
        f"--output={records}", "--name=grocery-unseen")  # fmt: skip
    trained = {seed: output / f"seed{seed}" / "training" for seed in FLAGS.seeds}
    weights, seconds = data / WEIGHTS, 0.0
    for seed, path in trained.items():
        seconds += run("pipelines.train", f"--records={records}", f"--output={path}", f"--weights={weights}",
                       f"--seed={seed}", "--resume", *TRAINING)  # fmt: skip
    averaged, scales, whitened, samples = (output / name for name in ("averaged", "scales", "whitened", "train"))
    run("pipelines.average", f"--checkpoints={','.join(map(str, trained.values()))}", f"--output={averaged}")
    run("pipelines.multi_scale", f"--checkpoint={averaged}", "--scales=1,0.7071", "--power=1", "--image_size=304",
        f"--output={scales}")  # fmt: skip
    run("pipelines.extract", f"--model={scales}", f"--records={records}", "--split=train", f"--output={samples}")
    run("pipelines.whiten", f"--checkpoint={scales}", f"--descriptors={samples}", f"--records={records}",
        "--shrinkage=0.5", f"--output={whitened}")  # fmt: skip
    stages = [("averaged, two scales, whitened", whitened, "best")]
    if FLAGS.all_stages:
        stages = [
            ("off the shelf", trained[FLAGS.seeds[0]], "untrained"),
            *((f"seed {seed}", path, "best") for seed, path in trained.items()),
            ("averaged", averaged, "best"),
            *stages,
        ]
    reports = output / "evaluated"
    found = {
        name: evaluate(model, which, records, reports / name.replace(",", "").replace(" ", "-"))
        for name, model, which in stages
    }
    print(f"\ntraining {seconds:.0f} s in all (0 where a run was finished before)")
    for name, numbers in found.items():
        print(f"{name:>30}: R@1 {numbers['recall_at_1']:.4f}, mAP {numbers['map']:.4f}")


if __name__ == "__main__":
    script.run_main(main)
