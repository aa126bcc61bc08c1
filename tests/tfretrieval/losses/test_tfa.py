"""tensorflow-addons' losses and ours, on the same inputs; `make test-tfa` makes the environment this needs."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfretrieval import losses

ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("TFRETRIEVAL_TFA_PYTHON", ROOT / ".venv-tfa" / "bin" / "python"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason=f"{PYTHON} is not there; make test-tfa installs tensorflow-addons"),
]

RANDOM = np.random.default_rng(0)
# Coordinates that float32 holds exactly, so that tensorflow-addons' distance of equal rows is 0 and no rounding noise.
# Equal rows of the same and of different instances; the farthest photo of each of them is another and the only one.
REPEATED = (RANDOM.integers(-64, 65, size=(9, 6)) / 64).astype(np.float32)
REPEATED[:, 0] = [2] * 5 + [-2] * 4
REPEATED = REPEATED[[0, 0, 1, 1, 2, 3, 2, 4, 5, 6, 7, 8]]
REPEATED_LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4])
CORNERS = (RANDOM.integers(0, 2, size=(12, 4)) - 0.5).astype(
    np.float32
)  # few distances, so nearest and farthest are tied
SAME = np.tile(np.float32([0.5, -0.5, 0.5, 0.5]), (12, 1))
PLAIN = RANDOM.normal(size=(12, 8)).astype(np.float32)
UNIT = PLAIN / np.linalg.norm(PLAIN, axis=1, keepdims=True)
BALANCED = np.repeat(np.arange(4), 3)
UNEVEN = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4])
ONE, ALL_DIFFERENT = np.zeros(12, int), np.arange(12)

DESCRIPTOR_CASES = {
    "unit": (BALANCED, UNIT),
    "uneven": (UNEVEN, UNIT),
    "any_length": (UNEVEN, PLAIN),
    "large_batch": (np.repeat(np.arange(20), 3), RANDOM.normal(size=(60, 16)).astype(np.float32)),
    "equal_rows": (REPEATED_LABELS, REPEATED),
    "tied": (UNEVEN, CORNERS),
    "identical": (BALANCED, SAME),
    "identical_one_class": (ONE, SAME),
    "one_class": (ONE, UNIT),
    "no_matches": (ALL_DIFFERENT, UNIT),
    "two_matching": (np.zeros(2, int), UNIT[:2]),
    "two_others": (np.arange(2), UNIT[:2]),
}
DISTANCE_CASES = {
    "random": (RANDOM.integers(0, 2, 20), RANDOM.uniform(0, 2, 20).astype(np.float32)),
    "edges": (np.array([0, 1, 0, 1, 0, 1]), np.float32([0, 0, 0.3, 0.3, 1, 1])),
    "matching": (np.ones(3, int), np.float32([0, 0.5, 1.5])),
    "others": (np.zeros(3, int), np.float32([0, 0.5, 1.5])),
}
SIMILARITY_CASES = {name: (y, x @ x.T) for name, (y, x) in DESCRIPTOR_CASES.items()}
CLASSES = RANDOM.integers(0, 2, size=(12, 5)).astype(np.float32)
CLASSES[:, 0] = 1
MULTILABEL_CASES = {
    "random": (CLASSES, UNIT @ UNIT.T),
    "scaled": (CLASSES, 30 * UNIT @ PLAIN.T),
    "all_classes": (np.ones((12, 3), np.float32), UNIT @ UNIT.T),
    "one_each": (np.eye(12, dtype=np.float32), UNIT @ UNIT.T),
    "without_classes": (np.zeros((12, 3), np.float32), UNIT @ UNIT.T),
}
CASES = {
    "descriptors": DESCRIPTOR_CASES,
    "distances": DISTANCE_CASES,
    "similarities": SIMILARITY_CASES,
    "multilabel": MULTILABEL_CASES,
}


# Where farthest or nearest photos are tied, gradients of these two in tensorflow-addons are not the derivative;
# test_lifted_structure.py and test_semi_hard_triplet.py hold ours to it.
NO_DERIVATIVE = ("lifted", "semi_hard")


def ours(options):
    """The loss of ours that docs/migrating_from_tfa.md gives for one of tensorflow-addons'."""
    name, _, rest = options.partition("-")
    if name == "contrastive":
        return losses.DistanceContrastive(margin=float(rest))
    if name in ("npairs", "npairs_multilabel"):
        return losses.SimilarityNPairs(multilabel=name == "npairs_multilabel")
    metric, margin = rest.rsplit("-", 1)
    if name == "lifted":
        return losses.LiftedStructure(margin=float(margin))
    if name == "soft":
        return losses.BatchSoftTriplet(metric, complete_only=False)
    kind = {"hard": losses.BatchHardTriplet, "semi_hard": losses.BatchSemiHardTriplet}[name]
    return kind(float(margin), metric, complete_only=False)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfa")
    arrays = {}
    for kind, cases in CASES.items():
        for name, (labels, inputs) in cases.items():
            arrays |= {f"{kind}/{name}/labels": labels, f"{kind}/{name}/inputs": inputs}
    np.savez(folder / "cases.npz", **arrays)
    command = [PYTHON, ROOT / "tests" / "tfa_oracle.py", folder / "cases.npz", folder / "results.npz"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    return dict(np.load(folder / "results.npz"))


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in CASES.items() for case in cases])
def test_values_and_gradients_equal_those_of_tensorflow_addons(theirs, kind, case):
    labels, inputs = CASES[kind][case]
    every = {key.split("/")[2] for key in theirs if key.startswith(f"{kind}/{case}/")}
    assert len(every) == {"descriptors": 17, "distances": 2, "similarities": 1, "multilabel": 1}[kind]
    for options in sorted(every):
        variable = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            value = ours(options)(labels, variable)
        gradient = tape.gradient(value, variable).numpy()
        wanted = {part: theirs[f"{kind}/{case}/{options}/{part}"] for part in ("value", "gradient")}
        if np.isnan(wanted["value"]):
            assert value == 0 and not gradient.any(), options
            continue
        np.testing.assert_allclose(value, wanted["value"], rtol=1e-5, atol=1e-5, err_msg=options)
        if case != "tied" or options.split("-")[0] not in NO_DERIVATIVE:
            np.testing.assert_allclose(gradient, wanted["gradient"], rtol=1e-5, atol=1e-5, err_msg=options)


def test_tensorflow_addons_gives_nan_only_where_nothing_is_defined(theirs):
    """What docs/migrating_from_tfa.md says of batches for which tensorflow-addons gives no number."""
    found = {tuple(key.split("/")[1:3]) for key, value in theirs.items() if np.isnan(value).any()}
    undefined = {(case, options.split("-")[0]) for case, options in found}
    assert undefined == {
        *((case, loss) for case in ("no_matches", "two_others") for loss in ("semi_hard", "lifted")),
        *((case, "lifted") for case in ("one_class", "identical_one_class", "two_matching")),
        ("without_classes", "npairs_multilabel"),
    }
