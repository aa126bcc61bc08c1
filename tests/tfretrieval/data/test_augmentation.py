import dataclasses
import math

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import augmentation
from tfretrieval.data.augmentation import NO_AUGMENTATION, Augmentation, RandomColour, RandomErasing, StatelessSeed
from tfretrieval.errors import InputError

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
OBLONG = cv2.resize(RNG.integers(0, 256, (4, 6, 3)).astype(np.uint8), (96, 64), interpolation=cv2.INTER_CUBIC)
BATCH = RNG.uniform(0, 255, (8, 12, 10, 3)).astype(np.float32)


def only(**ranges):
    return dataclasses.replace(NO_AUGMENTATION, **ranges)


def matrices(height, width, size, how, count):
    """View matrices of many seeds, float [count, 2, 3]."""
    draws = np.random.default_rng(5).random((count, 6))
    return augmentation.view_matrices(np.tile([height, width], (count, 1)), size, how, draws)


def random_view(photo, size, how, seed):
    """One view of a photo, uint8 [size, size, 3], and its matrix."""
    draws = np.random.default_rng(seed).random((1, 6))
    matrix = augmentation.view_matrices([photo.shape[:2]], size, how, draws)[0]
    return augmentation.cut_view(photo, matrix, size), matrix


@pytest.mark.parametrize("seed", range(3))
def test_without_augmentation_the_view_of_a_square_photo_is_the_photo(seed):
    view, _ = random_view(NOISE, 64, NO_AUGMENTATION, seed)
    np.testing.assert_array_equal(view, NOISE)


def test_a_flipped_view_is_the_mirrored_photo():
    views = [random_view(NOISE, 64, only(flip=True), seed)[0] for seed in range(12)]
    mirrored = [np.array_equal(view, NOISE[:, ::-1]) for view in views]
    same = [np.array_equal(view, NOISE) for view in views]
    assert any(mirrored)
    assert any(same)
    assert all(one != other for one, other in zip(mirrored, same, strict=True))


def test_the_matrix_of_a_full_view_by_hand():
    # A square of 50 pixels shows 100: each pixel's centre lies between two of the photo's, 0.5, 2.5, ...
    (matrix,) = matrices(100, 100, 50, NO_AUGMENTATION, 1)
    np.testing.assert_allclose(matrix, [[2, 0, 0.5], [0, 2, 0.5]], atol=1e-5)
    (enlarged,) = matrices(10, 10, 40, NO_AUGMENTATION, 1)
    np.testing.assert_allclose(enlarged, [[0.25, 0, -0.375], [0, 0.25, -0.375]], atol=1e-6)


def test_a_full_crop_of_an_oblong_photo_takes_its_shorter_side_and_equal_area_of_the_longer():
    found = matrices(50, 200, 100, NO_AUGMENTATION, 100)  # sqrt(50 * 200) = 100 wide, 50 high
    np.testing.assert_allclose(found[:, :, :2], np.broadcast_to([[1, 0], [0, 0.5]], (100, 2, 2)), atol=1e-5)
    np.testing.assert_allclose(found[:, 1, 2], -0.25, atol=1e-4)
    assert (found[:, 0, 2] >= -1e-4).all()
    assert (found[:, 0, 2] <= 100 + 1e-4).all()
    assert np.ptp(found[:, 0, 2]) > 80


def test_crops_keep_their_share_of_the_area_their_aspect_and_stay_inside():
    found = matrices(80, 80, 40, Augmentation(min_area=0.4, aspect=1.2, flip=False), 300)
    width, height = found[:, 0, 0] * 40, found[:, 1, 1] * 40
    share, stretch = width * height / 6400, height / width
    assert 0.4 - 1e-4 <= share.min() < 0.45
    assert 0.9 < share.max() <= 1 + 1e-4
    assert 1 / 1.2 - 1e-4 <= stretch.min() < 0.87
    assert 1.15 < stretch.max() <= 1.2 + 1e-4
    first = found @ np.array([-0.5, -0.5, 1])  # the outer corners of the square, in the photo
    last = found @ np.array([39.5, 39.5, 1])
    assert first.min() >= -0.5 - 1e-3
    assert last.max() <= 79.5 + 1e-3
    assert (last - first).min() > 0
    assert np.ptp(first, axis=0).min() > 15


@pytest.mark.parametrize("limit", [30, 180])
def test_rotation_reaches_its_limit_either_way_and_not_beyond(limit):
    found = matrices(60, 60, 30, only(rotation=float(limit)), 300)
    angles = np.degrees(np.arctan2(found[:, 1, 0], found[:, 0, 0]))
    assert -limit - 1e-3 <= angles.min() < -0.9 * limit
    assert 0.9 * limit < angles.max() <= limit + 1e-3
    # A turn and nothing else, about the photo's middle.
    np.testing.assert_allclose(
        found[:, :, :2] @ found[:, :, :2].transpose(0, 2, 1), np.tile(4 * np.eye(2), (300, 1, 1)), atol=1e-4
    )
    np.testing.assert_allclose(np.linalg.det(found[:, :, :2]), 4, atol=1e-4)
    np.testing.assert_allclose(found @ [14.5, 14.5, 1], 29.5, atol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
def test_half_of_the_photos_are_flipped_where_wanted(flip):
    found = matrices(60, 60, 30, Augmentation(rotation=20.0, flip=flip), 400)
    mirrored = np.linalg.det(found[:, :, :2]) < 0
    assert 160 < mirrored.sum() < 240 if flip else not mirrored.any()


@pytest.mark.parametrize("seed", range(4))
def test_a_view_shows_the_photo_at_the_places_of_its_matrix(seed):
    view, matrix = random_view(OBLONG, 32, Augmentation(min_area=0.3, rotation=60.0), seed)
    expected = np.zeros((32, 32, 3))
    for row in range(32):
        for column in range(32):
            x, y = matrix @ (column, row, 1)
            left, top = math.floor(x), math.floor(y)
            for at_y, share_y in ((top, top + 1 - y), (top + 1, y - top)):
                for at_x, share_x in ((left, left + 1 - x), (left + 1, x - left)):
                    expected[row, column] += share_y * share_x * OBLONG[reflected(at_y, 64), reflected(at_x, 96)]
    assert np.abs(view - expected).max() <= 2  # OpenCV interpolates at 1/32 of a pixel
    assert np.abs(view - expected).mean() < 0.6


def reflected(at, length):
    """Place in a row of pixels reflected at its ends, which are not repeated."""
    at = abs(at) % (2 * length - 2)
    return min(at, 2 * length - 2 - at)


def draws_of(shape, low, high, seed):
    return np.asarray(keras.random.uniform(shape, low, high, seed=StatelessSeed(tf.constant(seed))))


def varied(photos, how, seed=(4, 9)):
    return np.asarray(RandomColour(how)(photos, seed=StatelessSeed(tf.constant(seed))))


def test_colour_without_ranges_changes_nothing():
    np.testing.assert_allclose(varied(BATCH, NO_AUGMENTATION), BATCH, atol=1e-3)
    assert augmentation.colour_layers(NO_AUGMENTATION) == []
    np.testing.assert_array_equal(augmentation.vary_colours(NOISE[None], [], tf.constant([1, 2])), NOISE[None])


@pytest.mark.parametrize(
    "how",
    [
        only(brightness=0.5),
        only(contrast=0.9),
        only(saturation=0.9),
        only(hue=1.0),
        only(brightness=0.2, contrast=0.3, saturation=0.5, hue=0.4),
    ],
    ids=["brightness", "contrast", "saturation", "hue", "all"],
)
def test_colours_are_varied_as_an_explicit_loop_does(how):
    saturations, hues, contrasts, shifts = draws_of((4, 8, 1, 1), -1, 1, (4, 9)).reshape(4, 8).astype(float)
    luma, axis = np.array([0.299, 0.587, 0.114]), np.ones(3) / math.sqrt(3)
    expected = np.zeros_like(BATCH)
    for photo in range(8):
        mean = (BATCH[photo].astype(float) @ luma).mean()
        contrast, saturation = 1 + how.contrast * contrasts[photo], 1 + how.saturation * saturations[photo]
        angle = math.pi * how.hue * hues[photo]
        for row, column in np.ndindex(12, 10):
            colour = contrast * BATCH[photo, row, column].astype(float) + (1 - contrast) * mean
            colour = saturation * colour + (1 - saturation) * (colour @ luma)
            turned = colour * math.cos(angle) + np.cross(axis, colour) * math.sin(angle)
            turned += axis * (axis @ colour) * (1 - math.cos(angle))
            expected[photo, row, column] = np.clip(turned * (1 + how.brightness * shifts[photo]), 0, 255)
    np.testing.assert_allclose(varied(BATCH, how), expected, atol=0.01)
    assert np.abs(expected - BATCH).max(axis=(1, 2, 3)).min() > 0.1


def test_grey_stays_grey_under_saturation_and_hue():
    grey = np.repeat(BATCH[..., :1], 3, axis=-1)
    np.testing.assert_allclose(varied(grey, only(saturation=0.9, hue=1.0)), grey, atol=1e-2)
    unequal = varied(grey, only(brightness=0.3, contrast=0.5, saturation=0.9, hue=1.0))
    np.testing.assert_allclose(np.ptp(unequal, axis=-1), 0, atol=1e-2)


def test_colours_stay_in_their_range_and_differ_between_photos():
    same = np.repeat(BATCH[:1], 8, axis=0)
    found = varied(same, only(brightness=0.9, contrast=0.9))
    assert found.min() >= 0
    assert found.max() <= 255
    assert len({photo.tobytes() for photo in found}) == 8


def erased(share, photos, seed=(1, 2)):
    found = np.asarray(RandomErasing(share)(photos, seed=StatelessSeed(tf.constant(seed))))
    return found, (found != photos).any(axis=-1)


def test_erasing_covers_a_rectangle_of_every_photo_with_its_mean_colour():
    photos = RNG.uniform(0, 255, (60, 50, 80, 3)).astype(np.float32)
    found, covered = erased(1.0, photos)
    shares = []
    for photo, after, where in zip(photos, found, covered, strict=True):
        rows, columns = where.any(axis=1), where.any(axis=0)
        np.testing.assert_array_equal(where, rows[:, None] & columns[None])
        for line in (rows, columns):
            assert np.abs(np.diff(line.astype(int))).sum() <= 2  # one run without a gap
        np.testing.assert_allclose(
            after[where], np.broadcast_to(photo.mean(axis=(0, 1)), (where.sum(), 3)), rtol=1e-4, atol=1e-3
        )
        height, width = rows.sum(), columns.sum()
        # The sides are rounded to whole pixels, up or down by less than one.
        assert (height + 1) / 50 * (width + 1) / 80 > 0.02
        assert (height - 1) / 50 * (width - 1) / 80 < 0.25
        assert (height - 1) / 50 / ((width + 1) / 80) < 2.5
        assert (width - 1) / 80 / ((height + 1) / 50) < 2.5
        shares.append(where.mean())
    assert min(shares) < 0.06
    assert max(shares) > 0.2


def test_erasing_takes_its_share_of_the_photos():
    photos = RNG.uniform(0, 255, (400, 12, 12, 3)).astype(np.float32)
    _, none = erased(0.0, photos)
    assert not none.any()
    _, some = erased(0.3, photos)
    assert 85 < some.any(axis=(1, 2)).sum() < 155


def test_layers_are_made_for_the_ranges_that_are_not_zero():
    kinds = [type(layer) for layer in augmentation.colour_layers(Augmentation(erasing=0.5))]
    assert kinds == [RandomColour, RandomErasing]
    assert [type(layer) for layer in augmentation.colour_layers(only(erasing=0.1))] == [RandomErasing]
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert [type(layer) for layer in augmentation.colour_layers(only(**{name: 0.1}))] == [RandomColour]


def test_vary_colours_is_a_function_of_the_seed_in_eager_and_in_graphs():
    how = Augmentation(hue=0.2, erasing=1.0)
    layers = augmentation.colour_layers(how)
    photos = BATCH.astype(np.uint8)
    eager = augmentation.vary_colours(photos, layers, tf.constant([3, 4], tf.int64)).numpy()
    again = augmentation.vary_colours(photos, augmentation.colour_layers(how), tf.constant([3, 4])).numpy()
    other = augmentation.vary_colours(photos, layers, tf.constant([3, 5])).numpy()
    graph = tf.function(
        lambda batch, seed: augmentation.vary_colours(batch, layers, seed),
        input_signature=[tf.TensorSpec([None, 12, 10, 3], tf.uint8), tf.TensorSpec([2], tf.int32)],
    )
    np.testing.assert_array_equal(eager, again)
    np.testing.assert_allclose(graph(photos, [3, 4]), eager, atol=1e-3)
    assert (eager != other).any()
    assert eager.dtype == np.float32


def test_a_stateless_seed_counts_its_draws():
    first, second = (StatelessSeed(tf.constant([1, 2])) for _ in range(2))
    draws = [[tuple(seed.next().numpy()) for _ in range(3)] for seed in (first, second)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 3


@pytest.mark.parametrize(
    ("name", "values", "limits"),
    [
        ("min_area", (0.0, 1.1, math.nan), "0.001 to 1"),
        ("aspect", (0.9, 11.0), "1 to 10"),
        ("rotation", (-1.0, 181.0), "0 to 180"),
        ("brightness", (-0.1, 1.1), "0 to 0.99"),
        ("contrast", (-0.1, 1.0), "0 to 0.99"),
        ("saturation", (-0.1, 1.0), "0 to 0.99"),
        ("hue", (-0.1, 1.1), "0 to 1"),
        ("erasing", (-0.1, 1.1), "0 to 1"),
    ],
)
def test_ranges_outside_of_their_limits_name_the_flag_and_the_limits(name, values, limits):
    for value in values:
        with pytest.raises(InputError, match=f"--{name}={value}; a value from {limits} is wanted"):
            Augmentation(**{name: value})
