import keras
import pytest

from tfretrieval.errors import InputError
from tfretrieval.models import summary
from tfretrieval.models.attention import AttentionConfig
from tfretrieval.models.descriptor import DescriptorConfig, add_scales, build_descriptor, load_descriptor


def convolution(side, filters, channels):
    return 2 * side[0] * side[1] * filters * 9 * channels


@pytest.fixture(scope="module")
def network():
    return build_descriptor(DescriptorConfig(backbone="small_resnet", p=2.5, whitening=10))


def test_rows_of_a_small_network_by_hand(network):
    parts = summary.summarise(network, 96, 160)
    rows = [(part.name, part.cost.shape[1:], part.cost.flops) for part in parts]
    # A stage is one convolution to its width, and a block of two more.
    stage = lambda side, filters: convolution(side, filters, filters / 2) + 2 * convolution(side, filters, filters)  # noqa: E731
    assert rows == [
        ("input scaling", (96, 160, 3), 0),
        ("minimum size", (96, 160, 3), 0),
        ("backbone, stride 2", (48, 80, 32), convolution((48, 80), 32, 3)),
        ("backbone, stride 4", (24, 40, 64), stage((24, 40), 64)),
        ("backbone, stride 8", (12, 20, 128), stage((12, 20), 128)),
        ("backbone, stride 16", (6, 10, 256), stage((6, 10), 256)),
        ("pooling GeM", (256,), 0),
        ("L2", (256,), 0),
        ("whitening", (10,), 2 * 256 * 10),
        ("L2", (10,), 0),
    ]
    assert sum(part.cost.parameters for part in parts) == network.count_params()
    assert parts[6].detail == "p = 2.5, learnt"
    assert parts[8].detail == "256 to 10 dimensions"


@pytest.mark.parametrize(
    ("backbone", "strides"),
    [("mobilenet_v2_0.35", (2, 4, 8, 16, 32)), ("resnet50", (2, 4, 8, 16, 32)), ("vgg16", (1, 2, 4, 8, 16))],
)
def test_backbones_are_told_by_stride_and_every_parameter_is_in_a_row(backbone, strides):
    model = build_descriptor(DescriptorConfig(backbone=backbone))
    parts = summary.summarise(model, 224, 224)
    stages = [part for part in parts if part.name.startswith("backbone")]
    assert [part.name for part in stages] == [f"backbone, stride {stride}" for stride in strides]
    assert [part.cost.shape[1] for part in stages] == [224 // stride for stride in strides]
    assert sum(part.cost.parameters for part in parts) == model.count_params()
    # Multiply-adds: the MobileNets' table, He et al. 2016, Simonyan and Zisserman 2015 less the classifier.
    published = {"mobilenet_v2_0.35": 59e6, "resnet50": 3.8e9, "vgg16": 15.35e9}
    assert sum(part.cost.flops for part in parts) == pytest.approx(2 * published[backbone], rel=0.05)


def test_attention_inside_a_backbone_has_its_own_rows():
    plain, attended = (
        summary.summarise(build_descriptor(DescriptorConfig(backbone="resnet50", attention=attention)), 128, 160)
        for attention in (AttentionConfig(), AttentionConfig("agem"))
    )
    units = [part for part in attended if part.name.startswith("attention")]
    assert [part.cost.shape for part in units] == [(1, 4, 5, 2048)] * 3
    # Convolutions of AGeM's units in papers: 3x3, 3x3, 1x1, 1x1 from 1024 to 1024, 512, 512, 2048; then 1x1 of 2048.
    first = 8 * 10  # positions at stride 16, and a quarter of them after the stride of the first convolution
    kernels = (9 * 1024 * 1024 + 9 * 1024 * 512 + 512 * 512 + 512 * 2048, 2048 * 2048, 2048 * 2048)
    assert [part.cost.flops for part in units] == [2 * first // 4 * kernel for kernel in kernels]
    names = [part.name for part in attended]
    assert names[names.index("backbone, stride 16") + 1 :][3] == "backbone, stride 32"
    rest = [part.cost for part in attended if part not in units]
    assert [(cost.flops, cost.parameters) for cost in rest] == [
        (part.cost.flops, part.cost.parameters) for part in plain
    ]


def test_scales_add_up_and_resizing_is_told(network, tmp_path):
    scaled = add_scales(network, (1.0, 0.5))
    scaled.save(tmp_path / "scaled.keras")
    parts = summary.summarise(load_descriptor(tmp_path / "scaled.keras"), 64, 96)
    whole, half = (summary.summarise(network, *size) for size in ((64, 96), (32, 48)))
    for part, first, second in zip(parts, whole, half, strict=False):
        assert part.cost.flops == first.cost.flops + second.cost.flops
        assert (part.cost.shape, part.cost.parameters) == (first.cost.shape, first.cost.parameters)
    assert (parts[-1].name, parts[-1].detail, len(parts)) == ("scales", "1, 0.5; power 1", len(whole) + 1)
    # The height in one block of 32 rows from all 64, then the width in two from the 68 columns near each.
    assert parts[-1].cost.flops == 2 * (32 * 64 * 96 * 3 + 2 * 32 * 68 * 32 * 3)
    assert sum(part.cost.parameters for part in parts) == scaled.count_params()


def test_a_network_describes_itself_the_same_after_the_table(network):
    photo = keras.random.uniform((1, 40, 56, 3), 0, 255, seed=0)
    before = keras.ops.convert_to_numpy(network(photo))
    summary.summarise(network, 40, 56)
    assert (keras.ops.convert_to_numpy(network(photo)) == before).all()
    assert [layer.name for layer in network.layers][-1] == "whitened"


def test_exponents_of_channels_and_fixed_ones_are_told():
    many = build_descriptor(DescriptorConfig(backbone="small_resnet", p_per_channel=True))
    many.get_layer("pooling").p.assign([2.0] * 128 + [4.0] * 128)
    details = [part.detail for part in summary.summarise(many, 32, 32)]
    assert "p of 256 channels = 2 to 4, mean 3, learnt" in details


def test_table_has_aligned_columns_and_sums(network):
    parts = summary.summarise(network, 96, 160)
    lines = summary.table(parts)
    assert lines[0].split() == ["part", "output", "parameters", "GFLOPs"]
    assert len(lines) == len(parts) + 4
    assert lines[-1].split() == ["sum", f"{network.count_params():,}", f"{sum(p.cost.flops for p in parts) / 1e9:.3f}"]
    end = lines[0].index("GFLOPs") + len("GFLOPs")
    assert all(line[end : end + 2].strip() == "" for line in lines)
    assert any(line.split()[:6] == ["backbone,", "stride", "2", "48", "x", "80"] for line in lines)


def test_small_photos_are_described_too(network):
    parts = summary.summarise(network, 5, 7)
    assert parts[1].cost.shape == (1, 32, 32, 3)


def test_sizes_are_width_by_height():
    assert summary.parse_size("1024x768") == (768, 1024)


@pytest.mark.parametrize(
    "text", ["", "1024", "1024*768", "0x5", "5x0", "-3x4", "3x4x5", "1024X768", " 3x4", "9999999x3"]
)
def test_other_sizes_are_refused(text):
    with pytest.raises(InputError, match=r"--size=.*WIDTHxHEIGHT"):
        summary.parse_size(text)
