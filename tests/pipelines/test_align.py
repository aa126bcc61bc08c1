import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfretrieval.descriptors import Descriptors
from tfretrieval.extraction import Extractor
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.whitening import Whitening

ROOT = Path(__file__).parents[2]


def align(*given):
    command = [sys.executable, "-m", "pipelines.align", *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def described(tiny_run, training_set, tmp_path_factory):
    """Photos as the student says, and an index of more photos: the student's vectors, a tenth of dimensions doubled."""
    folder, split = tmp_path_factory.mktemp("described"), training_set.split()
    vectors = Extractor(tiny_run.load_model(), 48)(split)
    Descriptors(vectors, split.ids, {}).save(folder / "student")
    index = vectors * np.where(np.arange(vectors.shape[1]) % 10, 1, 2).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(split))
    ids = (*(split.ids[row] for row in order), "another")
    Descriptors(np.concatenate([index[order], index[:1]]), ids, {"model_sha256": "t"}).save(folder / "index")
    return folder


@pytest.mark.slow
def test_the_network_of_an_aligned_run_gives_the_aligned_descriptors(tiny_run, training_set, described, tmp_path):
    given = (f"--checkpoint={tiny_run.path}", f"--descriptors={described}/student", f"--output={tmp_path}/aligned")
    done = align(*given, f"--index={described}/index")
    assert done.returncode == 0, done.stderr
    assert f"fitted to {len(training_set.split())} photos of the index (ridge 0.001)" in done.stdout
    run, samples = RunDirectory.load(tmp_path / "aligned"), Descriptors.load(described / "student")
    fitted = Whitening.load(tmp_path / "aligned/whitening.npz")
    found = Extractor(run.load_model(), 48)(training_set.split())
    np.testing.assert_allclose(found, fitted.apply(samples.vectors), atol=1e-4)
    index = Descriptors.load(described / "index")
    wanted = {photo: vector / np.linalg.norm(vector) for photo, vector in zip(index.ids, index.vectors, strict=True)}
    cosine = np.mean([found[row] @ wanted[photo] for row, photo in enumerate(samples.ids)])
    assert cosine > np.mean([samples.vectors[row] @ wanted[photo] for row, photo in enumerate(samples.ids)])
    assert run.read_description()["whitening"] == fitted.facts and fitted.facts["index_model"] == "t"


@pytest.mark.slow
def test_an_index_without_some_of_the_photos_is_refused(tiny_run, described, tmp_path):
    index = Descriptors.load(described / "index")
    Descriptors(index.vectors[:-2], index.ids[:-2], {}).save(tmp_path / "less")
    given = (f"--checkpoint={tiny_run.path}", f"--descriptors={described}/student", f"--output={tmp_path}/aligned")
    done = align(*given, f"--index={tmp_path}/less")
    assert done.returncode == 2 and not (tmp_path / "aligned").exists()
    lacking = repr(index.ids[-2])
    assert (
        f"--index={tmp_path}/less lacks 1 of the {len(index.ids) - 1} photos of --descriptors, first {lacking}"
        in done.stderr
    )
