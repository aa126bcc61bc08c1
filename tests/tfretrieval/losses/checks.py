"""What tests of losses share: random descriptors, and gradients of a second definition."""

import numpy as np
import tensorflow as tf


def random_units(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def distance(a, b):
    return float(np.sqrt(np.sum((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)))


def partners(labels, i):
    """Photos that match photo i, and those that do not."""
    matches = [j for j in range(len(labels)) if j != i and labels[j] == labels[i]]
    return matches, [j for j in range(len(labels)) if labels[j] != labels[i]]


def gradient(loss, descriptors):
    variable = tf.constant(descriptors)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = tf.reduce_sum(loss(variable))
    found = tape.gradient(value, variable)
    return np.zeros(variable.shape, np.float32) if found is None else found.numpy()


def numeric_gradient(loop, descriptors, step=1e-5):
    """Central differences of a float64 loop."""
    exact = np.asarray(descriptors, np.float64)
    found = np.zeros(exact.shape)
    for place in np.ndindex(exact.shape):
        moved = exact.copy()
        moved[place] += step
        above = np.sum(loop(moved))
        moved[place] -= 2 * step
        found[place] = (above - np.sum(loop(moved))) / (2 * step)
    return found


def assert_is_the_loop(loss, loop, descriptors, tolerance=2e-5):
    """Value and gradient of a float32 loss equal those of a float64 loop."""
    np.testing.assert_allclose(loss(descriptors), loop(descriptors.astype(np.float64)), rtol=tolerance, atol=1e-6)
    scale = max(1.0, np.abs(numeric := numeric_gradient(loop, descriptors)).max())
    np.testing.assert_allclose(gradient(loss, descriptors) / scale, numeric / scale, atol=5e-5)
