import dataclasses
import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest

from tfretrieval.data import (
    scene_buildings,
    scene_canvas,
    scene_clutter,
    scene_frame,
    scene_photos,
    scene_textures,
    scenes,
)
from tfretrieval.errors import InputError

SIZE = (96, 128)


def tree(directory):
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    output = tmp_path_factory.mktemp("scenes") / "drawn"
    return output, scenes.render_scenes(output, 3, 5, seed=4, size=SIZE)


@pytest.fixture(scope="module")
def building():
    rng = np.random.default_rng(8)
    return scene_buildings.draw_building(rng, scene_textures.draw_style(rng))


def small_camera(centre=(0.0, 0.0, -10.0), focal=100.0):
    return scenes.Camera(np.array(centre), np.eye(3), focal, np.array([64.0, 48.0]), SIZE)


def small_photo(identity, camera, points, visible):
    visible = np.array(visible, np.int32)
    pixels = camera.project(points[visible]).astype(np.float32)
    return scenes.ScenePhoto(identity, camera, visible, pixels, scenes.Box(0.1, 0.1, 0.9, 0.9), "day", 0.0)


def test_same_seed_same_bytes(rendered, tmp_path):
    output, _ = rendered
    scenes.render_scenes(tmp_path / "again", 3, 5, seed=4, size=SIZE)
    assert tree(tmp_path / "again") == tree(output)


def test_other_seed_other_photos_and_instances_do_not_depend_on_their_number(rendered, tmp_path):
    output, _ = rendered
    scenes.render_scenes(tmp_path / "other", 1, 2, seed=5, size=SIZE)
    scenes.render_scenes(tmp_path / "fewer", 1, 2, seed=4, size=SIZE)
    photo = "photos/instance_000/photo_01.jpg"
    assert tree(tmp_path / "other")[photo] != tree(output)[photo]
    assert tree(tmp_path / "fewer")[photo] == tree(output)[photo]


def test_photos_are_one_folder_an_instance(rendered):
    output, drawn = rendered
    names = {path.relative_to(output / "photos").as_posix() for path in (output / "photos").rglob("*.jpg")}
    assert names == {photo.id for photo in drawn.photos()}
    assert {photo.id.split("/")[0] for photo in drawn.scenes[1].photos} == {"instance_001"}
    assert all(cv2.imread(str(output / "photos" / name)).shape == (*SIZE, 3) for name in names)


def test_stored_points_project_to_stored_pixels_in_frame_and_box(rendered):
    _, drawn = rendered
    for scene in drawn.scenes:
        for photo in scene.photos:
            camera, box = photo.camera, photo.box
            assert len(photo.visible) >= 10
            for row, pixel in zip(photo.visible, photo.pixels, strict=True):
                x, y, z = camera.rotation @ (scene.points[row] - camera.centre)
                expected = (
                    camera.focal * x / z + camera.principal[0],
                    camera.focal * y / z + camera.principal[1],
                )
                np.testing.assert_allclose(pixel, expected, atol=1e-3)
                assert z > 0
                assert box.xmin * SIZE[1] <= pixel[0] <= box.xmax * SIZE[1]
                assert box.ymin * SIZE[0] <= pixel[1] <= box.ymax * SIZE[0]


def test_plane_homography_agrees_with_projection(building):
    rng = np.random.default_rng(1)
    camera = scene_photos.draw_camera(rng, building, SIZE)
    for plane in building.planes:
        places = rng.uniform(0, 1, (6, 2)) * (plane.width, plane.height)
        homogeneous = np.column_stack([places, np.ones(6)]) @ scene_frame.plane_homography(camera, plane).T
        np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], camera.project(plane.at(places)), atol=1e-6)


def wall(origin, size, spot):
    """A grey wall, right across and down, with one white dot of 0.5 m around `spot`, metres."""
    canvas = scene_canvas.Canvas(*size, (90, 90, 90))
    canvas.rectangle(spot[0] - 0.25, spot[1] - 0.25, 0.5, 0.5, (255, 255, 255))
    texture = scene_canvas.Texture(canvas.colour, canvas.colour, canvas.alpha)
    return scene_buildings.Plane(np.array(origin), *np.eye(3)[:2], *size, texture)


def overcast():
    return scene_frame.Light("overcast", np.array([0.0, -1.0, 0.0]), 1.0, ((0, 0, 0), (0, 0, 0)))


@pytest.mark.parametrize("spot", [(1.0, 1.0), (3.0, 1.5), (2.2, 3.1)])
def test_texture_is_drawn_where_its_points_project(spot):
    plane = wall((-2.0, -4.0, 0.0), (4.0, 4.0), spot)
    rotation = scene_photos.look_at(np.array([3.0, -1.0, -7.0]), np.array([0.0, -2.0, 0.0]), 0.1)
    camera = scenes.Camera(np.array([3.0, -1.0, -7.0]), rotation, 130.0, np.array([64.0, 48.0]), SIZE)
    frame = scene_frame.Frame(camera)
    frame.draw(plane, 0, overcast())
    rows, columns = np.nonzero(frame.colour[..., 0] > 200)
    centre = (np.array([columns.mean(), rows.mean()]) + 0.5) / scene_frame.SUPERSAMPLING
    np.testing.assert_allclose(centre, camera.project(plane.at(np.array([spot])))[0], atol=0.3)


def two_walls():
    """A wide wall at Z = 0 with a point on each half, and a narrow one before its left half."""
    back, front = wall((-4.0, -4.0, 0.0), (8.0, 4.0), (1, 1)), wall((-4.0, -4.0, -1.0), (3.0, 4.0), (1, 1))
    points = np.array([(-2.5, -2.0, 0.0), (2.0, -2.0, 0.0), (-2.5, -2.0, -1.0)])
    low, high = np.array([-4.0, -4.0, -1.0]), np.array([4.0, 0.0, 0.0])
    return scene_buildings.Building((back, front), points, np.array([0, 0, 1], np.int32), low, high)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_hidden_points_are_not_listed(order):
    pair = two_walls()
    frame = scene_frame.Frame(small_camera((0.0, -2.0, -12.0)))
    for index in order:
        frame.draw(pair.planes[index], index, overcast())
    visible, _ = scene_frame.observe(frame, pair)
    assert visible.tolist() == [1, 2]

    x, y = (frame.camera.project(pair.points[1:2])[0] * scene_frame.SUPERSAMPLING).astype(int)
    frame.occluder[y - 3 : y + 3, x - 3 : x + 3] = 1
    visible, pixels = scene_frame.observe(frame, pair)
    assert visible.tolist() == [2]
    np.testing.assert_allclose(pixels, frame.camera.project(pair.points[2:]), atol=1e-4)


def test_points_behind_or_too_small_are_not_listed():
    pair = two_walls()
    for centre, focal in (((0.0, -2.0, 12.0), 100.0), ((0.0, -2.0, -60.0), 100.0)):
        frame = scene_frame.Frame(small_camera(centre, focal))
        for index, plane in enumerate(pair.planes):
            frame.draw(plane, index, overcast())
        assert len(scene_frame.observe(frame, pair)[0]) == 0


def test_clutter_hides_no_more_than_it_may(building):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        frame = scene_frame.Frame(scene_photos.draw_camera(rng, building, SIZE))
        for index, plane in enumerate(building.planes):
            frame.draw(plane, index, overcast())
        hidden = scene_clutter.draw_occluders(rng, frame, building, overcast())
        assert hidden <= scene_clutter.MOST_OCCLUSION
        assert hidden == ((frame.occluder > 0) & (frame.plane >= 0)).sum() / (frame.plane >= 0).sum()


def test_planes_look_outward(building):
    middle = (building.low + building.high) / 2
    front = [plane for plane in building.planes if abs(plane.normal[2]) > 0.99]
    assert all(plane.faces(np.array([0.0, -2.0, -50.0])) for plane in front)
    for plane in building.planes:
        np.testing.assert_allclose([np.linalg.norm(plane.across), np.linalg.norm(plane.down)], 1)
        np.testing.assert_allclose(plane.across @ plane.down, 0, atol=1e-12)
        assert plane.normal[1] >= -1e-12, "no roof is seen from below"
    np.testing.assert_array_equal(middle > building.low, True)


def test_co_visibility_counts_shared_points(rendered):
    _, drawn = rendered
    for scene in drawn.scenes:
        counts = scenes.co_visibility(scene)
        for i, one in enumerate(scene.photos):
            for j, other in enumerate(scene.photos):
                assert counts[i, j] == len(set(one.visible.tolist()) & set(other.visible.tolist()))


def test_scale_ratio_of_a_pair_worked_by_hand():
    points = np.array([(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 10.0)])
    near, far = small_camera((0.0, 0.0, -10.0)), small_camera((0.0, 0.0, -40.0), focal=200.0)
    scene = scenes.Scene(
        "pair",
        points,
        (
            small_photo("a", near, points, [0, 1]),  # 100 px / 10 m = 10 px a metre
            small_photo("b", far, points, [0, 1, 2]),  # 200 px / 40 m = 5; the third point 200 / 50 = 4
            small_photo("c", near, points, [2]),  # 100 / 20 = 5, against 4 in b
        ),
    )
    expected = [[1, 2, np.inf], [2, 1, 1.25], [np.inf, 1.25, 1]]
    np.testing.assert_allclose(scenes.scale_ratio(scene), expected)


def test_scale_ratio_is_the_geometric_mean_over_shared_points(rendered):
    _, drawn = rendered
    scene = drawn.scenes[0]
    ratios = scenes.scale_ratio(scene)
    for i, one in enumerate(scene.photos):
        for j, other in enumerate(scene.photos):
            shared = sorted(set(one.visible.tolist()) & set(other.visible.tolist()))
            if not shared:
                assert ratios[i, j] == np.inf
                continue
            logs = [np.log(one.camera.scale(scene.points[[p]]) / other.camera.scale(scene.points[[p]])) for p in shared]
            np.testing.assert_allclose(ratios[i, j], np.exp(abs(np.mean(logs))))


def test_load_reads_what_render_returned(rendered):
    output, drawn = rendered
    loaded = scenes.SceneSet.load(output)
    assert (loaded.seed, loaded.size, len(loaded.scenes)) == (4, SIZE, 3)
    for one, other in zip(drawn.scenes, loaded.scenes, strict=True):
        assert one.instance == other.instance
        np.testing.assert_array_equal(one.points, other.points)
    for one, other in zip(drawn.photos(), loaded.photos(), strict=True):
        assert (one.id, one.box, one.light, one.occluded) == (other.id, other.box, other.light, other.occluded)
        assert (one.camera.focal, one.camera.size) == (other.camera.focal, other.camera.size)
        for name in ("visible", "pixels"):
            found = getattr(other, name)
            np.testing.assert_array_equal(getattr(one, name), found)
            assert getattr(one, name).dtype == found.dtype
        for name in ("centre", "rotation", "principal"):
            np.testing.assert_array_equal(getattr(one.camera, name), getattr(other.camera, name))


def spoil_json(directory, change):
    description = json.loads((directory / "scenes.json").read_text())
    change(description)
    (directory / "scenes.json").write_text(json.dumps(description))


def spoil_arrays(directory, change):
    with np.load(directory / "geometry.npz") as file:
        arrays = dict(file)
    change(arrays)
    np.savez(directory / "geometry.npz", **arrays)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: (d / "scenes.json").unlink(), "scenes.json is missing"),
        (lambda d: (d / "geometry.npz").unlink(), "geometry.npz is missing"),
        (lambda d: (d / "geometry.npz").write_bytes(b"PK\x03\x04 torn"), "cannot be read as NumPy arrays"),
        (lambda d: spoil_json(d, lambda j: j.update(format=9)), "format is 9; 1 is wanted"),
        (lambda d: spoil_json(d, lambda j: j["instances"].pop()), "equal counts are wanted"),
        (lambda d: spoil_json(d, lambda j: j.pop("seed")), "a field is missing"),
        (lambda d: spoil_arrays(d, lambda a: a.pop("boxes")), "has no array 'boxes'"),
        (lambda d: spoil_arrays(d, lambda a: a.update(focals=a["focals"][1:])), "focals has 14 rows; 15 are wanted"),
        (lambda d: spoil_arrays(d, lambda a: a.update(points=a["points"].astype("f4"))), "points is float32"),
        (lambda d: spoil_arrays(d, lambda a: a["focals"].fill(-1)), "camera focal is -1.0"),
        (lambda d: spoil_arrays(d, lambda a: a["rotations"].fill(0.5)), "is not a rotation matrix"),
        (lambda d: spoil_arrays(d, lambda a: a["pixels"].fill(-3)), "pixels out of its 128 x 96 frame"),
        (lambda d: spoil_arrays(d, lambda a: a["boxes"].fill(0.5)), "0 <= xmin < xmax <= 1"),
        (lambda d: spoil_arrays(d, lambda a: a["visible"].fill(0)), "rising rows from 0"),
    ],
)
def test_load_names_what_is_wrong(rendered, tmp_path, spoil, said):
    output, _ = rendered
    copy = tmp_path / "copy"
    shutil.copytree(output, copy, ignore=shutil.ignore_patterns("*.jpg"))
    spoil(copy)
    with pytest.raises(InputError) as error:
        scenes.SceneSet.load(copy)
    assert said in str(error.value)
    assert str(copy) in str(error.value)


def test_ids_must_be_unique(rendered):
    _, drawn = rendered
    with pytest.raises(InputError, match=r"'instance_000/photo_00.jpg' stands twice"):
        scenes.SceneSet((drawn.scenes[0], drawn.scenes[0]), 0, SIZE)


def test_points_seen_must_exist(rendered):
    _, drawn = rendered
    with pytest.raises(InputError, match=r"a row below 1, the number of points, is wanted"):
        dataclasses.replace(drawn.scenes[0], points=drawn.scenes[0].points[:1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"instances": 0}, "instances is 0; at least 1 is wanted."),
        ({"photos_per_instance": -2}, "photos_per_instance is -2; at least 1 is wanted."),
        ({"seed": -1}, "seed is -1; 0 or more is wanted."),
        ({"size": (16, 128)}, "height is 16; 32 to 2048 pixels are wanted."),
        ({"size": (96, 5000)}, "width is 5000; 32 to 2048 pixels are wanted."),
    ],
)
def test_bad_arguments_are_named(tmp_path, change, said):
    arguments = {"instances": 1, "photos_per_instance": 1, "seed": 0, "size": SIZE, **change}
    with pytest.raises(InputError) as error:
        scenes.render_scenes(tmp_path / "out", **arguments)
    assert str(error.value) == said
    assert list(tmp_path.iterdir()) == []


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"holds other files and no geometry.npz"):
        scenes.render_scenes(tmp_path, 1, 1, seed=0, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_error_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    draw = scene_photos.take_photo

    def fail_late(rng, identity, *rest):
        if identity == "instance_001/photo_01.jpg":
            raise RuntimeError("disk full")
        return draw(rng, identity, *rest)

    monkeypatch.setattr(scene_photos, "take_photo", fail_late)
    with pytest.raises(RuntimeError, match="disk full"):
        scenes.render_scenes(tmp_path / "out", 3, 2, seed=0, size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_photos(tmp_path):
    steps = []
    scenes.render_scenes(tmp_path / "out", 2, 3, seed=0, size=(32, 40), progress=steps.append)
    assert steps == [3, 3]
