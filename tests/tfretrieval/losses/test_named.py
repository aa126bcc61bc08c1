import numpy as np
import pytest

from tfretrieval import losses
from tfretrieval.errors import InputError
from tfretrieval.losses.named import NamedLoss


def units(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", [name for name in losses.LOSSES if "second_order" not in name])
def test_every_name_makes_its_loss(name):
    named = NamedLoss(name)
    assert type(named.make()) is losses.LOSSES[name]
    assert named.uses_tuples == (name in losses.TUPLE_LOSSES)


def test_margin_temperature_and_options_reach_the_losses_that_have_them():
    made = NamedLoss("contrastive+lrml", margin=0.6, options="step=0.125,order_weight=0").make()
    contrastive, lrml = made.parts
    own = lrml.get_config()
    assert (contrastive.margin, own["margin"], own["step"], own["order_weight"]) == (0.6, 0.6, 0.125, 0)
    assert NamedLoss("smooth_ap", temperature=0.5).make().temperature == 0.5
    assert NamedLoss("triplet", options="distance_metric=angular").make().distance_metric == "angular"


def test_a_regulariser_has_its_own_weight_unless_one_is_given():
    assert NamedLoss("triplet+second_order_similarity").make().weights == [1.0, 10.0]
    assert NamedLoss("triplet+second_order_similarity", weights="1+3").make().weights == [1.0, 3.0]


def test_classification_joins_ranking_of_tuples_over_all_their_photos():
    named = NamedLoss("softmax+contrastive", weights="2+1")
    assert named.uses_tuples
    joined = named.make()
    joined.build(6, 8, 0)
    descriptors, labels = units(3, 4, 8), np.arange(12) % 6
    classify, rank = losses.Softmax(), losses.TupleContrastive()
    classify.build(6, 8, 0)
    expected = 2 * float(classify(labels, descriptors.reshape(12, 8))) + float(rank(labels, descriptors))
    assert float(joined(labels, descriptors)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("joint", "form"), [("learned", "single"), ("single", "single"), ("uncertainty", "uncertainty")]
)
def test_a_learned_balance_is_a_joint_loss(joint, form):
    made = NamedLoss("arcface+contrastive", joint=joint).make()
    assert isinstance(made, losses.JointLoss) and made.form == form


def test_a_memory_wraps_the_losses_over_pairs_and_leaves_classification():
    made = NamedLoss("multi_similarity+softmax", memory=32, memory_start=4).make()
    assert isinstance(made.parts[0], losses.CrossBatchMemory) and isinstance(made.parts[1], losses.Softmax)
    assert (made.parts[0].size, made.parts[0].start) == (32, 4)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "contrast"}, "--loss=contrast is unknown; one of contrastive"),
        ({"loss": "contrastive+"}, "--loss= is unknown"),
        ({"loss": "second_order_similarity"}, "alone draws all descriptors to one point"),
        ({"loss": "softmax", "margin": 0.3}, "--margin was given, and --loss=softmax has no margin"),
        ({"loss": "triplet", "margin": 0.0}, "--margin=0.0; more than 0"),
        ({"loss": "triplet", "temperature": 1.0}, "has no temperature"),
        ({"loss": "triplet", "options": "bins=3"}, "bins is no option of triplet; its options are .*distance_metric"),
        ({"loss": "triplet", "options": "distance_metric"}, "'distance_metric' is not name=value"),
        ({"loss": "triplet", "options": "distance_metric=cosine"}, "--loss=triplet with .*cosine"),
        ({"loss": "contrastive", "joint": "learned"}, "--joint=learned balances losses, and --loss=contrastive is one"),
        ({"loss": "softmax+contrastive", "joint": "lambda"}, "--joint=lambda: .* drives lambda to 0 or 1"),
        ({"loss": "softmax+contrastive", "joint": "mean"}, "--joint=mean is unknown"),
        ({"loss": "softmax", "memory": 5}, "--memory=5 was given, and --loss=softmax compares no photos"),
        ({"loss": "softmax+contrastive", "weights": "1"}, "--loss_weights=1; 2 numbers above 0"),
        ({"loss": "softmax+contrastive", "weights": "1+x"}, "--loss_weights=1[+]x; 2 numbers"),
    ],
)
def test_what_does_not_fit_is_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        NamedLoss(**settings).make()
