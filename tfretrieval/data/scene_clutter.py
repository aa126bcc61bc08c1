"""What stands around a building: sky, hills and ground, other houses, and trees, people and cars before it."""

import dataclasses

import cv2
import numpy as np

from tfretrieval.data.scene_buildings import Building, Plane
from tfretrieval.data.scene_canvas import noise
from tfretrieval.data.scene_frame import SUPERSAMPLING, Frame, Light

MOST_OCCLUSION = 0.3  # fraction of the object that clutter in front may hide
_BACKGROUND = -2
_HORIZON = 1e-3  # least slope of a ray that meets the ground
_HILLS = ((70, 92, 66), (96, 108, 124), (120, 112, 100))
_GROUNDS = ((128, 124, 118), (108, 122, 78), (150, 138, 118), (92, 92, 96))


def draw_surroundings(rng: np.random.Generator, frame: Frame, light: Light) -> None:
    """Paints sky, clouds, hills and the ground behind everything."""
    rays = frame.rays()  # one a pixel, not a cell: smooth enough, at a quarter of the time
    sky, ground = _sky(rng, rays, light), _ground(rng, rays, frame.camera.centre, light)
    picture = np.where((rays[..., 1] > _HORIZON)[..., None], ground, sky)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    frame.colour[:] = cv2.resize(picture, frame.plane.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _sky(rng: np.random.Generator, rays: np.ndarray, light: Light) -> np.ndarray:
    """Returns the sky with clouds and hills along the directions `rays` [H, W, 3], float32 [H, W, 3]."""
    height, width = rays.shape[:2]
    rise = -rays[..., 1] / np.hypot(rays[..., 0], rays[..., 2])
    zenith, horizon = (np.float32(colour) for colour in light.sky)
    level = np.clip(rise * 1.6, 0, 1)[..., None]
    sky = horizon * (1 - level) + zenith * level
    if light.kind != "night":
        clouds = noise(rng, height, width, 4, 6) + np.float32(0.4) * noise(rng, height, width, 12, 18)
        clouds = np.clip(clouds - rng.uniform(-0.2, 1.5), 0, 1)
        sky += (np.float32(240) - sky) * (clouds * np.float32(0.8))[..., None]
    hills = 0.02 + 0.1 * rng.random() * (1 + noise(rng, 1, width, 1, int(rng.integers(3, 9))))
    tone = np.float32(_HILLS[rng.integers(len(_HILLS))])
    return np.where((rise < hills)[..., None], tone * np.float32(0.15 if light.kind == "night" else 1), sky)


def _ground(rng: np.random.Generator, rays: np.ndarray, centre: np.ndarray, light: Light) -> np.ndarray:
    """Returns the ground that `rays` [H, W, 3] from `centre` [3] meet, float32 [H, W, 3]; of no meaning in the sky."""
    depth = np.clip(-centre[1] / np.maximum(rays[..., 1], _HORIZON), 0, 200)
    x, z = centre[0] + rays[..., 0] * depth, centre[2] + rays[..., 2] * depth
    base = np.float32(_GROUNDS[rng.integers(len(_GROUNDS))])
    tile, step = rng.standard_normal((32, 32)).astype(np.float32), rng.uniform(0.6, 2.0)
    grain = tile[(z / step).astype(int) % 32, (x / step).astype(int) % 32] * np.clip(12 / (depth + 1), 0, 1)
    return base * ((0.25 if light.kind == "night" else 1) * (1 + 0.12 * grain))[..., None].astype(np.float32)


def draw_neighbours(
    rng: np.random.Generator, frame: Frame, building: Building, houses: list[list[Plane]], light: Light
) -> None:
    """Draws a few houses beside and behind the building, which differ from photo to photo."""
    for side in (-1, 1, -1, 1, 0):
        if rng.random() < 0.4:
            continue
        house = houses[rng.integers(len(houses))]
        edge = building.high[0] if side > 0 else building.low[0]
        x = rng.uniform(-14, 14) if side == 0 else edge + side * rng.uniform(6, 12)
        z = building.high[2] + rng.uniform(4, 25) if side == 0 else rng.uniform(0.5, 14)
        for plane in house:
            frame.draw(dataclasses.replace(plane, origin=plane.origin + np.array([x, 0, z])), _BACKGROUND, light)


def draw_occluders(rng: np.random.Generator, frame: Frame, building: Building, light: Light) -> float:
    """Draws trees, people, cars and poles between the camera and the building.

    Returns:
        The fraction of the building's cells in the frame that they hide, at most `MOST_OCCLUSION`.
    """
    target = frame.plane >= 0
    total = max(1, int(target.sum()))
    limit = rng.choice([0, 0.08, 0.18, MOST_OCCLUSION], p=[0.15, 0.3, 0.3, 0.25])
    dim = 0.3 if light.kind == "night" else rng.uniform(0.6, 1.05)
    for kind in rng.choice(["tree", "tree", "bush", "person", "person", "car", "pole"], int(rng.integers(2, 10))):
        part = rng.uniform(0.25, 0.9)
        spot = frame.camera.centre * (1 - part) + part * np.array(
            [rng.uniform(building.low[0], building.high[0]), 0, 0]
        )
        spot = np.array([spot[0], 0.0, min(spot[2], building.low[2] - 0.6)])
        if frame.camera.depth(spot[None])[0] < 1.5:
            continue
        foot = frame.camera.project(spot[None])[0] * SUPERSAMPLING
        size = float(frame.camera.scale(spot[None])[0]) * SUPERSAMPLING
        shapes = _SPRITES[str(kind)](rng, foot, size)
        mask = np.zeros(frame.plane.shape, np.uint8)
        for corners, _ in shapes:
            cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
        if np.count_nonzero(((mask | frame.occluder) > 0) & target) > limit * total:
            continue
        for corners, colour in shapes:
            tone = tuple(float(np.clip(value * dim, 0, 255)) for value in colour)
            cv2.fillPoly(frame.colour, [np.round(corners).astype(np.int32)], tone)
        frame.occluder |= mask
    return np.count_nonzero((frame.occluder > 0) & target) / total


def _ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 17)[:-1]
    return np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1)


def _bar(x: float, y: float, across: float, up: float) -> np.ndarray:
    return np.array([(x - across, y), (x + across, y), (x + across, y - up), (x - across, y - up)])


def _tree(rng: np.random.Generator, foot: np.ndarray, size: float) -> list[tuple]:
    (x, y), tall = foot, rng.uniform(3.5, 8) * size
    shapes = [(_bar(x, y, 0.12 * size, tall * 0.7), (78, 62, 48))]
    leaf = np.array(((70, 100, 50), (96, 112, 52), (150, 110, 46), (52, 80, 54))[rng.integers(4)])
    for _ in range(int(rng.integers(12, 40))):
        place = np.array([x, y - tall * 0.72]) + rng.normal(0, 1, 2) * (tall * 0.14, tall * 0.13)
        radius = tall * rng.uniform(0.03, 0.1)
        shapes.append((_ellipse(*place, radius * 1.2, radius), leaf * rng.uniform(0.6, 1.3)))
    return shapes


def _bush(rng: np.random.Generator, foot: np.ndarray, size: float) -> list[tuple]:
    leaf = np.array((64, 92, 46)) * rng.uniform(0.7, 1.3)
    return [
        (
            _ellipse(*(foot + rng.normal(0, 0.7, 2) * (size, 0.25 * size)), 0.5 * size, 0.45 * size),
            leaf * rng.uniform(0.7, 1.2),
        )
        for _ in range(int(rng.integers(4, 12)))
    ]


def _person(rng: np.random.Generator, foot: np.ndarray, size: float) -> list[tuple]:
    (x, y), tall = foot, rng.uniform(1.4, 1.9) * size
    skin = np.array((206, 164, 136)) * rng.uniform(0.4, 1.05)
    return [
        (_bar(x, y, 0.13 * size, tall * 0.5), rng.integers(20, 120, 3)),
        (_bar(x, y - tall * 0.45, 0.21 * size, tall * 0.4), rng.integers(20, 240, 3)),
        (_ellipse(x, y - tall * 0.92, 0.11 * size, 0.14 * size), skin),
    ]


def _car(rng: np.random.Generator, foot: np.ndarray, size: float) -> list[tuple]:
    x, y = foot
    paint = np.array(((180, 30, 30), (30, 50, 120), (210, 210, 210), (40, 40, 44), (150, 155, 160))[rng.integers(5)])
    cabin = np.array([(-1.3, -0.8), (-0.8, -1.4), (0.7, -1.4), (1.3, -0.8)]) * size + foot
    return [
        (cabin, (70, 84, 96)),
        (_bar(x, y - 0.25 * size, 2.1 * size, 0.6 * size), paint),
        (_ellipse(x - 1.3 * size, y - 0.3 * size, 0.33 * size, 0.33 * size), (24, 24, 26)),
        (_ellipse(x + 1.3 * size, y - 0.3 * size, 0.33 * size, 0.33 * size), (24, 24, 26)),
    ]


def _pole(rng: np.random.Generator, foot: np.ndarray, size: float) -> list[tuple]:
    (x, y), tall = foot, rng.uniform(3, 6) * size
    return [
        (_bar(x, y, 0.08 * size, tall), (54, 56, 60)),
        (_ellipse(x, y - tall, 0.3 * size, 0.2 * size), (226, 220, 190)),
    ]


_SPRITES = {"tree": _tree, "bush": _bush, "person": _person, "car": _car, "pole": _pole}
