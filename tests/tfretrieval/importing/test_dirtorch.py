import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.importing.formats import read_published
from tfretrieval.importing.published import ImportOptions
from tfretrieval.importing.run import import_network
from tfretrieval.models.descriptor import load_descriptor
from tfretrieval.whitening import Whitening


def saved(reference, path, name="resnet18", extra=None, **options):
    """Saves a network as dirtorch does, and returns it with what its options say of it."""
    torch, settings = reference.torch, {"arch": f"{name}_rmac", "out_dim": 32, "pooling": "gem", "gemp": 3, **options}
    network = reference.ResNet(name, classes=settings["out_dim"])
    pools = {"gem": reference.GeM, "avg": reference.Mean, "max": reference.Maximum}
    network.adpool = pools[settings["pooling"]]()
    reference.randomise(network)
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    content = {"state_dict": state, "model_options": settings, "epoch": 3, **(extra or {})}
    content["preprocess"] = {"mean": reference.MEAN, "std": reference.STD, "input_size": 224}
    torch.save(content, path)
    return network, settings


def describe(reference, network, settings, pixels):
    with reference.torch.no_grad():
        vectors = network.adpool(network.maps(reference.scaled(pixels)))[:, :, 0, 0]
        if settings.get("norm_features"):
            vectors = vectors / vectors.norm(dim=1, keepdim=True)
        vectors = vectors if settings.get("without_fc") else network.fc(vectors)
        return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()


@pytest.mark.parametrize(
    "options",
    [{}, {"norm_features": True}, {"without_fc": True}, {"pooling": "avg"}, {"pooling": "max", "dropout_p": 0.5}],
)
def test_its_options_give_the_same_descriptors(reference, tmp_path, options):
    (network, settings), pixels = saved(reference, tmp_path / "net.pt", **options), reference.photos()
    found = import_network(read_published(tmp_path / "net.pt", "auto", ImportOptions()))
    assert found.report["format"] == "dirtorch"
    np.testing.assert_allclose(found.model(pixels), describe(reference, network, settings, pixels), atol=1e-5)
    assert found.report["tensors_unused"] == []
    assert len(found.report["tensors_of_classifier"]) == 2 * ("without_fc" in options)


def test_resnet50_has_its_strides_where_torchvision_has_them(reference, tmp_path):
    (network, settings), pixels = saved(reference, tmp_path / "net.pt", "resnet50"), reference.photos()
    found = import_network(read_published(tmp_path / "net.pt", "auto", ImportOptions()))
    np.testing.assert_allclose(found.model(pixels), describe(reference, network, settings, pixels), atol=1e-5)


def test_a_fitted_whitening_follows_the_trained_linear_layer(reference, tmp_path):
    (network, settings), pixels = saved(reference, tmp_path / "net.pt"), reference.photos()
    rng = np.random.default_rng(0)
    whitening = Whitening(rng.normal(0, 0.1, 32).astype(np.float32), rng.normal(size=(8, 32)).astype(np.float32))
    whitening.save(tmp_path / "pca.npz")
    published = read_published(tmp_path / "net.pt", "auto", ImportOptions())
    found = import_network(published, whitening=str(tmp_path / "pca.npz")).model
    found.save(tmp_path / "model.keras")
    expected = whitening.apply(describe(reference, network, settings, pixels))
    np.testing.assert_allclose(load_descriptor(tmp_path / "model.keras")(pixels), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"center_bias": 0.1}, "has the center_bias 0.1; a network without one is wanted"),
        ({"arch": "senet154"}, "has the arch 'senet154' in model_options"),
        ({"arch": "senet154_rmac"}, "has the architecture senet154, which is not known here"),
        ({"out_dim": 32, "arch": "resnet34_rmac"}, r"has no tensor layer1\.2\.conv1\.weight"),
    ],
)
def test_what_is_not_known_here_is_one_sentence(reference, tmp_path, options, sentence):
    saved(reference, tmp_path / "net.pt", **options)
    with pytest.raises(InputError, match=sentence):
        import_network(read_published(tmp_path / "net.pt", "auto", ImportOptions()))
