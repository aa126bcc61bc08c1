import re
import xml.etree.ElementTree as ElementTree

import pytest

from tfretrieval.evaluation import charts


@pytest.mark.parametrize(("highest", "last"), [(1, 1), (7, 7), (100, 100), (120, 120)])
def test_count_ticks_end_at_the_highest(highest, last):
    ticks = [value for value, _ in charts.count_ticks(highest)]
    assert (ticks[0], ticks[-1]) == (1, last)
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize("highest", [0, 1e-6, 0.07, 1, 13, 999, 1e7])
def test_linear_ticks_reach_the_highest(highest):
    ticks = [value for value, _ in charts.linear_ticks(highest)]
    assert ticks[0] == 0
    assert ticks[-1] >= highest * (1 - 1e-6)
    assert 2 <= len(ticks) <= 6


UNIT = charts.Axis("x & y", charts.UNIT_TICKS)


def place(x, y):
    """Where a share of both axes lies in the drawing."""
    return 44 + x * (360 - 44 - 12), 236 - 42 - y * (236 - 32 - 42)


def test_curves_run_through_their_points_and_have_a_key():
    curves = [charts.Curve("easy <1>", (0, 0.5, 1), (1, 0.5, 0)), charts.Curve("hard", (0, 1), (0.25, 0.75))]
    root = ElementTree.fromstring(charts.curves_chart("two & curves", curves, UNIT, UNIT))
    assert root.get("aria-label") == "two & curves"
    lines = {line.find("title").text: line for line in root.iter("path") if line.find("title") is not None}
    for number, curve in enumerate(curves):
        assert lines[curve.name].get("class") == f"line curve{number}"
        found = [float(value) for value in re.findall(r"[\d.]+", lines[curve.name].get("d"))]
        expected = [value for x, y in zip(curve.x, curve.y, strict=True) for value in place(x, y)]
        assert found == pytest.approx(expected, abs=0.06)
    assert {"easy <1>", "hard"} <= {text.text for text in root.iter("text")}
    keys = [line for line in root.iter("path") if "curve" in line.get("class") and line.find("title") is None]
    assert sorted(float(line.get("d").split()[0][1:]) > 44 for line in keys) == [True, True]


def test_more_curves_than_can_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="5 curves are more than the 4"):
        charts.curves_chart("", [charts.Curve("a", (0, 1), (0, 1))] * 5, UNIT, UNIT)


def test_dots_lie_where_their_values_are():
    dots = [(0.0, 1.0, "better", "one & <two>"), (0.25, 0.25, "same", "b")]
    root = ElementTree.fromstring(charts.scatter_chart("dots", dots, UNIT, UNIT))
    circles = list(root.iter("circle"))
    assert [circle.get("class") for circle in circles] == ["dot better", "dot same"]
    assert [circle.find("title").text for circle in circles] == ["one & <two>", "b"]
    for circle, (x, y, _, _) in zip(circles, dots, strict=True):
        assert (float(circle.get("cx")), float(circle.get("cy"))) == pytest.approx(place(x, y), abs=0.06)
