"""Plans of shards, and what was written of them, as JSON: how processes of one job tell each other."""

import dataclasses
from pathlib import Path

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.objects import Annotation, Object, ObjectFault, PhotoObjects
from tfretrieval.data.record_set import Shard
from tfretrieval.data.record_shards import JudgedQuery, Rejected, RejectedObject, ShardPlan, WrittenShard
from tfretrieval.data.sources import PhotoEntry


def plan_to_json(plan: ShardPlan) -> dict:
    """Returns a plan as a JSON object; fields at their defaults are left out."""
    return {
        "split": plan.split,
        "file": plan.file,
        "labels": dict(plan.labels),
        "judged": plan.judged,
        "entries": [_plain(entry) for entry in plan.entries],
        "judgements": [judgement and _plain(judgement) for judgement in plan.judgements],
    }


def plan_from_json(value: dict) -> ShardPlan:
    """Returns the plan that `plan_to_json` was given."""
    entries = tuple(_entry(entry) for entry in value["entries"])
    judgements = tuple(judgement and _judgement(judgement) for judgement in value["judgements"])
    return ShardPlan(value["split"], value["file"], entries, judgements, value["labels"], value["judged"])


def written_to_json(written: WrittenShard) -> dict:
    """Returns a written shard as a JSON object."""
    return {field.name: _plain(getattr(written, field.name)) for field in dataclasses.fields(written)}


def written_from_json(value: dict) -> WrittenShard:
    """Returns what `written_to_json` was given."""
    return WrittenShard(
        split=value["split"],
        shard=Shard(**value["shard"]),
        index=[tuple(row) for row in value["index"]],
        objects=[[tuple(item) for item in photo] for photo in value["objects"]],
        queries=[JudgedQuery(**{**query, "judgement": _judgement(query["judgement"])}) for query in value["queries"]],
        rejected=[Rejected(**photo) for photo in value["rejected"]],
        rejected_objects=[RejectedObject(**item) for item in value["rejected_objects"]],
        clipped=value["clipped"],
    )


def _plain(value: object) -> object:
    """Returns a value in the types of JSON, its dataclasses as objects without what is at its default."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        defaults = {field.name: field.default for field in dataclasses.fields(value)}
        return {name: _plain(own) for name, own in fields.items() if own is not defaults[name] and own != ()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _entry(value: dict) -> PhotoEntry:
    own = {"path": Path(value["path"]), "boxes": tuple(map(tuple, value.get("boxes", ())))}
    if "objects" in value:
        own["objects"] = PhotoObjects(**{**value["objects"], "annotation": _annotation(value["objects"]["annotation"])})
    return PhotoEntry(**{**value, **own})


def _annotation(value: dict) -> Annotation:
    objects = tuple(
        Object(**{**item, "box": tuple(item["box"]), "flags": frozenset(item.get("flags", ()))})
        for item in value.get("objects", ())
    )
    own = {"file": Path(value["file"]), "objects": objects}
    own["faults"] = tuple(ObjectFault(**fault) for fault in value.get("faults", ()))
    return Annotation(**{**value, **own, "size": tuple(value["size"]) if "size" in value else None})


def _judgement(value: dict) -> QueryJudgement:
    lists = {grade: tuple(value.get(grade, ())) for grade in ("easy", "hard", "junk")}
    return QueryJudgement(**lists, box=tuple(value["box"]) if "box" in value else None, group=value.get("group", ""))
