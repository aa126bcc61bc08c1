import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import BatchSemiHardTriplet, distances, pairs
from tfretrieval.losses.semi_hard_triplet import MARGIN, batch_semi_hard_triplet, semi_hard_distances

from .checks import assert_is_the_loop, distance, gradient, partners, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3]


def loop(rows, labels=LABELS, margin=MARGIN, power=2):
    """FaceNet's semi-hard triplets; the farthest other photo where none is farther than the match."""
    losses = []
    for i, row in enumerate(rows):
        matches, others = ([distance(row, rows[j]) ** power for j in found] for found in partners(labels, i))
        for match in matches if others else []:
            farther = [other for other in others if other > match]
            losses.append(max(0.0, match - (min(farther) if farther else max(others)) + margin))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("margin", [MARGIN, 1.0])
@pytest.mark.parametrize(("metric", "power"), [("L2", 1), ("squared-L2", 2)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_loop(margin, metric, power, seed):
    rows = random_units(9, 4, seed=seed)
    assert loop(rows, LABELS, margin, power) > 0
    assert_is_the_loop(
        lambda x: batch_semi_hard_triplet(x, LABELS, margin, metric),
        lambda x: loop(x, LABELS, margin, power),
        rows,
    )


def test_by_hand():
    angles = np.radians([0, 20, 10, 30, 90])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    far = lambda degrees: 2 - 2 * np.cos(np.radians(degrees))  # noqa: E731
    # The pair of 0 and 20 degrees: from 0 the next other is at 30; from 20, those at 10 and 30 are nearer, 90 is next.
    expected = (far(20) - far(30) + 0.3) + max(0, far(20) - far(70) + 0.3)
    assert float(batch_semi_hard_triplet(rows, [0, 0, 1, 2, 3], 0.3)) == pytest.approx(expected / 2, rel=1e-5)
    # Without the one at 90 none is farther than the match, and the farthest of the nearer ones serves.
    expected = (far(20) - far(30) + 0.3) + (far(20) - far(10) + 0.3)
    assert float(batch_semi_hard_triplet(rows[:4], [0, 0, 1, 2], 0.3)) == pytest.approx(expected / 2, rel=1e-5)


def test_rows_wider_than_the_batch_are_those_of_a_memory():
    rows, kept = random_units(6, 4), random_units(5, 4, seed=1)
    labels, kept_labels = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 5, 6, -1])
    found = float(batch_semi_hard_triplet(rows, labels, 1.0, memory=pairs.Memory(kept, kept_labels)))
    losses = []
    columns, column_labels = np.concatenate([rows, kept[:4]]), np.concatenate([labels, kept_labels[:4]])
    for i in range(6):
        to = [distance(rows[i], column) ** 2 for column in columns]
        matches, others = partners(column_labels, i)
        for j in matches:
            farther = [to[n] for n in others if to[n] > to[j]]
            losses.append(max(0, to[j] - (min(farther) if farther else max(to[n] for n in others)) + 1.0))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_photos_exactly_as_far_share_the_gradient_and_others_get_none():
    found = tf.constant([[0.0, 0.2, 0.5, 0.5, 0.7, 0.7]])
    other = np.array([[0, 0, 1, 1, 0, 1]], np.float32)
    np.testing.assert_allclose(semi_hard_distances(found, other), [[0.5, 0.5, 0.7, 0.7, 0.7, 0.7]])
    of_first_two = gradient(lambda x: semi_hard_distances(x, other)[:, :2], found)
    np.testing.assert_allclose(of_first_two, [[0, 0, 1, 1, 0, 0]])
    # tensorflow-addons gives some of this to the match that is exactly as far.
    of_third = gradient(lambda x: semi_hard_distances(x, other)[:, 2], found)
    np.testing.assert_allclose(of_third, [[0, 0, 0, 0, 0, 1]])


def test_pairs_without_a_non_match_count_only_on_request():
    rows = random_units(3, 4)
    mean = np.mean([distance(rows[i], rows[j]) ** 2 for i, j in ((0, 1), (0, 2), (1, 2))])
    assert float(batch_semi_hard_triplet(rows, [4, 4, 4], 0.3)) == 0
    assert float(batch_semi_hard_triplet(rows, [4, 4, 4], 0.3, complete_only=False)) == pytest.approx(mean + 0.3)


def test_memory_grows_with_the_square_of_the_batch():
    rows, labels = random_units(1800, 16), np.repeat(np.arange(450), 4)  # FaceNet's batch; all triplets are 23 GB
    found = float(batch_semi_hard_triplet(rows, labels))
    assert 0 < found < 4


def test_runs_in_a_graph_with_a_batch_of_unknown_size():
    loss = BatchSemiHardTriplet(0.4, "L2")
    graph = tf.function(loss, input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 4])])
    rows = random_units(9, 4)
    expected = float(batch_semi_hard_triplet(rows, LABELS, 0.4, "L2"))
    assert float(graph(np.array(LABELS), rows)) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(loop(rows, LABELS, 0.4, 1), rel=1e-5)
    assert distances.METRICS[0] == loss.distance_metric
