"""The networks that PyTorch is timed with, written from the papers' definitions; to be imported where torch is there.

A ResNet-50 with GeM as cnnimageretrieval-pytorch has it (Radenovic, Tolias, Chum, TPAMI 2018), with the names of its
checkpoints, and the MobileNetV2 of Sandler et al. (CVPR 2018) with GeM.
"""

import math

import keras
import torch
from torch import nn
from torch.nn import functional

from tfretrieval.importing.published import IMAGENET_MEAN, IMAGENET_STD

_BLOCKS = {"resnet18": ((2, 2, 2, 2), 1), "resnet50": ((3, 4, 6, 3), 4), "resnet101": ((3, 4, 23, 3), 4)}
# Of MobileNetV2: expansion, channels, blocks, stride of the first.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class GeM(nn.Module):
    """Generalised mean over positions with a learnt exponent, [N, C, H, W] -> [N, C, 1, 1]."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([3.0]))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pools."""
        powers = maps.clamp(min=1e-6).pow(self.p)
        return functional.adaptive_avg_pool2d(powers, 1).pow(1.0 / self.p)


class _Block(nn.Module):
    """A residual block of a ResNet, its 3x3 convolution with the stride, under torchvision's names."""

    def __init__(self, inputs: int, width: int, stride: int, expansion: int):
        super().__init__()
        outputs = width * expansion
        # Of each convolution: side, inputs, outputs, stride.
        if expansion == 1:
            convolutions = [(3, inputs, width, stride), (3, width, width, 1)]
        else:
            convolutions = [(1, inputs, width, 1), (3, width, width, stride), (1, width, outputs, 1)]
        self.count = len(convolutions)
        for number, (side, source, out, step) in enumerate(convolutions, 1):
            self.add_module(f"conv{number}", nn.Conv2d(source, out, side, step, side // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(out))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Returns relu(convolutions + shortcut)."""
        found = maps
        for number in range(1, self.count + 1):
            found = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(found))
            found = self.relu(found) if number < self.count else found
        found = found + (maps if self.downsample is None else self.downsample(maps))
        return self.relu(found)


class ResNetGeM(nn.Module):
    """Normalised photos float32 [N, 3, H, W] -> descriptors [N, D], rows of length 1."""

    def __init__(self, architecture: str = "resnet50"):
        super().__init__()
        self.architecture = architecture
        blocks, expansion = _BLOCKS[architecture]
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
        inputs, stages = 64, []
        for stage, count in enumerate(blocks):
            made = []
            for number in range(count):
                made.append(_Block(inputs, 64 * 2**stage, 2 if stage and not number else 1, expansion))
                inputs = 64 * 2**stage * expansion
            stages.append(nn.Sequential(*made))
        self.features, self.pool = nn.Sequential(*stem, *stages), GeM()

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Describes."""
        found = self.pool(self.features(photos))[:, :, 0, 0]
        return found / (torch.norm(found, p=2, dim=1, keepdim=True) + 1e-6)

    def checkpoint(self) -> dict:
        """Returns what a checkpoint of cnnimageretrieval-pytorch holds."""
        meta = {"architecture": self.architecture, "pooling": "gem", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        return {"meta": meta, "state_dict": self.state_dict()}


def random_resnet(architecture: str = "resnet50", seed: int = 0) -> ResNetGeM:
    """Returns a network with random weights, and statistics of BatchNorm that are not 0 and 1.

    Weights are drawn so that the size of values stays the same from layer to layer (He et al., ICCV 2015).
    """
    generator = torch.Generator().manual_seed(seed)
    network = ResNetGeM(architecture).eval()
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 4:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * math.sqrt(2.0 / tensor[0].numel()))
        elif name.endswith("running_var"):
            tensor.copy_(0.8 + 0.4 * torch.rand(tensor.shape, generator=generator))
        elif name.endswith(("running_mean", ".bias")):
            tensor.copy_(0.2 * torch.rand(tensor.shape, generator=generator) - 0.1)
        elif name.endswith(".weight"):
            tensor.copy_(0.5 + 0.5 * torch.rand(tensor.shape, generator=generator))
    return network


def extract_scales(network, photo: torch.Tensor, scales: tuple[float, ...], power: float) -> torch.Tensor:
    """Describes one normalised photo at several scales, as cnnimageretrieval-pytorch does.

    Args:
        network: [1, 3, H, W] -> [1, D].
        photo: float32 [1, 3, H, W].
        scales: factors on the photo's sides.
        power: exponent of the mean over scales.

    Returns:
        float32 [D], of length 1.
    """
    total = 0.0
    for scale in scales:
        resized = photo
        if scale != 1:
            resized = functional.interpolate(photo, scale_factor=scale, mode="bilinear", align_corners=False)
        total = total + network(resized)[0].float().pow(power)
    mean = (total / len(scales)).pow(1.0 / power)
    return mean / mean.norm()


class _Inverted(nn.Module):
    """MobileNetV2's block: 1x1 wider, 3x3 of each channel, 1x1 narrower, added to its input where they fit."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, one_sided: bool):
        super().__init__()
        width, parts = inputs * expansion, []
        if expansion > 1:
            parts += [nn.Conv2d(inputs, width, 1, bias=False), _norm(width), nn.ReLU6(inplace=True)]
        parts += _three_by_three(width, width, stride, width, one_sided)
        self.parts = nn.Sequential(*parts, nn.Conv2d(width, outputs, 1, bias=False), _norm(outputs))
        self.added = stride == 1 and inputs == outputs

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Returns the block's maps."""
        return maps + self.parts(maps) if self.added else self.parts(maps)


class MobileNetGeM(nn.Module):
    """MobileNetV2-1.0 with GeM: photos in [-1, 1], float32 [N, 3, H, W] -> [N, 1280], rows of length 1.

    Args:
        one_sided: pad maps below and on the right alone before convolutions with a stride, as Keras does, with which
            the two agree; without, on all sides, as PyTorch's users do, which saves a copy.
    """

    def __init__(self, one_sided: bool = False):
        super().__init__()
        parts, inputs = _three_by_three(3, 32, 2, 1, one_sided), 32
        for expansion, channels, count, stride in _STAGES:
            for number in range(count):
                parts.append(_Inverted(inputs, channels, expansion, 1 if number else stride, one_sided))
                inputs = channels
        parts += [nn.Conv2d(inputs, 1280, 1, bias=False), _norm(1280), nn.ReLU6(inplace=True)]
        self.features, self.pool = nn.Sequential(*parts), GeM()

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Describes."""
        return functional.normalize(self.pool(self.features(photos))[:, :, 0, 0])


def _three_by_three(inputs: int, outputs: int, stride: int, groups: int, one_sided: bool) -> list[nn.Module]:
    apart = one_sided and stride > 1
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 0 if apart else 1, groups=groups, bias=False)
    padding = [nn.ZeroPad2d((0, 1, 0, 1))] if apart else []
    return [*padding, convolution, _norm(outputs), nn.ReLU6(inplace=True)]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=1e-3)  # as Keras's MobileNetV2 has it


def copy_mobilenet(model: keras.Model, network: MobileNetGeM) -> None:
    """Gives a `MobileNetGeM` the weights of the same network in Keras: both list them in the order of their layers."""
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    arrays = [weight.numpy() for layer in backbone.layers for weight in layer.weights]
    tensors = [tensor for name, tensor in network.features.state_dict().items() if not name.endswith("batches_tracked")]
    with torch.no_grad():
        for array, tensor in zip(arrays, tensors, strict=True):
            # Keras has depthwise kernels as [h, w, C, 1], PyTorch as [C, 1, h, w].
            depthwise = array.ndim == 4 and array.shape[3] == 1 and tensor.shape[1] == 1
            turned = array.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)) if array.ndim == 4 else array
            tensor.copy_(torch.from_numpy(turned.copy()))


def supervised_contrastive(descriptors: torch.Tensor, labels: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Khosla et al., NeurIPS 2020, L_out: the loss of `tfretrieval.losses.supervised_contrastive`."""
    logits = descriptors @ descriptors.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool)
    matching = (labels[:, None] == labels[None]) & ~itself
    share = logits - logits.masked_fill(itself, -1e9).logsumexp(1, keepdim=True)
    return (-(share * matching).sum(1) / matching.sum(1)).mean()
