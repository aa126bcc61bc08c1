import ast
import importlib.util
import re
from pathlib import Path

import pytest

from tfretrieval.beam.options import BeamOptions
from tfretrieval.errors import InputError


def test_options_come_as_one_word_and_mounts_as_pairs():
    options = BeamOptions("FlinkRunner", "--parallelism=4 --name='two words'", "/mnt/a/=gs://b/, /x=/y")
    assert options.words() == ["--parallelism=4", "--name=two words"]
    assert options.mounted() == (("/mnt/a", "gs://b"), ("/x", "/y"))
    assert BeamOptions().words() == [] and BeamOptions().mounted() == ()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pipeline_options": "--a=1"}, "--pipeline_options=--a=1 is of --runner"),
        ({"mounts": "/a=/b"}, "--mounts=/a=/b is of --runner"),
        ({"runner": "X", "pipeline_options": "--a '"}, "cannot be divided into words"),
        ({"runner": "X", "pipeline_options": "workers=4"}, "the word 'workers=4'"),
        ({"runner": "X", "pipeline_options": "--runner=Y"}, "the word '--runner=Y'"),
        ({"runner": "X", "mounts": "/a"}, "the word '/a'"),
        ({"runner": "X", "mounts": "/a="}, "the word '/a='"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, told):
    with pytest.raises(InputError, match=told):
        BeamOptions(**given)


def test_without_beam_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps -r requirements-beam\.txt"):
        BeamOptions("DirectRunner").check_installed()


def test_nothing_but_this_package_imports_beam():
    """Scripts import of it only `options`, until one is to run on Beam."""
    root = Path(__file__).parents[3]
    sources = [path for part in ("tfretrieval", "pipelines", "export") for path in (root / part).rglob("*.py")]
    importing = {path.relative_to(root).parent.as_posix() for path in sources if _imports_beam(path)}
    assert importing == {"tfretrieval/beam"}
    assert not _imports_beam(root / "tfretrieval" / "beam" / "options.py")
    for name in ("make_records", "extract", "knn_graph"):
        tree = ast.parse((root / "pipelines" / f"{name}.py").read_text(encoding="utf-8"))
        at_once = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert [module for module in at_once if module.startswith("tfretrieval.beam")] == ["tfretrieval.beam.options"]


def _imports_beam(path):
    return re.search(r"^\s*(import|from) apache_beam", path.read_text(encoding="utf-8"), re.MULTILINE) is not None
