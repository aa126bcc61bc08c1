import html
import re

import numpy as np
import pytest

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.evaluation import query_table
from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.evaluate import evaluate, evaluate_conditions
from tfretrieval.evaluation.protocols import PROTOCOLS
from tfretrieval.evaluation.relevance import Relevance

HOSTILE = '"><script>alert(1)</script>'
ROW = re.compile(r'<tr data-kind="(\w+)"><th scope="row">(.*?)</th><td>(.*?)</td>(.*?)</tr>')


def vectors(count, seed):
    values = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture
def found():
    labels = np.array([0, 1, 2, 0, 9])
    return evaluate(vectors(5, 0), vectors(12, 1), Relevance.by_instance(labels, np.arange(12) % 3))


def test_every_query_stands_in_the_table_with_its_own_figures(found):
    queries = Photos([f"{n}{HOSTILE}" for n in range(5)], ["a", "b", HOSTILE, "a", "none"], None)
    text = query_table.query_table(found, queries, {1: "strips/index-1.html#q1"})
    rows = ROW.findall(text)
    assert "<script" not in text and len(rows) == 5
    shown = [int(re.sub(r"<[^>]+>", "", name)[0]) for _, name, _, _ in rows]
    assert shown == [*found.worst_first().tolist(), 4]
    for query, (kind, name, label, cells) in zip(shown, rows, strict=True):
        assert html.unescape(label.replace("<wbr>", "")) == queries.instances[query]
        ap, relevant, rank = re.findall(r'data-value="([^"]*)"', cells)
        assert int(relevant) == found.relevant[query]
        assert ("<a href=" in name) == (query == 1)
        if query == 4:
            assert (kind, ap, rank) == ("none", "", "")
        else:
            assert float(ap) == pytest.approx(found.ap[query], abs=1e-6)
            assert int(rank) == found.first_relevant_rank[query]
            assert kind == ("right" if rank == "1" else "wrong")
    assert text.count("aria-sort") == 1 and 'aria-sort="ascending"><button type="button">AP<' in text


def test_queries_of_many_groups_tell_their_own(monkeypatch):
    groups = ["crop", "crop", "jpeg", "blur", "strong", "noise"]
    judgements = [QueryJudgement((n, n + 6), group=group) for n, group in enumerate(groups)]
    protocol = PROTOCOLS["copydays"]
    found = evaluate_conditions(vectors(6, 0), vectors(12, 1), protocol.relevances(judgements, 12), protocol)
    text = query_table.query_table(found, Photos(list("abcdef"), ["x"] * 6, None), {})
    rows = ROW.findall(text)
    assert sorted(name for _, name, _, _ in rows) == list("abcdef")
    aps = []
    for _, name, _, cells in rows:
        query = "abcdef".index(name)
        group = re.match(r"<td>(\w+)</td>", cells)[1]
        ap, relevant, rank = re.findall(r'data-value="([^"]*)"', cells)
        assert group == groups[query] and relevant == "2"
        assert float(ap) == pytest.approx(found.conditions[group].ap[query], abs=1e-6)
        assert int(rank) == found.conditions[group].first_relevant_rank[query]
        aps.append(float(ap))
    assert aps == sorted(aps)


def test_the_worst_of_very_many_queries_are_listed(found, monkeypatch):
    monkeypatch.setattr(query_table, "MAX_ROWS", 2)
    text = query_table.query_table(found, Photos(list("abcde"), list("xyzxw"), None), {})
    assert [name for _, name, _, _ in ROW.findall(text)] == ["abcde"[row] for row in found.worst_first()[:2]]


def test_instances_have_the_mean_of_all_queries_that_show_them(found):
    shows = [("cat", "dog"), ("dog",), ("cat",), (HOSTILE,), ("emu",)]
    text = query_table.instance_table(found, Photos(list("abcde"), [""] * 5, None, shows), {"cat", HOSTILE})
    rows = re.findall(r'<th scope="row">(.*?)</th><td data-value="(\d+)">\d+</td><td data-value="([\d.]+)">', text)
    names = [html.unescape(re.sub(r"<[^>]+>", "", name)) for name, _, _ in rows]
    means = {"cat": found.ap[[0, 2]].mean(), "dog": found.ap[[0, 1]].mean(), HOSTILE: found.ap[3]}
    assert sorted(names) == sorted(means)  # emu has nothing to find
    for name, (_, count, value) in zip(names, rows, strict=True):
        assert float(value) == pytest.approx(means[name], abs=1e-6) and int(count) == (1 if name == HOSTILE else 2)
    assert "<script" not in text and 'href="#filter=cat"' in text and 'href="#filter=%22%3E%3Cscript' in text
    assert query_table.instance_table(found, Photos(list("abcde"), [""] * 5, None), set()) == ""
