import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.importing.reading import read_checkpoint

torch = pytest.importorskip("torch")

ARRAYS = {
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "rows": np.arange(6, dtype=np.int64).reshape(3, 2),
    "big_endian": np.array([1.5, -2.0], ">f4"),
    "empty": np.zeros((0, 3), np.float16),
    "flags": np.array([True, False]),
    "number": np.float32(0.25),
}


class Command:
    """Runs a command when it is unpickled the ordinary way."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def saved(content, path, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_arrays_are_read_from_both_kinds_of_file(tmp_path, zipped):
    content = {"meta": {"arrays": ARRAYS, "mean": [0.5, 0.25]}, "state_dict": {"w": torch.arange(3.0)}}
    found = read_checkpoint(saved(content, tmp_path / "net.pth", zipped))
    assert found["meta"]["mean"] == [0.5, 0.25]
    assert torch.equal(found["state_dict"]["w"], torch.arange(3.0))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found["meta"]["arrays"][name], array)
        assert found["meta"]["arrays"][name].shape == np.shape(array)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["system", "eval"])
def test_pickled_code_is_refused_and_not_run(tmp_path, zipped, kind):
    marker = tmp_path / "it ran"
    command = (
        Command(os.system, f"touch '{marker}'") if kind == "system" else Command(eval, f"open({str(marker)!r}, 'w')")
    )
    path = saved({"state_dict": {"w": torch.ones(1)}, "meta": {"deep": [command]}}, tmp_path / "net.pth", zipped)
    with pytest.raises(InputError, match=rf"wants to call [\w.]*{kind}, and pickled code is never run here; load it"):
        read_checkpoint(path)
    assert not marker.exists()
    # The same file does run it when it is read without this toolkit's care, so the marker can tell.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_code_disguised_as_the_rebuilding_of_an_array_is_refused(tmp_path):
    marker = tmp_path / "it ran"
    array = np.array([Command(os.system, f"touch '{marker}'")], object)
    with pytest.raises(InputError):
        read_checkpoint(saved({"x": array}, tmp_path / "net.pth"))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.array(["text"]), "an array of the type 'U4' is stored, and numbers are wanted"),
        (np.zeros(2, [("a", "f4"), ("b", "i4")]), "an array of the type 'V8' is stored, and numbers are wanted"),
        (torch.nn.Linear(1, 1), r"wants to call torch\.nn\.modules\.linear\.Linear, and pickled code is never run"),
        (np.random.default_rng(0), "wants to call numpy.random"),
        (Path("x"), "wants to call pathlib"),
        (Command(bytes, 2**40), "cannot be read as a PyTorch file"),
    ],
)
def test_what_is_no_number_is_refused(tmp_path, value, sentence):
    with pytest.raises(InputError, match=sentence):
        read_checkpoint(saved({"x": value}, tmp_path / "net.pth"))


def test_a_whitening_of_scikit_learn_is_refused_with_what_to_do(tmp_path, monkeypatch):
    module = type(sys)("sklearn.decomposition.pca")
    module.PCA = type("PCA", (), {"__module__": "sklearn.decomposition.pca"})
    for name in ("sklearn", "sklearn.decomposition"):
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
    monkeypatch.setitem(sys.modules, "sklearn.decomposition.pca", module)
    path = saved({"state_dict": {}, "pca": {"Landmarks_clean": module.PCA()}}, tmp_path / "net.pt")
    with pytest.raises(
        InputError, match=r"its PCA whitening is objects of scikit-learn, not numbers; docs/pytorch\.md"
    ):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_one_sentence(tmp_path, zipped):
    path = saved({"state_dict": {"w": torch.ones(500)}, **ARRAYS}, tmp_path / "whole.pth", zipped)
    whole = path.read_bytes()
    for length in (0, 1, 20, len(whole) // 3, len(whole) // 2, len(whole) - 7):
        (tmp_path / "part.pth").write_bytes(whole[:length])
        with pytest.raises(
            InputError, match=r"part\.pth cannot be read as a PyTorch file \(.+\); a whole .* is wanted"
        ):
            read_checkpoint(tmp_path / "part.pth")


def test_what_is_no_checkpoint_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="is not a file; a PyTorch checkpoint is wanted"):
        read_checkpoint(tmp_path / "missing.pth")
    (tmp_path / "text.pth").write_text("state_dict: none of it\n" * 20)
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"x": 1}, protocol=4))
    for name in ("text.pth", "pickle.pth"):
        with pytest.raises(InputError, match="cannot be read as a PyTorch file"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(InputError, match="holds a list; a dictionary of tensors is wanted"):
        read_checkpoint(saved([torch.ones(1)], tmp_path / "list.pth"))


def test_without_pytorch_one_sentence_says_how_to_install_it(tmp_path, monkeypatch):
    path = saved({}, tmp_path / "net.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"PyTorch, which is not installed; .* -r requirements-peers\.txt installs it"):
        read_checkpoint(path)
