import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.search.local_features import LocalFeatures, root_sift


def picture(seed=0, height=240, width=320):
    """A photo of overlapping rectangles, with corners for SIFT."""
    rng = np.random.default_rng(seed)
    photo = np.full((height, width, 3), 128, np.uint8)
    for _ in range(150):
        x, y = rng.integers(0, width), rng.integers(0, height)
        photo[y : y + rng.integers(5, 50), x : x + rng.integers(5, 50)] = rng.integers(0, 256, 3)
    return photo


def some(dtype=np.float32):
    rng = np.random.default_rng(1)
    return LocalFeatures(
        np.array([0, 3, 3, 5]),
        rng.random((5, 2), np.float32),
        (rng.random((5, 4)) * 255).astype(dtype),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_what_is_saved_is_read(tmp_path, dtype):
    features = some(dtype)
    features.save(tmp_path / "local.npz")
    read = LocalFeatures.load(tmp_path / "local.npz")
    assert len(read) == 3 and read.descriptors.dtype == dtype
    for row, count in enumerate([3, 0, 2]):
        points, descriptors = read.photo(row)
        assert points.shape == (count, 2) and descriptors.shape == (count, 4) and descriptors.dtype == np.float32
        np.testing.assert_array_equal(points, features.photo(row)[0])
        np.testing.assert_array_equal(descriptors, features.photo(row)[1])
    joined = LocalFeatures.of_photos([read.photo(row) for row in range(3)])
    np.testing.assert_array_equal(joined.offsets, features.offsets)
    np.testing.assert_array_equal(joined.descriptors, features.descriptors.astype(np.float32))


@pytest.mark.parametrize(
    ("offsets", "points", "descriptors", "sentence"),
    [
        ([0, 3, 2, 5], np.zeros((5, 2), np.float32), np.zeros((5, 4), np.float32), "do not divide 5 local features"),
        ([0, 4], np.zeros((5, 2), np.float32), np.zeros((5, 4), np.float32), "do not divide 5 local features"),
        ([0, 5], np.zeros((5, 3), np.float32), np.zeros((5, 4), np.float32), "points are float32 of shape"),
        ([0, 5], np.zeros((5, 2), np.float32), np.zeros((4, 4), np.float32), "descriptors are float32 of shape"),
        ([0, 5], np.zeros((5, 2), np.float32), np.zeros((5, 4), np.int64), "descriptors are int64"),
        ([0, 5], np.full((5, 2), np.nan, np.float32), np.zeros((5, 4), np.float32), "not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_told_with_their_file(tmp_path, offsets, points, descriptors, sentence):
    np.savez(tmp_path / "local.npz", offsets=np.array(offsets), points=points, descriptors=descriptors)
    with pytest.raises(InputError, match=f"local.npz: .*{sentence}"):
        LocalFeatures.load(tmp_path / "local.npz")


def test_files_that_are_not_such_are_told(tmp_path):
    np.savez(tmp_path / "other.npz", offsets=np.zeros(1))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no more")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "pickled.npz", offsets=np.array([{}], object), points=np.zeros(1), descriptors=np.zeros(1))
    for name, sentence in [
        ("other.npz", "has no array 'points'"),
        ("broken.npz", "is not a readable npz"),
        ("array.npy", "is not a readable npz"),
        ("pickled.npz", "is not a readable npz"),
        ("missing.npz", "is not a readable npz"),
    ]:
        with pytest.raises(InputError, match=sentence):
            LocalFeatures.load(tmp_path / name)


def test_root_sift_descriptors_have_length_1_and_are_the_same_each_time():
    points, descriptors = root_sift(picture(), 200, 1024)
    assert 50 < len(points) <= 200 and points.dtype == descriptors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
    again = root_sift(picture(), 200, 1024)
    np.testing.assert_array_equal(points, again[0])
    np.testing.assert_array_equal(descriptors, again[1])


def test_points_of_a_shrunk_photo_are_in_its_own_pixels():
    photo = picture()
    large = np.kron(photo, np.ones((3, 3, 1), np.uint8))
    points = root_sift(large, 500, 320)[0]
    assert points[:, 0].max() > 700 and points[:, 1].max() > 500
    np.testing.assert_allclose(points, root_sift(photo, 500, 320)[0] * 3, atol=1e-3)


def test_a_photo_without_features_has_none():
    points, descriptors = root_sift(np.zeros((50, 40, 3), np.uint8), 100, 1024)
    assert points.shape == (0, 2) and descriptors.shape == (0, 128)
