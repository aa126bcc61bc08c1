import dataclasses
import types
from pathlib import Path

import pytest

from tfretrieval import files
from tfretrieval.data.judgements import GRADES, QueryJudgement
from tfretrieval.evaluation import guard
from tfretrieval.evaluation.guard import EXACT_SEARCH, Ranked, guarded, reason_notes, rows_sha256
from tfretrieval.evaluation.protocols import PROTOCOLS

GROUND_TRUTH = Path(__file__).parents[4] / "shared" / "data" / "benchmarks"
JUDGEMENTS = (QueryJudgement((0, 1), (2,), (3,)), QueryJudgement((), (4,)))
META = {"image_size": 1024, "scales": [1.0], "query_crop": "scaled", "model_sha256": "ab" * 32}


@pytest.fixture
def revisited(monkeypatch):
    """A benchmark of five photos whose ground truth is taken for a published one."""
    known = guard.KnownTruth("ROxford5k", 5, "cd" * 32, rows_sha256(JUDGEMENTS))
    monkeypatch.setattr(guard, "REVISITED", (known,))
    return types.SimpleNamespace(judgements=JUDGEMENTS, ground_truth_sha256="cd" * 32, database=range(5))


def check(benchmark, protocol="revisited", queries=None, database=None, ranked=EXACT_SEARCH):
    return guarded(benchmark, PROTOCOLS[protocol], {**META, **(queries or {})}, {**META, **(database or {})}, ranked)


def test_a_result_by_the_book_is_valid_and_tells_how_it_was_made(revisited):
    found = check(revisited)
    assert (found["valid"], found["reasons"], found["overlap"]) == (True, [], None)
    assert (found["name"], found["ap"], found["query_crop"]) == ("revisited", "trapezoidal", "scaled")
    assert found["ground_truth"] == "ROxford5k, as published"
    assert found["ground_truth_sha256"] == "cd" * 32
    assert found["image_size"] == {"queries": 1024, "database": 1024}
    assert found["scales"] == {"queries": [1.0], "database": [1.0]}
    assert found["model_sha256"]["queries"] == "ab" * 32
    assert found["rerank"] is None
    assert reason_notes(found) == []


INVALID = {
    "uncropped": ({"queries": {"query_crop": "none"}}, "queries were described whole; revisited Oxford"),
    "crop unknown": ({"queries": {"query_crop": None}}, "do not say whether queries were cut"),
    "image sizes": ({"database": {"image_size": 800}}, r"different image sizes \(1024 and 800\)"),
    "scales": ({"queries": {"scales": [1.0, 0.7]}}, r"different scales \(\[1.0, 0.7\] and \[1.0\]\)"),
    "another AP": ({"ranked": Ranked(ap="rectangular")}, "average precision is rectangular here; .* trapezoidal"),
    "truncated": ({"ranked": Ranked(depth=3)}, "rankings hold 3 of 5 photos"),
}


@pytest.mark.parametrize("case", INVALID)
def test_what_the_literature_calls_invalid_is_labelled(case, revisited):
    import re

    changes, reason = INVALID[case]
    found = check(revisited, **changes)
    assert not found["valid"]
    assert len(found["reasons"]) == 1
    assert re.search(reason, found["reasons"][0])
    assert reason_notes(found)[0].startswith("Not comparable with published numbers: ")


def test_a_changed_ground_truth_is_labelled(revisited):
    revisited.judgements = (JUDGEMENTS[0], dataclasses.replace(JUDGEMENTS[1], hard=(3,)))
    found = check(revisited)
    assert "was changed" in found["reasons"][0]
    assert found["ground_truth"] == "not a published one"
    revisited.judgements = JUDGEMENTS
    revisited.ground_truth_sha256 = "ef" * 32
    found = check(revisited)  # the .mat file, say
    assert found["valid"]
    assert found["ground_truth"] == "ROxford5k, with the published rows, in another file"


def test_a_database_that_lacks_photos_is_labelled_and_distractors_are_not(revisited):
    revisited.database = range(4)
    assert "the database has 4 photos; ROxford5k has 5" in check(revisited)["reasons"][0]
    revisited.database = range(1000)
    assert check(revisited)["valid"]


def test_queries_that_should_be_whole_and_are_cropped_are_labelled(revisited):
    assert "takes them whole" in check(revisited, "holidays")["reasons"][0]
    assert check(revisited, "holidays", queries={"query_crop": None})["valid"]


def test_benchmarks_of_ones_own_have_nothing_to_compare_with(revisited):
    found = check(revisited, "instances", database={"image_size": 64}, queries={"query_crop": None})
    assert (found["valid"], found["reasons"], found["ap"]) == (True, [], "rectangular")


@pytest.mark.parametrize(
    ("told", "noted"),
    [
        ("google-landmarks-v2-clean", True),
        (["imagenet", "GLDv2"], True),
        (["gl18-tl-resnet50-gem-w"], True),
        ("rSfM120k", False),
        (None, False),
        (["goldfish"], False),
    ],
)
def test_models_trained_on_google_landmarks_are_noted(told, noted, revisited):
    found = check(revisited, queries={"trained_on": told})
    assert bool(found["overlap"]) == noted
    assert found["valid"]
    assert check(revisited, "holidays", queries={"trained_on": told, "query_crop": None})["overlap"] is None


def test_re_ranking_tells_when_junk_was_taken_out(revisited):
    found = check(revisited, ranked=Ranked(rerank="aqe:k=50", junk="before"))
    assert found["rerank"] == "aqe:k=50"
    assert found["junk_and_reranking"] == "junk is taken out before re-ranking"


@pytest.mark.parametrize("known", guard.REVISITED, ids=lambda known: known.title)
def test_known_hashes_are_those_of_the_genuine_files(known):
    from tfretrieval.data.restricted_pickle import read_plain_pickle

    path = GROUND_TRUTH / f"gnd_{known.title.lower()}.pkl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    content = read_plain_pickle(path, "a ground truth")
    judgements = [QueryJudgement(*(tuple(query[grade]) for grade in GRADES)) for query in content["gnd"]]
    assert files.sha256(path) == known.sha256
    assert rows_sha256(judgements) == known.rows_sha256
    assert len(content["imlist"]) == known.database
