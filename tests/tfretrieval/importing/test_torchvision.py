import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.importing.formats import read_published
from tfretrieval.importing.published import IMAGENET_MEAN, IMAGENET_STD, ImportOptions
from tfretrieval.importing.run import import_network


def check(reference, path, network, options=None, pool=None):
    pixels = reference.photos()
    found = import_network(read_published(path, "auto", options or ImportOptions()))
    with reference.torch.no_grad():
        maps = network.maps(reference.scaled(pixels, IMAGENET_MEAN, IMAGENET_STD))
        pooled = pool(maps) if pool else reference.gem(maps, 3.0)[:, :, 0, 0]
        expected = (pooled / pooled.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(found.model(pixels), expected, atol=1e-5)
    return found.report


@pytest.mark.parametrize("name", ["resnet18", "resnet50", pytest.param("resnet101", marks=pytest.mark.slow)])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_resnet_is_told_from_its_tensors(reference, tmp_path, name, zipped):
    network = reference.randomise(reference.ResNet(name))
    reference.torch.save(network.state_dict(), tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    report = check(reference, tmp_path / "net.pth", network)
    assert (report["format"], report["architecture"]) == ("torchvision", name)
    assert report["tensors_of_classifier"] == ["fc.weight", "fc.bias"]
    assert report["tensors_unused"] == []


def test_vgg16_and_a_pooling_of_ones_own(reference, tmp_path):
    network = reference.randomise(reference.VGG())
    reference.torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pth")
    report = check(
        reference, tmp_path / "net.pth", network, ImportOptions(pooling="spoc"), lambda maps: maps.mean((-2, -1))
    )
    assert report["architecture"] == "vgg16"
    assert report["tensors_of_classifier"] == ["classifier.0.weight", "classifier.0.bias"]


def test_half_precision_is_read(reference, tmp_path):
    network = reference.randomise(reference.ResNet("resnet18"))
    for kind in (reference.torch.float16, reference.torch.bfloat16):
        reference.torch.save(network.to(kind).state_dict(), tmp_path / "net.pth")
        check(reference, tmp_path / "net.pth", network.float())


def test_a_network_of_other_depth_needs_a_name_and_then_fits_or_not(reference, tmp_path):
    state = reference.ResNet("resnet18").state_dict()
    for number in (1,):
        state = {name: value for name, value in state.items() if not name.startswith(f"layer2.{number}.")}
    reference.torch.save(state, tmp_path / "net.pth")
    with pytest.raises(
        InputError, match=r"does not tell its architecture, and its .* tensors are of none that is known"
    ):
        read_published(tmp_path / "net.pth", "auto", ImportOptions())
    published = read_published(tmp_path / "net.pth", "auto", ImportOptions(architecture="resnet18"))
    with pytest.raises(InputError, match=r"has no tensor layer2\.1\.conv1\.weight, which its network needs"):
        import_network(published)
    with pytest.raises(InputError, match="--architecture=resnet99, which is not known here; one of resnet18"):
        read_published(tmp_path / "net.pth", "auto", ImportOptions(architecture="resnet99"))


def test_a_shape_that_differs_is_named(reference, tmp_path):
    state = reference.ResNet("resnet18").state_dict()
    state["layer4.1.bn2.bias"] = reference.torch.zeros(7)
    reference.torch.save(state, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"layer4\.1\.bn2\.bias has the shape \[7\]; \[512\] is wanted"):
        import_network(read_published(tmp_path / "net.pth", "auto", ImportOptions()))


def test_a_file_of_no_known_format_is_refused_with_what_it_holds(reference, tmp_path):
    reference.torch.save({"optimizer": {}, "epoch": 3}, tmp_path / "net.pth")
    with pytest.raises(InputError, match="holds optimizer, epoch, which is none of the formats cirtorch, solar, dir"):
        read_published(tmp_path / "net.pth", "auto", ImportOptions())
