import json
import os

import numpy as np
import pytest

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.search import index as indexes
from tfretrieval.search import index_factory
from tfretrieval.search.candidates import Candidates
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.index_factory import IndexOptions
from tfretrieval.search.index_parameters import parameter_values
from tfretrieval.search.reranking import parse_chain

faiss = pytest.importorskip("faiss")

N, D = 400, 16
# Each with the least recall of the exact ten best that its codes allow with all lists, links and refinements in use.
FACTORIES = {
    "Flat": 1.0,
    "SQfp16": 0.98,
    "SQ8": 0.9,
    "PQ8x4": 0.3,
    "PQ8x4fs": 0.3,
    "RaBitQ": 0.25,
    "PCAR12,L2norm,Flat": 0.5,
    "HNSW16": 0.98,
    "HNSW16,SQ8": 0.9,
    "IVF8,Flat": 1.0,
    "IVF8,SQ8": 0.9,
    "IVF8,PQ8x4": 0.3,
    "IVF8,PQ8x4fs": 0.3,
    "IVF8,RaBitQ4": 0.7,
    "IVF8,PQ8x4,RFlat": 1.0,
    "OPQ8,IVF8,PQ8x4,Refine(SQ8)": 0.9,
    "IVF8_HNSW8,SQfp16": 0.95,
}
MAPPED = {name for name in FACTORIES if "IVF" in name and not name.endswith("fs")}


def drawn(count, seed=0, dimension=D):
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def named(vectors, first=0, **meta):
    return Descriptors(vectors, tuple(f"p{row:04}" for row in range(first, first + len(vectors))), meta)


def by_definition(queries, database, k):
    """Rows by falling cosine in float64."""
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(database, axis=1)
    return np.argsort(-(queries.astype(np.float64) @ database.T.astype(np.float64)) / lengths, axis=1)[:, :k]


def built(folder, descriptors, factory, header=None, **options):
    folder.mkdir()
    indexes.build(folder, descriptors, IndexOptions(factory, **options), header or {})
    return folder


def opened(folder):
    """An index that searches as thoroughly as it can."""
    index = SearchIndex.load(folder)
    index.use({name: values[-1] for name, values in parameter_values(index.searched).items()})
    return index


def share_found(found, expected):
    return (
        np.mean([len(set(one) & set(other)) for one, other in zip(found.tolist(), expected.tolist(), strict=True)])
        / (expected.shape[1])
    )


@pytest.mark.parametrize("factory", FACTORIES)
def test_photos_are_found_and_added_and_deleted_whatever_the_index(factory, tmp_path):
    vectors = drawn(N)
    first = built(tmp_path / "first", named(vectors[:300]), factory)
    (tmp_path / "second").mkdir()
    first = first.rename(tmp_path / "moved")  # paths inside must not matter
    indexes.add(first, tmp_path / "second", named(vectors[300:], 300), {})
    index, expected = opened(tmp_path / "second"), by_definition(vectors[:40], vectors, 10)
    found = index.search(vectors[:40], 10)
    assert found.order.dtype == np.int32 and found.similarity.dtype == np.float32
    assert share_found(found.order, expected) >= FACTORIES[factory]
    assert (np.diff(found.similarity) <= 0).all()
    assert (tmp_path / "second" / "lists.faiss").is_file() == (factory in MAPPED)
    assert index.meta["mapped_lists"] == (factory in MAPPED)
    assert not list((tmp_path / "second").glob("*.faiss.*"))

    gone = np.arange(0, N, 3)
    (tmp_path / "third").mkdir()
    indexes.delete(tmp_path / "second", tmp_path / "third", [index.ids[row] for row in gone])
    kept = np.setdiff1d(np.arange(N), gone)
    left = opened(tmp_path / "third")
    assert left.ids == tuple(index.ids[row] for row in kept) and left.deleted == len(gone)
    assert (
        share_found(left.search(vectors[:40], 10).order, by_definition(vectors[:40], vectors[kept], 10))
        >= (FACTORIES[factory])
    )


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat"])
def test_what_keeps_everything_gives_the_cosines_themselves(factory, tmp_path):
    vectors = drawn(N, 1) * np.random.default_rng(2).uniform(0.5, 3, (N, 1)).astype(np.float32)
    queries = 7 * drawn(30, 3)
    found = opened(built(tmp_path / "index", named(vectors), factory)).search(queries, N)
    order = by_definition(queries, vectors, N)
    np.testing.assert_array_equal(found.order, order)
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, vectors)]
    np.testing.assert_allclose(found.similarity, np.take_along_axis(units[0] @ units[1].T, order, 1), atol=2e-6)


def test_of_equal_similarities_the_lower_row_comes_first(tmp_path):
    vectors = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)[np.random.default_rng(0).permutation(20)]
    index = SearchIndex.load(built(tmp_path / "index", named(vectors), "Flat"))
    found = index.search(np.array([[4, 3, 2, 1]], np.float32), 20)
    rows = [row for axis in range(4) for row in np.flatnonzero(vectors[:, axis])]
    assert found.order[0].tolist() == rows


def test_what_is_not_found_fills_the_end_without_similarity(tmp_path):
    vectors = drawn(N)
    index = SearchIndex.load(built(tmp_path / "index", named(vectors), "IVF8,Flat"))
    assert index.parameters == {"nprobe": 1}
    found = index.search(vectors[:5], N)
    for order, similarity, query in zip(found.order, found.similarity, vectors, strict=False):
        there = similarity > -np.inf
        assert 0 < there.sum() < N and sorted(order) == list(range(N))
        assert (np.diff(order[~there]) > 0).all() and not there[there.sum() :].any()
        np.testing.assert_allclose(similarity[there], vectors[order[there]] @ query, atol=1e-6)


def test_enough_is_found_where_all_that_is_near_was_deleted(tmp_path):
    vectors, query = drawn(N), drawn(1, 5)
    source = built(tmp_path / "index", named(vectors), "IVF8,Flat")
    near = by_definition(query, vectors, 350)[0]
    (tmp_path / "less").mkdir()
    indexes.delete(source, tmp_path / "less", [f"p{row:04}" for row in near])
    index, kept = opened(tmp_path / "less"), np.setdiff1d(np.arange(N), near)
    np.testing.assert_array_equal(index.search(query, 10).order, by_definition(query, vectors[kept], 10))
    assert index.search(query, 1000).order.shape == (1, 50)
    assert (tmp_path / "less" / "lists.faiss").stat().st_ino == (source / "lists.faiss").stat().st_ino


def test_a_deleted_photo_can_be_added_again(tmp_path):
    vectors = drawn(60)
    source = built(tmp_path / "a", named(vectors), "IVF4,Flat")
    for name in "bc":
        (tmp_path / name).mkdir()
    indexes.delete(source, tmp_path / "b", ["p0007", "p0030"])
    indexes.add(tmp_path / "b", tmp_path / "c", Descriptors(vectors[7:8], ("p0007",)), {"descriptors": "ab"})
    index = opened(tmp_path / "c")
    assert index.ids[-1] == "p0007" and len(index) == 59 and index.deleted == 2
    assert index.meta["added"] == [{"photos": 1, "descriptors": "ab"}]
    assert index.search(vectors[7:8], 1).order.tolist() == [[58]]


def test_lists_written_in_parts_are_the_lists_written_at_once(tmp_path, monkeypatch):
    vectors = drawn(6000, dimension=64)
    whole = opened(built(tmp_path / "whole", named(vectors), "IVF8,Flat"))
    monkeypatch.setattr(index_factory, "_BYTES_AT_A_TIME", 64 * 4 * 700)
    spilled = []
    original = index_factory._Lists._written
    monkeypatch.setattr(
        index_factory._Lists, "_written", lambda own, *args: spilled.append(args[1]) or original(own, *args)
    )
    parts = opened(built(tmp_path / "parts", named(vectors), "IVF8,Flat", block_mb=1))
    assert len(spilled) == 2  # 6,000 codes of 264 bytes, 1.6 MB: one file of a block, and the last one
    assert sorted(path.name for path in (tmp_path / "parts").glob("*.faiss*")) == ["index.faiss", "lists.faiss"]
    one, other = (index.search(vectors[:50], 20) for index in (whole, parts))
    np.testing.assert_array_equal(one.order, other.order)
    np.testing.assert_array_equal(one.similarity, other.similarity)
    np.testing.assert_array_equal(one.order, by_definition(vectors[:50], vectors, 20))


def test_lists_are_mapped_from_the_folder_and_not_read(tmp_path):
    folder = built(tmp_path / "index", named(drawn(N)), "IVF8,PQ8x4,RFlat")
    index = SearchIndex.load(folder)
    lists = faiss.downcast_InvertedLists(faiss.extract_index_ivf(index.searched).invlists)
    assert isinstance(lists, faiss.OnDiskInvertedLists)
    assert (lists.filename, lists.read_only) == (str(folder / "lists.faiss"), True)
    if os.path.exists("/proc/self/maps"):  # noqa: PTH110
        with open("/proc/self/maps") as maps:  # noqa: PTH123
            mapped = maps.read()
        assert str(folder / "lists.faiss") in mapped and str(folder / "refine.faiss") in mapped


def test_the_description_tells_what_made_the_index_and_the_seed_makes_it_again(tmp_path):
    descriptors = named(drawn(N), model_sha256="m")
    header = {"flags": {"a": 1}, "versions": {"python": "3"}, "seed": 3, "data": {"descriptors": "d"}}
    options = {"train_photos": 200, "seed": 3}
    one, other, third = (
        built(tmp_path / name, descriptors, "IVF8,PQ8x4", header, **{**options, "seed": seed})
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    meta = json.loads((one / "index.json").read_text())
    assert meta["training"] == {"photos": 200, "seed": 3, "fewest": 16, "few": True}
    assert (meta["factory"], meta["dimension"], meta["photos"], meta["deleted"]) == ("IVF8,PQ8x4", D, N, 0)
    assert (meta["data"], meta["model_sha256"], meta["flags"]) == ({"descriptors": "d"}, "m", {"a": 1})
    assert meta["versions"] == {"python": "3", "faiss": faiss.__version__}
    assert meta["bytes_per_photo"] == 4 + 8  # eight codes of four bits, and a number of 64
    assert (one / "index.faiss").read_bytes()[-64:] != b"" and (one / "lists.faiss").read_bytes() == (
        other / "lists.faiss"
    ).read_bytes()
    assert (one / "lists.faiss").read_bytes() != (third / "lists.faiss").read_bytes()


def test_rankings_are_re_ranked_as_those_of_exact_search(tmp_path):
    vectors, queries = drawn(N), drawn(8, 9)
    ranking = opened(built(tmp_path / "index", named(vectors), "Flat")).search(queries, 60)
    chain = parse_chain("superglobal:top=20")
    found = chain.steps[0].apply(Candidates(queries, vectors, ranking))
    np.testing.assert_array_equal(found.ranking.order, chain.rerank(queries, vectors, keep=60).order)


def refused(words, work, *arguments, **named_ones):
    with pytest.raises(InputError) as caught:
        work(*arguments, **named_ones)
    assert words in str(caught.value), caught.value
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("Bogus", "--factory=Bogus is not an index that Faiss makes for 16 dimensions"),
        ("", "--factory= is not an index"),
        ("IVF8,PQ7", "--factory=IVF8,PQ7 is not an index"),
        ("LSH", "and inner products"),
        ("IDMap,Flat", "ids.txt"),
        ("IVF0,Flat", "no list"),
        ("IVF500,Flat", "fitted to at least 500 descriptors, one for each centre, and there are 400"),
        ("IVF8,PQ8x9", "fitted to at least 512"),
    ],
)
def test_wrong_factories_are_one_sentence(factory, words, tmp_path):
    refused(words, built, tmp_path / "index", named(drawn(N)), factory)


def test_too_small_a_sample_is_one_sentence(tmp_path):
    refused("--train_photos=4 are", built, tmp_path / "index", named(drawn(N)), "IVF8,Flat", train_photos=4)
    for wrong in ({"train_photos": -1}, {"block_mb": 0}, {"seed": -1}):
        refused(f"--{next(iter(wrong))}=", IndexOptions, **wrong)


def test_descriptors_without_direction_are_named_by_their_row(tmp_path):
    for value in (0, np.nan, np.inf):
        vectors = drawn(50)
        vectors[31] = value
        refused("row 31 has the length", built, tmp_path / f"{value}", named(vectors), "Flat")
    refused("no descriptors", built, tmp_path / "none", named(drawn(0)), "Flat")


def test_wrong_searches_and_changes_are_one_sentence(tmp_path):
    vectors = drawn(60)
    source = built(tmp_path / "index", named(vectors, model_sha256="m1"), "IVF4,Flat")
    index, target = SearchIndex.load(source), tmp_path / "none"
    refused("the queries have 8 dimensions and the database 16", index.search, drawn(3, dimension=8), 5)
    refused("float64", index.search, drawn(3).astype(float), 5)
    refused("row 1 has the length", index.search, drawn(3) * np.array([[1], [0], [1]], np.float32), 5)
    refused("at least 1", index.search, drawn(3), 0)
    refused("'efSearch' is not a parameter of this index; one of nprobe is wanted", index.use, {"efSearch": 3})
    refused("nprobe=0", index.use, {"nprobe": 0})
    refused("has 1 of the photos of --add already, first 'p0059'", indexes.add, source, target, named(vectors, 59), {})
    more = named(drawn(3, dimension=8), 100)
    refused("8 dimensions and --index=", indexes.add, source, target, more, {})
    refused("by the model m2", indexes.add, source, target, named(vectors, 100, model_sha256="m2"), {})
    refused("lacks 1 of the 2 photos of --delete, first 'x'", indexes.delete, source, target, ["p0001", "x"])
    refused("'p0001' twice", indexes.delete, source, target, ["p0001", "p0002", "p0001"])
    refused("all 60 photos", indexes.delete, source, target, index.ids)
    assert not target.exists()


def test_an_index_of_other_descriptors_is_one_sentence(tmp_path):
    header = {"data": {"descriptors": "a" * 64}}
    index = SearchIndex.load(built(tmp_path / "index", named(drawn(60), model_sha256="m"), "Flat", header))
    index.check_vectors("a" * 64, {}, "--index=i")
    refused("--index=i is of the descriptors aaaaaaaaaaaa, and", index.check_vectors, "b" * 64, {}, "--index=i")
    (tmp_path / "less").mkdir()
    indexes.delete(tmp_path / "index", tmp_path / "less", ["p0003"])
    changed = SearchIndex.load(tmp_path / "less")
    changed.check_vectors("b" * 64, {"model_sha256": "m"}, "--index=i")
    refused("is of the model m,", changed.check_vectors, "b" * 64, {"model_sha256": "n"}, "--index=i")


def test_broken_directories_are_one_sentence(tmp_path):
    refused("index.json is missing", SearchIndex.load, tmp_path / "nothing")
    for name, words in (
        ("ids.txt", "files of one index are wanted"),
        ("numbers.npy", "does not hold a readable index"),
        ("index.faiss", "index.faiss has 10 bytes; the "),
        ("lists.faiss", "lists.faiss has 10 bytes; the "),
        ("refine.faiss", "refine.faiss has no bytes; the "),
    ):
        folder = built(tmp_path / name, named(drawn(60)), "IVF4,Flat,RFlat")
        if name == "ids.txt":
            (folder / name).write_text("p0000\n")
        elif name == "refine.faiss":
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(b"\0" * 10)
        refused(words, SearchIndex.load, folder)
    folder = built(tmp_path / "garbled", named(drawn(60)), "IVF4,Flat")
    (folder / "index.faiss").write_bytes(b"\1" * (folder / "index.faiss").stat().st_size)
    refused("does not hold a readable index", SearchIndex.load, folder)
    (folder / "index.json").write_text("{}")
    refused("has the files None", SearchIndex.load, folder)
