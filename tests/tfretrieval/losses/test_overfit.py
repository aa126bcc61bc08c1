"""Every loss of the registry brings eight instances of four photos each to a perfect order, on a small network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval import losses

INSTANCES, PHOTOS, STEPS, NEGATIVES = 8, 4, 150, 5
# Second-order similarity does not tell instances apart by itself: it is added to a first-order loss, ten times its
# weight in SOLAR (Ng et al., ECCV 2020).
ADDED_TO = {"second_order_similarity": "triplet", "batch_second_order_similarity": "batch_hard_triplet"}
LABELS = np.repeat(np.arange(INSTANCES), PHOTOS)


def photos():
    """Each instance is a faint pattern under the noise of each photo."""
    rng = np.random.default_rng(0)
    patterns = np.repeat(rng.normal(size=(INSTANCES, 8, 8, 3)), PHOTOS, axis=0)
    return (0.35 * patterns + rng.normal(size=patterns.shape)).astype(np.float32)


def network():
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(32),
            layers.UnitNormalization(),
        ]
    )


def mean_average_precision(descriptors):
    """Of each photo as a query against all others."""
    similarity, precisions = descriptors @ descriptors.T, []
    for query in range(len(LABELS)):
        order = [j for j in np.argsort(-similarity[query]) if j != query]
        ranks = np.flatnonzero(LABELS[order] == LABELS[query])
        precisions.append(np.mean(np.arange(1, PHOTOS) / (ranks + 1)))
    return np.mean(precisions)


def tuples(descriptors):
    """Rows of one tuple for each photo: itself, its farthest match and its nearest photos of other instances."""
    similarity, rows = descriptors @ descriptors.T, []
    for query in range(len(LABELS)):
        matches = np.flatnonzero((LABELS[query] == LABELS) & (np.arange(len(LABELS)) != query))
        others = np.flatnonzero(LABELS[query] != LABELS)
        positive = matches[np.argmin(similarity[query, matches])]
        rows.append([query, positive, *others[np.argsort(-similarity[query, others])[:NEGATIVES]]])
    return np.array(rows)


def trained(loss, takes_tuples):
    """Returns mAP before training, and the steps until it is 1."""
    model, inputs = network(), photos()
    if hasattr(loss, "build"):
        loss.build(instances=INSTANCES, dimension=32, seed=0)
    # What a loss owns is trained faster, as `TrainingConfig.loss_learning_rate` has it.
    groups = [(model.trainable_variables, 4e-3), (list(getattr(loss, "trainable_variables", [])), 1e-2)]
    groups = [(variables, keras.optimizers.Adam(rate)) for variables, rate in groups if variables]
    for variables, optimizer in groups:
        optimizer.build(variables)

    @tf.function
    def step(rows):
        with tf.GradientTape() as tape:
            descriptors = model(inputs)
            chosen = tf.gather(descriptors, rows) if takes_tuples else descriptors
            value = loss(tf.reshape(tf.gather(LABELS, rows), [-1]), chosen)
        gradients = tape.gradient(value, [[variable.value for variable in variables] for variables, _ in groups])
        for own, (variables, optimizer) in zip(gradients, groups, strict=True):
            optimizer.apply(own, variables)
        return descriptors

    descriptors, first = np.asarray(model(inputs)), None
    for done in range(STEPS):
        found = mean_average_precision(descriptors)
        first = found if first is None else first
        if found == 1:
            return first, done
        step(tf.constant(tuples(descriptors) if takes_tuples else np.arange(len(LABELS))))
        descriptors = np.asarray(model(inputs))
    raise AssertionError(f"mAP is {mean_average_precision(descriptors):.3f} after {STEPS} steps, from {first:.3f}")


@pytest.mark.slow
@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_overfits(name):
    loss = losses.LOSSES[name]()
    if name in ADDED_TO:
        loss = losses.WeightedSum([losses.LOSSES[ADDED_TO[name]](), loss], [1.0, 10.0])
    first, steps = trained(loss, name in losses.TUPLE_LOSSES)
    assert first < 0.5 and 0 < steps < STEPS


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fixed", "single", "uncertainty"])
def test_joint_losses_overfit(form):
    parts = [losses.PhotosOfTuples(losses.ArcFace(scale=16.0, margin=0.1)), losses.TupleContrastive()]
    first, steps = trained(losses.JointLoss(parts, [1.0, 1.0], form), True)
    assert first < 0.5 and 0 < steps < STEPS


@pytest.mark.slow
def test_a_loss_with_a_memory_overfits():
    first, steps = trained(losses.CrossBatchMemory(losses.MultiSimilarity(), size=64, start=10), False)
    assert first < 0.5 and 0 < steps < STEPS
