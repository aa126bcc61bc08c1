"""Photos of drawn buildings: where the camera stands, the light, and what the sensor makes of it."""

import cv2
import numpy as np

from tfretrieval.data.scene_buildings import Building, Plane
from tfretrieval.data.scene_clutter import draw_neighbours, draw_occluders, draw_surroundings
from tfretrieval.data.scene_frame import NEAR, Frame, Light, object_box, observe
from tfretrieval.data.scene_geometry import Camera, ScenePhoto

_ENOUGH_POINTS = 80


def draw_light(rng: np.random.Generator) -> Light:
    """Draws the light: mostly day or overcast, at times dusk or night."""
    kind = str(rng.choice(["day", "overcast", "dusk", "night"], p=[0.54, 0.3, 0.1, 0.06]))
    azimuth, height = rng.uniform(-1.5, 1.5), rng.uniform(0.3, 1.1)
    sun = np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), -np.cos(azimuth) * np.cos(height)])
    ambient = {"day": rng.uniform(0.55, 0.75), "overcast": 0.85, "dusk": rng.uniform(0.5, 0.7), "night": 0.9}[kind]
    sky = {
        "day": ((84, 132, 196), (190, 208, 224)),
        "overcast": ((150, 154, 160), (206, 206, 204)),
        "dusk": ((96, 92, 130), (232, 168, 116)),
        "night": ((8, 10, 22), (30, 28, 40)),
    }[kind]
    return Light(kind, sun, ambient, sky)


def draw_camera(rng: np.random.Generator, building: Building, size: tuple[int, int]) -> Camera:
    """Draws a camera around the building.

    Azimuth up to 55 degrees to either side, mostly less, and elevation up to about 15; the building's larger extent is
    0.65 to 1.95 times the frame's (a scale change of 3); the focal length is 0.8 to 1.5 times the frame's longer side;
    a roll of a few degrees; aimed off the building's centre.

    Args:
        rng: the only source of chance.
        building: what to look at.
        size: (height, width) in pixels.

    Returns:
        A camera which has at least 80 points of facing planes in its frame, or the best of 20.
    """
    best, most = None, -1
    for _ in range(20):
        camera = _try_camera(rng, building, size)
        facing = [plane.faces(camera.centre) for plane in building.planes]
        pixels = camera.project(building.points)
        inside = ((pixels >= 0) & (pixels <= size[::-1])).all(axis=1) & np.array(facing)[building.plane_of]
        count = int(inside.sum()) if camera.depth(building.points).min() > NEAR else 0
        if count > most:
            best, most = camera, count
        if count >= _ENOUGH_POINTS:
            break
    return best


def _try_camera(rng: np.random.Generator, building: Building, size: tuple[int, int]) -> Camera:
    """Draws one camera, whatever it sees."""
    height, width = size
    extent = building.high - building.low
    middle = (building.high + building.low) / 2
    azimuth = np.radians(np.clip(rng.normal(0, 22), -55, 55))
    elevation = np.radians(np.clip(rng.normal(2, 5), -2, 16))
    focal = max(size) * rng.uniform(0.8, 1.5)
    fill = np.exp(rng.triangular(np.log(0.65), np.log(1.1), np.log(1.95)))
    apparent = extent[0] * np.cos(azimuth) + extent[2] * abs(np.sin(azimuth))
    distance = max(focal / fill * max(apparent / width, extent[1] / height), extent[2] + 3)
    away = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)])
    centre = np.array([middle[0], -0.35 * extent[1], 0]) + distance * away
    centre[1] = min(centre[1], -1.2)
    target = np.array([middle[0], -0.47 * extent[1], 0]) + rng.uniform(-0.16, 0.16, 3) * extent * (1, 0.8, 0)
    principal = np.array([width, height]) / 2 + rng.normal(0, 0.01, 2) * max(size)
    return Camera(centre, look_at(centre, target, np.radians(rng.normal(0, 2.5))), focal, principal, size)


def look_at(centre: np.ndarray, target: np.ndarray, roll: float) -> np.ndarray:
    """Returns the rotation, float64 [3, 3] world to camera, of a camera at `centre` [3] aimed at `target` [3].

    Args:
        centre: metres; not straight above or below the target.
        target: metres; it appears at the principal point.
        roll: radians, turning the camera about its axis from an upright position.
    """
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross((0.0, 1.0, 0.0), forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cosine, sine = np.cos(roll), np.sin(roll)
    return np.stack([cosine * right + sine * down, cosine * down - sine * right, forward])


def expose(rng: np.random.Generator, frame: Frame, light: Light) -> np.ndarray:
    """Turns the finished frame into what a sensor stores: shadow, exposure, white balance, blur and noise.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    height, width = frame.camera.size
    picture = cv2.resize(frame.colour, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    if light.kind != "night" and rng.random() < 0.35:
        solid = cv2.resize((frame.nearness > 0).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        picture *= (1 - solid * _shadow(rng, height, width))[..., None]
    slope = rng.uniform(-0.2, 0.2, 2)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    picture *= (1 + slope[0] * x[None, :] + 0.6 * slope[1] * y[:, None]).astype(np.float32)[..., None]
    warm = rng.normal({"day": 0.0, "overcast": -0.05, "dusk": 0.08, "night": 0.05}[light.kind], 0.04)
    balance = np.float32([1 + warm, 1 + rng.normal(0, 0.03), 1 - warm])
    gray = picture.mean(axis=-1, keepdims=True)
    picture = gray + (picture - gray) * np.float32(rng.uniform(0.8, 1.2))
    gain = {"day": 1.0, "overcast": 0.95, "dusk": 0.75, "night": 1.7}[light.kind] * np.exp(rng.normal(0, 0.12))
    picture = np.clip(picture * balance * np.float32(gain), 0, None)
    haze = np.float32(rng.choice([0, 0, rng.uniform(0, 0.25)]))
    picture = picture * (1 - haze) + haze * 0.75
    picture = np.power(np.clip(picture, 0, 1), np.float32(np.exp(rng.normal(0, 0.12))))
    blur = rng.choice([0, rng.uniform(0.3, 1.1)])
    if blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), float(blur))
    spread = rng.uniform(0.004, 0.02) * (1.6 if light.kind == "night" else 1)
    picture += np.float32(spread) * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(picture * 255, 0, 255).astype(np.uint8)


def _shadow(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns how much light a soft shadow takes across the frame, float32 [height, width], 0 where there is none."""
    mask = np.zeros((height, width), np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    start = np.array([width, height]) * rng.uniform(0.2, 0.8, 2)
    far, thick = 2.0 * width, rng.uniform(0.15, 1.0) * width
    corners = [
        start - far * along,
        start + far * along,
        start + far * along + thick * across,
        start - far * along + thick * across,
    ]
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.8, 8)))
    return mask * np.float32(rng.uniform(0.25, 0.55))


def take_photo(
    rng: np.random.Generator, identity: str, building: Building, houses: list[list[Plane]], size: tuple[int, int]
) -> tuple[np.ndarray, ScenePhoto]:
    """Takes one photo of the building.

    Args:
        rng: the only source of chance.
        identity: the photo's id.
        building: the instance.
        houses: what may stand around it.
        size: (height, width) in pixels.

    Returns:
        uint8 [H, W, 3] RGB, and the photo's geometry.
    """
    camera, light = draw_camera(rng, building, size), draw_light(rng)
    frame = Frame(camera)
    draw_surroundings(rng, frame, light)
    draw_neighbours(rng, frame, building, houses, light)
    for index, plane in enumerate(building.planes):
        frame.draw(plane, index, light)
    occluded = draw_occluders(rng, frame, building, light)
    visible, pixels = observe(frame, building)
    photo = ScenePhoto(identity, camera, visible, pixels, object_box(frame), light.kind, occluded)
    return expose(rng, frame, light), photo
