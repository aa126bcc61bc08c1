import dataclasses

import numpy as np
import pytest

from tfretrieval.data import scenes
from tfretrieval.data.scene_geometry import SceneSet
from tfretrieval.errors import InputError
from tfretrieval.mining.positives import POSITIVES, Candidates, GeometricPositives, InstancePositives


def test_a_positive_is_another_photo_of_the_querys_instance_and_any_can_be_drawn():
    labels = np.array([5, 3, 5, 8, 3, 5, 5, 9])
    drawer, drawn = InstancePositives(labels), {}
    queries = drawer.eligible()
    assert queries.tolist() == [0, 1, 2, 4, 5, 6]  # the photos with a match
    for seed in range(200):
        positives = drawer.draw(queries, np.random.default_rng(seed), None)
        for query, positive in zip(queries.tolist(), positives.tolist(), strict=True):
            assert query != positive and labels[query] == labels[positive]
            drawn.setdefault(query, []).append(positive)
    for query, positives in drawn.items():
        others = [row for row in range(len(labels)) if labels[row] == labels[query] and row != query]
        counts = [positives.count(row) for row in others]
        assert min(counts) > 0.5 * len(positives) / len(others)  # every positive, about equally often


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Four small drawn buildings, their geometry, and training ids in shuffled order, one photo left out."""
    folder = tmp_path_factory.mktemp("scenes")
    scenes.render_scenes(folder / "set", 4, 9, 3, size=(96, 128))
    found = SceneSet.load(folder / "set")
    ids = np.random.default_rng(0).permutation([photo.id for photo in found.photos()])[:-1].tolist()
    return found, tuple(ids)


@pytest.fixture(scope="module")
def candidates(drawn):
    return Candidates.from_scenes(*drawn)


def photos_by_row(drawn):
    """(scene number, photo) of each training row."""
    found, ids = drawn
    of = {photo.id: (number, photo) for number, scene in enumerate(found.scenes) for photo in scene.photos}
    return [of[photo] for photo in ids]


def test_candidates_are_the_other_training_photos_of_the_scene_nearest_camera_first(drawn, candidates):
    photos = photos_by_row(drawn)
    for row, (scene, photo) in enumerate(photos):
        expected = [other for other, (theirs, _) in enumerate(photos) if theirs == scene and other != row]
        expected.sort(key=lambda other: np.linalg.norm(photos[other][1].camera.centre - photo.camera.centre))
        assert candidates.rows[candidates.of(row)].tolist() == expected


def test_common_points_shares_and_scales_equal_sets_and_loops(drawn, candidates):
    found, _ = drawn
    photos = photos_by_row(drawn)
    for row, (scene, photo) in enumerate(photos[:12]):
        place = candidates.of(row)
        entries = zip(
            *(getattr(candidates, name)[place] for name in ("rows", "common", "share", "scale_change")), strict=True
        )
        for other, common, share, change in entries:
            theirs = photos[other][1]
            both = sorted(set(photo.visible.tolist()) & set(theirs.visible.tolist()))
            assert common == len(both)
            assert share == pytest.approx(len(both) / max(1, len(photo.visible)))
            if both:
                points = found.scenes[scene].points[both]
                ratio = np.exp(np.mean(np.log(photo.camera.scale(points) / theirs.camera.scale(points))))
                assert change == pytest.approx(max(ratio, 1 / ratio), rel=1e-9)
            else:
                assert change == np.inf


def test_no_more_candidates_than_asked(drawn, candidates):
    few = Candidates.from_scenes(*drawn, nearest=3)
    for row in range(len(drawn[1])):
        assert few.rows[few.of(row)].tolist() == candidates.rows[candidates.of(row)].tolist()[:3]


def test_m1_is_the_candidate_with_the_nearest_descriptor(drawn, candidates):
    vectors = np.random.default_rng(1).normal(size=(len(drawn[1]), 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    drawer = GeometricPositives(candidates, "m1")
    queries = drawer.eligible()[::2]
    asked = []
    positives = drawer.draw(queries, np.random.default_rng(0), lambda rows: asked.append(rows) or vectors[rows])
    for query, positive in zip(queries, positives, strict=True):
        others = candidates.rows[candidates.of(query)]
        assert positive == min(others, key=lambda other: np.linalg.norm(vectors[other] - vectors[query]))
    assert len(asked) == 1


def test_m2_shares_the_most_points(candidates):
    drawer = GeometricPositives(candidates, "m2")
    queries = drawer.eligible()
    for query, positive in zip(queries, drawer.draw(queries, np.random.default_rng(0), None), strict=True):
        place = candidates.of(query)
        shared = dict(zip(candidates.rows[place].tolist(), candidates.common[place].tolist(), strict=True))
        assert shared[positive] == max(shared.values()) > 0


def test_m3_keeps_within_its_limits_and_reaches_every_candidate_that_does(candidates):
    drawer = GeometricPositives(candidates, "m3", 0.3, 1.4)
    queries, seen = drawer.eligible(), {}
    for seed in range(60):
        for query, positive in zip(queries, drawer.draw(queries, np.random.default_rng(seed), None), strict=True):
            seen.setdefault(int(query), set()).add(int(positive))
    allowed = {}
    for row in range(len(candidates.offsets) - 1):
        place = candidates.of(row)
        within = (candidates.share[place] >= 0.3) & (candidates.scale_change[place] <= 1.4)
        if within.any():
            allowed[row] = set(candidates.rows[place][within].tolist())
    assert seen == allowed
    assert any(len(rows) < candidates.of(row).stop - candidates.of(row).start for row, rows in allowed.items())


def test_a_photo_that_shares_nothing_is_no_query_of_m3_even_without_limits():
    alone = Candidates(*(np.array(values) for values in ([0, 1, 2], [1, 0], [0, 0], [0.0, 0.0], [np.inf, np.inf])))
    assert GeometricPositives(alone, "m3", 0.0, np.inf).eligible().tolist() == []
    assert GeometricPositives(alone, "m2").eligible().tolist() == []
    assert GeometricPositives(alone, "m1").eligible().tolist() == [0, 1]


def test_photos_without_geometry_are_counted_and_the_first_is_named(drawn):
    found, ids = drawn
    with pytest.raises(InputError, match=r"lacks 2 of 37 training photos, first 'elsewhere.jpg'"):
        Candidates.from_scenes(found, (*ids, "elsewhere.jpg", "nowhere.jpg"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"choice": "m4"}, "--positives=m4 is unknown; one of instance, m1, m2, m3"),
        ({"least_share": 1.5}, "--common_points=1.5; a share from 0 to 1"),
        ({"most_change": 0.5}, "--scale_change=0.5; 1 or more"),
    ],
)
def test_limits_out_of_range_name_their_flag(candidates, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        dataclasses.replace(GeometricPositives(candidates), **changes)


def test_candidates_of_unequal_length_are_refused():
    with pytest.raises(InputError, match="as many as the last offset"):
        Candidates(np.array([0, 2]), np.arange(2), np.arange(3), np.ones(2), np.ones(2))


def test_the_choices_are_the_papers():
    assert POSITIVES == ("instance", "m1", "m2", "m3")
