import numpy as np
import tensorflow as tf

from tfretrieval.layers.crow import crow


def test_by_hand():
    # Positions of strength 3 and 4: weights sqrt(3 / 5) and sqrt(4 / 5). Shares of positions 1 and 1/2: log 1.5, log 3.
    tokens = np.array([[[3.0, 0.0], [2.0, 2.0]]], np.float32)
    first = (3 * np.sqrt(3 / 5) + 2 * np.sqrt(4 / 5)) * np.log(1.5)
    second = 2 * np.sqrt(4 / 5) * np.log(3)
    np.testing.assert_allclose(crow(tokens), [[first, second]], rtol=1e-6)


def test_a_channel_without_activations_gives_0_and_leaves_the_others_alone():
    maps = np.random.default_rng(0).uniform(0.1, 2.0, (2, 4, 5, 3)).astype(np.float32)
    dead = np.concatenate([maps, np.zeros_like(maps[..., :1])], axis=-1)
    pooled = np.asarray(crow(dead))
    np.testing.assert_allclose(pooled[:, :3], crow(maps), rtol=1e-6)
    assert (pooled[:, 3] == 0).all()


def test_scaling_the_maps_scales_the_result():
    maps = np.random.default_rng(0).uniform(0.1, 2.0, (2, 4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(crow(maps * 1e20), np.asarray(crow(maps)) * 1e20, rtol=1e-5)


def test_signed_tokens_give_numbers():
    tokens = tf.constant(np.random.default_rng(0).normal(size=(2, 10, 4)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        pooled = crow(tokens)
    assert np.isfinite(pooled).all() and np.isfinite(tape.gradient(pooled, tokens)).all()
