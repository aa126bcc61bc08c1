import html

import numpy as np
import pytest

from tfretrieval.evaluation import report_summary
from tfretrieval.evaluation.evaluate import leave_one_out

REASON = "queries were described whole; <revisited> cuts them to their boxes."


@pytest.fixture
def found():
    return leave_one_out(np.eye(3, dtype=np.float32), np.array([0, 0, 1]))


def test_a_result_that_compares_with_nothing_says_why(found):
    protocol = {"valid": False, "reasons": [REASON]}
    guard = report_summary.guard(protocol)
    assert (
        "Not comparable with published numbers" in guard and html.escape(REASON) in guard and "<revisited" not in guard
    )
    assert report_summary.guard({"valid": True, "reasons": []}) == report_summary.guard({}) == ""


def test_notes_are_told_and_queries_that_are_left_out_counted(found):
    said = report_summary.notes(found, ("Other <note>.",))
    assert "Other &lt;note&gt;." in said
    assert "1 query has no photo of their instance in the database" in said


def test_the_protocol_is_told_in_words():
    protocol = {
        "ap": "trapezoidal",
        "image_size": {"queries": 1024, "database": 1024},
        "scales": {"queries": [1, 0.7071], "database": [1.0]},
        "query_crop": None,
        "rerank": "",
        "valid": False,
        "reasons": [REASON],
        "model_sha256": {"queries": None, "database": None},
        "odd": "<b>",
        "junk_before": True,
    }
    text = report_summary.protocol_list(protocol)
    for name, value in (
        ("ap", "trapezoidal"),
        ("image size", "1024"),
        ("scales", "queries 1, 0.7071; database 1"),
        ("model sha256", "not noted"),
        ("odd", "&lt;b&gt;"),
        ("junk before", "yes"),
    ):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text
    assert "query crop" not in text and "reasons" not in text
    assert report_summary.protocol_list({}) == ""


@pytest.mark.parametrize(
    ("ap", "said"),
    [
        ("rectangular", "by rectangles"),
        ("trapezoidal", "by trapezoids"),
        ("rectangular@100 over min(R, 100)", "rectangular@100 over min(R, 100): the sum"),
    ],
)
def test_average_precision_is_the_one_that_was_measured(ap, said):
    assert said in report_summary.ap_definition({"ap": ap})
    assert "by rectangles" in report_summary.ap_definition({})


def test_one_condition_needs_no_table(found):
    assert report_summary.conditions_table(found) == ""
