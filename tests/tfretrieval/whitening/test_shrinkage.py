import numpy as np
import pytest

from tfretrieval import whitening
from tfretrieval.whitening import shrinkage
from tfretrieval.whitening.scatters import total_scatter
from tfretrieval.whitening.shrinkage import CANDIDATES, choose_shrinkage


def instances(count, photos, width, signal, noise, seed=0):
    """Unit descriptors whose instances differ with the standard deviations `signal`, their photos with `noise`."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), photos)
    vectors = (rng.normal(size=(count, width)) * signal)[labels] + rng.normal(size=(len(labels), width)) * noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def mean_ap(fitted, vectors, labels):
    """mAP of photos searching among the others, by counting."""
    found = fitted.apply(vectors) if fitted else vectors
    aps = []
    for query, label in enumerate(labels):
        others = np.delete(np.arange(len(labels)), query)
        right = labels[others[np.argsort(-(found[others] @ found[query]))]] == label
        aps.append(np.mean((np.cumsum(right) / np.arange(1, len(right) + 1))[right]))
    return np.mean(aps)


@pytest.fixture(scope="module")
def few():
    """As many descriptors as dimensions; the noise is strongest where instances do not differ."""
    width = 120
    signal, noise = np.r_[np.ones(40), np.full(80, 0.01)], np.r_[np.full(40, 0.6), np.full(20, 2.0), np.full(60, 0.02)]
    return instances(24, 5, width, signal, noise), instances(40, 5, width, signal, noise, seed=1)


@pytest.mark.parametrize("method", ["discriminative", "lw"])
def test_the_chosen_shrinkage_helps_unseen_instances_where_the_plain_method_fails(few, method):
    (vectors, labels), unseen = few
    chosen = whitening.fit(method, vectors, labels)
    plain = whitening.fit(method, vectors, labels, shrinkage=0.0)
    values = {s: mean_ap(whitening.fit(method, vectors, labels, shrinkage=s), *unseen) for s in CANDIDATES}
    found = mean_ap(chosen, *unseen)
    assert found > mean_ap(None, *unseen) + 0.05
    assert found > mean_ap(plain, *unseen) + 0.05
    assert found > max(values.values()) - 0.05
    assert chosen.facts["held_out"].keys() == {*map(str, CANDIDATES), "none"}


def test_no_shrinkage_at_all_is_near_what_is_chosen_where_samples_abound():
    signal, noise = np.ones(8), np.r_[np.full(4, 0.1), np.full(4, 3.0)]
    vectors, labels = instances(200, 5, 8, signal, noise)
    fitted = whitening.fit("lw", vectors, labels)
    assert fitted.facts["shrinkage"] < shrinkage.SHRINKAGE
    assert "on held-out instances" in fitted.facts["shrinkage_because"]


def test_held_out_map_is_that_of_fits_to_the_other_instances():
    vectors, labels = instances(20, 4, 10, np.ones(10), np.linspace(0.2, 2, 10))
    found = choose_shrinkage(vectors, labels, lambda rows: total_scatter(vectors[rows]), seed=3)
    folds = np.array_split(np.random.default_rng(3).permutation(np.arange(20)), 5)
    for candidate in (0.01, 0.3, 10.0):
        values = []
        for fold in folds:
            held = np.isin(labels, fold)
            values.append(mean_ap(whitening.fit_pca(vectors[~held], 0, candidate), vectors[held], labels[held]))
        assert found.held_out[str(candidate)] == pytest.approx(np.mean(values), abs=1e-3)
    none = np.mean([mean_ap(None, vectors[np.isin(labels, fold)], labels[np.isin(labels, fold)]) for fold in folds])
    assert found.held_out["none"] == pytest.approx(none, abs=1e-6)


def scores(best, by):
    """mAP of 20 instances by candidate: 0.8 and, at `best`, more by `by` for each instance."""
    table = np.full((20, len(CANDIDATES) + 1), 0.8)
    table[:, CANDIDATES.index(best)] += by
    return table


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (scores(3.0, 0.05), 3.0),
        (scores(3.0, 0.001), 0.3),  # not worth it
        (scores(3.0, np.r_[np.full(10, 0.20), np.full(10, -0.16)]), 0.3),  # 0.02 on average, 0.04 its error
        (scores(0.1, 0.05), 0.1),
    ],
)
def test_the_default_is_left_only_for_what_is_surely_better(table, expected):
    choice = shrinkage._choice(table)
    assert choice.shrinkage == expected
    assert ("near the best" in choice.reason) == (expected == 0.3)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(None, "instances to hold out are not known"), (np.arange(40) // 5, "fewer than 10 instances have two photos")],
)
def test_without_instances_to_hold_out_the_default_is_taken_and_why_is_told(labels, reason):
    vectors = instances(8, 5, 6, 1.0, 1.0)[0]
    fitted = whitening.fit("pca", vectors, labels)
    assert fitted.facts["shrinkage"] == whitening.SHRINKAGE and fitted.facts["held_out"] == {}
    assert any(reason in line for line in whitening.summary_lines(fitted.facts))


def test_photos_searched_among_are_bounded(monkeypatch):
    monkeypatch.setattr(shrinkage, "_HELD_OUT", 12)
    vectors, labels = instances(60, 4, 6, np.ones(6), np.ones(6))
    sizes = []
    evaluate = shrinkage.evaluate
    monkeypatch.setattr(shrinkage, "evaluate", lambda q, *rest: (sizes.append(len(q)), evaluate(q, *rest))[1])
    choice = choose_shrinkage(vectors, labels, lambda rows: total_scatter(vectors[rows]))
    assert set(sizes) == {12} and 0 < choice.held_out["none"] <= 1


def test_pairs_tell_the_instances_that_are_held_out():
    vectors, labels = instances(30, 4, 10, np.ones(10), np.linspace(0.2, 2, 10))
    pairs = whitening.pairs_of(labels)
    by_pairs = whitening.fit("lw", vectors, pairs=pairs)
    by_labels = whitening.fit("lw", vectors, labels)
    np.testing.assert_array_equal(by_pairs.projection, by_labels.projection)
    assert by_pairs.facts["held_out"] and by_pairs.facts["pairs"] == 120


def test_a_whitening_that_loses_on_held_out_photos_is_told():
    facts = {"method": "pca", "samples": 900, "dimensions": {"from": 8, "to": 8}, "shrinkage": 0.3}
    facts |= {"shrinkage_because": "chosen", "held_out": {"0.3": 0.70, "none": 0.72}}
    assert whitening.summary_lines(facts)[-1].startswith("note: held-out photos are found better without")
    assert len(whitening.summary_lines({**facts, "held_out": {"0.3": 0.72, "none": 0.72}})) == 2
