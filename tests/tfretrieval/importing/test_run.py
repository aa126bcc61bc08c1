import json

import numpy as np
import pytest

from export.saving import load_source
from tfretrieval import files
from tfretrieval.errors import InputError
from tfretrieval.importing.formats import read_published
from tfretrieval.importing.published import ImportOptions
from tfretrieval.importing.run import import_network, write_imported_run
from tfretrieval.training.derived_runs import write_multi_scale_run
from tfretrieval.whitening import Whitening


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    """A ResNet-18's state dictionary, and a tensor that nothing needs."""
    path = tmp_path_factory.mktemp("torch") / "net.pth"
    state = reference.randomise(reference.ResNet("resnet18")).state_dict()
    reference.torch.save({**state, "extra.weight": reference.torch.ones(2)}, path)
    return path


def published(checkpoint):
    return read_published(checkpoint, "auto", ImportOptions())


def test_the_run_is_one_that_the_other_scripts_take(checkpoint, reference, tmp_path):
    imported = import_network(published(checkpoint))
    run = write_imported_run(imported, checkpoint, 640, tmp_path / "run", {"checkpoint": str(checkpoint)})
    description = json.loads(run.description.read_text())
    assert description["data"] == {"checkpoint": files.sha256(checkpoint)}
    assert description["protocol"] == {"image_size": 640}
    assert description["imported"]["tensors_unused"] == ["extra.weight"]
    assert description["imported"]["tensors_of_classifier"] == ["fc.weight", "fc.bias"]
    assert len(description["imported"]["tensors_used"]) == 100
    source = load_source(run.path)
    assert (source.image_size, source.dimension) == (640, 512)
    pixels = reference.photos()
    np.testing.assert_allclose(source.model(pixels), imported.model(pixels), atol=1e-6)
    several = write_multi_scale_run(run, "best", (1.0, 0.5), None, 0, tmp_path / "several", {})
    assert several.load_model().get_layer("scales").power == pytest.approx(3.0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    with pytest.raises(InputError, match=r"holds other files and no run\.json"):
        write_imported_run(imported, checkpoint, 640, tmp_path / "other", {})


def test_a_whitening_from_an_npz_file_ends_the_network(checkpoint, reference, tmp_path):
    rng = np.random.default_rng(0)
    whitening = Whitening(rng.normal(0, 0.02, 512).astype(np.float32), rng.normal(size=(16, 512)).astype(np.float32))
    whitening.save(tmp_path / "pca.npz")
    plain = import_network(published(checkpoint)).model(reference.photos())
    found = import_network(published(checkpoint), whitening=str(tmp_path / "pca.npz"))
    np.testing.assert_allclose(found.model(reference.photos()), whitening.apply(np.asarray(plain)), atol=1e-5)


def test_scales_that_are_no_factors_and_unknown_whitenings_are_refused(checkpoint, tmp_path):
    for scales in ((), (1.0, 0.0), (float("nan"),)):
        with pytest.raises(InputError, match="one or more factors above 0 are wanted"):
            import_network(published(checkpoint), scales)
    with pytest.raises(InputError, match=r"--whitening=set is not in .*, which has none; one of those, or an \.npz"):
        import_network(published(checkpoint), whitening="set")
    with pytest.raises(InputError, match=r"missing\.npz is not a whitening"):
        import_network(published(checkpoint), whitening=str(tmp_path / "missing.npz"))
