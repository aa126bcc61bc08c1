"""A picture in the making: textured planes, the nearest of which shows in each cell, and the 3-D points one sees."""

import dataclasses

import cv2
import numpy as np

from tfretrieval.data.scene_buildings import Building, Plane
from tfretrieval.data.scene_canvas import PIXELS_PER_METRE
from tfretrieval.data.scene_geometry import Box, Camera

SUPERSAMPLING = 2
POINT_SIZE = 0.4  # metres; a point counts as seen where this much wall spans a pixel or more
LEAST_COSINE = 0.2  # of the angle between the wall's normal and the ray
NEAR = 0.5  # metres
_SKY = -1


@dataclasses.dataclass(frozen=True)
class Light:
    """The light of one photo.

    Attributes:
        kind: "day", "overcast", "dusk" or "night".
        sun: float64 [3], unit vector towards the sun.
        ambient: brightness of a wall in shade, relative to one in the sun.
        sky: RGB at the zenith and at the horizon, 0 to 255.
    """

    kind: str
    sun: np.ndarray
    ambient: float
    sky: tuple[tuple, tuple]


def plane_homography(camera: Camera, plane: Plane) -> np.ndarray:
    """Returns float64 [3, 3], from places on the plane (metres across, metres down, 1) to homogeneous pixels."""
    lens = np.array([[camera.focal, 0, camera.principal[0]], [0, camera.focal, camera.principal[1]], [0, 0, 1]])
    return lens @ camera.rotation @ np.stack([plane.across, plane.down, plane.origin - camera.centre], axis=1)


def _affine(scale: np.ndarray) -> np.ndarray:
    """Returns [3, 3] from continuous coordinates to array indices at `scale` [2] cells a unit: cell 0's centre is 0."""
    return np.array([[scale[0], 0, -0.5], [0, scale[1], -0.5], [0, 0, 1]])


class Frame:
    """A picture in the making: colour, inverse depth and which plane is seen, at `SUPERSAMPLING` cells a pixel."""

    def __init__(self, camera: Camera):
        """Starts empty."""
        self.camera = camera
        shape = tuple(SUPERSAMPLING * side for side in camera.size)
        self.colour = np.zeros((*shape, 3), np.uint8)
        self.nearness = np.zeros(shape, np.float32)
        self.plane = np.full(shape, _SKY, np.int16)
        self.occluder = np.zeros(shape, np.uint8)

    def rays(self) -> np.ndarray:
        """Returns float32 [H, W, 3], the direction in the world of every pixel, of depth 1 along the optical axis."""
        height, width = self.camera.size
        x = (np.arange(width) + 0.5 - self.camera.principal[0]) / self.camera.focal
        y = (np.arange(height) + 0.5 - self.camera.principal[1]) / self.camera.focal
        right, down, forward = self.camera.rotation.astype(np.float32)
        return x.astype(np.float32)[None, :, None] * right + y.astype(np.float32)[:, None, None] * down + forward

    def draw(self, plane: Plane, index: int, light: Light) -> None:
        """Draws a plane where nothing nearer is, marking its cells with `index`."""
        corners = plane.corners()
        if not plane.faces(self.camera.centre) or self.camera.depth(corners).min() < NEAR:
            return
        pixels = self.camera.project(corners) * SUPERSAMPLING
        height, width = self.plane.shape
        low = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, (width, height))
        high = np.clip(np.ceil(pixels.max(axis=0)).astype(int), 0, (width, height))
        if np.any(high - low < 1):
            return
        region = (slice(low[1], high[1]), slice(low[0], high[0]))
        shape = (int(high[0] - low[0]), int(high[1] - low[1]))

        detail = SUPERSAMPLING * np.median(self.camera.scale(corners)) / PIXELS_PER_METRE
        image, alpha = plane.texture.level(detail, light.kind == "night")  # a finer one would alias
        cells_per_metre = np.array(alpha.shape[::-1]) / (plane.width, plane.height)
        to_cells = _affine(np.full(2, SUPERSAMPLING)) @ plane_homography(self.camera, plane)
        homography = to_cells @ np.linalg.inv(_affine(cells_per_metre))
        homography = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]]) @ homography
        image = cv2.warpPerspective(image, homography, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpPerspective(alpha, homography, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = np.zeros(alpha.shape, np.uint8)
        cv2.fillConvexPoly(inside, np.round((pixels - low - 0.5) * 16).astype(np.int32), 1, cv2.LINE_8, 4)

        nearness = self._nearness(plane, low, shape)
        inside[(alpha < 128) | (nearness <= self.nearness[region])] = 0
        if light.kind != "night":
            lit = max(0.0, float(-plane.normal @ light.sun))
            image = cv2.convertScaleAbs(image, alpha=light.ambient + (1 - light.ambient) * lit)
        cv2.copyTo(image, inside, self.colour[region])
        cv2.copyTo(nearness, inside, self.nearness[region])
        self.plane[region][inside > 0] = index

    def _nearness(self, plane: Plane, low: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Returns 1 / depth, float32, over a region: affine in the pixels, since the plane is flat."""
        camera = self.camera
        facing = camera.rotation @ plane.normal / ((plane.origin - camera.centre) @ plane.normal)
        x = ((low[0] + np.arange(shape[0]) + 0.5) / SUPERSAMPLING - camera.principal[0]) / camera.focal
        y = ((low[1] + np.arange(shape[1]) + 0.5) / SUPERSAMPLING - camera.principal[1]) / camera.focal
        return ((facing[0] * x)[None, :] + (facing[1] * y)[:, None] + facing[2]).astype(np.float32)


def observe(frame: Frame, building: Building) -> tuple[np.ndarray, np.ndarray]:
    """Finds the 3-D points that the frame sees.

    A point is seen when its plane faces the camera at no grazing angle (`LEAST_COSINE`), `POINT_SIZE` metres around it
    span at least a pixel, and its cell of the frame shows its plane with no clutter in front.

    Returns:
        int32 [V] rows of the points, rising, and float32 [V, 2] their pixels.
    """
    camera = frame.camera
    pixels = camera.project(building.points)
    rays = building.points - camera.centre
    normals = np.stack([plane.normal for plane in building.planes])[building.plane_of]
    cosine = (rays * normals).sum(axis=1) / np.linalg.norm(rays, axis=1)
    large = camera.scale(building.points) * cosine * POINT_SIZE >= 1
    height, width = camera.size
    inside = (camera.depth(building.points) > NEAR) & ((pixels >= 0) & (pixels < (width, height))).all(axis=1)
    rows = np.flatnonzero(inside & large & (cosine > LEAST_COSINE))
    column, row = (pixels[rows] * SUPERSAMPLING).astype(int).T
    shown = (frame.plane[row, column] == building.plane_of[rows]) & (frame.occluder[row, column] == 0)
    rows = rows[shown]
    return rows.astype(np.int32), pixels[rows].astype(np.float32)


def object_box(frame: Frame) -> Box:
    """Returns the box of the building's cells within the frame; those behind clutter count."""
    target = frame.plane >= 0
    columns, rows = np.flatnonzero(target.any(axis=0)), np.flatnonzero(target.any(axis=1))
    height, width = target.shape
    return Box(
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )
