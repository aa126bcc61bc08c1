"""A canvas measured in metres: polygons, blocks and weather, which become the texture of a wall or roof."""

import dataclasses
import functools

import cv2
import numpy as np

PIXELS_PER_METRE = 36


@dataclasses.dataclass(frozen=True, eq=False)
class Texture:
    """A painted rectangle.

    Attributes:
        colour: uint8 [h, w, 3], RGB by day.
        night: uint8 [h, w, 3], RGB by night, floodlit and with lit windows.
        alpha: uint8 [h, w], 255 where there is wall and 0 where one looks through.
    """

    colour: np.ndarray
    night: np.ndarray
    alpha: np.ndarray

    def level(self, detail: float, night: bool) -> tuple[np.ndarray, np.ndarray]:
        """Returns colour and alpha, halved as often as leaves at least `detail` (0 to 1) of the resolution."""
        halvings = int(np.clip(-np.log2(detail), 0, len(self._halved) - 1))
        colour, dark, alpha = self._halved[halvings]
        return dark if night else colour, alpha

    @functools.cached_property
    def _halved(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        levels = [(self.colour, self.night, self.alpha)]
        while len(levels) < 5:  # kept, since every photo would shrink the textures again: half of drawing a plane
            height, width = levels[-1][-1].shape
            half = (max(2, width // 2), max(2, height // 2))
            levels.append(tuple(cv2.resize(image, half, interpolation=cv2.INTER_AREA) for image in levels[-1]))
        return levels


def vary(rng: np.random.Generator, colour: tuple, spread: float) -> tuple:
    """Returns a colour (RGB, 0 to 255) near the given one, lighter or darker by about `spread`."""
    lighter = rng.normal(0, spread)
    return tuple(int(value) for value in np.clip(np.array(colour) + lighter + rng.normal(0, spread / 2, 3), 12, 245))


def shade(colour: tuple, factor: float) -> tuple:
    """Returns a colour (RGB, 0 to 255) `factor` times as bright, at most white."""
    return tuple(int(min(255, value * factor)) for value in colour)


def noise(rng: np.random.Generator, height: int, width: int, rows: int, columns: int) -> np.ndarray:
    """Returns smooth noise, float32 [height, width], about standard normal, from `rows` x `columns` random values."""
    small = rng.standard_normal((max(rows, 2), max(columns, 2)), dtype=np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def rectangle(x: float, y: float, width: float, height: float) -> np.ndarray:
    """Returns the corners of a rectangle, float64 [4, 2], clockwise from the top left."""
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def outline(shape: str, x: float, y: float, width: float, height: float) -> np.ndarray:
    """Returns the outline of an opening, float64 [K, 2]: its head by its shape, straight below.

    Args:
        shape: "rectangle", "arch", "gothic", "segment", or "round" for an ellipse.
        x: left edge, metres.
        y: top, metres.
        width: metres.
        height: metres.
    """
    right, bottom = x + width, y + height
    if shape == "arch":
        angles = np.linspace(np.pi, 2 * np.pi, 13)
        rise = min(width / 2, height * 0.8)
        head = np.stack([x + width / 2 + width / 2 * np.cos(angles), y + rise + rise * np.sin(angles)], axis=1)
    elif shape == "gothic":
        rise = min(width * 0.85, height * 0.7)
        t = np.linspace(0, 1, 7)
        left = np.stack([x + width / 2 * t**1.6, y + rise * (1 - t)], axis=1)
        head = np.concatenate([left, np.stack([2 * x + width - left[::-1, 0], left[::-1, 1]], axis=1)[1:]])
    elif shape == "segment":
        t = np.linspace(-1, 1, 9)
        head = np.stack([x + width / 2 * (1 + t), y + 0.15 * width * t**2], axis=1)
    elif shape == "round":
        angles = np.linspace(0, 2 * np.pi, 25)[:-1]
        return np.stack([x + width / 2 * (1 + np.cos(angles)), y + height / 2 * (1 + np.sin(angles))], axis=1)
    else:
        head = np.array([(x, y), (right, y)])
    return np.concatenate([head, [(right, bottom), (x, bottom)]])


class Canvas:
    """A rectangle of `width` x `height` metres to paint on, the origin at the top left, y down."""

    def __init__(self, width: float, height: float, colour: tuple):
        """Starts with one colour (RGB) everywhere, opaque, nothing lit."""
        self.width, self.height = width, height
        shape = (max(4, round(height * PIXELS_PER_METRE)), max(4, round(width * PIXELS_PER_METRE)))
        self.colour = np.full((*shape, 3), colour, np.uint8)
        self.alpha = np.full(shape, 255, np.uint8)
        self.glow = np.zeros(shape, np.uint8)

    def polygon(self, corners: np.ndarray, colour: tuple, glow: int = 0) -> None:
        """Fills a polygon, float [K, 2] in metres; `glow` is how brightly it shines by night, 0 to 255."""
        fixed = self.fixed(corners)
        cv2.fillPoly(self.colour, [fixed], colour, cv2.LINE_AA, 3)
        cv2.fillPoly(self.glow, [fixed], glow, cv2.LINE_8, 3)

    def cut(self, corners: np.ndarray, opaque: bool = False) -> None:
        """Makes a polygon, float [K, 2] in metres, see-through (or opaque again)."""
        cv2.fillPoly(self.alpha, [self.fixed(corners)], 255 if opaque else 0, cv2.LINE_8, 3)

    def rectangle(self, x: float, y: float, width: float, height: float, colour: tuple, glow: int = 0) -> None:
        """Fills a rectangle given in metres."""
        self.polygon(rectangle(x, y, width, height), colour, glow)

    def moulding(self, x: float, y: float, width: float, height: float, colour: tuple) -> None:
        """Paints a bar that stands out: lit above, with its shadow below."""
        self.rectangle(x, y + height, width, height * 0.5, shade(colour, 0.5))
        self.rectangle(x, y, width, height, colour)
        self.rectangle(x, y, width, height * 0.3, shade(colour, 1.15))

    def fixed(self, corners: np.ndarray) -> np.ndarray:
        """Returns metres [K, 2] as OpenCV's fixed-point texture indices, int32 [K, 2] in eighths."""
        return np.round((np.asarray(corners) * PIXELS_PER_METRE - 0.5) * 8).astype(np.int32)

    def texture(self, rng: np.random.Generator) -> Texture:
        """Returns the finished texture: weathered, and with its look by night."""
        height, width = self.alpha.shape
        stains = 1 + 0.05 * noise(rng, height, width, height // 50, width // 50)
        streaks = 0.04 * noise(rng, height, width, 3, width // 6)
        weather = np.clip(stains - np.abs(streaks), 0.6, 1.2)[..., None]
        colour = np.clip(self.colour * weather, 0, 255).astype(np.uint8)
        flood = np.linspace(0.12, rng.uniform(0.3, 0.8), height, dtype=np.float32)[:, None, None]
        tint = np.float32([1.0, rng.uniform(0.72, 0.86), rng.uniform(0.4, 0.7)])
        lit = (self.glow[..., None] / np.float32(255)) * np.float32([255, 214, 140])
        night = np.clip(np.maximum(colour * flood * tint, lit), 0, 255).astype(np.uint8)
        return Texture(colour, night, self.alpha)


def lay_blocks(rng: np.random.Generator, canvas: Canvas, width: float, height: float, spread: float) -> None:
    """Lays blocks of `width` x `height` metres in running bond, each of its own tone, over the whole canvas."""
    rows, columns = canvas.alpha.shape
    across, down = max(3, round(width * PIXELS_PER_METRE)), max(3, round(height * PIXELS_PER_METRE))
    row = np.arange(rows) // down
    x = np.arange(columns)[None, :] + (row[:, None] % 2) * (across // 2)
    tones = rng.normal(1, spread, (row[-1] + 1, x.max() // across + 1)).astype(np.float32)
    tone = tones[row[:, None], x // across]
    tone[(np.arange(rows) % down == 0)[:, None] | (x % across == 0)] *= 0.72
    canvas.colour[:] = np.clip(canvas.colour * tone[..., None], 0, 255).astype(np.uint8)
