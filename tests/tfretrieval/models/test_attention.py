import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.backbones import BACKBONES, batch_norms, build_backbone
from tfretrieval.errors import InputError
from tfretrieval.layers import GeM, InputScaling, MultiScale
from tfretrieval.layers.merge_attention import MERGES
from tfretrieval.models import attention
from tfretrieval.models.attention import AttentionConfig, attend, attention_maps, attention_variables

ROOT = Path(__file__).resolve().parents[3]
STAGES = ("x4", "r1", "r2", "r3")
AGEM = ("attention_1", "attention_2_1", "attention_2_2")
EVERY = [
    AttentionConfig("agem"),
    AttentionConfig("agem", "gates", "residual_mul"),
    AttentionConfig("agem", "chain", "mul"),
    AttentionConfig("second_order"),
    AttentionConfig("second_order", attention_layers="4"),
    AttentionConfig("second_order", attention_layers="5"),
]


def photos(height=12, width=14, seed=0, count=2):
    return np.random.default_rng(seed).uniform(0, 1, (count, height, width, 3)).astype(np.float32)


def tiny_backbone(widths=(4, 6, 5, 7)):
    """Four stages of other widths: R1 halves the sizes, R2 and R3 are 1x1 convolutions with ReLU."""
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(widths[0], 3, padding="same", use_bias=False)(pixels)
    maps = keras.layers.BatchNormalization(name="backbone_normalization")(maps)
    maps = keras.layers.ReLU(name="x4")(maps)
    maps = keras.layers.ZeroPadding2D(1)(maps)
    maps = keras.layers.Conv2D(widths[1], 3, strides=2, activation="relu", name="r1")(maps)
    for name, width in zip(STAGES[2:], widths[2:], strict=True):
        maps = keras.layers.Conv2D(width, 1, activation="relu", name=name)(maps)
    return keras.Model(pixels, maps, name="tiny")


def randomise(model, seed=1):
    """Gives every weight values that a mistake in its use would show; variances stay above 0."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.name or "gamma" in weight.name else -0.5
        weight.assign(rng.uniform(low, low + 1, weight.shape))
    return model


def attended(config, widths=(4, 6, 5, 7)):
    return randomise(attend(tiny_backbone(widths), STAGES, config))


def stage(model, name, inputs):
    """One of the tiny backbone's stages from its weights, position by position, in float64."""
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer(name).weights)
    size, stride = (3, 2) if name == "r1" else (1, 1)
    padded = np.pad(inputs, ((0, 0), *[(size // 2, size // 2)] * 2, (0, 0)))
    height, width = ((length - size) // stride + 1 for length in padded.shape[1:3])
    outputs = np.zeros((len(inputs), height, width, kernel.shape[-1]))
    for n, y, x in np.ndindex(len(inputs), height, width):
        window = padded[n, y * stride : y * stride + size, x * stride : x * stride + size]
        outputs[n, y, x] = [np.sum(window * kernel[..., channel]) for channel in range(kernel.shape[-1])] + bias
    return np.maximum(outputs, 0)


def unit(model, name, inputs):
    """An attention unit's own output; the units are tested in their own files."""
    return np.asarray(model.get_layer(name)(inputs.astype(np.float32), training=False), np.float64)


def written_out(model, wiring, final_merge, pixels):
    """papers.md 2.2, line by line, from x4 on; returns the result and A1, A2, A3."""
    normalization = model.get_layer("backbone_normalization")
    convolution = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    x4 = np.maximum(np.asarray(normalization(convolution(pixels), training=False), np.float64), 0)
    a1 = unit(model, "attention_1", x4)
    g1 = stage(model, "r1", x4) * a1
    if wiring == "chain":
        a2 = unit(model, "attention_2_1", a1)
        g2 = stage(model, "r2", g1) * a2
        a3 = unit(model, "attention_2_2", a2)
        f3 = stage(model, "r3", g2)
    else:
        a2 = unit(model, "attention_2_1", g1)
        g2 = stage(model, "r2", g1) * a2
        a3 = unit(model, "attention_2_2", g2)
        f3 = stage(model, "r3", g2)
    return {"add": f3 + a3, "residual_mul": f3 * (1 + a3), "mul": f3 * a3}[final_merge], (a1, a2, a3)


@pytest.mark.parametrize("size", [(12, 14), (13, 9)])
@pytest.mark.parametrize("final_merge", MERGES)
@pytest.mark.parametrize("wiring", attention.WIRINGS)
def test_agem_equals_the_equations_written_out(wiring, final_merge, size):
    model, pixels = attended(AttentionConfig("agem", wiring, final_merge)), photos(*size)
    expected, maps = written_out(model, wiring, final_merge, pixels)
    np.testing.assert_allclose(model(pixels, training=False), expected, rtol=1e-4, atol=1e-5)
    found = attention_maps(model)(pixels)
    assert set(found) == set(AGEM)
    for name, map_ in zip(AGEM, maps, strict=True):
        np.testing.assert_allclose(found[name], map_, rtol=1e-4, atol=1e-6)


def test_the_two_wirings_and_three_merges_differ():
    results = [
        np.asarray(attended(AttentionConfig("agem", wiring, merge))(photos()))
        for wiring in attention.WIRINGS
        for merge in MERGES
    ]
    for number, result in enumerate(results):
        assert all(np.abs(result - other).max() > 1e-3 for other in results[:number])


def test_without_attention_the_backbone_is_returned_as_it_is():
    backbone = tiny_backbone()
    assert attend(backbone, (), AttentionConfig()) is backbone


@pytest.mark.parametrize("layers", attention.SECOND_ORDER_LAYERS)
def test_second_order_blocks_begin_as_the_identity_and_follow_their_stages(layers):
    backbone, pixels = tiny_backbone((8, 6, 5, 7)), photos()
    model = attend(backbone, STAGES, AttentionConfig("second_order", attention_layers=layers))
    np.testing.assert_array_equal(model(pixels), backbone(pixels))
    randomise(model)
    found, blocks = attention_maps(model)(pixels), [f"attention_{number}" for number in layers]
    assert set(found) == set(blocks)
    positions = {"attention_4": 12 * 14, "attention_5": 6 * 7}
    middle = {"attention_4": 8 // 4, "attention_5": 7 // 2}
    for name in blocks:
        assert found[name].shape == (2, positions[name], positions[name])
        np.testing.assert_allclose(np.sum(found[name], axis=-1), 1, atol=1e-5)
        assert model.get_layer(name).f.kernel.shape[-1] == middle[name]
    maps = pixels
    for name in ("x4", *STAGES[1:]):
        if name == "x4":
            maps = keras.Model(backbone.input, backbone.get_layer("x4").output)(maps)
        else:
            maps = tf.constant(stage(model, name, np.asarray(maps, np.float64)), tf.float32)
        block = {"x4": "attention_4", "r3": "attention_5"}.get(name)
        maps = model.get_layer(block)(maps) if block in blocks else maps
    np.testing.assert_allclose(model(pixels), maps, rtol=1e-3, atol=1e-4)


def test_second_order_after_the_last_stage_needs_no_stages():
    model = attend(tiny_backbone(), (), AttentionConfig("second_order", attention_layers="5"))
    assert [layer.name for layer in model.layers if layer.name.startswith("attention")] == ["attention_5"]


@pytest.mark.parametrize("config", EVERY)
def test_layers_and_weights_are_the_backbones(config):
    backbone = tiny_backbone()
    model = attend(backbone, STAGES, config)
    own = {id(weight) for weight in backbone.weights}
    assert own <= {id(weight) for weight in model.weights}
    added = [weight for weight in model.weights if id(weight) not in own]
    assert added and all(weight.path.startswith("attention_") for weight in added)
    assert {id(w) for w in attention_variables(model)} == {id(w) for w in added if w.trainable}
    assert attention_variables(backbone) == []
    assert model.name == backbone.name and model.get_layer("x4") is backbone.get_layer("x4")


@pytest.mark.parametrize("config", EVERY)
def test_saved_and_loaded_without_custom_objects_it_is_equal(tmp_path, config):
    model = attended(config)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(photos(13, 9)), model(photos(13, 9)))
    assert [weight.path for weight in loaded.weights] == [weight.path for weight in model.weights]
    for name, map_ in attention_maps(model)(photos()).items():
        np.testing.assert_array_equal(attention_maps(loaded)(photos())[name], map_)


@pytest.mark.parametrize("config", [EVERY[0], EVERY[3]])
def test_exported_it_takes_photos_of_any_size(tmp_path, config):
    model = attended(config)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    for size in ((12, 14), (13, 9), (20, 31)):
        np.testing.assert_allclose(loaded.serve(photos(*size)), model(photos(*size)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", EVERY)
def test_gradients_reach_every_weight(config):
    model = attended(config, widths=(16, 12, 10, 14))  # wide enough that not all of a layer's ReLUs are closed
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(photos(), training=False) ** 2)
    gradients = tape.gradient(total, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, weight.path


@pytest.mark.parametrize("config", EVERY)
def test_statistics_move_in_training_alone_and_their_layers_can_be_found(config):
    model, backbone = attended(config), tiny_backbone()
    norms = batch_norms(model)
    blocks = 1 if config.attention == "agem" else len(config.attention_layers)
    assert len(norms) == len(batch_norms(backbone)) + blocks * (3 if config.attention == "agem" else 2)
    before = [np.asarray(layer.moving_mean) for layer in norms]
    model(photos(), training=False)
    for layer, old in zip(norms, before, strict=True):
        np.testing.assert_array_equal(layer.moving_mean, old)
    model(photos(), training=True)
    for layer, old in zip(norms, before, strict=True):
        assert np.abs(np.asarray(layer.moving_mean) - old).max() > 1e-5


@pytest.mark.parametrize("config", [EVERY[0], EVERY[3]])
def test_it_trains(config):
    keras.utils.set_random_seed(0)
    backbone = attend(tiny_backbone((16, 12, 10, 14)), STAGES, config)
    model, optimizer = keras.Sequential([backbone, GeM(), keras.layers.Dense(2)]), keras.optimizers.Adam(0.03)
    pixels, labels = photos(count=8), np.arange(8) % 2
    pixels[labels == 1, :, :, 0] *= 0.2
    kernels = [weight for weight in attention_variables(backbone) if weight.name == "kernel"]
    before, losses = [np.asarray(kernel) for kernel in kernels], []
    for _ in range(15):
        with tf.GradientTape() as tape:
            logits = model(pixels, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
        weights = [weight.value for weight in model.trainable_weights]
        optimizer.apply(tape.gradient(loss, weights), model.trainable_weights)
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    for kernel, old in zip(kernels, before, strict=True):
        assert np.abs(np.asarray(kernel) - old).max() > 1e-3, kernel.path


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("config", [EVERY[0], EVERY[3]])
def test_under_mixed_precision_results_are_close_and_attention_is_float32(policy, config):
    exact = attended(config)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = attend(tiny_backbone(), STAGES, config)
    finally:
        keras.config.set_dtype_policy(before)
    mixed.set_weights(exact.get_weights())
    expected = np.asarray(exact(photos()))
    found = mixed(photos())
    assert found.dtype == mixed.layers[-1].compute_dtype != tf.float32
    np.testing.assert_allclose(
        tf.cast(found, tf.float32),
        expected,
        atol=(0.01 if policy == "mixed_float16" else 0.08) * np.abs(expected).max(),
    )
    assert {map_.dtype for map_ in attention_maps(mixed)(photos()).values()} == {tf.float32}


def test_biases_begin_nearer_to_the_network_without_attention():
    backbone, pixels = tiny_backbone(), photos()
    plain = np.asarray(backbone(pixels))
    config = AttentionConfig("agem", "gates", gate_bias=20.0, final_bias=-20.0)
    for merge, bias in (("add", -20.0), ("residual_mul", -20.0), ("mul", 20.0)):
        model = attend(backbone, STAGES, dataclasses.replace(config, final_merge=merge, final_bias=bias))
        np.testing.assert_allclose(model(pixels), plain, rtol=1e-4, atol=1e-6)
    far = np.asarray(attend(backbone, STAGES, AttentionConfig("agem", "gates"))(pixels))
    assert np.abs(far - plain).max() > 0.1


def test_attention_maps_of_a_descriptor_network_are_those_of_its_backbone():
    inner = attended(EVERY[0])
    pixels = keras.Input((None, None, 3), name="images")
    network = keras.Model(pixels, GeM()(inner(InputScaling("tf")(pixels))))
    scales = keras.Model(pixels, MultiScale(network, (1.0, 0.5))(pixels))
    shown = photos() * 255
    expected = attention_maps(inner)(shown / 127.5 - 1)
    for model in (network, scales):
        maps = attention_maps(model)(shown)
        assert set(maps) == set(AGEM)
        for name in AGEM:
            np.testing.assert_allclose(maps[name], expected[name], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("mobilenet_v2_0.35", ((96, 112), (65, 97), (80, 111))),
        ("small_resnet", ((64, 48), (33, 71), (40, 57))),
    ],
)
@pytest.mark.parametrize("config", [EVERY[0], EVERY[3]])
def test_backbones_keep_their_shapes_at_odd_and_even_sizes(name, sizes, config):
    backbone = build_backbone(name)
    model = attend(backbone, BACKBONES[name].stages, config)
    for size in sizes:
        found = model(photos(*size, count=1))
        assert found.shape == backbone(photos(*size, count=1)).shape
        assert np.isfinite(found).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name, entry in BACKBONES.items() if entry.stages])
def test_every_backbone_with_stages_takes_attention(name):
    backbone = build_backbone(name)
    for config in (EVERY[0], EVERY[3]):
        model = attend(backbone, BACKBONES[name].stages, config)
        for side in (64, 65, 79, 96, 97):
            shape = (1, side, side + 16, 3)
            assert model.compute_output_shape(shape) == backbone.compute_output_shape(shape)


def keras_hub_resnet(block_type):
    hub = pytest.importorskip("keras_hub")
    return hub.models.ResNetBackbone(
        input_conv_filters=[4],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16, 16, 16],
        stackwise_num_blocks=[1, 1, 1, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block_type,
        image_shape=(None, None, 3),
    )


@pytest.mark.parametrize("block_type", ["bottleneck_block", "bottleneck_block_vd"])
@pytest.mark.parametrize("config", [EVERY[0], EVERY[3]])
def test_keras_hub_resnets_keep_their_shapes_save_and_load(tmp_path, block_type, config):
    backbone = keras_hub_resnet(block_type)
    model = randomise(
        attend(backbone, ("stack2_block0_out", *(f"stack3_block{block}_out" for block in range(3))), config)
    )
    for size in ((64, 80), (65, 97), (70, 111)):
        assert model(photos(*size, count=1)).shape == backbone(photos(*size, count=1)).shape
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(photos(64, 64)), model(photos(64, 64)))


def test_resnet50_has_the_papers_units():
    backbone = build_backbone("resnet50")
    model = attend(backbone, BACKBONES["resnet50"].stages, AttentionConfig("agem"))
    kernels = [w for w in attention_variables(model) if w.name == "kernel"]
    assert round(sum(np.prod(w.shape) for w in kernels) / 1e6, 2) == 23.86
    assert [w.shape[2:] for w in kernels] == [
        (1024, 1024), (1024, 512), (512, 512), (512, 2048), (2048, 2048), (2048, 2048),
    ]  # fmt: skip
    maps = attention_maps(model)(photos(65, 97, count=1))
    assert {name: map_.shape for name, map_ in maps.items()} == dict.fromkeys(AGEM, (1, 3, 4, 2048))
    assert all((np.asarray(map_) > 0).all() and (np.asarray(map_) < 1).all() for map_ in maps.values())
    assert model(photos(65, 97, count=1)).shape == (1, 3, 4, 2048)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("pad", [(0, 0), (1, 1), (0, 1), (1, 2), (2, 2), (3, 3)])
def test_a_window_of_three_meets_the_places_of_another(pad, size):
    """The windows as lists of the positions they cover: equally many, with centres at most half a position apart."""

    def centres(length, size, pad):
        starts = range(-pad[0], length + pad[1] - size + 1, 2)
        return [np.mean(range(start, start + size)) for start in starts]

    for length in (8, 9):
        wanted = centres(length, size, pad)
        found = centres(length, 3, attention._padding_of_three(pad, size))
        assert len(found) == len(wanted)
        np.testing.assert_allclose(found, wanted, atol=0.5 if size % 2 == 0 else 0)


VGG = ("block4_conv3", "block5_conv1", "block5_conv2", "block5_conv3")


@pytest.mark.parametrize(
    ("name", "stages", "padding"),
    [
        ("vgg16", VGG, ((0, 1), (0, 1))),  # a pooling of 2x2
        ("mobilenet_v2_0.35", None, ((0, 1), (0, 1))),
        ("resnet50", None, ((1, 1), (1, 1))),
        ("small_resnet", None, "same"),
    ],
)
def test_the_stages_own_padding_is_found(name, stages, padding):
    stages = stages or BACKBONES[name].stages
    assert attention._stride_padding(build_backbone(name), *stages[:2]) == padding


@pytest.mark.parametrize(
    ("config", "stages", "sentence"),
    [
        (AttentionConfig("agem"), (), "--attention=agem needs a backbone with stages of stride 16 and 32, and tiny"),
        (AttentionConfig("second_order"), (), "--attention_layers=45 needs a backbone with a stage of stride 16"),
        (AttentionConfig("agem"), ("x4", "r1", "r2", "nothing"), "tiny has no layer nothing"),
        (AttentionConfig("agem"), ("x4", "r2", "r2", "r3"), "layers of tiny in their order are wanted"),
        (AttentionConfig("second_order"), ("r3", "r2"), "layers of tiny in their order are wanted"),
        (
            AttentionConfig("agem"),
            ("backbone_normalization", "x4", "r2", "r3"),
            "between backbone_normalization and x4; there is none",
        ),
        (AttentionConfig("agem"), ("x4", "r1", "x4", "r3"), "layers of tiny in their order are wanted"),
        (AttentionConfig("agme"), STAGES, "--attention=agme is unknown; one of none, agem, second_order is wanted"),
        (AttentionConfig("agem", "ring"), STAGES, "--attention_wiring=ring is unknown"),
        (AttentionConfig("agem", final_merge="max"), STAGES, "--final_merge=max is unknown"),
        (AttentionConfig("second_order", attention_layers="3"), STAGES, "--attention_layers=3 is unknown"),
    ],
)
def test_bad_choices_and_stages_are_refused_with_a_sentence(config, stages, sentence):
    with pytest.raises(InputError, match=sentence):
        attend(tiny_backbone(), stages, config)


def test_attention_maps_of_a_network_without_attention_are_refused():
    with pytest.raises(InputError, match="the network tiny has no attention"):
        attention_maps(tiny_backbone())


JAX = """
import sys
import keras, numpy as np
assert keras.backend.backend() == "jax"
import tfretrieval.layers
from tfretrieval.models.attention import attention_maps
folder, pixels = sys.argv[1], np.load(sys.argv[1] + "/pixels.npy")
for name in ("agem", "second_order"):
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    results = {"result": np.asarray(model(pixels))}
    results |= {key: np.asarray(value) for key, value in attention_maps(model)(pixels).items()}
    np.savez(f"{folder}/{name}.npz", **results)
"""


@pytest.mark.slow
def test_the_same_results_on_jax(tmp_path):
    pytest.importorskip("jax")
    models = {"agem": attended(EVERY[0]), "second_order": attended(EVERY[3])}
    pixels = photos(13, 9)
    np.save(tmp_path / "pixels.npy", pixels)
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", JAX, str(tmp_path)], env=environment, check=True, timeout=120)
    for name, model in models.items():
        expected = {"result": model(pixels), **attention_maps(model)(pixels)}
        with np.load(tmp_path / f"{name}.npz") as found:
            assert set(found) == set(expected)
            for key, value in expected.items():
                np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5)
