import json

import pytest

pytest.importorskip("apache_beam")

from tfretrieval.beam.places import PlacedFile, Places
from tfretrieval.beam.work import Work, locked
from tfretrieval.errors import InputError


def test_places_follow_the_longest_way_that_is_given(tmp_path):
    places = Places((("/mnt/photos", "gs://photos"), ("/mnt", "s3://all")))
    assert places.url("/mnt/photos/a/b.jpg") == "gs://photos/a/b.jpg"
    assert places.url("/mnt/photos") == "gs://photos"
    assert places.url("/mnt/photos2/a.jpg") == "s3://all/photos2/a.jpg"
    assert places.url("/mnt/photos/../x") == "s3://all/x"
    assert places.url(tmp_path) is None


@pytest.fixture(params=["same", "elsewhere"])
def folders(request, tmp_path):
    """A folder as it is here and as workers see it, and how they are told."""
    (tmp_path / "far").mkdir()
    if request.param == "same":
        return tmp_path / "far", tmp_path / "far", Places()
    return tmp_path / "near", tmp_path / "far", Places(((str(tmp_path / "near"), str(tmp_path / "far")),))


def test_what_is_put_is_there_whole_and_replaces(folders, tmp_path):
    near, far, places = folders
    for content in (b"first", b"second, longer"):
        (tmp_path / "scratch").write_bytes(content)
        places.put(tmp_path / "scratch", near / "deep" / "file.bin")
        assert (far / "deep" / "file.bin").read_bytes() == content
    assert [path.name for path in (far / "deep").iterdir()] == ["file.bin"]
    assert places.read_bytes(near / "deep" / "file.bin") == b"second, longer"
    assert PlacedFile(near / "deep" / "file.bin", places).read_bytes() == b"second, longer"


def test_what_is_not_there_is_an_os_error(folders):
    near, _, places = folders
    with pytest.raises(OSError):
        places.read_bytes(near / "nothing.jpg")


def test_files_and_folders_are_fetched(folders, tmp_path):
    near, far, places = folders
    (far / "run" / "deep").mkdir(parents=True)
    (far / "run" / "a").write_bytes(b"a")
    (far / "run" / "deep" / "b").write_bytes(b"b")
    whole = places.fetch(near / "run", tmp_path / "copies")
    assert (whole / "a").read_bytes() == b"a" and (whole / "deep" / "b").read_bytes() == b"b"
    one = places.fetch(near / "run" / "a", tmp_path / "copies2")
    assert one.read_bytes() == b"a"
    assert near != far or one == near / "run" / "a"


def begin(tmp_path, units, **inputs):
    return Work.open(tmp_path / "work", inputs, units, Places())


def test_a_job_goes_on_where_it_was_and_another_begins_anew(tmp_path):
    units = {"a": {"rows": [0, 4]}, "b": {"rows": [4, 8]}}
    work = begin(tmp_path, units, k=1)
    assert work.missing() == ["a", "b"] and work.unit("b") == {"rows": [4, 8]}
    (tmp_path / "scratch").write_bytes(b"data of a")
    work.commit("a", tmp_path / "scratch", {"photos": 4})
    again = begin(tmp_path, units, k=1)
    assert again.missing() == ["b"] and again.told("a") == {"photos": 4}
    assert again.data("a").read_bytes() == b"data of a"
    again.data("a").unlink()
    assert again.missing() == ["a", "b"]
    work.commit("a", tmp_path / "scratch", {"photos": 4})
    assert begin(tmp_path, units, k=2).missing() == ["a", "b"]
    assert begin(tmp_path, {"a": {"rows": [0, 8]}}, k=2).missing() == ["a"]


def test_a_worker_killed_while_it_writes_leaves_the_unit_undone(tmp_path, monkeypatch):
    work = begin(tmp_path, {"a": {}})
    (tmp_path / "scratch").write_bytes(b"data")
    real = Places.put

    def killed(self, scratch, path):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        real(self, scratch, path)

    with monkeypatch.context() as patched:
        patched.setattr(Places, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            work.commit("a", tmp_path / "scratch", {})
    assert work.missing() == ["a"]
    work.commit("a", tmp_path / "scratch", {})
    assert work.missing() == []


def test_two_jobs_at_one_output_are_one_too_many(tmp_path):
    with locked(tmp_path / "out") as place:
        assert place.parent == tmp_path
        with pytest.raises(InputError, match="another process"), locked(tmp_path / "out"):
            pass
    with locked(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


def test_units_are_json_in_the_directory(tmp_path):
    begin(tmp_path, {"a.tfrecord": {"x": 1}})
    assert json.loads((tmp_path / "work" / "units" / "a.tfrecord.json").read_text()) == {"x": 1}
