import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.search import database_augmentation, diffusion
from tfretrieval.search.local_features import LocalFeatures
from tfretrieval.search.ranking import Ranking, exact_ranking
from tfretrieval.search.reranking import RERANKERS, Context, parse_chain

# Each method small enough for 400 photos, and all but two of them in one chain.
CHAINS = {
    "qe": "qe:k=4",
    "aqe": "aqe:k=6,alpha=2",
    "dqe": "dqe:k=4,negatives=20",
    "dba": "dba:k=4",
    "diffusion": "diffusion:k=10,truncation=60,kq=4",
    "kreciprocal": "kreciprocal:k1=6,k2=3,top=40",
    "superglobal": "superglobal:top=40,k=4",
    "gv": "gv:top=10",
    "several": "dba:k=3 | aqe:k=5,alpha=1 | superglobal:top=30 | diffusion:k=8,truncation=40,mode=online | "
    "kreciprocal:top=9",
}
SHORT = {"kreciprocal": 40, "superglobal": 40, "gv": 10}


def clustered(seed, count, dimension=16, clusters=30):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, dimension))
    vectors = centres[np.arange(count) % clusters] + 0.8 * rng.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def local_features(seed, count):
    rng = np.random.default_rng(seed)
    features = rng.random((count * 12, 8), np.float32)
    return LocalFeatures(np.arange(count + 1) * 12, rng.random((count * 12, 2), np.float32) * 100, features)


QUERIES, DATABASE = clustered(1, 7), clustered(0, 400)
CONTEXT = Context(query_features=local_features(1, 7), database_features=local_features(0, 400))
PLAIN = exact_ranking(QUERIES, DATABASE)
# The first, third and tenth photo of each query, one that is far, one named twice.
JUNK = [np.array([*order[[0, 2, 9, 9]], order[300]]) for order in PLAIN.order]


def assert_same(order, similarity, rows, alone):
    """Equal rankings of one query, but for places that rounding decides: support vectors, say, are equally far."""
    by_row = np.full(400, np.nan)
    by_row[rows] = alone.similarity[0]
    np.testing.assert_allclose(by_row[order], similarity, atol=2e-5)


def test_all_methods_are_tried_here():
    assert set(RERANKERS) == set(CHAINS) - {"several"}
    for name, kind in RERANKERS.items():
        assert kind.name == name and str(kind()).startswith(f"{name}:")


@pytest.mark.parametrize("name", CHAINS)
def test_rankings_hold_every_photo_once_and_are_the_same_each_time(name):
    chain = parse_chain(CHAINS[name])
    for junk in (None, JUNK):
        found = chain.rerank(QUERIES, DATABASE, junk, context=CONTEXT)
        assert found.order.dtype == np.int32 and found.similarity.dtype == np.float32
        np.testing.assert_array_equal(np.sort(found.order, axis=1), np.tile(np.arange(400), (7, 1)))
        with np.errstate(invalid="ignore"):  # junk is infinitely far from junk
            assert not (np.diff(found.similarity, axis=1) > 0).any()
        again = chain.rerank(QUERIES.copy(), DATABASE.copy(), junk, context=CONTEXT)
        np.testing.assert_array_equal(found.order, again.order)
        np.testing.assert_array_equal(found.similarity, again.similarity)


@pytest.mark.parametrize("name", CHAINS)
def test_the_first_photos_are_those_of_the_full_ranking(name):
    chain = parse_chain(CHAINS[name])
    whole = chain.rerank(QUERIES, DATABASE, JUNK, context=CONTEXT)
    for keep in (1, 25, 390, 1000):
        some = chain.rerank(QUERIES, DATABASE, JUNK, keep=keep, context=CONTEXT)
        np.testing.assert_array_equal(some.order, whole.order[:, :keep])


@pytest.mark.parametrize("name", CHAINS)
def test_mapped_databases_give_the_same(name, tmp_path):
    np.save(tmp_path / "vectors.npy", DATABASE)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    chain = parse_chain(CHAINS[name])
    found, expected = (chain.rerank(QUERIES, vectors, JUNK, context=CONTEXT) for vectors in (mapped, DATABASE))
    np.testing.assert_array_equal(found.order, expected.order)
    np.testing.assert_array_equal(found.similarity, expected.similarity)


@pytest.mark.parametrize("name", ["qe", "aqe", "dqe", "kreciprocal", "superglobal", "gv"])
def test_with_junk_a_query_finds_what_it_finds_in_a_database_without_those_photos(name):
    chain = parse_chain(CHAINS[name])
    found = chain.rerank(QUERIES, DATABASE, JUNK, context=CONTEXT)
    for q, junk in enumerate(JUNK):
        kept = np.setdiff1d(np.arange(400), junk)
        features = CONTEXT.database_features
        context = Context(
            query_features=LocalFeatures.of_photos([CONTEXT.query_features.photo(q)]),
            database_features=LocalFeatures.of_photos([features.photo(row) for row in kept]),
        )
        alone = chain.rerank(QUERIES[q : q + 1], DATABASE[kept], context=context)
        assert_same(found.order[q, : len(kept)], found.similarity[q, : len(kept)], kept[alone.order[0]], alone)
        assert found.order[q, len(kept) :].tolist() == np.unique(junk).tolist()
        assert np.isneginf(found.similarity[q, len(kept) :]).all()


@pytest.mark.parametrize("name", CHAINS)
def test_a_query_finds_the_same_alone(name):
    chain = parse_chain(CHAINS[name])
    found = chain.rerank(QUERIES, DATABASE, JUNK, context=CONTEXT)
    context = dataclasses.replace(CONTEXT, query_features=LocalFeatures.of_photos([CONTEXT.query_features.photo(4)]))
    alone = chain.rerank(QUERIES[4:5], DATABASE, JUNK[4:5], context=context)
    kept = 400 - len(np.unique(JUNK[4]))
    alone = Ranking(alone.order[:, :kept], alone.similarity[:, :kept])
    assert_same(found.order[4, :kept], found.similarity[4, :kept], alone.order[0], alone)


@pytest.mark.parametrize("name", SHORT)
def test_photos_behind_the_short_list_keep_their_order(name):
    found = parse_chain(CHAINS[name]).rerank(QUERIES, DATABASE, context=CONTEXT)
    top = SHORT[name]
    np.testing.assert_array_equal(np.sort(found.order[:, :top]), np.sort(PLAIN.order[:, :top]))
    np.testing.assert_array_equal(found.order[:, top:], PLAIN.order[:, top:])


def test_places_beyond_the_kept_photos_follow_by_counting():
    chain = parse_chain("dba:k=3 | aqe:k=5 | superglobal:top=30")
    whole = chain.rerank(QUERIES, DATABASE, JUNK)
    kept = chain.candidates(QUERIES, DATABASE, JUNK, keep=10)
    assert kept.ranking.order.shape == (7, 30)
    for q in range(7):
        outside = np.setdiff1d(np.arange(400), np.concatenate([kept.ranking.order[q], JUNK[q]]))
        scores = np.asarray(kept.database)[outside] @ kept.queries[q]
        expected = outside[np.argsort(-scores, kind="stable")]
        assert whole.order[q, 30 : 30 + len(expected)].tolist() == expected.tolist()


def test_calls_that_share_a_context_search_for_neighbours_once(monkeypatch):
    chain = parse_chain("dba:k=3 | diffusion:k=8,truncation=40")
    expected = [chain.rerank(QUERIES, DATABASE, junk) for junk in (None, JUNK)]
    searched = []
    for module in (database_augmentation, diffusion):
        search = module.neighbours
        monkeypatch.setattr(module, "neighbours", lambda *given, s=search: searched.append(given[1]) or s(*given))
    context = Context()
    for junk, alone in zip((None, JUNK), expected, strict=True):
        np.testing.assert_array_equal(chain.rerank(QUERIES, DATABASE, junk, context=context).order, alone.order)
    assert searched == [3, 7]
    chain.rerank(QUERIES, DATABASE.copy(), context=context)  # another array is searched again
    parse_chain("dba:k=4").rerank(QUERIES, DATABASE, context=context)
    assert searched == [3, 7, 3, 7, 4]


def test_every_photo_may_be_junk_and_there_may_be_no_query():
    for text in CHAINS.values():
        chain = parse_chain(text)
        found = chain.rerank(QUERIES, DATABASE, [np.arange(400)] * 7, context=CONTEXT)
        np.testing.assert_array_equal(found.order, np.tile(np.arange(400), (7, 1)))
        context = dataclasses.replace(CONTEXT, query_features=LocalFeatures(np.zeros(1, int), *no_features()))
        assert chain.rerank(QUERIES[:0], DATABASE, context=context).order.shape == (0, 400)


def no_features():
    return np.zeros((0, 2), np.float32), np.zeros((0, 8), np.float32)


def test_chains_are_read_and_written():
    chain = parse_chain("aqe:k=5,alpha=2.5|diffusion : mode = online , tolerance=1e-5 | qe")
    assert [step.name for step in chain.steps] == ["aqe", "diffusion", "qe"]
    assert chain.steps[0] == RERANKERS["aqe"](k=5, alpha=2.5) and chain.steps[2] == RERANKERS["qe"]()
    assert (chain.steps[1].mode, chain.steps[1].tolerance, chain.steps[1].k) == ("online", 1e-5, 50)
    assert str(chain).startswith("aqe:k=5,alpha=2.5,times=1 | diffusion:k=50,mode=online,")
    assert parse_chain(str(chain)) == chain
    assert chain.described()[0] == {"method": "aqe", "k": 5, "alpha": 2.5, "times": 1}
    assert chain.depth == 1000 and not chain.needs_photos and parse_chain("qe|gv").needs_photos
    for kind in RERANKERS.values():
        assert parse_chain(str(kind())).steps == (kind(),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "--rerank=: '' is not a method of re-ranking; one of qe, aqe, dqe,"),
        ("aqe | | qe", "'' is not a method"),
        ("aqe|nonesuch:k=3", "'nonesuch' is not a method"),
        ("aqe:kk=3", "--rerank=aqe: 'kk' is not a setting of it; one of k, alpha, times is wanted"),
        ("aqe:k", "--rerank=aqe: 'k' has no value; k=VALUE"),
        ("aqe:k=1,k=2", "--rerank=aqe: 'k' stands twice"),
        ("aqe:k=many", "--rerank=aqe: k=many; a whole number of at least 1 is wanted"),
        ("aqe:k=2.5", "--rerank=aqe: k=2.5; a whole number of at least 1"),
        ("aqe:k=0", "--rerank=aqe: k=0; a whole number of at least 1"),
        ("aqe:alpha=nan", "--rerank=aqe: alpha=nan; a number of at least 0"),
        ("dqe:c=0", "--rerank=dqe: c=0; a number of more than 0"),
        ("diffusion:alpha=1", "--rerank=diffusion: alpha=1; a number of more than 0 and less than 1"),
        ("diffusion:mode=both", "--rerank=diffusion: mode=both; one of offline, online is wanted"),
        ("kreciprocal:weight=1.5", "--rerank=kreciprocal: weight=1.5; a number of at least 0 and at most 1"),
        ("gv:model=similarity", "--rerank=gv: model=similarity; one of homography, affine"),
    ],
)
def test_chains_that_cannot_be_read_are_told(text, sentence):
    with pytest.raises(InputError) as raised:
        parse_chain(text)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"queries": QUERIES.astype(np.float64)}, "queries are float64"),
        ({"queries": QUERIES[:, :9]}, "9 dimensions and the database 16"),
        ({"junk": JUNK[:3]}, "junk rows of 3 queries stand beside 7"),
        ({"junk": [np.array([400])] * 7}, "junk row 400 is not in the database of 400"),
        ({"keep": 0}, "0 photos of each re-ranked query"),
    ],
)
def test_input_that_does_not_fit_is_told(given, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_chain("aqe").rerank(**{"queries": QUERIES, "database": DATABASE, **given})


def test_progress_is_told_of_searches_and_steps():
    told = []

    def progress(items, description, total, unit):
        told.append(description)
        return items

    parse_chain(CHAINS["several"]).rerank(QUERIES, DATABASE, progress=progress)
    assert told == [
        *("search", "neighbours", "augmentation", "search"),
        *("search", "SuperGlobal", "neighbours", "diffusion", "k-reciprocal"),
    ]


def test_the_guide_lists_every_method_with_its_defaults():
    guide = (Path(__file__).parents[3] / "docs/reranking.md").read_text(encoding="utf-8")
    for name, kind in RERANKERS.items():
        settings = str(kind()).removeprefix(f"{name}:").replace(",", ", ")
        assert f"| `{name}` | {settings} |" in guide
