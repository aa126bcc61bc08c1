import math

import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.importing.formats import read_published
from tfretrieval.importing.published import IMAGENET_MEAN, IMAGENET_STD, ImportOptions
from tfretrieval.importing.run import import_network
from tfretrieval.models.descriptor import load_descriptor

SCALES = (0.75, 1.0, 1.25)
PARTS = {
    "downsample.0": "proj", "downsample.1": "bn", "conv1": "f.a", "bn1": "f.a_bn", "conv2": "f.b", "bn2": "f.b_bn",
    "conv3": "f.c", "bn3": "f.c_bn",
}  # fmt: skip


def pycls_name(name):
    """Returns the name that CVNet's code has for a tensor of torchvision's ResNet with GeM."""
    if name.startswith("layer"):
        stage, block, part = name.removeprefix("layer").split(".", 2)
        part, leaf = part.rsplit(".", 1)
        return f"s{stage}.b{int(block) + 1}.{PARTS[part]}.{leaf}"
    return name.replace("conv1.", "stem.conv.").replace("bn1.", "stem.bn.").replace("fc.", "head.fc.")


@pytest.fixture(scope="module")
def network(reference):
    made = reference.ResNet("resnet50", classes=24)
    return reference.randomise(made)


def saved(reference, path, network, prefix="encoder_q.", key="model_state"):
    state = {prefix + pycls_name(name): value for name, value in network.state_dict().items()}
    state[f"{prefix}head.pool.p"] = reference.torch.tensor([2.8])
    if prefix:
        state["conv2ds.0.weight"] = reference.torch.zeros(4, 4, 3, 3)
    reference.torch.save({key: state} if key else state, path)
    return path


def blue_first(reference, pixels):
    """Photos as OpenCV reads them and CVNet's code scales them."""
    return reference.scaled(pixels[..., ::-1], IMAGENET_MEAN[::-1], IMAGENET_STD[::-1])


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize(("prefix", "key"), [("encoder_q.", "model_state"), ("", None), ("module.globalmodel.", None)])
def test_cvnets_global_descriptor_is_the_same(reference, network, tmp_path, prefix, key):
    path, pixels = saved(reference, tmp_path / "net.pyth", network, prefix, key), reference.photos()
    found = import_network(read_published(path, "auto", ImportOptions()))
    with reference.torch.no_grad():
        pooled = reference.gem(network.maps(blue_first(reference, pixels)), 2.8)[:, :, 0, 0]
        expected = unit(network.fc(pooled)).numpy()
    np.testing.assert_allclose(found.model(pixels), expected, atol=1e-5)
    assert (found.report["format"], found.report["architecture"]) == ("cvnet", "resnet50")
    assert found.report["tensors_unused"] == (["conv2ds.0.weight"] if prefix else [])


def super_global(reference, network, x):
    """SuperGlobal's descriptor at one scale, from its paper and where its code has ReLUP."""
    torch = reference.torch
    x = network.maxpool(network.bn1(network.conv1(x)).relu())
    for stage in (1, 2, 3, 4):
        inner, outer = (0.014 if stage == 1 else 0.0), (0.014 if stage < 4 else 0.0)
        for block in getattr(network, f"layer{stage}"):
            y = block.bn1(block.conv1(x)).clamp(min=inner)
            y = block.bn3(block.conv3(block.bn2(block.conv2(y)).clamp(min=inner)))
            x = (y + (x if block.downsample is None else block.downsample(x))).clamp(min=outer)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    windows = padded.unfold(2, 5, 1).unfold(3, 5, 1)
    x = 0.5 * x + 0.5 * windows.pow(2.5).mean((-2, -1)).pow(1 / 2.5)
    pooled = x.clamp(min=1e-8).pow(4.6).mean((-2, -1)).pow(1 / 4.6)
    return unit(network.fc(unit(pooled)))


def test_superglobal_is_the_same_and_takes_the_maximum_over_scales(reference, network, tmp_path):
    path, pixels = saved(reference, tmp_path / "net.pyth", network), reference.photos(128, 160)
    found = import_network(read_published(path, "auto", ImportOptions(pooling="superglobal")), SCALES)
    x = blue_first(reference, pixels)
    with reference.torch.no_grad():
        sizes = [[int(side * scale) for side in x.shape[-2:]] for scale in SCALES]
        resized = [
            reference.torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True) for size in sizes
        ]
        vectors = [super_global(reference, network, photo) for photo in resized]
        expected = unit(reference.torch.stack(vectors).amax(0)).numpy()
    np.testing.assert_allclose(found.model(pixels), expected, atol=1e-4)
    assert found.report["power"] == "infinity"
    assert found.report["tensors_unused"] == ["encoder_q.head.pool.p", "conv2ds.0.weight"]
    found.model.save(tmp_path / "model.keras")
    loaded = load_descriptor(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(pixels), found.model(pixels), atol=1e-6)
    assert loaded.get_layer("scales").power == math.inf


def test_what_does_not_fit_is_one_sentence(reference, network, tmp_path):
    path = saved(reference, tmp_path / "net.pyth", network)
    with pytest.raises(InputError, match="--pooling=mac with --format=cvnet; one of gem, superglobal is wanted"):
        read_published(path, "auto", ImportOptions(pooling="mac"))
    reference.torch.save(network.state_dict(), path)
    with pytest.raises(InputError, match=r"has no tensor whose name ends in stem\.conv\.weight; CVNet's has"):
        read_published(path, "cvnet", ImportOptions())
