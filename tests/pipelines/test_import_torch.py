import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfretrieval import backbones
from tfretrieval.training.run_directory import RunDirectory

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]


def script(module, *flags):
    return subprocess.run([sys.executable, "-m", module, *flags], cwd=ROOT, capture_output=True, text=True, check=False)


def checkpoint(path):
    """A cirtorch file of a ResNet-18 whose tensors are this toolkit's own random ones."""
    keras.utils.set_random_seed(0)
    modules = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state = {"pool.p": torch.tensor([2.5]), "loss.weight": torch.ones(2)}
    for name, variable in backbones.torchvision_variables(backbones.build_backbone("resnet18_v1_5")):
        first, rest = name.split(".", 1)
        value = variable.numpy()
        value = np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value
        state[f"features.{modules[first]}.{rest}"] = torch.from_numpy(value)
    whitening = {"m": np.zeros((512, 1)), "P": np.eye(512)[:8]}
    meta = {
        "architecture": "resnet18", "pooling": "gem", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2],
        "Lw": {"set": {"ms": whitening}},
    }  # fmt: skip
    torch.save({"meta": meta, "state_dict": state}, path)
    return path


def test_a_checkpoint_becomes_a_run_and_every_tensor_is_accounted_for(tmp_path):
    path, output = checkpoint(tmp_path / "net.pth"), tmp_path / "run"
    flags = (f"--checkpoint={path}", f"--output={output}", "--image_size=256", "--scales=1,0.5", "--whitening=set")
    done = script("pipelines.import_torch", *flags)
    assert done.returncode == 0, done.stderr
    assert "cirtorch: resnet18, gem, 8 dimensions, mean [0.5, 0.5, 0.5], std [0.2, 0.2, 0.2]" in done.stdout
    assert "101 tensors used" in done.stdout
    assert "1 tensor unused: loss.weight" in done.stdout
    description = json.loads((output / "run.json").read_text())
    assert description["training"] == {"image_size": 256}
    assert description["imported"]["power"] == 2.5
    assert description["flags"]["scales"] == ["1", "0.5"]
    vectors = RunDirectory.load(output).load_model()(np.zeros((1, 70, 90, 3), np.uint8))
    assert vectors.shape == (1, 8)


def test_a_mistake_is_one_sentence_without_a_traceback(tmp_path):
    (tmp_path / "net.pth").write_text("no checkpoint")
    done = script("pipelines.import_torch", f"--checkpoint={tmp_path}/net.pth", f"--output={tmp_path}/run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be read as a PyTorch file" in done.stderr
    assert not (tmp_path / "run").exists()
    done = script(
        "pipelines.import_torch", f"--checkpoint={tmp_path}/net.pth", f"--output={tmp_path}/run", "--scales=1,half"
    )
    assert done.returncode == 2
    assert "--scales=1,half; numbers joined by commas are wanted" in done.stderr
