"""Small PyTorch networks of every published kind, written from the papers' definitions, with random weights."""

import math
import types

import numpy as np
import pytest

MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.22, 0.2]
BLOCKS = {
    "resnet18": ((2, 2, 2, 2), 1),
    "resnet50": ((3, 4, 6, 3), 4),
    "resnet101": ((3, 4, 23, 3), 4),
}
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def _reference():
    """Returns the classes; PyTorch is imported here so that the tests are skipped without it."""
    torch = pytest.importorskip("torch")
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        """A residual block with torchvision's names."""

        def __init__(self, inputs, width, stride, expansion):
            super().__init__()
            sides = (1, 3, 1) if expansion == 4 else (3, 3)
            outputs = (width,) * (len(sides) - 1) + (width * expansion,)
            self.count = len(sides)
            for number, (side, out) in enumerate(zip(sides, outputs, strict=True), 1):
                # torchvision's bottleneck strides in its 3x3 convolution
                step = stride if (side == 3 and number < 3 and (expansion == 4 or number == 1)) else 1
                convolution = nn.Conv2d(inputs if number == 1 else width, out, side, step, side // 2, bias=False)
                self.add_module(f"conv{number}", convolution)
                self.add_module(f"bn{number}", nn.BatchNorm2d(out))
            self.downsample = None
            if stride > 1 or inputs != outputs[-1]:
                convolution = nn.Conv2d(inputs, outputs[-1], 1, stride, bias=False)
                self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs[-1]))

        def forward(self, x):
            """Returns relu(shortcut + convolutions)."""
            y = x
            for number in range(1, self.count + 1):
                y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
                y = y.relu() if number < self.count else y
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class ResNet(nn.Module):
        """torchvision's ResNet: a classifier."""

        def __init__(self, name, classes=5):
            super().__init__()
            blocks, expansion = BLOCKS[name]
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            inputs = 64
            for stage, count in enumerate(blocks):
                made = []
                for number in range(count):
                    stride = 2 if stage and not number else 1
                    made.append(Block(inputs, 64 * 2**stage, stride, expansion))
                    inputs = 64 * 2**stage * expansion
                self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
            self.fc = nn.Linear(inputs, classes)

        def maps(self, x):
            """Returns the last maps."""
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    class VGG(nn.Module):
        """torchvision's VGG16: a classifier."""

        def __init__(self):
            super().__init__()
            parts, inputs = [], 3
            for width in VGG16:
                parts += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2, 2)]
                inputs = width or inputs
            self.features = nn.Sequential(*parts)
            self.classifier = nn.Sequential(nn.Linear(8, 4))

        def maps(self, x):
            """Returns the maps before the last pooling."""
            return self.features[:-1](x)

    def features(network):
        """Returns a network's convolutions as cirtorch has them: a sequence of torchvision's modules."""
        if isinstance(network, VGG):
            return network.features[:-1]
        return nn.Sequential(*list(network.children())[:-1])

    def gem(x, p):
        return x.clamp(min=1e-6).pow(p).mean((-2, -1), keepdim=True).pow(1 / p)

    def unit(x):
        return x / (x.norm(dim=1, keepdim=True) + 1e-6)

    class GeM(nn.Module):
        """Generalised mean; one exponent, or one for each channel."""

        def __init__(self, p=2.7, channels=0):
            super().__init__()
            self.p = nn.Parameter(p + torch.linspace(0, 1, channels) if channels else torch.tensor([p]))

        def forward(self, x):
            """Pools [N, C, H, W] to [N, C, 1, 1]."""
            return gem(x, self.p[:, None, None] if len(self.p) > 1 else self.p)

    class Mean(nn.Module):
        """SPoC."""

        def forward(self, x):
            """Pools [N, C, H, W] to [N, C, 1, 1]."""
            return x.mean((-2, -1), keepdim=True)

    class Maximum(nn.Module):
        """MAC."""

        def forward(self, x):
            """Pools [N, C, H, W] to [N, C, 1, 1]."""
            return x.amax((-2, -1), keepdim=True)

    def regions(height, width):
        """Lists R-MAC's squares (top, left, side), as the paper lays them."""
        short = min(height, width)
        overlaps = [(short**2 - short * (max(height, width) - short) / gaps) / short**2 for gaps in range(1, 7)]
        more = int(np.argmin(np.abs(np.array(overlaps) - 0.4))) + 1
        found = []
        for level in (1, 2, 3):
            side = 2 * short // (level + 1)
            counts = [level + (more if length > other else 0) for length, other in ((height, width), (width, height))]
            tops, lefts = (
                [math.floor(n * (length - side) / max(count - 1, 1)) for n in range(count)]
                for length, count in zip((height, width), counts, strict=True)
            )
            found += [(top, left, side) for top in tops for left in lefts if side]
        return found

    class Regional(nn.Module):
        """cirtorch's pooling of regions, with a linear layer for each."""

        def __init__(self, rpool, dimension):
            super().__init__()
            self.rpool, self.whiten = rpool, nn.Linear(dimension, dimension)

        def forward(self, x):
            """Pools [N, C, H, W] to [N, C, 1, 1]."""
            parts = [x, *(x[:, :, y : y + side, z : z + side] for y, z, side in regions(*x.shape[-2:]))]
            total = sum(unit(self.whiten(unit(self.rpool(part))[:, :, 0, 0])) for part in parts)
            return unit(total)[:, :, None, None]

    class RMAC(nn.Module):
        """The sum of the regions' maxima, each of length 1."""

        def forward(self, x):
            """Pools [N, C, H, W] to [N, C, 1, 1]."""
            parts = [x, *(x[:, :, y : y + side, z : z + side] for y, z, side in regions(*x.shape[-2:]))]
            return sum(unit(part.amax((-2, -1), keepdim=True)) for part in parts)

    class Retrieval(nn.Module):
        """cirtorch's network."""

        def __init__(self, convolutions, pool, dimension, local=False, linear=0):
            super().__init__()
            self.features, self.pool = convolutions, pool
            self.lwhiten = nn.Linear(dimension, dimension) if local else None
            self.whiten = nn.Linear(dimension, linear) if linear else None

        def forward(self, x):
            """Describes normalised photos: [N, 3, H, W] -> [N, D]."""
            x = self.features(x)
            if self.lwhiten is not None:
                x = self.lwhiten(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = unit(self.pool(x))[:, :, 0, 0]
            return x if self.whiten is None else unit(self.whiten(x))

    class Attention(nn.Module):
        """SOLAR's second-order attention."""

        def __init__(self, channels, reduction):
            super().__init__()
            middle = channels // reduction
            for name in ("f", "g"):
                convolution = nn.Conv2d(channels, middle, 1)
                self.add_module(name, nn.Sequential(convolution, nn.BatchNorm2d(middle), nn.ReLU()))
            self.h, self.v = nn.Conv2d(channels, middle, 1), nn.Conv2d(middle, channels, 1)
            self.gamma = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            """Returns the attended maps."""
            queries, keys, values = (part(x).flatten(2) for part in (self.f, self.g, self.h))
            scores = (queries.transpose(1, 2) @ keys / math.sqrt(queries.shape[1])).softmax(-1)
            attended = (scores @ values.transpose(1, 2)).transpose(1, 2)
            return x + self.v(attended.reshape(len(x), -1, *x.shape[2:]))

    class AttentiveFeatures(nn.Module):
        """SOLAR's ResNet: torchvision's, in groups with their own names, and attention after the last two."""

        def __init__(self, network, layers="45"):
            super().__init__()
            channels = network.fc.in_features
            self.conv1 = nn.Sequential(network.conv1, network.bn1)
            self.conv2_x = nn.Sequential(nn.ReLU(), network.maxpool, network.layer1)
            self.conv3_x, self.conv4_x, self.conv5_x = network.layer2, network.layer3, network.layer4
            self.soa4 = Attention(channels // 2, 4) if "4" in layers else nn.Identity()
            self.soa5 = Attention(channels, 2) if "5" in layers else nn.Identity()

        def forward(self, x):
            """Returns the last maps."""
            x = self.soa4(self.conv4_x(self.conv3_x(self.conv2_x(self.conv1(x)))))
            return self.soa5(self.conv5_x(x))

    def randomise(network, seed=0):
        """Gives a network random weights and BatchNorm statistics, and returns it ready to describe."""
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in network.state_dict().items():
            drawn = torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
            if name.endswith("running_var"):
                drawn = 0.5 + torch.rand(tensor.shape, generator=generator)
            elif tensor.dim() >= 2:
                drawn = drawn * math.sqrt(2.0 / tensor[0].numel())
            elif name.endswith(".weight"):
                drawn = 0.7 + 0.2 * drawn
            elif name.endswith((".p", "num_batches_tracked")):
                drawn = tensor
            else:
                drawn = 0.1 * drawn
            tensor.copy_(drawn)
        return network.eval()

    def photos(height=75, width=98, count=2):
        return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), np.uint8)

    def scaled(pixels, mean=MEAN, std=STD):
        """Returns photos as torchvision's transforms give them: [N, 3, H, W]."""
        found = (pixels / 255.0 - np.array(mean)) / np.array(std)
        return torch.from_numpy(found.astype(np.float32)).permute(0, 3, 1, 2)

    def describe(network, pixels, scales=(1.0,), power=1.0, **normal):
        """Describes photos as cirtorch does, at several scales too."""
        with torch.no_grad():
            x, total = scaled(pixels, **normal), 0.0
            for scale in scales:
                resized = functional.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
                total = total + network(x if scale == 1 else resized).pow(power)
            found = (total / len(scales)).pow(1 / power)
            return (found / found.norm(dim=1, keepdim=True)).numpy()

    return types.SimpleNamespace(MEAN=MEAN, STD=STD, **locals())


@pytest.fixture(scope="session")
def reference():
    """The reference networks and how they describe photos."""
    return _reference()
