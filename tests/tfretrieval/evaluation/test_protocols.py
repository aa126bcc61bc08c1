"""Protocols against the definitions, written again here as loops over ranked lists."""

import math
from pathlib import Path

import numpy as np
import pytest

from tfretrieval.data.judgements import GRADES, QueryJudgement
from tfretrieval.errors import InputError
from tfretrieval.evaluation.evaluate import evaluate_conditions, evaluate_rankings
from tfretrieval.evaluation.protocols import (
    AVERAGE_PRECISIONS,
    FURTHER,
    PRECISIONS,
    PROTOCOLS,
    Condition,
    protocol_of,
)
from tfretrieval.search.ranking import Ranking, exact_ranking

GROUND_TRUTH = Path(__file__).parents[4] / "shared" / "data" / "benchmarks"
REVISITED = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}


def judgements_of(name):
    """The genuine ground truth, as judgements and the number of its photos."""
    from tfretrieval.data.restricted_pickle import read_plain_pickle

    path = GROUND_TRUTH / f"gnd_{name}.pkl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    content = read_plain_pickle(path, "a ground truth")
    judgements = tuple(QueryJudgement(*(tuple(query[grade]) for grade in GRADES)) for query in content["gnd"])
    return judgements, len(content["imlist"])


def walk(ranked, relevant, junk):
    """Goes down a ranking as the benchmark's program does: 0-based places of relevant photos, moved up by junk."""
    relevant, junk = set(relevant), set(junk)
    places, skipped = [], 0
    for place, row in enumerate(ranked):
        if row in relevant:
            places.append(place - skipped)
        if row in junk:
            skipped += 1
    return places


def area_by_trapezoids(places, count):
    """Area under the line through the precisions before and at each relevant photo, recall rising by 1 / count."""
    area = 0.0
    for before, place in enumerate(places):
        left = before / place if place else 1.0
        right = (before + 1) / (place + 1)
        area += (left + right) / 2 / count
    return area


def revisited_precision(places, k):
    """Precision of the first k, or of as many as reach to the last relevant photo."""
    if not places:
        return 0.0
    reach = min(places[-1] + 1, k)
    return sum(place + 1 <= reach for place in places) / reach


def expected(rankings, judgements, condition):
    """(AP of each query, mean P@1, P@5, P@10) under a condition of the revisited benchmarks."""
    right, left_out = REVISITED[condition]
    ap, precisions = [], []
    for ranked, judgement in zip(rankings, judgements, strict=True):
        relevant = [row for grade in right for row in getattr(judgement, grade)]
        if not relevant:
            ap.append(math.nan)
            continue
        places = walk(ranked, relevant, [row for grade in left_out for row in getattr(judgement, grade)])
        ap.append(area_by_trapezoids(places, len(relevant)))
        precisions.append([revisited_precision(places, k) for k in (1, 5, 10)])
    return np.array(ap), np.mean(precisions, axis=0)


def check_revisited(found, rankings, judgements):
    for name in REVISITED:
        ap, precisions = expected(rankings, judgements, name)
        condition = found.conditions[name]
        np.testing.assert_allclose(condition.ap, ap, rtol=0, atol=1e-12)
        assert condition.figures["map"] == pytest.approx(np.nanmean(ap), abs=1e-12)
        assert [condition.figures[f"mp@{k}"] for k in (1, 5, 10)] == pytest.approx(precisions, abs=1e-12)
        assert condition.queries == np.sum(~np.isnan(ap))
    assert found.main == "medium"
    assert found.map == found.conditions["medium"].figures["map"]


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
@pytest.mark.parametrize("part", range(4))
def test_random_rankings_of_the_genuine_ground_truth(name, part):
    judgements, count = judgements_of(name)
    for seed in range(25 * part, 25 * part + 25):  # with both benchmarks, 200 rankings
        rng = np.random.default_rng(seed)
        chosen = [judgements[query] for query in rng.permutation(70)[:7]]
        relevances = PROTOCOLS["revisited"].relevances(chosen, count)
        scores = rng.integers(0, 40, (7, count)) + 30 * np.array(
            [np.isin(np.arange(count), judgement.easy + judgement.hard + judgement.junk) for judgement in chosen]
        )
        full = np.argsort(-scores, axis=1, kind="stable").astype(np.int32)
        depth = [count, int(rng.integers(1, count)), int(rng.integers(1, 50))][seed % 3]
        ranking = Ranking(full[:, :depth], -np.sort(-scores, axis=1)[:, :depth].astype(np.float32))
        found = evaluate_rankings(ranking, relevances, PROTOCOLS["revisited"])
        check_revisited(found, full[:, :depth].tolist(), chosen)


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_tied_descriptors_of_the_genuine_ground_truth(name):
    judgements, count = judgements_of(name)
    rng = np.random.default_rng(5)
    database = rng.integers(-1, 2, (count, 6)).astype(np.float32)  # products are whole numbers, most of them tied
    queries = rng.integers(-1, 2, (70, 6)).astype(np.float32)
    found = evaluate_conditions(
        queries, database, PROTOCOLS["revisited"].relevances(judgements, count), PROTOCOLS["revisited"]
    )
    ranked = exact_ranking(queries, database).order.tolist()
    check_revisited(found, ranked, judgements)
    assert found.conditions["easy"].queries == {"roxford5k": 68, "rparis6k": 70}[name]


def oxford_program(ranked, good_and_ok, junk):
    """The Oxford benchmark's compute_ap: recall and precision after each photo that is not junk."""
    recall, precision, ap, found, seen = 0.0, 1.0, 0.0, 0, 0
    for name in ranked:
        if name in junk:
            continue
        found += name in good_and_ok
        seen += 1
        now = found / len(good_and_ok), found / seen
        ap += (now[0] - recall) * (precision + now[1]) / 2
        recall, precision = now
    return ap


def test_the_classic_benchmark_agrees_with_its_program():
    folder = GROUND_TRUTH / "oxford5k_gt"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    lists = {path.stem: path.read_text().split() for path in folder.glob("*.txt")}
    queries = sorted(name.removesuffix("_query") for name in lists if name.endswith("_query"))
    assert len(queries) == 55
    listed = {photo for name, photos in lists.items() if not name.endswith("_query") for photo in photos}
    photos = [*sorted(listed), *(f"other {number}" for number in range(3000))]
    row_of = {photo: row for row, photo in enumerate(photos)}
    rows = lambda name: tuple(row_of[photo] for photo in lists[name])  # noqa: E731
    judgements = [QueryJudgement(rows(f"{q}_good"), rows(f"{q}_ok"), rows(f"{q}_junk")) for q in queries]
    relevances = PROTOCOLS["oxford"].relevances(judgements, len(photos))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        order = np.stack([rng.permutation(len(photos)) for _ in queries]).astype(np.int32)
        order = order[:, : [len(photos), 100][seed % 2]]
        found = evaluate_rankings(
            Ranking(order, -np.arange(order.size, dtype=np.float32).reshape(order.shape)),
            relevances,
            PROTOCOLS["oxford"],
        )
        for query, name in enumerate(queries):
            right = set(lists[f"{name}_good"]) | set(lists[f"{name}_ok"])
            ap = oxford_program([photos[row] for row in order[query]], right, set(lists[f"{name}_junk"]))
            assert found.ap[query] == pytest.approx(ap, abs=1e-12)
        assert list(found.conditions) == ["all"]


def measured(ranked, judgement, protocol="revisited", condition="easy", database=20):
    ranking = Ranking(np.array([ranked], np.int32), -np.arange(len(ranked), dtype=np.float32)[None])
    relevances = PROTOCOLS[protocol].relevances([judgement], database)
    return evaluate_rankings(ranking, relevances, PROTOCOLS[protocol]).conditions[condition]


def test_edge_cases_of_the_published_program():
    """The values that the published program gives, by hand; where it stops with an error, 0 (or a named error)."""
    ten = list(range(10))
    one = measured(ten, QueryJudgement((1,)))
    assert (one.map, one.figures["mp@1"], one.figures["mp@5"]) == (0.25, 0, 0.5)
    twice = measured(ten, QueryJudgement((1, 1)))
    assert twice.map == 0.125  # found once, and counted twice in R
    both = measured(ten, QueryJudgement((1,), junk=(1,)))
    assert both.map == 0.25  # right, and not moved by its own entry
    # Both of two first photos right and junk: places 0 and 0, so (1 + 1) / 2 and (1 + 2 / 1) / 2 over 2.
    assert measured(ten, QueryJudgement((0, 1), junk=(0, 1))).map == pytest.approx(1.25)
    behind = measured(ten, QueryJudgement((3,), junk=(0, 1)))
    assert (behind.map, behind.figures["mp@10"]) == (0.25, 0.5)
    junk_twice = measured(ten, QueryJudgement((3,), junk=(0, 0, 1)))
    assert junk_twice.map == 0.25
    lost = measured(ten, QueryJudgement((15,)))
    assert (lost.map, lost.figures["mp@1"], lost.figures["mp@10"]) == (0, 0, 0)
    truncated = measured(ten, QueryJudgement((1, 3, 6, 15)))
    assert truncated.map == pytest.approx((0.25 + (1 / 3 + 2 / 4) / 2 + (2 / 6 + 3 / 7) / 2) / 4)
    assert truncated.map == pytest.approx(0.2619, abs=5e-5)
    last_counts = measured(ten, QueryJudgement((0, 1)))
    assert [last_counts.figures[f"mp@{k}"] for k in (1, 5, 10)] == [1, 1, 1]


def test_the_classic_program_takes_lists_as_sets():
    ten = list(range(10))
    assert measured(ten, QueryJudgement((1, 1)), "oxford", "all").map == 0.25
    # Row 0 is skipped as junk, and is one of the two that count: row 1 comes first, 1 / 2 of the area.
    assert measured(ten, QueryJudgement((0,), (1,), (0,)), "oxford", "all").map == 0.5
    assert oxford_program(ten, {0, 1}, {0}) == 0.5


def test_queries_without_relevant_photos_leave_the_means():
    judgements = [QueryJudgement((0,), (1,)), QueryJudgement((), (2,)), QueryJudgement((), (), (3,))]
    ranking = Ranking(np.array([[1, 0], [2, 0], [3, 0]], np.int32), np.array([[2, 1]] * 3, np.float32))
    found = evaluate_rankings(ranking, PROTOCOLS["revisited"].relevances(judgements, 4), PROTOCOLS["revisited"])
    assert [found.conditions[name].queries for name in REVISITED] == [1, 2, 2]
    assert found.conditions["easy"].map == 1  # the hard photo before it is junk
    assert found.conditions["hard"].map == 1
    assert np.isnan(found.conditions["easy"].ap).tolist() == [False, True, True]
    assert found.queries_without_relevant == 1


def test_a_benchmark_without_relevant_photos_is_refused_by_name():
    with pytest.raises(InputError, match="none of the 2 queries has a relevant photo under the protocol 'revisited'"):
        PROTOCOLS["revisited"].relevances([QueryJudgement(()), QueryJudgement((), (), (1,))], 5)


def test_groups_of_queries_are_conditions():
    judgements = [
        QueryJudgement((0,), group="strong"),
        QueryJudgement((1,), group="crops_10"),
        QueryJudgement((2,), group="strong"),
    ]
    order = np.array([[0, 1, 2]] * 3, np.int32)
    ranking = Ranking(order, -order.astype(np.float32))
    found = evaluate_rankings(ranking, PROTOCOLS["copydays"].relevances(judgements, 3), PROTOCOLS["copydays"])
    assert list(found.conditions) == ["strong", "crops_10"]
    assert found.main == "strong"
    assert [condition.queries for condition in found.conditions.values()] == [2, 1]
    assert found.map == pytest.approx((1 + (0 + 1 / 3) / 2) / 2)
    public = [QueryJudgement((0,), group="public"), QueryJudgement((1, 2), group="private")]
    of_two = evaluate_rankings(
        Ranking(order[:2], -order[:2].astype(np.float32)),
        PROTOCOLS["landmarks_retrieval"].relevances(public, 3),
        PROTOCOLS["landmarks_retrieval"],
    )
    assert {name: one.map for name, one in of_two.conditions.items()} == {
        "all": pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2),
        "public": 1.0,
        "private": pytest.approx((1 / 2 + 2 / 3) / 2),
    }


def test_landmark_queries_are_measured_on_their_first_hundred():
    order = np.arange(300, dtype=np.int32)[None]
    relevant = tuple(range(0, 300, 2))  # 150 of them; 50 among the first hundred
    relevances = PROTOCOLS["landmarks_retrieval"].relevances([QueryJudgement(relevant)], 300)
    found = evaluate_rankings(Ranking(order, -order.astype(np.float32)), relevances, PROTOCOLS["landmarks_retrieval"])
    assert found.map == pytest.approx(sum((j + 1) / (2 * j + 1) for j in range(50)) / 100)


def test_four_right_photos_are_the_best_ns_score():
    order = np.array([[0, 1, 4, 2, 3], [4, 5, 6, 7, 0]], np.int32)
    judgements = [QueryJudgement((0, 1, 2, 3)), QueryJudgement((4, 5, 6, 7))]
    found = evaluate_rankings(
        Ranking(order, -order.astype(np.float32)), PROTOCOLS["ukbench"].relevances(judgements, 8), PROTOCOLS["ukbench"]
    )
    assert found.conditions["all"].figures["ns_score"] == 3.5


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_names_what_exists(name):
    protocol = PROTOCOLS[name]
    assert protocol.name == name
    assert protocol.ap in AVERAGE_PRECISIONS
    assert protocol.precision in PRECISIONS
    assert set(protocol.further) <= set(FURTHER)
    assert protocol.ap_at is None or protocol.ap == "rectangular"
    assert protocol.own_photo in ("absent", "junk", "relevant")
    conditions = protocol.conditions_of(("strong", "", "strong"))
    assert protocol.main in [condition.name for condition in conditions]
    for condition in conditions:
        assert set(condition.relevant + condition.junk) <= set(GRADES)


def test_conditions_of_the_revisited_benchmarks_split_the_grades():
    for condition in PROTOCOLS["revisited"].conditions:
        if condition.name != "medium":
            assert sorted(condition.relevant + condition.junk) == sorted(GRADES)
    assert PROTOCOLS["revisited"].main_of(("easy",)) == "easy"
    assert Condition("x", group="g").group == "g"


def test_an_unknown_protocol_is_named():
    with pytest.raises(InputError, match="the benchmark names the protocol 'oxbridge'; one of revisited, oxford"):
        protocol_of("oxbridge", "the benchmark")
