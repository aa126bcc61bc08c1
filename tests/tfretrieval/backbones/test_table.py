from pathlib import Path

import keras
import pytest

from tfretrieval.backbones import BACKBONES, build_backbone, table
from tfretrieval.errors import InputError

DOCS = Path(__file__).resolve().parents[3] / "docs" / "backbones.md"


def test_the_table_names_every_backbone_in_the_registrys_order():
    assert list(table.rows_of(DOCS.read_text())) == list(BACKBONES)


@pytest.mark.parametrize(
    "name", ["small_resnet", "mobilenet_v3_small", "vgg16", "nasnet_mobile", "resnet18_v1_5", "dinov3_small"]
)
def test_rows_are_as_the_code_makes_them(name):
    assert table.rows_of(DOCS.read_text())[name] == table.measure(name).row()


@pytest.mark.slow
def test_the_whole_file_is_as_the_code_makes_it():
    """Made again by `python -m pipelines.backbones --output=docs/backbones.md`."""
    assert DOCS.read_text() == table.to_markdown([table.measure(name) for name in BACKBONES])


def test_facts_are_those_of_the_network_when_built():
    model, facts = build_backbone("small_resnet"), table.measure("small_resnet")
    assert (facts.stride, facts.dimension, facts.parameters) == (16, 256, model.count_params())
    assert model.count_params() == 1941728  # counted by hand from the ten convolutions and their BatchNorms


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--output=.*absent/table\.md cannot be written: No such file"):
        table.write(tmp_path / "absent" / "table.md", "text")


def test_what_was_measured_gets_no_values_when_the_next_scope_ends(monkeypatch):
    table.measure("vgg16")
    calls = []
    monkeypatch.setattr(keras.initializers.GlorotUniform, "__call__", lambda *args, **kwargs: calls.append(args))
    with keras.StatelessScope():
        pass
    assert not calls  # 13, one for each convolution, where Keras still remembers them
