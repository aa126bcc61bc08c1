"""What structure from motion would say about a set of photos: cameras, 3-D points, who sees them, and boxes.

World coordinates are metres: X to the right along the facade, Y down (the ground is Y = 0), Z into the building.
Pixel coordinates are continuous: (0, 0) is the image's top left corner, (W, H) its bottom right one, and the centre of
the first pixel is (0.5, 0.5).
"""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.errors import InputError

GEOMETRY_FILE = "geometry.npz"
DESCRIPTION_FILE = "scenes.json"
FORMAT = 1

# dtype and dimensions of every array in the geometry file; S instances, N photos, P points, O observations.
_ARRAYS = {
    "point_offsets": (np.int64, 1),  # [S + 1]
    "points": (np.float64, 2),  # [P, 3]
    "centres": (np.float64, 2),  # [N, 3]
    "rotations": (np.float64, 3),  # [N, 3, 3]
    "focals": (np.float64, 1),  # [N]
    "principals": (np.float64, 2),  # [N, 2]
    "boxes": (np.float64, 2),  # [N, 4]
    "observation_offsets": (np.int64, 1),  # [N + 1]
    "visible": (np.int32, 1),  # [O]
    "pixels": (np.float32, 2),  # [O, 2]
}


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera without distortion: `x = focal * (R (X - C))[:2] / (R (X - C))[2] + principal`.

    Attributes:
        centre: float64 [3], C, metres.
        rotation: float64 [3, 3], R, world to camera: x right, y down, z forward.
        focal: focal length in pixels, positive.
        principal: float64 [2], principal point (x, y) in pixels.
        size: (height, width) of the photo in pixels.

    Raises:
        InputError: a shape is wrong, a number is not finite, the focal length is not positive, or the rotation is
            not orthonormal with determinant 1.
    """

    centre: np.ndarray
    rotation: np.ndarray
    focal: float
    principal: np.ndarray
    size: tuple[int, int]

    def __post_init__(self):
        for name, shape in (("centre", (3,)), ("rotation", (3, 3)), ("principal", (2,))):
            value = getattr(self, name)
            if value.shape != shape or not np.isfinite(value).all():
                raise InputError(f"camera {name} has shape {value.shape}; {shape} of finite numbers is wanted.")
        if not (np.isfinite(self.focal) and self.focal > 0):
            raise InputError(f"camera focal is {self.focal}; a positive number of pixels is wanted.")
        proper = np.allclose(self.rotation @ self.rotation.T, np.eye(3), atol=1e-6) and np.linalg.det(self.rotation) > 0
        if not proper:
            raise InputError(
                "camera rotation is not a rotation matrix; orthonormal rows with determinant 1 are wanted."
            )

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Returns the distance along the optical axis, float64 [P] in metres, of points [P, 3]; negative behind."""
        return (points - self.centre) @ self.rotation[2]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Returns where points appear.

        Args:
            points: float [P, 3], metres, all in front of the camera.

        Returns:
            float64 [P, 2], (x, y) in pixels; outside the frame where the camera does not see them.
        """
        seen = (points - self.centre) @ self.rotation.T
        return self.focal * seen[:, :2] / seen[:, 2:] + self.principal

    def scale(self, points: np.ndarray) -> np.ndarray:
        """Returns the observed scale, focal / depth in pixels per metre, float64 [P], of points [P, 3]."""
        return self.focal / self.depth(points)


@dataclasses.dataclass(frozen=True)
class Box:
    """An upright rectangle in fractions of the photo's width and height, 0 <= min < max <= 1.

    Raises:
        InputError: the numbers are out of order or range.
    """

    xmin: float
    ymin: float
    xmax: float
    ymax: float

    def __post_init__(self):
        if not (0 <= self.xmin < self.xmax <= 1 and 0 <= self.ymin < self.ymax <= 1):
            raise InputError(
                f"box is ({self.xmin}, {self.ymin}, {self.xmax}, {self.ymax}); "
                "0 <= xmin < xmax <= 1 and 0 <= ymin < ymax <= 1 are wanted."
            )


@dataclasses.dataclass(frozen=True, eq=False)
class ScenePhoto:
    """One photo of an instance.

    Attributes:
        id: path relative to the photos folder, "instance_000/photo_00.jpg".
        camera: where it was taken from, and its lens.
        visible: int32 [V], rows of the scene's points that the photo sees, rising.
        pixels: float32 [V, 2], where it sees them, (x, y) in pixels.
        box: the object's extent within the frame; parts hidden by clutter in front count.
        light: "day", "overcast", "dusk" or "night".
        occluded: fraction of the object's pixels in the frame which clutter hides, 0 to 1.

    Raises:
        InputError: indices and pixels do not fit together, the indices do not rise, or a pixel lies out of the frame.
    """

    id: str
    camera: Camera
    visible: np.ndarray
    pixels: np.ndarray
    box: Box
    light: str
    occluded: float

    def __post_init__(self):
        if self.visible.ndim != 1 or self.pixels.shape != (len(self.visible), 2):
            raise InputError(
                f"photo {self.id!r} has visible {self.visible.shape} and pixels {self.pixels.shape}; "
                "[V] and [V, 2] are wanted."
            )
        if np.any(np.diff(self.visible) <= 0) or (len(self.visible) and self.visible[0] < 0):
            raise InputError(f"photo {self.id!r} has visible points out of order; rising rows from 0 are wanted.")
        height, width = self.camera.size
        inside = (self.pixels >= 0) & (self.pixels <= (width, height))
        if not inside.all():
            raise InputError(
                f"photo {self.id!r} has pixels out of its {width} x {height} frame; all inside are wanted."
            )
        if not 0 <= self.occluded <= 1:
            raise InputError(f"photo {self.id!r} has occluded {self.occluded}; a fraction from 0 to 1 is wanted.")


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """One instance: its 3-D points and its photos.

    Attributes:
        instance: its name, the photos' folder.
        points: float64 [P, 3], metres.
        photos: N photos, in the order of rows of `co_visibility` and `scale_ratio`.

    Raises:
        InputError: the points are not [P, 3], or a photo sees a point that is not there.
    """

    instance: str
    points: np.ndarray
    photos: tuple[ScenePhoto, ...]

    def __post_init__(self):
        if self.points.ndim != 2 or self.points.shape[1] != 3:
            raise InputError(f"scene {self.instance!r} has points of shape {self.points.shape}; [P, 3] is wanted.")
        for photo in self.photos:
            if len(photo.visible) and photo.visible[-1] >= len(self.points):
                raise InputError(
                    f"photo {photo.id!r} sees point {photo.visible[-1]}; "
                    f"a row below {len(self.points)}, the number of points, is wanted."
                )

    def visibility(self) -> np.ndarray:
        """Returns bool [N, P]: whether photo n sees point p."""
        seen = np.zeros((len(self.photos), len(self.points)), bool)
        for row, photo in enumerate(self.photos):
            seen[row, photo.visible] = True
        return seen


@dataclasses.dataclass(frozen=True, eq=False)
class SceneSet:
    """The geometry of a folder of photos.

    Attributes:
        scenes: the instances, in the order of their names.
        seed: the seed they were drawn with.
        size: (height, width) of every photo in pixels.

    Raises:
        InputError: a photo's id stands twice or its size differs.
    """

    scenes: tuple[Scene, ...]
    seed: int
    size: tuple[int, int]

    def __post_init__(self):
        ids = set()
        for photo in self.photos():
            if photo.id in ids:
                raise InputError(f"the photo id {photo.id!r} stands twice in the scenes; ids must be unique.")
            if tuple(photo.camera.size) != tuple(self.size):
                raise InputError(f"photo {photo.id!r} has size {photo.camera.size}; {self.size} is wanted.")
            ids.add(photo.id)

    def photos(self) -> tuple[ScenePhoto, ...]:
        """Returns all photos, instance by instance."""
        return tuple(photo for scene in self.scenes for photo in scene.photos)

    def save(self, directory: str | Path) -> None:
        """Writes `geometry.npz` and `scenes.json` into an existing directory, each atomically."""
        directory = Path(directory)
        photos = self.photos()
        arrays = {
            "point_offsets": np.cumsum([0, *(len(scene.points) for scene in self.scenes)]),
            "points": np.concatenate([np.empty((0, 3)), *(scene.points for scene in self.scenes)]),
            "centres": np.reshape([photo.camera.centre for photo in photos], (-1, 3)),
            "rotations": np.reshape([photo.camera.rotation for photo in photos], (-1, 3, 3)),
            "focals": np.array([photo.camera.focal for photo in photos]),
            "principals": np.reshape([photo.camera.principal for photo in photos], (-1, 2)),
            "boxes": np.reshape([dataclasses.astuple(photo.box) for photo in photos], (-1, 4)),
            "observation_offsets": np.cumsum([0, *(len(photo.visible) for photo in photos)]),
            "visible": np.concatenate([np.empty(0, np.int32), *(photo.visible for photo in photos)]),
            "pixels": np.concatenate([np.empty((0, 2), np.float32), *(photo.pixels for photo in photos)]),
        }
        partial = directory / f".{GEOMETRY_FILE}.partial.npz"
        np.savez(partial, **{name: arrays[name].astype(dtype) for name, (dtype, _) in _ARRAYS.items()})
        partial.replace(directory / GEOMETRY_FILE)
        files.write_json(directory / DESCRIPTION_FILE, self._description())

    def _description(self) -> dict:
        """Returns what `scenes.json` holds: names, in the order of the arrays' rows."""
        return {
            "format": FORMAT,
            "seed": self.seed,
            "height": self.size[0],
            "width": self.size[1],
            "instances": [
                {
                    "name": scene.instance,
                    "photos": [
                        {"id": photo.id, "light": photo.light, "occluded": photo.occluded} for photo in scene.photos
                    ],
                }
                for scene in self.scenes
            ],
        }

    @classmethod
    def load(cls, directory: str | Path) -> "SceneSet":
        """Reads what `save` wrote.

        Raises:
            InputError: a file is missing or unreadable, or names, counts, types or values do not fit together.
        """
        directory = Path(directory)
        what = "the description of drawn scenes"
        description = files.read_json(directory / DESCRIPTION_FILE, what)
        if description.get("format") != FORMAT:
            raise InputError(
                f"{directory / DESCRIPTION_FILE}: format is {description.get('format')!r}; {FORMAT} is wanted."
            )
        arrays = _read_arrays(directory / GEOMETRY_FILE)
        try:
            return _assemble(description, arrays)
        except InputError as error:
            raise InputError(f"{directory}: {error}") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{directory / DESCRIPTION_FILE}: a field is missing or mistyped ({error!r}).") from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads the geometry file and checks names, types, dimensions and counts."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS if name in file}
    except FileNotFoundError:
        raise InputError(f"{path} is missing; the geometry of drawn scenes is wanted there.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as NumPy arrays ({error}).") from error
    for name, (dtype, dimensions) in _ARRAYS.items():
        if name not in arrays:
            raise InputError(f"{path} has no array {name!r}; the arrays {', '.join(_ARRAYS)} are wanted.")
        found = arrays[name]
        if found.dtype != dtype or found.ndim != dimensions:
            raise InputError(
                f"{path}: {name} is {found.dtype} of {found.ndim} dimensions; "
                f"{np.dtype(dtype)} of {dimensions} is wanted."
            )
    photos = len(arrays["centres"])
    counts = {
        "rotations": photos,
        "focals": photos,
        "principals": photos,
        "boxes": photos,
        "observation_offsets": photos + 1,
        "pixels": len(arrays["visible"]),
    }
    for name, count in counts.items():
        if len(arrays[name]) != count:
            raise InputError(f"{path}: {name} has {len(arrays[name])} rows; {count} are wanted.")
    for name, rows in (("point_offsets", "points"), ("observation_offsets", "visible")):
        offsets = arrays[name]
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(arrays[rows]) or np.any(np.diff(offsets) < 0):
            raise InputError(f"{path}: {name} do not cover the {len(arrays[rows])} rows of {rows} in order.")
    return arrays


def _assemble(description: dict, arrays: dict[str, np.ndarray]) -> SceneSet:
    """Joins names and arrays into values, which validate themselves."""
    instances = description["instances"]
    size = (int(description["height"]), int(description["width"]))
    named = sum(len(instance["photos"]) for instance in instances)
    found = (len(arrays["centres"]), len(arrays["point_offsets"]) - 1)
    if (named, len(instances)) != found:
        raise InputError(
            f"{DESCRIPTION_FILE} names {named} photos of {len(instances)} instances and {GEOMETRY_FILE} holds "
            f"{found[0]} of {found[1]}; equal counts are wanted."
        )
    scenes = []
    row = 0
    for instance, start, end in zip(instances, arrays["point_offsets"], arrays["point_offsets"][1:], strict=False):
        photos = []
        for entry in instance["photos"]:
            seen = slice(*arrays["observation_offsets"][row : row + 2])
            photos.append(
                ScenePhoto(
                    id=entry["id"],
                    camera=Camera(
                        arrays["centres"][row],
                        arrays["rotations"][row],
                        float(arrays["focals"][row]),
                        arrays["principals"][row],
                        size,
                    ),
                    visible=arrays["visible"][seen],
                    pixels=arrays["pixels"][seen],
                    box=Box(*map(float, arrays["boxes"][row])),
                    light=entry["light"],
                    occluded=entry["occluded"],
                )
            )
            row += 1
        scenes.append(Scene(instance["name"], arrays["points"][start:end], tuple(photos)))
    return SceneSet(tuple(scenes), int(description["seed"]), size)


def co_visibility(scene: Scene) -> np.ndarray:
    """Counts the 3-D points which pairs of photos share.

    Args:
        scene: an instance with N photos.

    Returns:
        int64 [N, N], symmetric; entry (i, j) is |P(i) ∩ P(j)|, the diagonal |P(i)|.
    """
    seen = scene.visibility().astype(np.int64)
    return seen @ seen.T


def scale_ratio(scene: Scene) -> np.ndarray:
    """Computes by how much pairs of photos differ in scale over the points they share.

    The observed scale of point p in photo i is s_ip = focal_i / depth_ip. The ratio is the geometric mean over shared
    points of s_ip / s_jp, or its inverse where that is larger; so 1 means the same scale and 2 twice as near.

    Args:
        scene: an instance with N photos.

    Returns:
        float64 [N, N], symmetric, at least 1; infinite where photos share no points.
    """
    seen = scene.visibility().astype(np.float64)
    logs = np.zeros_like(seen)
    for row, photo in enumerate(scene.photos):
        logs[row, photo.visible] = np.log(photo.camera.scale(scene.points[photo.visible]))
    shared = seen @ seen.T
    difference = logs @ seen.T - seen @ logs.T
    mean = np.divide(difference, shared, out=np.full_like(shared, np.inf), where=shared > 0)
    return np.exp(np.abs(mean))
