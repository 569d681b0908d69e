"""Drawings of a few kinds of things, in place of photos.

Each kind is a function that draws the thing upright on a transparent layer in unit coordinates (x,
y in 0..1, y down). Background and light are the same for all kinds, so that they reveal nothing.
"""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from fewshot_lite.core.progress import OnDone

Colour = tuple[int, ...]  # red, green, blue
Point = tuple[float, float]


def draw(kind: str, rng: Random, size: int = 256) -> Image.Image:
    """Draw a thing of a kind: an RGB image of `size` x `size` pixels, 8 bits a channel.

    The same state of `rng` gives the same pixels. Raises ValueError for an unknown kind.
    """
    if kind not in _ARTISTS:
        raise ValueError(f"unknown kind {kind!r}; known kinds: {', '.join(KINDS)}")
    side = size * 3  # drawn larger and then scaled down, for smooth edges
    frame, pen = _background(rng, side), _Pen(side)
    _ARTISTS[kind](pen, rng)
    photo = _lit(frame, _placed(pen.layer, rng), rng)
    photo = photo.resize((size, size), Image.Resampling.LANCZOS)
    noise = Image.frombytes("RGB", photo.size, rng.randbytes(3 * size * size))
    return Image.blend(photo, noise, rng.uniform(0.01, 0.04))  # a camera's grain


def write_folder(
    folder: Path,
    kinds: Sequence[str],
    per_kind: int,
    seed: int,
    size: int = 256,
    *,
    on_done: OnDone | None = None,
) -> list[Path]:
    """Write `<folder>/<kind>/<kind>_01.jpg`, `_02.jpg` ... and return the paths in that order.

    An image depends on `seed`, `size`, its kind and its number only, not on how many there are.
    Raises ValueError for an unknown kind, before anything is written.
    """
    if unknown := [kind for kind in kinds if kind not in _ARTISTS]:
        raise ValueError(f"unknown kinds {unknown}; known kinds: {', '.join(KINDS)}")
    paths = []
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i in range(1, per_kind + 1):
            paths.append(folder / kind / f"{kind}_{i:02d}.jpg")
            draw(kind, Random(f"{seed}/{kind}/{i}"), size).save(paths[-1], quality=92)
            if on_done is not None:
                on_done(len(paths), len(kinds) * per_kind)
    return paths


class _Pen:
    """Draws in unit coordinates on `layer`, a transparent RGBA image of `side` x `side` pixels."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.layer = Image.new("RGBA", (side, side))
        self._draw = ImageDraw.Draw(self.layer)

    def shape(self, points: Sequence[Point], colour: Colour) -> None:
        self._draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.shape([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour | None) -> None:
        ends = [self.side * v for v in (x - rx, y - ry, x + rx, y + ry)]
        self._draw.ellipse(ends, fill=colour or (0, 0, 0, 0))  # None cuts a hole

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        pixels = [(x * self.side, y * self.side) for x, y in points]
        self._draw.line(pixels, colour, max(1, round(width * self.side)), joint="curve")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Clip drawing within the context to what was painted before."""
        before = self.layer.copy()
        yield
        self.layer.paste(before, mask=ImageChops.invert(before.getchannel("A")))


def _curve(points: Sequence[Point], closed: bool = False) -> list[Point]:
    """Return a smooth (Catmull-Rom) curve through points."""
    ring = [points[-1], *points, *points[:2]] if closed else [points[0], *points, points[-1]]
    curve: list[Point] = []
    for p, q, r, s in zip(ring, ring[1:], ring[2:], ring[3:], strict=False):
        for t in (k / 12 for k in range(13)):
            a, b = -t * (1 - t) ** 2 / 2, 1 + t * t * (3 * t - 5) / 2
            c, d = t * (1 + t * (4 - 3 * t)) / 2, t * t * (t - 1) / 2
            x, y = (a * p[i] + b * q[i] + c * r[i] + d * s[i] for i in (0, 1))
            curve.append((x, y))
    return curve


def _both(half: Sequence[Point]) -> list[Point]:  # the right half and its mirror image
    return [*half, *((1 - x, y) for x, y in reversed(half) if x != 0.5)]


def _shade(colour: Colour, by: float) -> Colour:  # darker (by < 1) or lighter (by > 1)
    return tuple(min(255, round(c * by)) for c in colour)


#: Sorts of colours: the ranges of hue, saturation and value.
_SORTS = {
    "vivid": ((0.0, 1.0), (0.5, 0.9), (0.55, 0.95)),  # paint, cloth, scales
    "earth": ((0.0, 0.12), (0.4, 0.8), (0.45, 0.85)),  # wood, clay, autumn
    "green": ((0.2, 0.38), (0.5, 0.85), (0.45, 0.8)),
    "pale": ((0.05, 0.6), (0.02, 0.2), (0.85, 1.0)),  # cream, porcelain
    "brass": ((0.06, 0.14), (0.55, 0.75), (0.7, 0.9)),
    "steel": ((0.55, 0.65), (0.03, 0.15), (0.7, 0.9)),
    "cream": ((0.08, 0.15), (0.05, 0.25), (0.85, 0.97)),
    "light": ((0.0, 1.0), (0.03, 0.3), (0.65, 0.95)),
    "dark": ((0.0, 1.0), (0.03, 0.3), (0.22, 0.4)),
    "plank": ((0.05, 0.11), (0.2, 0.5), (0.4, 0.95)),
}


def _colour(rng: Random, sorts: str = "vivid") -> Colour:
    """Draw a colour of one of the sorts; a sort that is named twice is twice as likely."""
    spans = _SORTS[rng.choice(sorts.split())]
    return tuple(round(c * 255) for c in colorsys.hsv_to_rgb(*(rng.uniform(*s) for s in spans)))


def _mug(pen: _Pen, rng: Random) -> None:
    colour, mark = _colour(rng, "vivid pale earth"), _colour(rng, "vivid pale")
    top, foot, reach = rng.uniform(0.12, 0.26), rng.uniform(0, 0.06), rng.uniform(0.86, 0.96)
    base = [(0.7 - foot, 0.86), (0.62 - foot, 0.91), (0.4, 0.93), (0.18 + foot, 0.91)]
    pen.shape([(0.1, top), (0.7, top), *_curve([*base, (0.1 + foot, 0.86)])], colour)
    rows, wide, tall = rng.randint(0, 3), *rng.choice([(0.045, 0.045), (0.2, 0.035)])
    with pen.inside():  # rows of dots, or of ovals so wide that they make a stripe
        for k in range(3 * rows):
            pen.oval(0.2 + k % 3 * 0.2, 0.44 + k // 3 * 0.14, wide, tall, mark)
    handle = [(0.67, 0.34), (reach - 0.06, 0.33), (reach, 0.48), (reach - 0.07, 0.65), (0.63, 0.72)]
    pen.line(_curve(handle), rng.uniform(0.06, 0.09), _shade(colour, 0.9))
    pen.oval(0.4, top, 0.3, 0.08, _shade(colour, 1.15))
    pen.oval(0.4, top + 0.01, 0.265, 0.06, rng.choice([(70, 40, 20), (150, 80, 30)]))  # a drink


def _key(pen: _Pen, rng: Random) -> None:
    colour, thick = _colour(rng, "brass brass steel vivid"), rng.uniform(0.06, 0.08)
    clover = [(0.37, 0.28, 0.13), (0.63, 0.28, 0.13), (0.5, 0.13, 0.13)]
    rings = rng.choice([clover, [(0.5, 0.2, 0.18)], [(0.5, 0.19, 0.21)]])
    for part, paint in ((1, colour), (0.55, None)):  # discs, then the holes in them
        for x, y, r in rings:
            pen.oval(x, y, r * part, r * part, paint)
    pen.box(0.5 - thick / 2, 0.36, 0.5 + thick / 2, 0.98, colour)
    pen.box(0.5 - thick, 0.41, 0.5 + thick, 0.45, _shade(colour, 0.8))
    for k in range(rng.randint(2, 3)):  # teeth, from the tip upwards
        pen.box(0.5, 0.9 - 0.095 * k, 0.5 + rng.uniform(0.13, 0.2), 0.96 - 0.095 * k, colour)


def _umbrella(pen: _Pen, rng: Random) -> None:
    colours, panels = (_colour(rng), _colour(rng, "pale vivid")), rng.choice([5, 6, 7])
    top, rim = rng.uniform(0.1, 0.16), rng.uniform(0.48, 0.54)
    hook = [(0.5, 0.88), (0.53, 0.95), (0.59, 0.97), (0.64, 0.94), (0.65, 0.88)]
    pen.line([(0.5, 0.03), *_curve(hook)], 0.035, _colour(rng, "earth"))
    # A rib is a quarter of an ellipse from the top to its end on the rim.
    ends = [-0.46 * math.cos(math.pi * k / panels) for k in range(panels + 1)]
    arc = [(math.sin(t / 10), rim - (rim - top) * math.cos(t / 10)) for t in range(16)]
    ribs = [[*((0.5 + end * x, y) for x, y in arc), (0.5 + end, rim)] for end in ends]
    for k, (left, right) in enumerate(itertools.pairwise(ribs)):
        scallop = _curve([left[-1], ((left[-1][0] + right[-1][0]) / 2, rim - 0.045), right[-1]])
        pen.shape([*left, *scallop, *reversed(right)], colours[k % 2])
        pen.line(right, 0.006, _shade(colours[0], 0.6))


def _leaf(pen: _Pen, rng: Random) -> None:
    colour = _colour(rng, "green green green earth earth vivid")
    vein, wide, belly = _shade(colour, 0.65), rng.uniform(0.22, 0.34), rng.uniform(0.42, 0.58)
    bow = [(0.5 + wide * 0.6, 0.2), (0.5 + wide, belly), (0.5 + wide * 0.6, 0.72)]
    half, notch = _curve([(0.5, 0.02), *bow, (0.5, 0.82)]), rng.choice([0.0, 0.007, 0.012])
    pen.shape(_both([(x + notch * (k % 4), y) for k, (x, y) in enumerate(half)]), colour)
    with pen.inside():
        pen.box(0.5, 0, 1, 1, _shade(colour, 0.88))
        for y in (0.22 + 0.1 * k for k in range(6)):
            pen.line([(0.5 - wide, y - 0.14), (0.5, y), (0.5 + wide, y - 0.14)], 0.01, vein)
    pen.line([(0.5, 0.06), *_curve([(0.5, 0.8), (0.52, 0.9), (0.56, 0.99)])], 0.022, vein)


def _fish(pen: _Pen, rng: Random) -> None:
    tall, colour = rng.uniform(0.17, 0.25), _colour(rng, "vivid vivid steel")
    fin, mark = _colour(rng), _colour(rng, "vivid pale")
    back = [(0.16, 0.5 - tall * 0.75), (0.38, 0.5 - tall), (0.6, 0.5 - tall * 0.6), (0.76, 0.46)]
    body = [(0.02, 0.5), *back, *((x, 1 - y) for x, y in reversed(back))]
    pen.shape(_curve(body, closed=True), colour)
    with pen.inside():
        pen.oval(0.36, 0.5 + tall, 0.36, tall * 0.7, _shade(colour, 1.35))  # a light belly
        for x in (0.36 + 0.12 * k for k in range(rng.choice([0, 2, 3]))):
            pen.line(_curve([(x, 0.2), (x + 0.04, 0.5), (x, 0.8)]), 0.045, mark)
    tail = [(0.73, 0.5), (0.97, 0.48 - tall), (0.9, 0.5), (0.97, 0.52 + tall)]
    crest = [(0.26, 0.5 - tall * 0.9), (0.4, 0.38 - tall), (0.58, 0.41 - tall), (0.42, 0.53 - tall)]
    for outline in (tail, crest, [(0.27, 0.58), (0.46, 0.56), (0.5, 0.7)]):
        pen.shape(_curve(outline, closed=True), fin)
    pen.oval(0.14, 0.46, 0.034, 0.034, (250, 250, 245))
    pen.oval(0.135, 0.46, 0.019, 0.019, (15, 15, 20))


def _house(pen: _Pen, rng: Random) -> None:
    wall, roof, glass = (_colour(rng, s) for s in ("pale earth vivid", "earth vivid", "cream"))
    left, eaves, ridge = rng.uniform(0.12, 0.2), rng.uniform(0.44, 0.52), rng.uniform(0.08, 0.16)
    pen.box(0.66, ridge, 0.76, eaves, _shade(wall, 0.7))  # the chimney
    pen.box(left, eaves, 1 - left, 0.95, wall)
    pen.shape([(0.5, ridge), (1.09 - left, eaves), (left - 0.09, eaves)], roof)
    for k in (0.4, 0.6, 0.8):  # rows of shingles
        y, half = ridge + (eaves - ridge) * k, (0.59 - left) * k
        pen.line([(0.5 - half, y), (0.5 + half, y)], 0.008, _shade(roof, 0.75))
    pen.box(0.42, 0.68, 0.58, 0.95, _colour(rng))
    for x in (left + 0.12, 0.88 - left):  # two windows, each of four panes
        pen.box(x - 0.08, 0.57, x + 0.08, 0.75, _shade(wall, 0.55))
        for dx, y in ((-0.065, 0.585), (0.007, 0.585), (-0.065, 0.667), (0.007, 0.667)):
            pen.box(x + dx, y, x + dx + 0.058, y + 0.068, glass)


def _guitar(pen: _Pen, rng: Random) -> None:
    colour, waist = _colour(rng, "earth earth vivid"), rng.uniform(0.61, 0.66)
    half = [(0.5, 0.42), (0.62, 0.43), (0.68, 0.52), (waist, 0.64), (0.74, 0.77), (0.74, 0.9)]
    pen.shape(_curve(_both([*half, (0.62, 0.975), (0.5, 0.985)]), closed=True), colour)
    pen.oval(0.5, 0.64, 0.08, 0.08, (50, 34, 26))
    pen.box(0.46, 0.14, 0.54, 0.57, (50, 34, 26))
    pen.box(0.39, 0.82, 0.61, 0.86, (50, 34, 26))
    pen.shape([(0.43, 0.01), (0.57, 0.01), (0.55, 0.16), (0.45, 0.16)], _shade(colour, 0.7))
    for k in range(6):  # pegs beside the head, frets, strings
        pen.oval((0.415, 0.585)[k % 2], 0.04 + k // 2 * 0.04, 0.025, 0.015, (225, 220, 205))
        pen.box(0.46, 0.2 + 0.06 * k, 0.54, 0.206 + 0.06 * k, (190, 185, 170))
        pen.line([(0.47 + 0.012 * k, 0.06), (0.47 + 0.012 * k, 0.84)], 0.003, (235, 230, 215))


_ALL = (_fish, _guitar, _house, _key, _leaf, _mug, _umbrella)
_ARTISTS = {artist.__name__[1:]: artist for artist in _ALL}
KINDS: tuple[str, ...] = tuple(_ARTISTS)


def _background(rng: Random, side: int) -> Image.Image:
    """Draw a plain surface, more often light than dark: a wall, planks, stone or tiles."""
    sort, count, u = rng.choice(["wall", "plank", "stone", "tile"]), rng.randint(3, 7), rng.uniform
    colour = _colour(rng, "plank" if sort == "plank" else "light light light light dark")
    pen, columns = _Pen(side), {"plank": 1, "tile": count}.get(sort, 0)
    pen.box(0, 0, 1, 1, _shade(colour, 0.65 if columns else 1))  # what shows in the joints
    for x, y in ((i / columns, j / count) for i in range(columns) for j in range(count)):
        tone, end = _shade(colour, u(0.9, 1.08)), y + 1 / count - 0.008
        pen.box(x, y, x + 1 / columns - 0.008, end, tone)
        if sort == "plank":
            for z in (u(y + 0.005, end - 0.01) for _ in range(60 // count)):  # the grain
                pen.line([(0, z), (1, z + u(0, 0.006))], u(0.002, 0.007), _shade(tone, u(0.82, 1)))
    if sort == "stone":
        for r in [u(0.003, 0.012)] * rng.randint(200, 700):
            pen.oval(u(0, 1), u(0, 1), r * u(0.5, 1.5), r, _shade(colour, u(0.65, 1.3)))
    turned = pen.layer.convert("RGB").rotate(rng.choice([0, 90]))
    return turned.filter(ImageFilter.GaussianBlur(side * u(0.001, 0.005)))  # out of focus


def _placed(layer: Image.Image, rng: Random) -> Image.Image:
    """Rotate a thing, mirror it or not, scale it to fill much of the frame, and shift it."""
    turned = layer.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)
    thing = rng.choice([turned, ImageOps.mirror(turned)])
    thing = thing.crop(thing.getbbox())
    # Long things may reach further than round ones, so that none looks small.
    wide, mean = max(thing.size) / layer.width, math.sqrt(thing.width * thing.height) / layer.width
    thing = ImageOps.scale(thing, min(rng.uniform(0.55, 0.75) / mean, rng.uniform(0.8, 0.9) / wide))
    x, y = (round((layer.width - length) * rng.uniform(0.1, 0.9)) for length in thing.size)
    return thing.crop((-x, -y, layer.width - x, layer.height - y))


def _lit(frame: Image.Image, thing: Image.Image, rng: Random) -> Image.Image:
    """Place a thing on a frame under one light: soft shadow, rounded edges, light of the room."""
    alpha, angle = thing.getchannel("A"), rng.uniform(0, 360)  # where the light comes from
    dx, dy = (f(math.radians(angle)) * frame.width for f in (math.sin, math.cos))
    soft = alpha.filter(ImageFilter.GaussianBlur(frame.width * 0.012))
    moves = [(round(m * dx), round(m * dy)) for m in (-0.025, -0.012, 0.012)]
    cast, far, near = (soft.rotate(0, translate=move) for move in moves)
    dark = Image.blend(frame, Image.new("RGB", frame.size), rng.uniform(0.3, 0.6))
    frame = Image.composite(dark, frame, cast)
    # The edge towards the light shines, the edge away from it darkens: the thing looks solid.
    relief = Image.merge("RGB", [ImageChops.subtract(far, near, 3, 128)] * 3)
    frame.paste(ImageChops.hard_light(thing.convert("RGB"), relief), mask=alpha)
    lamp = Image.linear_gradient("L").rotate(angle)
    light = Image.blend(lamp, ImageChops.invert(Image.radial_gradient("L")), rng.uniform(0.1, 0.5))
    light = light.crop((38, 38, 218, 218)).resize(frame.size)
    gloom, tint = rng.uniform(0.4, 0.9), rng.choice([(255, 240, 222), (255,) * 3, (228, 240, 255)])
    return ImageChops.multiply(frame, ImageOps.colorize(light, _shade(tint, gloom), tint))
