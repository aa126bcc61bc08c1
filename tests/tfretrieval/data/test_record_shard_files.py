import json
import math
from pathlib import Path

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.objects import Annotation, Object, ObjectFault, PhotoObjects
from tfretrieval.data.record_set import Shard
from tfretrieval.data.record_shard_files import plan_from_json, plan_to_json, written_from_json, written_to_json
from tfretrieval.data.record_shards import JudgedQuery, Rejected, RejectedObject, ShardPlan, WrittenShard
from tfretrieval.data.sources import PhotoEntry

JUDGEMENTS = (
    QueryJudgement((3, 1, 3), (), (0,), (0.1, -2.5, 1 / 3, 7.0), "public"),
    QueryJudgement((), (2,)),
)
ANNOTATION = Annotation(
    Path("a/ü.xml"),
    (
        Object(0, "cat", (0.1, 0.2, 1 / 3, math.inf), frozenset({"occluded", "crowd"}), "line 3"),
        Object(1, "dog", (1, 2, 3, 4)),
    ),
    (ObjectFault(2, "line 9: no class"),),
    (480, 640),
    relative=True,
    stored=True,
)


def through(value):
    return json.loads(json.dumps(value))


def test_a_plan_comes_back_as_it_was():
    entries = (
        PhotoEntry("café/1.jpg", Path("/photos/café/1.jpg"), "café", "queries", ((0.5, 1.0, 2.25, 3.0), (1, 1, 2, 2))),
        PhotoEntry("2.jpg", Path("2.jpg"), "x", "queries"),
        PhotoEntry("3.jpg", Path("3.jpg"), "", "train", (), PhotoObjects(ANNOTATION, cropped=True, keep_empty=True)),
        PhotoEntry("4.jpg", Path("4.jpg"), "", "train", (), PhotoObjects(Annotation(Path("b.xml"), fault="broken"))),
    )
    plan = ShardPlan("train", "s.tfrecord", entries, (*JUDGEMENTS, None, None), {"café": 1, "(no object)": 7}, True)
    assert plan_from_json(through(plan_to_json(plan))) == plan


def test_a_written_shard_comes_back_as_it_was():
    written = WrittenShard(
        "database",
        Shard("s.tfrecord", "ab" * 32, 99, 2),
        [("database", "s.tfrecord", 12, 70, "café/1.jpg", 0, 48, 64)],
        [[(0.1, 0.2, 1 / 3, 0.4, 5, 0, ["crowd"])], []],
        [JudgedQuery("q", 48, 64, JUDGEMENTS[0]), JudgedQuery("r", 1, 2, JUDGEMENTS[1])],
        [Rejected("x", "database", "cannot be decoded")],
        [RejectedObject("a.xml", "x", "database", 3, "no area")],
        4,
    )
    assert written_from_json(through(written_to_json(written))) == written
