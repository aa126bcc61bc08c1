import pytest

from export.client import DescriptorClient, photos_in_folder, photos_of_split
from tfretrieval.data import records
from tfretrieval.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """A folder of three photos, and of files that are none or hidden."""
    for name in ("b.JPG", "a/z.png", "a/é.webp", ".hidden.png", ".dir/x.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_a_folders_photos_are_named_by_their_paths_and_read_as_they_are_needed(folder):
    photos = photos_in_folder(folder)
    assert photos.ids == ("a/z.png", "a/é.webp", "b.JPG") and len(photos) == 3
    assert list(photos) == list(photos) == [(name, name.encode()) for name in photos.ids]
    read = iter(photos)
    assert next(read) == ("a/z.png", b"a/z.png")
    (folder / "a/é.webp").write_bytes(b"changed")
    assert next(read) == ("a/é.webp", b"changed")
    (folder / "b.JPG").unlink()
    with pytest.raises(InputError, match=r"b\.JPG cannot be read \(No such file"):
        next(read)


def test_folders_without_photos_are_told(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        photos_in_folder(tmp_path / "missing")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds no photo \(.*\.png"):
        photos_in_folder(tmp_path)
    (tmp_path / "two\nlines.png").touch()
    with pytest.raises(InputError, match="one line"):
        photos_in_folder(tmp_path)


def test_a_splits_photos_are_those_of_its_records(record_set):
    split = record_set.split("database")
    photos = photos_of_split(split)
    assert [name for name, _ in photos] == list(split.ids)
    assert [photo for _, photo in photos] == [records.decode_record(split.read(row)).photo.encoded for row in range(12)]


def test_a_folder_streams_through_a_client(folder, serve):
    with DescriptorClient(serve().address, max_batch_photos=1) as client:
        found = list(client.stream(photos_in_folder(folder)))
    assert [(each.id, each.descriptor[0]) for each in found] == [("a/z.png", 7), ("a/é.webp", 9), ("b.JPG", 5)]
