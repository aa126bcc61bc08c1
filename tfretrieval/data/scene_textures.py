"""Painted walls, roofs, gables and porticos: the textures of drawn buildings, in metres."""

import dataclasses

import cv2
import numpy as np

from tfretrieval.data.scene_canvas import Canvas, Texture, lay_blocks, outline, rectangle, shade, vary

# wall, second wall, trim, roof; few, so that instances share colours and colour alone does not tell them apart
_PALETTES = (
    ((196, 172, 132), (170, 140, 102), (226, 212, 182), (120, 76, 60)),
    ((168, 74, 56), (136, 60, 50), (216, 202, 182), (86, 84, 92)),
    ((168, 164, 156), (138, 134, 128), (204, 200, 192), (96, 100, 106)),
    ((222, 216, 204), (188, 178, 164), (170, 156, 140), (146, 84, 64)),
    ((214, 168, 76), (180, 130, 56), (234, 224, 200), (140, 70, 52)),
    ((206, 142, 128), (172, 108, 98), (228, 216, 204), (92, 88, 92)),
    ((100, 122, 146), (76, 94, 118), (210, 208, 200), (60, 66, 80)),
    ((140, 172, 128), (108, 140, 102), (224, 222, 206), (120, 66, 52)),
    ((122, 92, 68), (98, 72, 56), (200, 180, 150), (64, 102, 82)),
)
_MATERIALS = ("brick", "ashlar", "plaster", "banded", "timber")
_SHAPES = ("rectangle", "arch", "gothic", "segment")
_SURROUNDS = ("none", "frame", "lintel", "pediment", "keystone")
_ORNAMENTS = ("none", "none", "clock", "rose", "banner", "mural", "sign", "ivy", "niches")
_TRAITS = ("roof", "door", "frame", "material", "shape", "surround", "panes", "shutters")
_GROUNDS = ("door", "arcade", "shops", "windows", "portal")


@dataclasses.dataclass(frozen=True)
class Style:
    """What the buildings of one district share: colours (RGB, 0 to 255), wall material and kind of window."""

    wall: tuple
    second: tuple
    trim: tuple
    roof: tuple
    frame: tuple
    door: tuple
    material: str
    shape: str
    surround: str
    panes: tuple[int, int]
    shutters: bool


@dataclasses.dataclass(frozen=True)
class WallPlan:
    """How one wall is divided.

    Attributes:
        floors: rows of windows, the ground floor included.
        bays: columns of windows.
        ground: what stands on the ground floor, one of "door", "arcade", "shops", "windows", "portal".
        ornament: "none", or what marks the middle of the wall.
        pilasters: whether flat columns stand between bays.
        cornice: whether a moulding ends the wall at the top.
    """

    floors: int
    bays: int
    ground: str = "windows"
    ornament: str = "none"
    pilasters: bool = False
    cornice: bool = True


def draw_style(rng: np.random.Generator) -> Style:
    """Draws what the buildings of a district share."""
    wall, second, trim, roof = (vary(rng, colour, 8) for colour in _PALETTES[rng.integers(len(_PALETTES))])
    light, dark = (225, 220, 208), (70, 58, 48)
    return Style(
        wall=wall,
        second=second,
        trim=trim,
        roof=roof,
        frame=vary(rng, light if rng.random() < 0.6 else dark, 10),
        door=vary(rng, ((92, 58, 38), (44, 70, 58), (110, 40, 36))[rng.integers(3)], 12),
        material=str(rng.choice(_MATERIALS)),
        shape=str(rng.choice(_SHAPES)),
        surround=str(rng.choice(_SURROUNDS)),
        panes=(int(rng.integers(1, 4)), int(rng.integers(2, 5))),
        shutters=bool(rng.random() < 0.3),
    )


def vary_style(rng: np.random.Generator, style: Style) -> Style:
    """Returns the style as one building wears it: colours a little off, and half of its traits its own."""
    other = draw_style(rng)
    own = {name: getattr(other, name) for name in _TRAITS if rng.random() < 0.5}
    if rng.random() < 0.65:
        own |= {name: getattr(other, name) for name in ("wall", "second", "trim")}
    mixed = dataclasses.replace(style, **own)
    return dataclasses.replace(
        mixed, **{name: vary(rng, getattr(mixed, name), 12) for name in ("wall", "second", "trim", "roof", "door")}
    )


def draw_plan(rng: np.random.Generator, width: float, height: float, main: bool) -> WallPlan:
    """Draws how a wall of `width` x `height` metres is divided; main walls have doors and ornaments."""
    floors = int(np.clip(round(height / rng.uniform(2.2, 4.2)), 1, 6))
    bays = int(np.clip(round(width / rng.uniform(1.5, 3.4)), 1, 9))
    return WallPlan(
        floors=floors,
        bays=bays,
        ground=str(rng.choice(_GROUNDS)) if main else "windows",
        ornament=str(rng.choice(_ORNAMENTS)) if main else "none",
        pilasters=bool(rng.random() < 0.35),
        cornice=bool(rng.random() < 0.8),
    )


def _material(rng: np.random.Generator, canvas: Canvas, style: Style) -> None:
    """Covers the wall."""
    if style.material == "banded":
        step = rng.uniform(0.5, 1.0)
        for y in np.arange(step, canvas.height, 2 * step):
            canvas.rectangle(0, y, canvas.width, step, style.second)
        lay_blocks(rng, canvas, 0.9, step / 2, 0.06)
    elif style.material == "brick":
        lay_blocks(rng, canvas, 0.5, 0.2, 0.1)
    elif style.material == "ashlar":
        lay_blocks(rng, canvas, rng.uniform(0.9, 1.5), rng.uniform(0.45, 0.7), 0.08)
    elif style.material == "timber":
        beam, step = shade(style.second, 0.45), rng.uniform(0.9, 1.6)
        for x in np.arange(0, canvas.width, step):
            canvas.rectangle(x, 0, 0.16, canvas.height, beam)
            if rng.random() < 0.4:
                y = rng.uniform(0, max(0.1, canvas.height - 1.5))
                canvas.polygon([(x, y), (x + 0.2, y), (x + step, y + 1.4), (x + step - 0.2, y + 1.4)], beam)
        for y in np.arange(0.1, canvas.height, rng.uniform(1.2, 1.8)):
            canvas.rectangle(0, y, canvas.width, 0.16, beam)


def _window(rng: np.random.Generator, canvas: Canvas, style: Style, shape: str, box: tuple) -> None:
    """Paints a window into the box (x, y, width, height)."""
    x, y, width, height = box
    edge = 0.09
    if style.surround != "none":
        canvas.polygon(outline(shape, x - edge, y - edge, width + 2 * edge, height + 2 * edge), style.trim)
    if style.surround == "lintel":
        canvas.moulding(x - 2 * edge, y - 3 * edge, width + 4 * edge, 0.2, style.trim)
    elif style.surround == "pediment":
        peak = (x + width / 2, y - 0.2 - width * 0.28)
        canvas.polygon([(x - 0.2, y - 0.12), peak, (x + width + 0.2, y - 0.12)], style.trim)
        canvas.polygon([(x, y - 0.17), (peak[0], peak[1] + 0.14), (x + width, y - 0.17)], shade(style.trim, 0.7))
    elif style.surround == "keystone":
        canvas.rectangle(x + width / 2 - 0.14, y - 0.25, 0.28, 0.45, shade(style.trim, 1.1))
    glass = shade((62, 74, 88), rng.uniform(0.55, 1.25))
    lit = int(rng.choice([0, 0, 160, 255]))
    canvas.polygon(outline(shape, x, y, width, height), glass, lit)
    if shape != "round":
        canvas.rectangle(x, y + height * 0.5, width, height * 0.5, shade(glass, 0.8), lit)
    across, down = style.panes
    bar = 0.06
    for k in range(1, across):
        canvas.rectangle(x + width * k / across - bar / 2, y + 0.05, bar, height - 0.05, style.frame)
    for k in range(1, down):
        canvas.rectangle(x, y + height * k / down - bar / 2, width, bar, style.frame)
    canvas.moulding(x - edge, y + height, width + 2 * edge, 0.12, style.trim)
    if style.shutters:
        for left in (x - width * 0.42, x + width * 1.02):
            canvas.rectangle(left, y, width * 0.4, height, style.door)
            for k in range(1, 5):
                canvas.rectangle(left, y + height * k / 5, width * 0.4, 0.05, shade(style.door, 0.7))


def _door(canvas: Canvas, style: Style, shape: str, x: float, width: float, height: float) -> None:
    """Paints a door on the ground, centred at x."""
    left, top = x - width / 2, canvas.height - height
    canvas.polygon(outline(shape, left - 0.2, top - 0.2, width + 0.4, height + 0.2), style.trim)
    canvas.polygon(outline(shape, left, top, width, height), style.door, glow=40)
    for side in (left + width * 0.08, left + width * 0.55):
        for y in (top + height * 0.35, top + height * 0.68):
            canvas.rectangle(side, y, width * 0.37, height * 0.26, shade(style.door, 0.65))
    canvas.rectangle(x - 0.03, top, 0.06, height, shade(style.door, 0.4))


def _ground_floor(rng: np.random.Generator, canvas: Canvas, style: Style, plan: WallPlan, height: float) -> None:
    """Paints what stands on the ground floor of a main wall."""
    bay, middle = canvas.width / plan.bays, canvas.width / 2
    top = canvas.height - height
    if plan.ground == "arcade":
        for k in range(plan.bays):
            arch = outline("arch", (k + 0.14) * bay, top + 0.35, bay * 0.72, height - 0.35)
            canvas.polygon(arch - np.array([0, 0.12]), style.trim)
            canvas.polygon(arch, (48, 44, 44), glow=int(rng.choice([60, 120])))
    elif plan.ground == "shops":
        for k in range(plan.bays):
            awning = vary(rng, (style.door, style.roof, style.trim)[rng.integers(3)], 25)
            canvas.rectangle((k + 0.08) * bay, top + 0.5, bay * 0.84, height - 0.8, shade((70, 84, 96), 0.9), glow=230)
            for stripe in range(6):
                tone = awning if stripe % 2 else shade(style.trim, 1.05)
                canvas.rectangle((k + 0.05 + stripe * 0.15) * bay, top + 0.3, bay * 0.15, 0.5, tone)
    elif plan.ground == "portal":
        door = min(canvas.width * 0.5, height * 0.9)
        for ring in range(4):
            wide = door * (1 - 0.14 * ring)
            tone = shade(style.trim, 1.05 if ring % 2 else 0.7)
            tall = (height * 1.15) * (1 - 0.08 * ring)
            canvas.polygon(outline("gothic", middle - wide / 2, canvas.height - tall, wide, tall), tone)
        _door(canvas, style, "gothic", middle, door * 0.45, height * 0.75)
    else:
        spots = [middle] if plan.ground == "door" else [(rng.integers(plan.bays) + 0.5) * bay]
        _door(canvas, style, style.shape, spots[0], min(bay * 0.6, 1.8), min(height * 0.85, 3.0))
        for x in (np.arange(plan.bays) + 0.5) * bay:
            if abs(x - spots[0]) > bay * 0.7:
                _window(rng, canvas, style, style.shape, (x - bay * 0.2, top + height * 0.3, bay * 0.4, height * 0.42))


def _ornament(rng: np.random.Generator, canvas: Canvas, style: Style, kind: str) -> None:
    """Paints what marks a main wall."""
    x, y = canvas.width * rng.choice([0.5, 0.5, rng.uniform(0.2, 0.8)]), canvas.height * rng.uniform(0.15, 0.45)
    if kind in ("clock", "rose"):
        radius = rng.uniform(0.7, 1.3)
        for size, tone in ((1.2, style.trim), (1.0, (236, 232, 220) if kind == "clock" else (66, 60, 78))):
            canvas.polygon(
                outline("round", x - size * radius, y - size * radius, 2 * size * radius, 2 * size * radius), tone, 120
            )
        spokes = np.array([rng.uniform(0, 6.3), rng.uniform(0, 6.3)]) if kind == "clock" else np.arange(12) * np.pi / 6
        for angle in spokes:
            along, side = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)]) * 0.06
            tip = along * radius * 0.9
            canvas.polygon(
                np.array([side, tip + side, tip - side, -side]) + np.array([x, y]),
                (40, 36, 34) if kind == "clock" else style.trim,
            )
    elif kind in ("banner", "mural", "sign"):
        width, height = {"banner": (1.0, 3.2), "mural": (3.4, 2.6), "sign": (4.5, 0.9)}[kind]
        width, height = min(width, canvas.width * 0.6), min(height, canvas.height * 0.5)
        left, ground = x - width / 2, vary(rng, (style.door, style.trim, style.second)[rng.integers(3)], 30)
        canvas.rectangle(left, y, width, height, ground, 30)
        for _ in range(int(rng.integers(4, 9))):
            spot = np.array([left, y]) + rng.uniform(0.1, 0.9, (3, 2)) * (width, height)
            canvas.polygon(
                spot,
                tuple(int(v) for v in rng.integers(20, 240, 3))
                if kind == "mural"
                else shade(ground, rng.choice([0.4, 1.7])),
            )
    elif kind == "ivy":
        for _ in range(90):
            spot = np.abs(rng.normal(0, 1, 2)) * (canvas.width * 0.12, canvas.height * 0.3)
            size = rng.uniform(0.2, 0.7)
            at = (spot[0] if x < canvas.width / 2 else canvas.width - spot[0], canvas.height - spot[1])
            canvas.polygon(
                outline("round", at[0] - size / 2, at[1] - size / 2, size, size), vary(rng, (62, 88, 44), 14)
            )
    elif kind == "niches":
        for k in range(3):
            left = canvas.width * (0.2 + 0.25 * k)
            canvas.polygon(outline("arch", left, y, 0.8, 1.7), shade(style.second, 0.6))
            canvas.polygon(outline("arch", left + 0.25, y + 0.3, 0.3, 1.4), shade(style.trim, 1.1))


def paint_wall(rng: np.random.Generator, style: Style, width: float, height: float, plan: WallPlan) -> Texture:
    """Paints a wall of `width` x `height` metres."""
    canvas = Canvas(width, height, style.wall)
    _material(rng, canvas, style)
    top = 0.6 if plan.cornice else 0.25
    floor = (height - top) / plan.floors
    bay = width / plan.bays
    other = str(rng.choice(_SHAPES)) if rng.random() < 0.5 else style.shape
    alternate, blind = rng.random() < 0.3, rng.random((plan.floors, plan.bays)) < rng.choice([0, 0, 0.2])
    share, tall = rng.uniform(0.36, 0.58), rng.uniform(0.45, 0.66)
    if style.shutters:
        share = min(share, 0.44)
    if plan.pilasters:
        for k in range(plan.bays + 1):
            left = np.clip(k * bay - 0.16, 0, width - 0.32)
            canvas.rectangle(left + 0.32, top, 0.1, height, shade(style.wall, 0.6))
            canvas.rectangle(left, top, 0.32, height, style.trim)
    has_entrance = plan.ground != "windows"
    for row in range(plan.floors - has_entrance):
        shape = other if row == plan.floors - 2 else style.shape
        for column in range(plan.bays):
            if blind[row, column]:
                continue
            window = (bay * share, floor * tall)
            place = (column * bay + (bay - window[0]) / 2, top + row * floor + (floor - window[1]) * 0.55)
            _window(rng, canvas, style, other if alternate and column % 2 else shape, place + window)
    for row in range(1, plan.floors):
        if rng.random() < 0.5 or (row == plan.floors - 1 and has_entrance):
            canvas.moulding(0, top + row * floor - 0.1, width, 0.16, style.trim)
    canvas.rectangle(0, height - 0.4, width, 0.4, shade(style.second, 0.8))
    if has_entrance:
        _ground_floor(rng, canvas, style, plan, floor)
    _ornament(rng, canvas, style, plan.ornament)
    if plan.cornice:
        canvas.moulding(0, 0.05, width, 0.25, style.trim)
        for x in np.arange(0.1, width, 0.45):
            canvas.rectangle(x, 0.42, 0.2, 0.18, style.trim)
    return canvas.texture(rng)


def paint_roof(
    rng: np.random.Generator, style: Style, width: float, height: float, inset: float, dormers: int
) -> Texture:
    """Paints a sloped roof: rows of tiles, `inset` metres narrower on each side at the ridge, with dormer windows."""
    canvas = Canvas(width, height, style.roof)
    lay_blocks(rng, canvas, 0.4, rng.uniform(0.25, 0.5), 0.09)
    for k in range(dormers):
        x, y = width * (k + 1) / (dormers + 1), height * 0.35
        canvas.polygon([(x - 0.6, y), (x, y - 0.5), (x + 0.6, y)], shade(style.roof, 0.7))
        canvas.rectangle(x - 0.5, y, 1.0, height * 0.4, style.trim)
        canvas.rectangle(x - 0.35, y + 0.1, 0.7, height * 0.3, (62, 70, 82), glow=200)
    canvas.rectangle(0, 0, width, 0.2, shade(style.roof, 1.2))
    if inset > 0:
        canvas.cut([(0, 0), (inset, 0), (0, height)])
        canvas.cut([(width, 0), (width - inset, 0), (width, height)])
    return canvas.texture(rng)


def paint_gable(rng: np.random.Generator, style: Style, width: float, height: float, kind: str) -> Texture:
    """Paints the end wall under a roof: "triangle", "stepped" or "curved"."""
    canvas = Canvas(width, height, style.wall)
    _material(rng, canvas, style)
    steps = 5
    if kind == "stepped":
        left = [(width / 2 * (k + d) / steps, height * (1 - k / steps)) for k in range(steps) for d in (0, 1)]
        left = [(x - width / 2 / steps, y) for x, y in left]
    elif kind == "curved":
        left = [(width / 2 * (t + 0.1 * np.sin(6.3 * t)), height * (1 - t)) for t in np.linspace(0, 1, 15)]
    else:
        left = [(0, height), (width / 2, 0)]
    edge = np.array(left + [(width - x, y) for x, y in reversed(left)])
    canvas.alpha[:] = 0
    canvas.cut(edge, opaque=True)
    middle = np.array([width / 2, height])
    covered = canvas.colour.copy()
    canvas.rectangle(0, 0, width, height, style.trim)
    inner = np.zeros_like(canvas.alpha)
    cv2.fillPoly(inner, [canvas.fixed((edge - middle) * 0.9 + middle)], 255, cv2.LINE_8, 3)
    np.copyto(canvas.colour, covered, where=(inner > 0)[..., None])
    size = min(width, height) * rng.uniform(0.22, 0.38)
    shape = str(rng.choice(["round", *_SHAPES]))
    _window(rng, canvas, style, shape, (width / 2 - size / 2, height * 0.62 - size / 2, size, size))
    return canvas.texture(rng)


def paint_columns(rng: np.random.Generator, style: Style, width: float, height: float, columns: int) -> Texture:
    """Paints a free-standing row of columns under a beam and a triangular pediment; one looks through between them."""
    canvas = Canvas(width, height, style.trim)
    head = min(height * 0.3, width * 0.28)
    canvas.cut([(0, 0), (width / 2, 0), (0, head)])
    canvas.cut([(width, 0), (width / 2, 0), (width, head)])
    canvas.polygon(
        [(width * 0.12, head * 0.9), (width / 2, head * 0.22), (width * 0.88, head * 0.9)], shade(style.trim, 0.72)
    )
    canvas.moulding(0, head, width, 0.3, style.trim)
    beam, thick = head + 0.55, width / columns * rng.uniform(0.28, 0.4)
    canvas.cut(rectangle(-1, beam, width + 2, height))
    for k in range(columns):
        x = thick * 0.8 + (width - 1.6 * thick) * k / (columns - 1)
        canvas.cut(rectangle(x - thick / 2, beam, thick, height), opaque=True)
        for part, tone in ((-0.5, 0.75), (-0.2, 1.1), (0.2, 0.85)):
            canvas.rectangle(x + part * thick, beam, thick * 0.35, height, shade(style.trim, tone))
        for y in (beam, height - 0.3):
            canvas.cut(rectangle(x - thick * 0.7, y, thick * 1.4, 0.3), opaque=True)
            canvas.rectangle(x - thick * 0.7, y, thick * 1.4, 0.3, style.trim)
    return canvas.texture(rng)


def paint_teeth(rng: np.random.Generator, style: Style, width: float, height: float) -> Texture:
    """Paints a row of battlements."""
    canvas = Canvas(width, height, style.wall)
    _material(rng, canvas, style)
    count = max(2, round(width / rng.uniform(0.9, 1.5)))
    for k in range(count):
        canvas.cut(rectangle((k + 0.62) * width / count, 0, 0.38 * width / count, height * 0.6))
    return canvas.texture(rng)


def paint_spire(rng: np.random.Generator, style: Style, width: float, height: float) -> Texture:
    """Paints one triangular face of a spire."""
    return paint_roof(rng, style, width, height, inset=width / 2, dormers=0)
