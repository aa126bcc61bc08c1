import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from absl import flags

from tfretrieval import files
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory as training leaves one, with a network that was not trained."""
    path = tmp_path_factory.mktemp("run") / "run"
    path.mkdir()
    build_descriptor(DescriptorConfig(backbone="small_resnet", whitening=8)).save(path / "best.keras")
    files.write_json(path / "run.json", {"training": {"image_size": 64}})
    return path


@pytest.fixture
def describing(load_script, capsys):
    """Runs the script's main in this process and returns what it printed."""
    describe, values = load_script("pipelines.describe"), flags.FLAGS
    saved = {name: values[name].value for name in ("checkpoint", "which", "size", "image", "other", "output")}

    def printed(*arguments):
        values(["describe", *arguments])
        describe.main()
        return capsys.readouterr().out

    yield printed
    for name, value in saved.items():
        values[name].value = value


def test_a_command_prints_the_table_and_draws_two_photos(run, photo_folder, tmp_path):
    image, other = (photo_folder / "abbey" / name for name in ("photo_0.jpg", "photo_1.png"))
    command = [sys.executable, "-m", "pipelines.describe", f"--checkpoint={run}", "--size=96x64"]
    command += [f"--image={image}", f"--other={other}", f"--output={tmp_path}/look.png"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a photo of 96x64 pixels" in done.stdout
    rows = {line.split("  ")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("  ")}
    assert "4 x 6 x 256" in rows["backbone, stride 16"]
    assert "256 to 8 dimensions" in rows["whitening"]
    assert f"wrote {tmp_path}/look.png" in done.stdout
    assert cv2.imread(str(tmp_path / "look.png")).shape[0] > 600


def test_without_a_size_the_runs_own_is_taken_and_nothing_is_drawn(run, describing):
    told = describing(f"--checkpoint={run}")
    assert "a photo of 64x64 pixels" in told
    assert "wrote" not in told


def test_one_photo_is_compared_with_itself(run, describing, photo_folder, tmp_path):
    image = photo_folder / "dome" / "photo_2.jpg"
    describing(f"--checkpoint={run}", f"--image={image}", f"--output={tmp_path}/one.png")
    assert cv2.imread(str(tmp_path / "one.png")) is not None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size=1024"], "--size=1024; WIDTHxHEIGHT"),
        (["--size="], "--size=; WIDTHxHEIGHT"),
        (["--which=last"], r"has no last\.keras"),
        (["--checkpoint=nowhere"], "nowhere is not a run directory"),
        (["--other=b.jpg"], "--other=b.jpg was given without --image"),
        (["--output=look.png"], "--output=look.png was given without --image"),
        (["--image=a.jpg"], "--image=a.jpg was given without --output"),
        (["--image=a.jpg", "--output=look.jpg"], r"ends in \.png"),
        (["--image=a.jpg", "--output=nowhere/look.png"], "in a folder that exists"),
        (["--image=absent.jpg", "--output=look.png"], "absent.jpg cannot be read as a photo"),
    ],
)
def test_bad_input_ends_in_one_sentence(run, describing, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence):
        describing(f"--checkpoint={run}", *arguments)
    assert not list(tmp_path.iterdir())
