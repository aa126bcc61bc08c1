import json

import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.evaluation.two_runs import MeasuredRun, check_comparable, compare_runs, comparison_lines

FIRST, SECOND = [0.5, 0.25, None], [0.75, 0.25, None]


def content(aps, **changes):
    """A result of two conditions, whose second has AP 0.1 everywhere."""
    protocol = {"benchmark": "tiny", "name": "revisited", "ap": "trapezoidal", "relevance": "judged", "valid": True}
    figures = {"map": 0.4, "queries": 2}
    result = {
        "data": {"benchmark": "ab" * 32, "ground_truth": "cd" * 32, "queries_model": "m", "database_model": "m"},
        "protocol": protocol,
        "database": 9,
        "condition": "medium",
        "protocols": {"medium": figures, "hard": figures},
        "per_query": [
            {"id": f"q{at}", "ap": ap, "aps": {"medium": ap, "hard": 0.1}, "first_relevant_rank": 1}
            for at, ap in enumerate(aps)
        ],
    }
    for name, value in changes.items():
        where = next(part for part in (result["protocol"], result["data"], result) if name in part or part is result)
        where[name] = value
    return result


@pytest.fixture
def save(tmp_path):
    def saved(name, made):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(made))
        return MeasuredRun.load(tmp_path / name)

    return saved


def test_two_results_are_compared_query_by_query(save):
    first, second = save("a", content(FIRST)), save("b", content(SECOND))
    assert check_comparable(first, second) == []
    found = compare_runs(first, second)
    assert found["condition"] == "medium"
    assert found["paired"]["difference"] == 0.125
    assert (found["paired"]["queries"], found["paired"]["better"], found["paired"]["equal"]) == (2, 1, 1)
    assert [query["id"] for query in found["per_query"]] == ["q0", "q1"]
    assert found["per_query"][0] == {
        "id": "q0",
        "first": 0.5,
        "second": 0.75,
        "difference": 0.25,
        "first_rank": 1,
        "second_rank": 1,
    }
    assert found["first"]["model"] == {"queries": "m", "database": "m"}
    assert "mAP 0.3750 -> 0.5000 over 2 queries" in comparison_lines(found)[0]
    assert "p = 1 (exact permutation test)" in comparison_lines(found)[1]
    json.dumps(found, allow_nan=False)


def test_a_condition_can_be_chosen(save):
    runs = save("a", content(FIRST)), save("b", content(SECOND))
    assert compare_runs(*runs, "hard")["paired"]["difference"] == 0
    with pytest.raises(InputError, match=r"--condition=easy was not measured .* one of medium, hard is wanted"):
        compare_runs(*runs, "easy")


DIFFERENT = {
    "ground truth": {"ground_truth": "ef" * 32},
    "protocol's ap": {"ap": "rectangular"},
    "protocol's name": {"name": "oxford"},
    "protocol's benchmark": {"benchmark": "other"},
    "number of database photos": {"database": 10},
    "conditions": {"protocols": {"medium": {}, "easy": {}}},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_results_of_different_kinds_are_refused_in_one_sentence(what, save):
    made = content(SECOND, **DIFFERENT[what])
    for query in made["per_query"]:
        query["aps"]["easy"] = 0.2
    with pytest.raises(InputError, match=f"differ in the {what} .* two results of one benchmark"):
        check_comparable(save("a", content(FIRST)), save("b", made))


def test_benchmarks_without_ground_truth_are_told_by_their_records(save):
    one, other = content(FIRST, ground_truth=None), content(SECOND, ground_truth=None)
    other["data"]["benchmark"] = "12" * 32
    with pytest.raises(InputError, match=r"differ in the benchmark's records \(abababababab and 121212121212\)"):
        check_comparable(save("a", one), save("b", other))


def test_other_queries_are_refused(save):
    other = content(SECOND)
    other["per_query"][0]["id"] = "x"
    with pytest.raises(InputError, match="different queries"):
        check_comparable(save("a", content(FIRST)), save("b", other))


def test_settings_that_differ_are_told(save):
    first, second = content(FIRST), content(SECOND)
    first["protocol"]["query_crop"], second["protocol"]["query_crop"] = "scaled", "none"
    second["protocol"]["valid"] = False
    notes = check_comparable(save("a", first), save("b", second))
    assert notes[0] == "The runs differ in query_crop: scaled and none."
    assert "is not comparable with published numbers" in notes[1]


def test_files_that_are_no_results_are_refused(save, tmp_path):
    with pytest.raises(InputError, match=r"is missing; a result of pipelines\.evaluate"):
        MeasuredRun.load(tmp_path / "nothing" / "metrics.json")
    old = content(FIRST)
    del old["protocols"]
    with pytest.raises(InputError, match="has no 'protocols'"):
        save("old", old)
    broken = content(FIRST)
    broken["per_query"][1] = {"id": "q1", "aps": {}}
    with pytest.raises(InputError, match="entry in 'per_query' that cannot be read"):
        save("broken", broken)


def test_results_of_one_condition_have_their_ap_beside_the_query(save):
    made = content(FIRST)
    made["protocols"], made["condition"] = {"all": {}}, "all"
    for query in made["per_query"]:
        del query["aps"]
    np.testing.assert_array_equal(save("a", made).ap("all"), [0.5, 0.25, np.nan])


def test_nothing_to_compare_is_told(save):
    with pytest.raises(InputError, match="cannot be compared: no query has a figure in both runs"):
        compare_runs(save("a", content([None])), save("b", content([0.5])))
