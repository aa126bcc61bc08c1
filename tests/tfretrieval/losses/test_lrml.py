import keras
import numpy as np
import pytest

from tfretrieval.losses import LRML, TupleContrastive
from tfretrieval.losses.contrastive import tuple_contrastive
from tfretrieval.losses.lrml import lrml

from .checks import assert_is_the_loop, distance, gradient, random_units


def loop(tuples, weights_of=None, margin=0.85, step=0.05, positive_margin=None, sharpness=0.0, **options):
    """papers.md section 5.4, with the weights of `weights_of` (constants of the gradient)."""
    order_weight, order_margin = options.get("order_weight", 0.1), options.get("order_margin", step)
    fixed, losses = tuples if weights_of is None else weights_of, []
    for t, (query, positive, *negatives) in enumerate(tuples):
        order = sorted(range(len(negatives)), key=lambda n: distance(fixed[t][0], fixed[t][2 + n]))
        if options.get("negatives") == "least_similar":
            order = order[len(order) - options.get("kept", 5) :]
        near = [distance(query, negatives[n]) for n in order]
        targets = [margin + rank * step for rank in range(len(order))]
        inside = [r for r in range(len(order)) if near[r] < targets[r]]
        raised = {r: np.exp(sharpness * (targets[r] - distance(fixed[t][0], fixed[t][2 + order[r]]))) for r in inside}
        loss = (
            0.5
            * max(0.0, distance(query, positive) - margin + (margin if positive_margin is None else positive_margin))
            ** 2
        )
        for r in inside:
            weight = raised[r] * len(inside) / sum(raised.values())
            loss += 0.5 * weight * (targets[r] - near[r]) ** 2
        for r in range(len(near)):
            for s in range(r + 1, len(near)):
                loss += order_weight * max(0.0, near[r] - near[s] + order_margin)
        losses.append(loss)
    return losses


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"margin": 1.4, "step": 0.2},
        {"margin": 1.4, "positive_margin": 0.5, "order_weight": 0.0},
        {"margin": 1.3, "sharpness": 4.0, "order_weight": 2.0, "order_margin": 0.3},
        {"margin": 1.5, "negatives": "least_similar", "kept": 3},
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_equals_the_loop_for_one_and_several_tuples(options, count):
    tuples = random_units(count, 7, 4, seed=3)
    assert_is_the_loop(lambda x: lrml(x, **options), lambda x: loop(x, tuples, **options), tuples)


def test_reduces_to_the_contrastive_loss():
    tuples = random_units(4, 7, 3)
    options = {"margin": 1.1, "step": 0.0, "order_weight": 0.0, "positive_margin": 1.1}
    np.testing.assert_allclose(lrml(tuples, **options), tuple_contrastive(tuples, 1.1), rtol=1e-6)
    of_contrastive = gradient(lambda x: tuple_contrastive(x, 1.1), tuples)
    np.testing.assert_allclose(gradient(lambda x: lrml(x, **options), tuples), of_contrastive, atol=1e-6)
    found = LRML(step=0.0, order_weight=0.0)(np.arange(28), tuples)
    assert float(found) == pytest.approx(float(TupleContrastive()(np.arange(28), tuples)))


def test_by_hand():
    angles = np.radians([0, 60, 90, 30, 60])  # the negatives, at 90, 30 and 60 degrees, are not in order
    tuples = np.stack([np.cos(angles), np.sin(angles)], axis=1)[None].astype(np.float32)
    chord = lambda degrees: 2 * np.sin(np.radians(degrees / 2))  # noqa: E731
    expected = 0.5 * 1.0**2  # the positive, at distance 1
    expected += 0.5 * ((0.9 - chord(30)) ** 2 + (1.1 - chord(60)) ** 2)  # 90 degrees is beyond 1.3
    gaps = [chord(60) - chord(30), chord(90) - chord(30), chord(90) - chord(60)]
    expected += 0.5 * sum(max(0, 0.45 - gap) for gap in gaps)
    found = lrml(tuples, margin=0.9, step=0.2, order_weight=0.5, order_margin=0.45)
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_the_order_in_which_negatives_come_does_not_matter():
    tuples = random_units(2, 7, 4)
    np.testing.assert_allclose(lrml(tuples[:, [0, 1, 6, 3, 5, 2, 4]]), lrml(tuples), rtol=1e-6)


def test_both_readings_of_the_bottom_five_agree_on_five_negatives():
    five, eight = random_units(3, 7, 4), random_units(3, 10, 4)
    np.testing.assert_array_equal(lrml(five, negatives="least_similar"), lrml(five))
    far = np.stack(
        [
            tuples[[0, 1, *(2 + np.argsort([distance(tuples[0], negative) for negative in tuples[2:]])[3:])]]
            for tuples in eight
        ]
    )
    np.testing.assert_allclose(lrml(eight, negatives="least_similar"), lrml(far), rtol=1e-6)
    assert not np.allclose(lrml(eight), lrml(far))


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="negatives='bottom' is unknown; one of mined, least_similar is wanted"):
        LRML(negatives="bottom")
    with pytest.raises(ValueError, match=r"positive_margin=0.9; more than 0 and at most margin=0.85 is wanted"):
        LRML(positive_margin=0.9)
    with pytest.raises(ValueError, match="negatives=least_similar takes 5 of each tuple's; tuples have 4"):
        lrml(random_units(2, 6, 3), negatives="least_similar")


def test_configuration_survives_a_round_trip():
    loss = LRML(0.7, 0.1, 0.5, 2.0, 0.3, 0.2, "least_similar", 3, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    tuples = random_units(2, 7, 4)
    assert again.get_config() == loss.get_config()
    assert float(again(np.arange(14), tuples)) == float(loss(np.arange(14), tuples))
