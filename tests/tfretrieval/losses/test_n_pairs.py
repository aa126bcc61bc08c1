import keras
import numpy as np
import pytest

from tfretrieval.losses import NPairs, SimilarityNPairs, pairs
from tfretrieval.losses.n_pairs import TEMPERATURE, n_pairs

from .checks import assert_is_the_loop, partners, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3]


def loop(rows, labels=LABELS, temperature=TEMPERATURE):
    losses = []
    for i in range(len(rows)):
        matches, others = partners(labels, i)
        for j in matches:
            differences = [(rows[i] @ rows[n] - rows[i] @ rows[j]) / temperature for n in others]
            losses.append(np.log(1 + np.sum(np.exp(differences))))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("temperature", [TEMPERATURE, 1.0])
def test_equals_the_loop(temperature):
    rows = random_units(9, 4)
    assert_is_the_loop(lambda x: n_pairs(x, LABELS, temperature), lambda x: loop(x, LABELS, temperature), rows)


def test_by_hand():
    rows = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    # Pair similarity 0.6; the other is 0 from the first and 0.8 from the second.
    expected = (np.log(1 + np.exp(-0.6)) + np.log(1 + np.exp(0.2))) / 2
    assert float(n_pairs(rows, [0, 0, 1], temperature=1.0)) == pytest.approx(expected, rel=1e-6)


def test_two_photos_of_each_instance_give_the_papers_loss():
    """Sohn 2016, equation 6, with the second photos as non-matches; here the first ones serve too."""
    rows, labels = random_units(6, 4), [0, 0, 1, 1, 2, 2]
    total = 0.0
    for anchor, positive in ((0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)):
        pushed = [rows[anchor] @ (rows[n] - rows[positive]) for n in range(6) if labels[n] != labels[anchor]]
        total += np.log(1 + np.sum(np.exp(pushed)))
    assert float(n_pairs(rows, labels, 1.0)) == pytest.approx(total / 6, rel=1e-5)


def test_photos_of_a_memory_count_as_those_of_the_batch():
    rows, labels = random_units(9, 4), np.array(LABELS)
    found = float(n_pairs(rows[:6], labels[:6], memory=pairs.Memory(rows[6:], labels[6:])))
    losses = []
    for i in range(6):
        matches, others = partners(LABELS, i)
        for j in matches:
            pushed = [(rows[i] @ (rows[n] - rows[j])) / TEMPERATURE for n in others]
            losses.append(np.log(1 + np.sum(np.exp(pushed))))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def cross_entropy_loop(similarities, shared):
    total = 0.0
    for row, counts in zip(similarities.astype(np.float64), shared, strict=True):
        for similarity, count in zip(row, counts, strict=True):
            total -= count / max(1, sum(counts)) * (similarity - np.log(np.sum(np.exp(row))))
    return total / len(similarities)


def test_given_similarities_with_one_label_and_with_several():
    similarities = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    same = [[int(a == b) for b in LABELS] for a in LABELS]
    classes = np.random.default_rng(1).integers(0, 2, (9, 4))
    classes[3] = 0
    common = [[sum(a * b) for b in classes] for a in classes]
    single, multiple = SimilarityNPairs(), SimilarityNPairs(multilabel=True)
    assert float(single(np.array(LABELS), similarities)) == pytest.approx(cross_entropy_loop(similarities, same))
    assert float(multiple(classes, similarities)) == pytest.approx(cross_entropy_loop(similarities, common))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(multiple))
    assert again.multilabel and again.get_config() == multiple.get_config()


def test_keras_loss_equals_the_function():
    rows = random_units(9, 4)
    assert float(NPairs(0.3)(np.array(LABELS), rows)) == pytest.approx(loop(rows, LABELS, 0.3), rel=1e-5)
