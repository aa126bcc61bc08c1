import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import bars, timing

SECONDS = {"this toolkit": [1.0, 2.0, 4.0], "peer": [2.0, 3.0, 12.0]}


def test_ratios_are_of_each_round_and_not_of_the_medians():
    assert timing.ratio(SECONDS, "this toolkit", "peer") == 2.0  # of 2, 1.5 and 3; the medians' is 1.5
    assert timing.ratio(SECONDS, "peer", "peer") == 1.0


def test_wanted_ratios_are_held_against_the_sides_that_ran(capsys):
    wanted = {("this toolkit", "peer"): 2.5, ("this toolkit", "not installed"): 1.0, ("peer", "peer"): 1.0}
    found = timing.held_against(SECONDS, wanted)
    assert [(each["ratio"], each["wanted"]) for each in found] == [(2.0, 2.5), (1.0, 1.0)]
    assert re.findall(r"(NOT as|as) wanted", capsys.readouterr().out) == ["NOT as", "as"]


def test_a_report_is_a_json_file_and_a_chart(tmp_path):
    timing.report("speeds", SECONDS, 6, {"seed": 3}, tmp_path, "queries", "A <title>", {"wanted": []})
    found = json.loads((tmp_path / "speeds.json").read_text())
    assert found["queries_per_second"] == {"this toolkit": 3.0, "peer": 2.0}
    assert found["ratio"] == {"this toolkit": 2.0, "peer": 1.0}
    assert found["seconds"] == SECONDS and found["wanted"] == [] and found["seed"] == 3
    chart = ElementTree.parse(tmp_path / "speeds.svg").getroot()
    assert "A <title>" in [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]


def test_bars_are_as_long_as_their_values_and_end_within_the_chart():
    values = {"this toolkit, float32": 4.0, "peer & others": 1.0, "none": 0.0}
    chart = ElementTree.fromstring(bars.draw("title", "note", values, {name: f"{values[name]:.1f}" for name in values}))
    drawn = [each for each in chart.iter("{http://www.w3.org/2000/svg}rect") if "bar" in each.get("class")]
    lengths = [float(each.get("width")) for each in drawn]
    assert lengths[1] == pytest.approx(lengths[0] / 4, abs=0.1) and lengths[2] == 0
    assert 16 + lengths[0] < float(chart.get("viewBox").split()[2])
    assert [each.get("class") for each in drawn] == ["bar ours", "bar", "bar"]
