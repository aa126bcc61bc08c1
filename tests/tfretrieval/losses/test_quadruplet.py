import numpy as np
import pytest

from tfretrieval.losses import TupleQuadruplet
from tfretrieval.losses.quadruplet import MARGIN, SECOND_MARGIN, tuple_quadruplet

from .checks import assert_is_the_loop, distance, random_units


def loop(tuples, margin=MARGIN, second_margin=SECOND_MARGIN):
    """Chen et al. 2017, equation 2, over all ordered choices of two negatives."""
    losses = []
    for query, positive, *negatives in tuples:
        match, terms = distance(query, positive) ** 2, []
        for k, near in enumerate(negatives):
            for other in negatives[:k] + negatives[k + 1 :]:
                first = max(0.0, match - distance(query, near) ** 2 + margin)
                terms.append(first + max(0.0, match - distance(other, near) ** 2 + second_margin))
        losses.append(np.mean(terms))
    return losses


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("margins", [{}, {"margin": 0.3, "second_margin": 1.5}])
def test_equals_the_loop_for_one_and_several_tuples(count, margins):
    tuples = random_units(count, 6, 3)
    assert max(loop(tuples, **margins)) > 0
    assert_is_the_loop(lambda x: tuple_quadruplet(x, **margins), lambda x: loop(x, **margins), tuples)


def test_by_hand():
    query, positive, near, far = [1, 0], [0, 1], [0.6, 0.8], [-1, 0]
    # d^2 = 2 to the positive, 0.8 and 4 to the negatives, 3.2 between them: (2 - 0.8 + 1 + 0) / 2 + 0
    tuples = np.array([[query, positive, near, far]], np.float32)
    np.testing.assert_allclose(tuple_quadruplet(tuples), [1.1], rtol=1e-6)
    np.testing.assert_allclose(tuple_quadruplet(tuples, second_margin=1.5), [1.4], rtol=1e-6)


def test_two_negatives_are_wanted():
    with pytest.raises(ValueError, match="takes two negatives of each tuple; tuples have 1"):
        tuple_quadruplet(random_units(2, 3, 4))


def test_keras_loss_is_the_mean_over_tuples():
    tuples = random_units(3, 5, 4)
    expected = np.mean(loop(tuples, 0.7, 0.2))
    assert float(TupleQuadruplet(0.7, 0.2)(np.arange(15), tuples)) == pytest.approx(expected, rel=1e-5)
