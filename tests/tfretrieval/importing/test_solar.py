import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.importing.formats import read_published
from tfretrieval.importing.published import ImportOptions
from tfretrieval.importing.run import import_network


def saved(reference, path, layers="45", **given):
    convolutions = reference.AttentiveFeatures(reference.ResNet("resnet18"), layers)
    network = reference.randomise(reference.Retrieval(convolutions, reference.GeM(), 512, linear=512))
    meta = {
        "architecture": "resnet18", "pooling": "gem", "whitening": True, "mean": reference.MEAN, "std": reference.STD,
        "soa": True, "soa_layers": layers, **given,
    }  # fmt: skip
    reference.torch.save({"meta": meta, "state_dict": network.state_dict()}, path)
    return network


@pytest.mark.parametrize("layers", ["45", "4", "5"])
def test_attention_gives_the_same_descriptors(reference, tmp_path, layers):
    network, pixels = saved(reference, tmp_path / "net.pth", layers), reference.photos()
    published = read_published(tmp_path / "net.pth", "auto", ImportOptions())
    found = import_network(published)
    assert (published.format, published.attention) == ("solar", tuple(map(int, layers)))
    np.testing.assert_allclose(found.model(pixels), reference.describe(network, pixels), atol=1e-5)
    # SOLAR's code never reads its gamma.
    assert found.report["tensors_unused"] == [f"features.soa{stage}.gamma" for stage in layers]


def test_several_scales_have_the_power_1(reference, tmp_path):
    network, pixels, scales = saved(reference, tmp_path / "net.pth"), reference.photos(), (1.0, 2**0.5, 0.5)
    found = import_network(read_published(tmp_path / "net.pth", "solar", ImportOptions()), scales)
    np.testing.assert_allclose(found.model(pixels), reference.describe(network, pixels, scales), atol=1e-5)


def test_layers_that_it_does_not_have_are_refused(reference, tmp_path):
    saved(reference, tmp_path / "net.pth", soa_layers="345")
    with pytest.raises(InputError, match="has the soa_layers '345'; '4', '5' or '45' is wanted"):
        read_published(tmp_path / "net.pth", "auto", ImportOptions())
    saved(reference, tmp_path / "net.pth", layers="5", soa_layers="45")
    with pytest.raises(InputError, match=r"has no tensor soa4\.f\.0\.weight"):
        import_network(read_published(tmp_path / "net.pth", "auto", ImportOptions()))
