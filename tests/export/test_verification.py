import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from export import saving, verification
from export.checksums import CHECKSUMS, write_checksums
from export.package import ANSWERS, CARD
from export.precision_check import PrecisionSettings
from export.saving import ExportSource, write_version
from export.warmup_requests import WARMUP_FILE, read_requests, write_requests
from tfretrieval import files
from tfretrieval.layers import GeM, InputScaling

pytestmark = pytest.mark.slow  # exports and loads in sessions: two minutes

ROOT = Path(__file__).parents[2]


def small_network(seed=0):
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu")(InputScaling("tf")(pixels))
    return keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    source = ExportSource(small_network(), 32, "ab" * 32, {})
    return write_version(source, tmp_path_factory.mktemp("verified") / "model", {}, None)


@pytest.fixture
def version(written, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "1"))


def problems(version):
    return [problem for result in verification.verify(version) for problem in result.wrong]


@contextlib.contextmanager
def changed_json(path):
    """Changes a JSON file, and the checksums with it: what a wrong export, not a damaged one, looks like."""
    value = json.loads(path.read_text())
    yield value
    path.write_text(json.dumps(value))
    write_checksums(path.parent)


def test_a_whole_export_passes_all_checks(version):
    results = verification.verify(version)
    assert len(results) == 6 and not any(result.wrong for result in results)


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "fingerprint.pb", CARD, str(WARMUP_FILE), str(ANSWERS), "variables/variables.index"]
)
def test_one_flipped_bit_in_any_file_is_found(version, name):
    content = bytearray((version / name).read_bytes())
    content[len(content) // 2] ^= 1
    (version / name).write_bytes(content)
    assert any(told.startswith(f"{name} has changed") for told in problems(version))


@pytest.mark.parametrize("name", ["saved_model.pb", str(WARMUP_FILE), str(ANSWERS), "variables/variables.index"])
def test_a_missing_file_is_found(version, name):
    (version / name).unlink()
    assert f"{name} is missing" in problems(version)


def test_a_file_too_many_is_found(version):
    (version / "assets.extra" / "notes.txt").write_text("")
    assert problems(version) == [f"assets.extra/notes.txt is not listed in {CHECKSUMS}"]


@pytest.mark.parametrize("name", [CHECKSUMS, CARD])
def test_what_the_checks_are_made_with_is_wanted(version, name):
    (version / name).unlink()
    assert any(f"{name} is missing" in told for told in problems(version))


def test_checksums_that_list_nothing_are_found(version):
    (version / CHECKSUMS).write_text('{"files": {}}')
    assert problems(version) == [f"{CHECKSUMS} lists no files"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda card: card["descriptor"].update(dimension=7), "the card tells 7 dimensions"),
        (lambda card: card["descriptor"].update(model_sha256="cd" * 32), "model_sha256 is 'ab"),
        (lambda card: card["descriptor"].update(precision="int8"), "precision is 'float32' in the graph and 'int8' in"),
        (lambda card: card["signatures"].pop("query"), "the graph has query and the card does not tell it"),
        (lambda card: card["signatures"].update(extra={}), "the card tells extra and the graph has none"),
        (
            lambda card: card["signatures"]["serving_default"]["inputs"]["image_bytes"].update(dtype="uint8"),
            "serving_default is not what the card tells",
        ),
        (lambda card: card.pop("signatures"), "it tells no signatures"),
        (lambda card: card.pop("descriptor"), "it has no descriptor"),
        (lambda card: card["descriptor"].pop("image_size"), "its descriptor has no image_size"),
        (lambda card: card.update(format="pickle"), "its format 'pickle' is none of"),
    ],
)
def test_a_card_that_tells_something_else_is_found(version, change, told, monkeypatch):
    monkeypatch.setattr(verification, "_wrong_answers", lambda *given: [])  # they take most of the time
    with changed_json(version / CARD) as card:
        change(card)
    assert any(told in problem for problem in problems(version))


def test_a_graph_of_another_network_is_found(version, tmp_path):
    other = write_version(ExportSource(small_network(1), 32, "ab" * 32, {}), tmp_path / "other", {})
    shutil.copy(other / "saved_model.pb", version / "saved_model.pb")
    write_checksums(version)
    assert any("cosine to the one of where it was made" in told for told in problems(version))


def test_descriptors_of_another_length_are_found(tmp_path):
    pixels = keras.Input((None, None, 3))
    long = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels))
    version = write_version(ExportSource(long, 32, "", {}), tmp_path / "model", {})
    assert problems(version) == ["a descriptor is not of length 1"]


def test_a_graph_that_does_not_load_is_found(version):
    (version / "saved_model.pb").write_bytes(b"no graph")
    write_checksums(version)
    (told,) = problems(version)
    assert "cannot be loaded as a SavedModel by the tag 'serve'" in told and "\n" not in told


def test_a_warm_up_request_that_the_graph_refuses_is_found(version):
    requests = read_requests(version)
    requests[0].inputs["image_bytes"].string_val[0] = b"no image"
    write_requests(requests[:1], version)
    write_checksums(version)
    (told,) = problems(version)
    assert "image_bytes[0]: not an image" in told
    requests[0].model_spec.signature_name = "absent"
    write_requests(requests, version)
    write_checksums(version)
    assert problems(version) == ["a request is for the signature absent, which the graph does not have"]


def test_a_warm_up_file_that_is_none_is_found(version):
    (version / WARMUP_FILE).write_bytes(b"no records at all")
    write_checksums(version)
    (told,) = problems(version)
    assert "holds no warm-up requests" in told


def test_the_command_is_a_gate(version):
    """Exit status 0, 1 and 2, in a process of its own."""

    def gate(folder, *flags):
        command = [sys.executable, "-m", "export.verify", str(folder), *flags]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    good = gate(version.parent)
    assert good.returncode == 0 and "verified" in good.stdout and good.stdout.count(" ok  ") == 6, good.stderr
    (version / CARD).write_text((version / CARD).read_text() + "\n")
    bad = gate(version)
    assert bad.returncode == 1 and "descriptor.json has changed" in bad.stdout and "failed" in bad.stdout
    absent = gate(version / "absent")
    assert absent.returncode == 2 and "holds no SavedModel" in absent.stderr and "Traceback" not in absent.stderr


def test_other_formats_are_checked_too(tmp_path):
    source = ExportSource(small_network(), 32, "ab" * 32, {})
    path = saving.write_file_of(source, tmp_path / "keras", {}, "keras", PrecisionSettings())
    assert problems(path.parent) == []
    small_network(1).save(path)
    assert any("descriptor.keras has changed" in told for told in problems(path.parent))
    path.write_bytes(b"nothing")
    write_checksums(path.parent)
    (told,) = problems(path.parent)
    assert "cannot be loaded as a Keras model" in told
    assert files.read_json(path.parent / CARD, "a card")["format"] == "keras"
    assert np.isclose(files.read_json(path.parent / CARD, "a card")["precision_check"]["min_cosine"], 1)
