"""Buildings made of textured rectangles in 3-D, and the points on them that a feature detector would find."""

import dataclasses
import functools

import cv2
import numpy as np

from tfretrieval.data import scene_textures
from tfretrieval.data.scene_canvas import Texture
from tfretrieval.data.scene_textures import Style

POINTS_PER_BUILDING = 360
_RIGHT, _DOWN, _IN = np.eye(3)


@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
    """A textured rectangle in the world, seen from the side its normal points away from.

    Attributes:
        origin: float64 [3], its top left corner, metres.
        across: float64 [3], unit vector from the left to the right edge.
        down: float64 [3], unit vector from the top to the bottom edge.
        width: metres along `across`.
        height: metres along `down`.
        texture: what is painted on it.
    """

    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    width: float
    height: float
    texture: Texture

    @functools.cached_property
    def normal(self) -> np.ndarray:
        """Unit normal, float64 [3], pointing away from who sees the plane."""
        return np.cross(self.across, self.down)

    def faces(self, centre: np.ndarray) -> bool:
        """Returns whether a camera at `centre` [3] stands in front of the plane."""
        return float((self.origin - centre) @ self.normal) > 0

    def at(self, places: np.ndarray) -> np.ndarray:
        """Returns the world points, float64 [K, 3], of places on the plane, [K, 2] in metres from its origin."""
        return self.origin + places[:, :1] * self.across + places[:, 1:] * self.down

    def corners(self) -> np.ndarray:
        """Returns the four corners, float64 [4, 3], clockwise from the top left."""
        return self.at(np.array([(0, 0), (self.width, 0), (self.width, self.height), (0, self.height)], float))


@dataclasses.dataclass(frozen=True, eq=False)
class Building:
    """One instance.

    Attributes:
        planes: its walls, roofs and columns.
        points: float64 [P, 3], textured places on the planes, metres.
        plane_of: int32 [P], the plane of each point.
        low: float64 [3], the least corner of its extent, metres.
        high: float64 [3], the greatest corner.
    """

    planes: tuple[Plane, ...]
    points: np.ndarray
    plane_of: np.ndarray
    low: np.ndarray
    high: np.ndarray


def draw_building(rng: np.random.Generator, style: Style) -> Building:
    """Draws a building in the style: a main house with its top, wings or towers beside it and a part before it.

    Args:
        rng: the only source of chance.
        style: colours, material and windows.

    Returns:
        The building, its main wall at Z = 0 and centred on X = 0.
    """
    width, height, depth = rng.uniform(7, 14), rng.uniform(5, 11), rng.uniform(5, 9)
    half = width / 2
    planes = _box(rng, style, (-half, half), (0, depth), height, main=True)
    planes += _top(rng, style, (-half, half), (0, depth), height, rng.choice(["gable", "hip", "teeth", "flat", "hip"]))
    kinds = rng.choice(["none", "wing", "angled", "tower", "tower"], 2)
    if rng.random() < 0.4:
        kinds[1] = kinds[0]
    planes += _side(rng, style, str(kinds[0]), -1, half, height)
    planes += _side(rng, style, str(kinds[1]), 1, half, height)
    planes += _front(rng, style, str(rng.choice(["none", "projection", "columns", "tower", "none"])), width, height)
    corners = np.concatenate([plane.corners() for plane in planes])
    points, plane_of = _textured_points(planes)
    return Building(tuple(planes), points, plane_of, corners.min(axis=0), corners.max(axis=0))


def draw_neighbour(rng: np.random.Generator, style: Style) -> list[Plane]:
    """Draws a plain house at the origin of X and Z, for the background."""
    width, height, depth = rng.uniform(5, 11), rng.uniform(4, 11), rng.uniform(4, 7)
    span = (-width / 2, width / 2)
    planes = _box(rng, style, span, (0, depth), height, main=bool(rng.random() < 0.4))
    return planes + _top(rng, style, span, (0, depth), height, str(rng.choice(["hip", "flat", "gable"])))


def _box(rng: np.random.Generator, style: Style, x: tuple, z: tuple, height: float, main: bool = False) -> list[Plane]:
    """Returns the front, left and right walls of a box standing on the ground; the sides share one texture."""
    width, depth = x[1] - x[0], z[1] - z[0]
    plan = scene_textures.draw_plan(rng, width, height, main)
    front = scene_textures.paint_wall(rng, style, width, height, plan)
    side_plan = dataclasses.replace(
        scene_textures.draw_plan(rng, depth, height, main=False), floors=plan.floors, cornice=plan.cornice
    )
    side = scene_textures.paint_wall(rng, style, depth, height, side_plan)
    return [
        Plane(np.array([x[0], -height, z[0]]), _RIGHT, _DOWN, width, height, front),
        Plane(np.array([x[1], -height, z[0]]), _IN, _DOWN, depth, height, side),
        Plane(np.array([x[0], -height, z[1]]), -_IN, _DOWN, depth, height, side),
    ]


def _top(rng: np.random.Generator, style: Style, x: tuple, z: tuple, height: float, kind: str) -> list[Plane]:
    """Returns what ends a box above: "gable", "hip", "spire", "teeth" or "flat"."""
    width, depth = x[1] - x[0], z[1] - z[0]
    middle = (x[0] + x[1]) / 2
    if kind == "gable":
        rise = width * rng.uniform(0.3, 0.6)
        shape = str(rng.choice(["triangle", "stepped", "curved"]))
        texture = scene_textures.paint_gable(rng, style, width, rise, shape)
        slope = np.array([width / 2, rise, 0]) / np.hypot(width / 2, rise)
        roof = scene_textures.paint_roof(rng, style, depth, np.hypot(width / 2, rise), 0, 0)
        length = np.hypot(width / 2, rise)
        return [
            Plane(np.array([x[0], -height - rise, z[0]]), _RIGHT, _DOWN, width, rise, texture),
            Plane(np.array([middle, -height - rise, z[0]]), _IN, slope, depth, length, roof),
            Plane(np.array([middle, -height - rise, z[1]]), -_IN, slope * (-1, 1, 1), depth, length, roof),
        ]
    if kind in ("hip", "spire"):
        return _pyramid(rng, style, x, z, height, kind)
    lid = Plane(
        np.array([x[0], -height, z[1]]), _RIGHT, -_IN, width, depth,
        scene_textures.paint_roof(rng, style, width, depth, 0, 0),
    )  # fmt: skip
    if kind == "flat":
        return [lid]
    tall = rng.uniform(0.6, 1.0)
    front = scene_textures.paint_teeth(rng, style, width, tall)
    side = scene_textures.paint_teeth(rng, style, depth, tall)
    top = -height - tall
    return [
        lid,
        Plane(np.array([x[0], top, z[0]]), _RIGHT, _DOWN, width, tall, front),
        Plane(np.array([x[1], top, z[0]]), _IN, _DOWN, depth, tall, side),
        Plane(np.array([x[0], top, z[1]]), -_IN, _DOWN, depth, tall, side),
    ]


def _pyramid(rng: np.random.Generator, style: Style, x: tuple, z: tuple, height: float, kind: str) -> list[Plane]:
    """Returns the front, right and left slopes of a hipped roof or a spire."""
    width, depth = x[1] - x[0], z[1] - z[0]
    run = min(width, depth) / 2
    rise = run * (rng.uniform(1.8, 3.5) if kind == "spire" else rng.uniform(0.6, 1.4))
    length = np.hypot(run, rise)
    dormers = 0 if kind == "spire" else int(rng.choice([0, 0, 2, 3, 4]))
    front = scene_textures.paint_roof(rng, style, width, length, run, dormers)
    side = scene_textures.paint_roof(rng, style, depth, length, run, 0)
    top = -height - rise
    down = np.array([-run, rise, 0]) / length
    return [
        Plane(np.array([x[0], top, z[0] + run]), _RIGHT, np.array([0, rise, -run]) / length, width, length, front),
        Plane(np.array([x[1] - run, top, z[0]]), _IN, down * (-1, 1, 1), depth, length, side),
        Plane(np.array([x[0] + run, top, z[1]]), -_IN, down, depth, length, side),
    ]


def _side(rng: np.random.Generator, style: Style, kind: str, sign: int, half: float, height: float) -> list[Plane]:
    """Returns what stands to the left (sign -1) or right (1) of the main house."""
    if kind == "none":
        return []
    if kind == "angled":
        return _angled_wing(rng, style, sign, half, height * rng.uniform(0.5, 0.9))
    tower = kind == "tower"
    width = rng.uniform(2.2, 3.6) if tower else rng.uniform(3, 5.5)
    tall = height * (rng.uniform(1.1, 1.6) if tower else rng.uniform(0.5, 0.85))
    front = rng.uniform(-1.5, -0.4) if tower else rng.uniform(0.8, 2.5)
    x = (half, half + width) if sign > 0 else (-half - width, -half)
    z = (front, front + (width if tower else rng.uniform(3, 5)))
    top = str(rng.choice(["spire", "teeth", "hip", "spire"] if tower else ["hip", "flat", "teeth"]))
    return _box(rng, style, x, z, tall) + _top(rng, style, x, z, tall, top)


def _angled_wing(rng: np.random.Generator, style: Style, sign: int, half: float, tall: float) -> list[Plane]:
    """Returns one wall that leaves the main house's corner at an angle, forward or back."""
    width, angle = rng.uniform(3, 5.5), np.radians(rng.uniform(20, 50)) * rng.choice([-1, 1])
    turn = np.array([np.cos(angle), 0, np.sin(angle)])
    plan = scene_textures.draw_plan(rng, width, tall, main=bool(rng.random() < 0.3))
    texture = scene_textures.paint_wall(rng, style, width, tall, plan)
    corner = np.array([sign * half, -tall, 0.2])
    across = turn if sign > 0 else turn * (1, 1, -1)
    origin = corner if sign > 0 else corner - width * across
    return [Plane(origin, across, _DOWN, width, tall, texture)]


def _front(rng: np.random.Generator, style: Style, kind: str, width: float, height: float) -> list[Plane]:
    """Returns what stands before the main wall: nothing, a projecting part, free columns or a tower."""
    if kind == "none":
        return []
    middle = rng.choice([0, 0, rng.uniform(-0.25, 0.25)]) * width
    if kind == "columns":
        wide, tall, ahead = width * rng.uniform(0.4, 0.8), height * rng.uniform(0.65, 1.0), rng.uniform(0.8, 1.6)
        texture = scene_textures.paint_columns(rng, style, wide, tall, int(rng.integers(3, 8)))
        return [Plane(np.array([middle - wide / 2, -tall, -ahead]), _RIGHT, _DOWN, wide, tall, texture)]
    tower = kind == "tower"
    wide = rng.uniform(2.5, 3.6) if tower else width * rng.uniform(0.25, 0.45)
    tall = height * (rng.uniform(1.3, 1.8) if tower else rng.uniform(0.95, 1.15))
    x, z = (middle - wide / 2, middle + wide / 2), (-rng.uniform(0.5, 1.3), 3.0)
    top = str(rng.choice(["spire", "teeth", "hip"] if tower else ["gable", "gable", "teeth"]))
    return _box(rng, style, x, z, tall, main=True) + _top(rng, style, x, z, tall, top)


def _textured_points(planes: list[Plane]) -> tuple[np.ndarray, np.ndarray]:
    """Picks corners of the textures, each plane's share by its area.

    Returns:
        float64 [P, 3] points and int32 [P] their planes.
    """
    areas = np.array([plane.width * plane.height for plane in planes])
    points, plane_of = [], []
    for index, (plane, area) in enumerate(zip(planes, areas, strict=True)):
        rows, columns = plane.texture.alpha.shape
        small = (max(4, columns // 3), max(4, rows // 3))  # detail that survives at a photo's distance
        gray = cv2.cvtColor(cv2.resize(plane.texture.colour, small, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        mask = cv2.resize(plane.texture.alpha, small, interpolation=cv2.INTER_AREA)
        mask = cv2.erode((mask == 255).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
        quota = int(np.ceil(POINTS_PER_BUILDING * area / areas.sum()))
        found = cv2.goodFeaturesToTrack(gray, quota, 0.02, 4, mask=mask)
        if found is None:
            continue
        places = (found.reshape(-1, 2).astype(np.float64) + 0.5) * (plane.width / small[0], plane.height / small[1])
        points.append(plane.at(places))
        plane_of.append(np.full(len(places), index, np.int32))
    return np.concatenate(points), np.concatenate(plane_of)
