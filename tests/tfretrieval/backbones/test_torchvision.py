import keras
import numpy as np
import pytest

from tfretrieval.backbones import build_backbone, torchvision_variables

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    """A residual block with torchvision's parameter names; the middle convolution strides."""

    def __init__(self, inputs, width, outputs, stride, bottleneck):
        super().__init__()
        if bottleneck:
            sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        else:
            sizes = [(inputs, width, 3, stride), (width, outputs, 3, 1)]
        self.count = len(sizes)
        for number, (taken, given, kernel, step) in enumerate(sizes, start=1):
            setattr(self, f"conv{number}", nn.Conv2d(taken, given, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(given))
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, maps):
        shortcut = maps if self.downsample is None else self.downsample(maps)
        for number in range(1, self.count + 1):
            maps = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(maps))
            maps = torch.relu(maps) if number < self.count else torch.relu(maps + shortcut)
        return maps


class ResNet(nn.Module):
    """The network of torchvision up to its average pooling, with its parameter names."""

    def __init__(self, blocks, bottleneck):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for stage, count in enumerate(blocks):
            width, layers = 64 * 2**stage, []
            for number in range(count):
                outputs = width * 4 if bottleneck else width
                layers.append(Block(channels, width, outputs, 2 if stage and not number else 1, bottleneck))
                channels = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, images):
        maps = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        for stage in range(1, 5):
            maps = getattr(self, f"layer{stage}")(maps)
        return maps


def randomised(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var") or name.endswith(("bn1.weight", "bn2.weight", "bn3.weight")):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim == 4:
                value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
            elif value.ndim == 1:
                value.uniform_(-0.5, 0.5, generator=generator)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "blocks", "bottleneck"),
    [
        ("resnet18_v1_5", (2, 2, 2, 2), False),
        pytest.param("resnet34_v1_5", (3, 4, 6, 3), False, marks=pytest.mark.slow),
        ("resnet50_v1_5", (3, 4, 6, 3), True),
    ],
)
def test_maps_are_those_of_torchvisions_network(name, blocks, bottleneck):
    reference = randomised(ResNet(blocks, bottleneck))
    parameters = {key: value for key, value in reference.state_dict().items() if "num_batches" not in key}
    model = build_backbone(name)
    pairs = torchvision_variables(model)
    assert sorted(key for key, _ in pairs) == sorted(parameters)
    for key, variable in pairs:
        value = parameters[key].numpy()
        variable.assign(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
    images = np.random.default_rng(0).normal(size=(2, 97, 131, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    found = model(images, training=False)
    assert found.shape == expected.shape and expected.shape[1:3] == (4, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.std(expected) > 0.1


def test_names_cover_every_variable_once():
    with keras.StatelessScope(initialize_variables=False):
        pairs = torchvision_variables(build_backbone("resnet50_v1_5"))
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names) == 53 * 5
    assert names[:2] == ["conv1.weight", "bn1.weight"]
    assert {"layer1.0.downsample.0.weight", "layer4.2.conv3.weight", "layer2.3.bn2.running_var"} <= set(names)


@pytest.mark.parametrize("name", ["small_resnet", "resnet18_vd"])
def test_another_network_is_refused(name):
    with keras.StatelessScope(initialize_variables=False):
        model = build_backbone(name)
    with pytest.raises(ValueError, match="a resnet\\*_v1_5 of build_backbone is wanted"):
        torchvision_variables(model)
