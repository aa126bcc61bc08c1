import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.backbones import PatchTokens, SwinMaps

ROOT = Path(__file__).resolve().parents[3]
PLAIN = ["vit", "vit_no_class", "dinov2", "dinov2_registers", "dinov3", "siglip"]
ALL = [*PLAIN, "swin"]


def photos(count=2, height=48, width=48, seed=0):
    return np.random.default_rng(seed).normal(size=(count, height, width, 3)).astype(np.float32)


def as_model(network):
    pixels = keras.Input((None, None, 3))
    layer = SwinMaps if type(network).__name__.startswith("Swin") else PatchTokens
    return keras.Model(pixels, layer(network, name="transformer")(pixels))


def kerashub(network, pixels):
    """Tokens of KerasHub's own network; of SigLIP those before its pooling head."""
    name = next(iter(network.input)) if isinstance(network.input, dict) else None
    if type(network).__name__ == "SigLIPVisionEncoder":
        network = keras.Model(network.input, network.post_layer_norm.output)
    return np.asarray(network({name: pixels} if name else pixels, training=False))


@pytest.mark.parametrize("name", ALL)
def test_at_the_native_size_tokens_are_those_of_kerashub(name, make_network):
    network, pixels = make_network(name), photos()
    expected = kerashub(network, pixels)
    found = np.asarray(as_model(network)(pixels, training=False))
    assert found.shape == (2, 6, 6, 16) and np.std(found) > 0.1
    np.testing.assert_allclose(found, expected[:, -36:].reshape(found.shape), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (24, 24), (64, 32)])
def test_rotary_positions_need_no_native_size(height, width, make_network):
    pixels = photos(1, height, width)
    expected = kerashub(make_network("dinov3", image_shape=(height, width, 3)), pixels)
    found = np.asarray(as_model(make_network("dinov3"))(pixels, training=False))
    assert found.shape[1:3] == (height // 8, width // 8)
    np.testing.assert_allclose(found, expected[:, 4:].reshape(found.shape), atol=1e-5)


def test_a_table_is_resized_to_the_photos_grid(make_network):
    """The same network with its table resized by hand (in NumPy, from PyTorch) and built for that size."""
    torch = pytest.importorskip("torch")
    pixels = photos(1, 72, 72)
    small, large = make_network("siglip"), make_network("siglip", image_shape=(72, 72, 3))
    table = np.asarray(small.embedding.position_embedding.embeddings).reshape(1, 6, 6, 16).transpose(0, 3, 1, 2)
    table = torch.nn.functional.interpolate(torch.tensor(table), size=(9, 9), mode="bicubic").numpy()
    for wide, narrow in zip(large.weights, small.weights, strict=True):
        resized = narrow is small.embedding.position_embedding.embeddings
        if "float" in str(wide.dtype):
            wide.assign(table.transpose(0, 2, 3, 1).reshape(81, 16) if resized else narrow)
    found = np.asarray(as_model(small)(pixels, training=False))
    np.testing.assert_allclose(found, kerashub(large, pixels).reshape(found.shape), atol=1e-5)


@pytest.mark.parametrize(
    ("height", "width"), [(96, 72), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((48, 96), (24, 48)))]
)
def test_swin_of_another_size_is_kerashubs_built_for_it(height, width, make_network):
    """Sizes of whole windows in both stages, where KerasHub pads nothing; (24, 48) ends in one row of windows."""
    pixels = photos(1, height, width)
    expected = kerashub(make_network("swin", image_shape=(height, width, 3)), pixels)
    found = np.asarray(as_model(make_network("swin"))(pixels, training=False))
    assert found.shape[1:3] == (height // 8, width // 8)
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-5)


def test_a_swin_block_with_padding_is_the_one_written_out(make_network):
    """One shifted block on 5 x 7 positions, windows of 3: every query position by hand, in loops."""
    network = make_network("swin")
    layer, block = SwinMaps(network), network.stages[0].blocks[1]
    maps = photos(1, 5, 7)[..., :1] * np.linspace(-1, 1, 8, dtype=np.float32)
    normed = np.zeros((6, 9, 8), np.float32)
    normed[:5, :7] = np.asarray(block.norm1(maps))[0]
    qkv = np.asarray(block.attn.qkv(normed)).reshape(6, 9, 3, 8)
    bias = np.asarray(block.attn.relative_position_bias_table)[:, 0]
    attended = np.zeros((6, 9, 8))
    for row in range(6):
        for column in range(9):
            # Windows start at -2, 1, 4, ... (rolled up and left by 1); pieces that wrap around do not mix.
            start = [(place - 1) // 3 * 3 + 1 for place in (row, column)]
            scores, values = [], []
            for y in range(start[0], start[0] + 3):
                for x in range(start[1], start[1] + 3):
                    if 0 <= y < 6 and 0 <= x < 9:
                        place = (row - y + 2) * 5 + (column - x + 2)
                        scores.append(qkv[row, column, 0] @ qkv[y, x, 1] / np.sqrt(8) + bias[place])
                        values.append(qkv[y, x, 2])
            weights = np.exp(np.array(scores) - max(scores))
            attended[row, column] = weights / weights.sum() @ np.array(values)
    added = maps + np.asarray(block.attn.proj(attended[None, :5, :7].astype(np.float32)))
    expected = added + np.asarray(block.mlp(block.norm2(added)))
    found = layer._attend(block, tf.constant(maps), shifted=True, training=False)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_any_size_runs_in_one_graph_and_incomplete_patches_are_not_seen(name, make_network):
    model = as_model(make_network(name))
    graph = tf.function(lambda pixels: model(pixels, training=False), [tf.TensorSpec([None, None, None, 3])])
    for height, width in ((48, 48), (33, 61), (97, 131), (9, 8)):
        pixels = photos(3, height, width)
        found = graph(pixels)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, model(pixels, training=False), atol=1e-5)
        np.testing.assert_allclose(found[1:2], graph(pixels[1:2]), atol=1e-5)
        patch = 4 if name == "swin" else 8
        whole = pixels[:, : height // patch * patch, : width // patch * patch]
        np.testing.assert_allclose(found, graph(whole), atol=1e-5)
        symbolic = model.get_layer("transformer").compute_output_spec(keras.KerasTensor(pixels.shape))
        assert tuple(symbolic.shape) == tuple(found.shape)


@pytest.mark.parametrize("name", ALL)
def test_every_weight_is_learnt_and_kept_by_saving(name, make_network, tmp_path):
    """KerasHub's own DINOv2 may lose a fine-tuned position table when saved; here it is an ordinary weight."""
    model, pixels = as_model(make_network(name)), photos(2, 40, 56)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(pixels, training=True) ** 3)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        variable.assign_sub(0.01 * tf.math.l2_normalize(tf.convert_to_tensor(gradient)))
    expected = model(pixels, training=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(pixels, training=False), expected)
    assert loaded.count_params() == model.count_params()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "name", ["vit", "dinov3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dinov2_registers", "swin"))]
)
def test_half_precision_stays_close(name, policy, make_network):
    pixels = photos(1, 56, 40)
    expected = np.asarray(as_model(make_network(name))(pixels, training=False))
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        found = as_model(make_network(name))(pixels, training=False)
    finally:
        keras.config.set_dtype_policy(previous)
    assert found.dtype.name == policy.removeprefix("mixed_")
    close = np.abs(np.asarray(tf.cast(found, tf.float32)) - expected)
    assert np.mean(close) < (0.02 if policy == "mixed_float16" else 0.1) * np.std(expected)


def test_another_network_is_refused(make_network):
    with pytest.raises(ValueError, match="ResNetBackbone is no plain vision transformer"):
        PatchTokens(make_network("resnet"))


@pytest.mark.slow
def test_jax_gives_the_same_tokens(make_network, tmp_path):
    pytest.importorskip("jax")
    pixels = photos(1, 40, 56)
    np.save(tmp_path / "pixels.npy", pixels)
    for name in ALL:
        model = as_model(make_network(name))
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", model(pixels, training=False))
    code = (
        "import sys, pathlib, keras, numpy as np; import tfretrieval.backbones\n"
        "folder = pathlib.Path(sys.argv[1]); pixels = np.load(folder / 'pixels.npy')\n"
        "for path in sorted(folder.glob('*.keras')):\n"
        "    found = keras.saving.load_model(path)(pixels, training=False)\n"
        "    np.testing.assert_allclose(np.asarray(found), np.load(path.with_suffix('.npy')), atol=1e-4)\n"
        "print(keras.backend.backend(), 'equal')\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "jax equal" in done.stdout
