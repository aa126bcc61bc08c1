import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from tfretrieval import files, sharded_descriptors
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.sharded_descriptors import Part, ShardedDescriptors
from tfretrieval.sharded_extraction import PartDescriber, extract_shards

ROOT = Path(__file__).parents[2]
PHOTOS, SHARDS, DIMENSION = 37, 5, 3
IDS = tuple(f"p{row},ü.jpg" for row in range(PHOTOS))
VECTORS = np.random.default_rng(5).normal(size=(PHOTOS, DIMENSION)).astype(np.float32)
SHARD_OF = [shard for shard in range(SHARDS) for _ in range(PHOTOS * shard // SHARDS, PHOTOS * (shard + 1) // SHARDS)]
INPUTS = {"model": "ab" * 32, "precision": "float32"}
REJECTED = {0: "no image", 20: 'cut, "short"', 36: "empty"}


def describer(rejected=None, seen=None):
    """Gives the rows of VECTORS, and notes what it was asked for."""
    rejected = rejected or {}

    def parts(rows, update):
        for part in rows:
            if seen is not None:
                seen.extend(part)
            update(len(part))
            here = {row: rejected[row] for row in part if row in rejected}
            yield Part(VECTORS[[row for row in part if row not in rejected]], here)

    return PartDescriber(parts, lambda: 0.0)


def work_in(directory, **other):
    return ShardedDescriptors.open(directory, {**INPUTS, **other}, PHOTOS, SHARDS)


def extract(directory, rejected=None, seen=None, **options):
    return extract_shards(work_in(directory), describer(rejected, seen), IDS, "train", {"model": "m"}, **options)


def content(directory):
    """All bytes of a directory but those that tell how fast it was."""
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != "speed.json"}


def test_the_finished_directory_is_the_ordinary_one_byte_for_byte(tmp_path):
    extract(tmp_path / "shards")
    Descriptors(VECTORS, IDS, {"model": "m"}).save(tmp_path / "plain")
    made, plain = content(tmp_path / "shards"), content(tmp_path / "plain")
    assert {name: made[name] for name in plain} == plain
    assert sorted(made.keys() - plain.keys()) == ["extraction.json", "rejected.csv", "shards.json"]
    assert made["rejected.csv"] == b"photo,split,reason\n"
    loaded = Descriptors.load(tmp_path / "shards")
    assert isinstance(loaded.vectors, np.memmap)
    np.testing.assert_array_equal(loaded.vectors, VECTORS)


def test_rejected_photos_are_listed_and_have_no_row(tmp_path):
    extract(tmp_path / "d", REJECTED)
    kept = [row for row in range(PHOTOS) if row not in REJECTED]
    loaded = Descriptors.load(tmp_path / "d")
    np.testing.assert_array_equal(loaded.vectors, VECTORS[kept])
    assert loaded.ids == tuple(IDS[row] for row in kept)
    text = (tmp_path / "d" / "rejected.csv").read_text(encoding="utf-8")
    assert text == (
        'photo,split,reason\n"p0,ü.jpg",train,no image\n"p20,ü.jpg",train,"cut, ""short"""\n"p36,ü.jpg",train,empty\n'
    )
    assert [shard["photos"] for shard in json.loads((tmp_path / "d" / "shards.json").read_text())] == [6, 7, 7, 7, 7]


def test_too_many_rejected_photos_stop_the_work_and_what_is_done_stays(tmp_path):
    seen = []
    with pytest.raises(InputError, match=r"2 of 37 photos had to be rejected so far \(first 'p0,ü.jpg': no image\)"):
        extract(tmp_path / "d", REJECTED, seen, max_rejected=0.05)
    assert seen[-1] < 22
    again = []
    extract(tmp_path / "d", REJECTED, again, max_rejected=0.1)
    assert sorted(seen + again) == list(range(PHOTOS))
    with pytest.raises(InputError, match=r"all 37 photos were rejected, first 'p0,ü.jpg': gone"):
        extract(tmp_path / "all", dict.fromkeys(range(PHOTOS), "gone"))


class Killed(BaseException):
    """What no code of the library catches."""


def kill_at(monkeypatch, call):
    """Lets the process end, as far as the disk sees, at the given call of those that change the disk."""
    calls = 0

    def dying(function):
        def run(*given, **named):
            nonlocal calls
            calls += 1
            if calls == call:
                raise Killed
            return function(*given, **named)

        return run

    for module, name in ((files.os, "replace"), (Path, "mkdir"), (Path, "unlink")):
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    monkeypatch.setattr(files.os, "fsync", dying(lambda _: None))  # the process dies here, and not the machine
    monkeypatch.setattr(sharded_descriptors.shutil, "rmtree", dying(sharded_descriptors.shutil.rmtree))
    monkeypatch.setattr(files.Path, "write_text", dying(files.Path.write_text))


def test_killed_before_any_change_of_the_disk_it_goes_on_to_the_same_bytes(tmp_path):
    extract(tmp_path / "whole", REJECTED)
    expected, call = content(tmp_path / "whole"), 0
    while True:
        call += 1
        directory, seen = tmp_path / str(call), []
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, call)
            try:
                extract(directory, REJECTED, seen)
                break
            except Killed:
                pass
        done = {row for row in range(PHOTOS) if (directory / "shards" / f"{SHARD_OF[row]:05}.json").is_file()}
        if not (directory / "meta.json").is_file() and (directory / "extraction.json").is_file():
            with pytest.raises(InputError, match=r"was cut off; pipelines\.extract with its flags goes on"):
                Descriptors.load(directory)
        again = []
        extract(directory, REJECTED, again)
        assert not done & set(again), call
        twice = set(seen) & set(again)
        assert len({SHARD_OF[row] for row in twice}) <= 1, call  # the shard in hand
        assert content(directory) == expected, call
    assert call > 30


CHILD = """
import os, sys, time
import numpy as np
from tfretrieval.sharded_descriptors import Part, ShardedDescriptors
from tfretrieval.sharded_extraction import PartDescriber, extract_shards

directory, log = sys.argv[1:]
log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def parts(rows, update):
    for part in rows:
        for row in part:
            os.write(log, f"{row}\\n".encode())
            time.sleep(0.004)
        yield Part(np.stack([np.random.default_rng(row).normal(size=400).astype(np.float32) for row in part]), {})

work = ShardedDescriptors.open(directory, {}, 120, 12)
extract_shards(work, PartDescriber(parts), [str(row) for row in range(120)], "train", {})
"""


def test_killed_by_the_system_at_random_instants_it_goes_on_to_the_same_bytes(tmp_path):
    def start(name):
        command = [sys.executable, "-c", textwrap.dedent(CHILD), tmp_path / name, tmp_path / f"{name}.log"]
        return subprocess.Popen(command, cwd=ROOT)

    assert start("whole").wait(60) == 0
    log, rng, kills, done = tmp_path / "cut.log", np.random.default_rng(), 0, []
    log.touch()
    while True:
        size, child = log.stat().st_size, start("cut")
        while child.poll() is None and (log.stat().st_size == size or kills == 6):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
        child.send_signal(signal.SIGKILL)
        if child.wait(60) == 0:
            break
        kills += 1
        redone = [int(row) for row in log.read_bytes()[size:].split()]
        assert not {row // 10 for row in redone} & set(done)
        done = [int(path.stem) for path in (tmp_path / "cut" / "shards").glob("[0-9]*.json")]
    assert kills >= 1
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    times = np.bincount(np.array(log.read_text().split(), int), minlength=120)
    assert times.min() == 1 and times.sum() - 120 <= kills * 10


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"model": "cd" * 32}, r"model was abababababab\.\.\. and is cdcdcdcdcdcd\.\.\.\)"),
        (
            {"precision": "bfloat16"},
            r"\(precision was float32 and is bfloat16\); the same as then, or another --output",
        ),
        ({"query_crop": "none"}, r"query_crop was None and is none"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_other_inputs_are_refused(tmp_path, other, sentence, finished):
    work_in(tmp_path)
    if finished:
        extract(tmp_path)
    with pytest.raises(InputError, match=sentence):
        work_in(tmp_path, **other)
    for photos, shards in ((PHOTOS + 1, SHARDS), (PHOTOS, SHARDS + 1)):
        with pytest.raises(InputError, match="was begun otherwise"):
            ShardedDescriptors.open(tmp_path, INPUTS, photos, shards)


def test_a_finished_directory_stays_as_it_is(tmp_path):
    extract(tmp_path / "d")
    before, seen = content(tmp_path / "d"), []
    speed = extract(tmp_path / "d", None, seen)
    assert (seen, speed.photos, speed.shares()) == ([], 0, {})
    assert content(tmp_path / "d") == before


def test_directories_of_other_things_are_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"1")
    with pytest.raises(InputError, match=r"holds other files and no extraction\.json"):
        work_in(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        work_in(tmp_path / "photo.jpg")


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "checksum"])
def test_a_shard_whose_bytes_are_not_those_of_its_checksum_is_done_again(tmp_path, damage):
    work = work_in(tmp_path)
    for shard in (1, 3):
        work.commit(shard, Part(VECTORS[work.rows(shard)], {}))
    vectors, told = tmp_path / "shards" / "00003.npy", tmp_path / "shards" / "00003.json"
    assert work.missing() == [0, 2, 4]
    whole = vectors.read_bytes()
    if damage == "gone":
        vectors.unlink()
    elif damage == "checksum":
        told.write_text("{")
    else:
        vectors.write_bytes(whole[:-4] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    assert work.missing() == [0, 2, 3, 4]
    seen = []
    extract(tmp_path, None, seen)
    assert sorted(seen) == sorted(row for shard in (0, 2, 3, 4) for row in work.rows(shard))
    np.testing.assert_array_equal(Descriptors.load(tmp_path).vectors, VECTORS)


def test_a_shard_that_changes_while_the_work_goes_on_is_named(tmp_path):
    work = work_in(tmp_path)
    for shard in range(SHARDS):
        work.commit(shard, Part(VECTORS[work.rows(shard)], {}))
    path = tmp_path / "shards" / "00002.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=r"00002\.npy has changed since it was written"):
        work.finish(IDS, "train", {})
    assert not work.finished


def test_two_processes_do_not_write_one_directory(tmp_path):
    work_in(tmp_path)
    with files.locked(tmp_path / ".lock", "held"), pytest.raises(InputError, match="is being written by another"):
        extract(tmp_path)
    extract(tmp_path)


def test_no_more_shards_are_made_than_there_are_photos(tmp_path):
    work = ShardedDescriptors.open(tmp_path, INPUTS, 3, 100)
    assert [work.rows(shard) for shard in range(work.shards)] == [range(0, 1), range(1, 2), range(2, 3)]


def test_a_part_of_another_size_is_a_fault_of_the_caller(tmp_path):
    work = work_in(tmp_path)
    with pytest.raises(ValueError, match="7 photos"):
        work.commit(0, Part(VECTORS[:6], {}))
    with pytest.raises(ValueError, match="float64"):
        work.commit(0, Part(VECTORS[:7].astype(np.float64), {}))


def test_progress_counts_what_this_start_does_and_tells_what_the_time_goes_into(tmp_path):
    work, told = work_in(tmp_path), []
    work.commit(2, Part(VECTORS[work.rows(2)], {}))

    class Bar:
        def __init__(self, total):
            told.append(total)

        def set_postfix_str(self, text, refresh):
            told.append(text)

        def update(self, photos):
            told.append(photos)

        def close(self):
            told.append("closed")

    busy = iter(np.arange(0, 100, 1e-4))
    timed = PartDescriber(describer().parts, lambda: next(busy))
    speed = extract_shards(work, timed, IDS, "train", {}, progress=Bar)
    assert told[0] == PHOTOS - 8 and "closed" in told
    assert sum(photos for photos in told[1:] if isinstance(photos, int)) == speed.photos == PHOTOS - 8
    assert any("network" in str(text) and "write" in str(text) for text in told)
    assert sum(speed.shares().values()) == pytest.approx(1, abs=1e-3)
    kept = json.loads((tmp_path / "speed.json").read_text())
    assert kept["photos"] == PHOTOS - 8 and kept["photos_per_second"] > 0 and set(kept["share_of_time"]) == {
        "network", "decode", "write"
    }  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="flock is POSIX")
def test_a_lock_goes_with_its_process(tmp_path):
    script = (
        f"from tfretrieval import files\nwith files.locked({str(tmp_path / 'l')!r}, ''): print(1, flush=True); input()"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    child.stdout.readline()
    with pytest.raises(InputError, match="taken"), files.locked(tmp_path / "l", "taken"):
        pass
    child.kill()
    child.wait()
    with files.locked(tmp_path / "l", "taken"):
        pass
