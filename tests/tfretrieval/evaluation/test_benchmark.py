import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tfretrieval import files
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.objects import Annotation, Object, PhotoObjects
from tfretrieval.data.record_set import RecordSet
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.evaluation import results
from tfretrieval.evaluation.benchmark import Benchmark, check_pair
from tfretrieval.evaluation.evaluate import evaluate

COLOURS = {"red": (200, 30, 30), "green & blue": (20, 150, 160), "violet": (90, 20, 160)}


def make_benchmark(directory, splits=("queries", "database")):
    """Three instances, two queries and four database photos each."""
    rng = np.random.default_rng(0)
    entries = []
    for number, (instance, colour) in enumerate(COLOURS.items()):
        for photo in range(6):
            path = directory / f"{number}-{photo}.png"
            noise = rng.integers(-15, 15, (40, 48, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)
            split = splits[0] if photo < 2 else splits[1]
            entries.append(PhotoEntry(f"{instance}/{photo}.png", path, instance, split))
    return write_record_set(entries, directory / "records", WriteOptions("tiny"))[0]


def make_descriptors(records, split, **meta):
    """Unit vectors near their instance's axis; the last instance's queries point at the first instance."""
    photos = records.split(split)
    rng = np.random.default_rng(len(photos))
    vectors = np.eye(4, dtype=np.float32)[photos.labels] + rng.normal(0, 0.05, (len(photos), 4)).astype(np.float32)
    if split == "queries":
        last = photos.labels == 2
        vectors[last] = vectors[photos.labels == 0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known = {"model": "m", "model_sha256": "ab" * 32, "image_size": 64, "data": {"records": records.sha256}}
    return Descriptors(vectors, photos.ids, known | meta)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The benchmark's directory."""
    return make_benchmark(tmp_path_factory.mktemp("tiny")).directory


@pytest.fixture
def saved(tiny, tmp_path):
    """Saves descriptors of a split after `change(vectors, ids, meta)`, and returns their directory."""

    def save(split, change=lambda *parts: parts, **meta):
        made = make_descriptors(RecordSet.load(tiny), split, **meta)
        Descriptors(*change(made.vectors, made.ids, made.meta)).save(tmp_path / split)
        return tmp_path / split

    return save


MANGLED = {
    "nan": (lambda v, i, m: (np.where(np.arange(len(v))[:, None] == 2, np.nan, v), i, m), "not finite for 1 of 6"),
    "long": (lambda v, i, m: (v * 3, i, m), "length 3 .* L2-normalised"),
    "zero": (lambda v, i, m: (v * 0, i, m), "length 0 "),
    "missing": (lambda v, i, m: (v[1:], i[1:], m), "lack 1 of 6 photos"),
    "other": (lambda v, i, m: (v, i, m | {"data": {"records": "cd" * 32}}), "from the records cdcdcdcdcdcd"),
}


@pytest.mark.parametrize("case", MANGLED)
def test_unusable_descriptors_are_refused_in_one_sentence(case, tiny, saved):
    change, sentence = MANGLED[case]
    with pytest.raises(InputError, match=sentence) as error:
        Benchmark.load(tiny).match(saved("queries", change), "queries")
    assert "--queries=" in str(error.value)
    assert str(error.value).endswith(".")


def test_other_dimensions_are_refused(tiny, saved):
    benchmark = Benchmark.load(tiny)
    narrow = lambda v, i, m: (v[:, :3] / np.linalg.norm(v[:, :3], axis=1, keepdims=True), i, m)  # noqa: E731
    queries = benchmark.match(saved("queries", narrow), "queries")
    with pytest.raises(InputError, match="3 dimensions and --database of 4"):
        check_pair(queries, benchmark.match(saved("database"), "database"))


def test_descriptors_are_matched_by_photo_id_not_by_order(tiny, saved):
    benchmark = Benchmark.load(tiny)
    straight = benchmark.match(saved("database"), "database").vectors
    turned = benchmark.match(saved("database", lambda v, i, m: (v[::-1], i[::-1], m)), "database").vectors
    np.testing.assert_array_equal(straight, turned)


def test_asymmetric_and_unrecorded_descriptors_are_noted(tiny, saved):
    benchmark = Benchmark.load(tiny)
    queries = benchmark.match(saved("queries", model_sha256="cd" * 32, image_size=32, data=None), "queries")
    notes = check_pair(queries, benchmark.match(saved("database"), "database"))
    assert len(notes) == 3
    assert "abababababab" in notes[0]
    assert "asymmetric" in notes[0]
    assert "32 and 64" in notes[1]
    assert "--queries" in notes[2]


def test_equal_models_need_no_note(tiny, saved):
    benchmark = Benchmark.load(tiny)
    sides = [benchmark.match(saved(split), split) for split in ("queries", "database")]
    assert check_pair(*sides) == []


def changed_benchmark(tiny, tmp_path, **changes):
    shutil.copytree(tiny, tmp_path / "changed")
    path = tmp_path / "changed" / "benchmark.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path.parent


def test_a_benchmark_of_another_kind_or_other_records_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match="relevance 'lists'; 'instance', 'content' or 'judged' is wanted"):
        Benchmark.load(changed_benchmark(tiny, tmp_path / "a", relevance="lists"))
    with pytest.raises(
        InputError, match="relevance 'content', and the photos of the records beside it have no objects"
    ):
        Benchmark.load(changed_benchmark(tiny, tmp_path / "c", relevance="content"))
    with pytest.raises(InputError, match="has the sha256 00, and"):
        Benchmark.load(changed_benchmark(tiny, tmp_path / "b", sha256="00"))
    with pytest.raises(InputError, match=r"--benchmark=.*nowhere is not a directory"):
        Benchmark.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"benchmark\.json is missing"):
        Benchmark.load(tmp_path)


def one_split(tiny, tmp_path, instances):
    photos = sorted(tiny.parent.glob("*.png"))
    entries = [PhotoEntry(str(n), photos[n], name, split) for n, (name, split) in enumerate(instances)]
    return write_record_set(entries, tmp_path / "made", WriteOptions("made"))[0].directory


def test_a_benchmark_without_queries_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match="no photos in the split 'queries'"):
        Benchmark.load(one_split(tiny, tmp_path, [("a", "database"), ("b", "database")]))


def test_a_benchmark_where_nothing_can_be_found_is_refused(tiny, tmp_path):
    benchmark = Benchmark.load(one_split(tiny, tmp_path, [("a", "queries"), ("b", "database")]))
    with pytest.raises(InputError, match="no query whose instance is in the database"):
        benchmark.relevance()


def test_a_benchmark_of_content_that_is_nowhere_is_told_so(tmp_path):
    directory = with_objects(tmp_path, ("queries",), {"queries": {"a.png": ["king"]}, "database": {"b.png": ["ace"]}})
    with pytest.raises(InputError, match="no query whose classes are in the database"):
        Benchmark.load(directory).relevance()


def test_the_protocol_of_plain_labels_is_the_usual_one_or_the_one_noted(tiny, tmp_path):
    benchmark = Benchmark.load(tiny)
    assert (benchmark.protocol, benchmark.judgements, benchmark.ground_truth_sha256) == ("instances", None, "")
    assert "protocol" not in json.loads((tiny / "benchmark.json").read_text())
    assert Benchmark.load(with_objects(tmp_path, ())).protocol == "content"
    entries = [PhotoEntry(s, next(tiny.parent.glob("*.png")), "a", s) for s in ("queries", "database")]
    made, _ = write_record_set(entries, tmp_path / "classes", WriteOptions("cub200", protocol="classes_1248"))
    assert Benchmark.load(made.directory).protocol == "classes_1248"
    assert Benchmark.load(made.directory).relevance().kind == "instance"


JUDGEMENTS = (QueryJudgement((2, 0), (1,), (), (1.0, 2.0, 9.5, 9.0)), QueryJudgement((), junk=(1, 1), group="weak"))


def judged_benchmark(tiny, tmp_path):
    photos = sorted(tiny.parent.glob("*.png"))
    splits = ["queries"] * 2 + ["database"] * 3
    entries = tuple(PhotoEntry(path.name, path, "-", split) for path, split in zip(photos, splits, strict=False))
    judged = JudgedPhotos(entries, JUDGEMENTS, "revisited", "ab" * 32, ("A note.",))
    return write_record_set(entries, tmp_path / "judged", WriteOptions("toys", judged=judged))[0].directory


def test_a_judged_benchmark_has_its_judgements_protocol_and_hash(tiny, tmp_path):
    directory = judged_benchmark(tiny, tmp_path)
    benchmark = Benchmark.load(directory)
    assert (benchmark.relevance_kind, benchmark.protocol) == ("judged", "revisited")
    assert (benchmark.judgements, benchmark.ground_truth_sha256) == (JUDGEMENTS, "ab" * 32)
    with pytest.raises(InputError, match="is judged by the protocol 'revisited'"):
        benchmark.relevance()
    for change, sentence in (
        ({"protocol": 5}, "has the protocol 5 and"),
        ({"protocol": None}, "has the protocol None and"),
        ({"ground_truth_sha256": ""}, "and the ground_truth_sha256 ''; the name"),
    ):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        with pytest.raises(InputError, match=sentence):
            Benchmark.load(changed_benchmark(directory, tmp_path / "c", **change))


def test_records_without_judgements_are_no_judged_benchmark(tiny, tmp_path):
    with pytest.raises(InputError, match="relevance 'judged', and the queries of the records beside it have no judge"):
        Benchmark.load(changed_benchmark(tiny, tmp_path / "a", relevance="judged"))


def test_the_result_file_holds_header_numbers_and_every_query(tiny, saved, tmp_path):
    benchmark = Benchmark.load(tiny)
    queries, database = benchmark.match(saved("queries"), "queries"), benchmark.match(saved("database"), "database")
    evaluation = evaluate(queries.vectors, database.vectors, benchmark.relevance())
    header = results.result_header({"benchmark": "b"}, benchmark, queries, database)
    files.write_json(tmp_path / "metrics.json", results.result(evaluation, benchmark, header, ["a note"]))
    made = json.loads((tmp_path / "metrics.json").read_text())
    assert " ".join(made) == (
        "flags versions seed data protocol notes map recall_at_1 recall_at_5 recall_at_10 "
        "queries database queries_without_relevant condition protocols per_query"
    )
    assert made["data"]["benchmark"] == benchmark.sha256
    assert made["data"]["queries_model"] == made["data"]["database_model"] == "ab" * 32
    assert made["data"]["queries_vectors"] == files.sha256(tmp_path / "queries" / "vectors.npy")
    assert made["protocol"]["ap"] == "rectangular"
    assert made["protocol"]["image_size"] == {"queries": 64, "database": 64}
    assert (made["queries"], made["database"], made["queries_without_relevant"]) == (6, 12, 0)
    assert made["seed"] is None
    # Two of three instances are found at once; the queries of the third find the first instance before their own.
    assert made["recall_at_1"] == pytest.approx(4 / 6)
    wrong = [query for query in made["per_query"] if query["ap"] < 1]
    assert len(wrong) == 2
    assert {query["first_relevant_rank"] for query in wrong} <= set(range(5, 10))
    assert made["map"] == pytest.approx(np.mean([query["ap"] for query in made["per_query"]]))
    assert {query["instance"] for query in made["per_query"]} == set(benchmark.instances)


def test_a_query_without_relevant_photos_has_null_in_the_result_file(tiny, tmp_path):
    kinds = [("a", "queries"), ("c", "queries"), ("a", "database"), ("b", "database")]
    benchmark = Benchmark.load(one_split(tiny, tmp_path, kinds))
    vectors = np.eye(2, dtype=np.float32)
    made = results.result(evaluate(vectors, vectors, benchmark.relevance()), benchmark, {}, [])
    assert made["queries_without_relevant"] == 1
    assert made["per_query"][1] == {"id": "1", "instance": "c", "ap": None, "first_relevant_rank": None}
    assert "1 queries without" in results.summary_lines(evaluate(vectors, vectors, benchmark.relevance()))[-1]


THREE = {"a.png": ["ace", "king"], "b.png": ["ace"], "c.png": ["king"]}


def with_objects(directory, cropped, photos=None):
    """Three photos, in the queries and in the database, unless others are given: an ace and a king, an ace, a king."""
    photos = photos or {"queries": THREE, "database": THREE}
    entries = []
    for split in ("queries", "database"):
        for name, classes in photos[split].items():
            path = directory / name
            Image.new("RGB", (20, 10), (40 * len(entries), 0, 0)).save(path)
            objects = [Object(number, one, (9 * number, 1, 9 * number + 5, 6)) for number, one in enumerate(classes)]
            wanted = PhotoObjects(Annotation(path.with_suffix(".xml"), tuple(objects)), cropped=split in cropped)
            entries.append(PhotoEntry(name, path, classes[0], split, objects=wanted))
    return write_record_set(entries, directory / "set", WriteOptions("toy", classes=("ace", "king")))[0].directory


def masks(benchmark):
    relevance, ids = benchmark.relevance(), np.array(benchmark.database.ids)
    return {
        photo: tuple(set(ids[mask]) for mask in relevance.masks(query))
        for query, photo in enumerate(benchmark.queries.ids)
    }


def test_crops_are_right_in_photos_that_show_their_class_besides_their_own(tmp_path):
    benchmark = Benchmark.load(with_objects(tmp_path, ("queries",)))
    assert (benchmark.relevance_kind, benchmark.cropped_queries) == ("content", True)
    assert masks(benchmark) == {
        "a.png#0": ({"b.png"}, {"a.png"}),
        "a.png#1": ({"c.png"}, {"a.png"}),
        "b.png#0": ({"a.png"}, {"b.png"}),
        "c.png#0": ({"a.png"}, {"c.png"}),
    }


def test_whole_photos_are_right_where_they_share_a_class(tmp_path):
    assert masks(Benchmark.load(with_objects(tmp_path, ()))) == {
        "a.png": ({"b.png", "c.png"}, {"a.png"}),
        "b.png": ({"a.png"}, {"b.png"}),
        "c.png": ({"a.png"}, {"c.png"}),
    }


def test_crops_among_crops_leave_out_themselves_alone(tmp_path):
    assert masks(Benchmark.load(with_objects(tmp_path, ("queries", "database")))) == {
        "a.png#0": ({"b.png#0"}, {"a.png#0"}),
        "a.png#1": ({"c.png#0"}, {"a.png#1"}),
        "b.png#0": ({"a.png#0"}, {"b.png#0"}),
        "c.png#0": ({"a.png#1"}, {"c.png#0"}),
    }
