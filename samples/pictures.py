"""The pictures: each a function of a time in seconds that returns one 320 x 240 RGB frame.

Things are drawn at twice the size with Pillow, lit and textured with NumPy, then scaled down, so
that edges are soft as in a photograph. A frame depends on its time alone.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT = 320, 240
SCALE = 2
W, H = WIDTH * SCALE, HEIGHT * SCALE

Colour = tuple[int, int, int]
Field = NDArray[np.float64]
Point = tuple[float, float]


def wall_clock(time_seconds: float) -> Image.Image:
    """A round clock on a papered wall; its second hand steps twice a second."""
    picture = _textured(_vertical([(0.0, (214, 200, 172)), (1.0, (176, 160, 134))]), 6, seed=1)
    centre, radius = (W / 2, H / 2 - 4), 192.0
    _shadow(picture, centre, radius, offset=(14, 20))
    for ring, colour in enumerate(((38, 26, 20), (92, 62, 40), (60, 40, 28), (30, 22, 18))):
        _disc(picture, centre, radius - 6 * ring, colour)
    _paste_lit_disc(picture, centre, radius - 26, (246, 243, 232))
    draw = ImageDraw.Draw(picture)
    for minute in range(60):
        inner = radius - (52 if minute % 5 == 0 else 42)
        width = 5 if minute % 5 == 0 else 2
        _ray(draw, centre, minute * 6, inner, radius - 34, colour=(20, 20, 20), width=width)
    font = ImageFont.load_default(38)
    for hour in range(1, 13):
        x, y = _polar(centre, hour * 30, radius - 76)
        draw.text((x, y), str(hour), font=font, fill=(18, 18, 18), anchor="mm", stroke_width=1)
    steps = math.floor(time_seconds * 2)
    _ray(draw, centre, 305, -22, 92, colour=(14, 14, 14), width=11)
    _ray(draw, centre, 54, -26, 138, colour=(14, 14, 14), width=8)
    _ray(draw, centre, 190 + 6 * steps, -34, 146, colour=(176, 30, 26), width=3)
    _disc(picture, centre, 9, (40, 30, 26))
    return _photographed(picture, time_seconds, zoom=1.0 + 0.01 * time_seconds)


def traffic_light(time_seconds: float) -> Image.Image:
    """A traffic light before a blurred street; it turns from red to green."""
    picture = _street().copy()
    draw = ImageDraw.Draw(picture)
    draw.rectangle((W / 2 - 9, 380, W / 2 + 9, H), fill=(52, 54, 56))
    box = (W / 2 - 74, 28, W / 2 + 74, 404)
    draw.rounded_rectangle(box, 26, fill=(30, 32, 30), outline=(58, 60, 56), width=5)
    lit = 0 if time_seconds % 6 < 2.5 else (1 if time_seconds % 6 < 3.2 else 2)
    colours: Sequence[Colour] = ((255, 50, 36), (255, 186, 40), (70, 245, 150))
    glow = Image.new("RGB", (W, H))
    for lamp, colour in enumerate(colours):
        centre = (W / 2, 92 + 124 * lamp)
        _disc(picture, centre, 53, (14, 14, 14))
        dim = (colour[0] // 6 + 8, colour[1] // 6 + 8, colour[2] // 6 + 8)
        _paste_lit_disc(picture, centre, 47, colour if lamp == lit else dim)
        ImageDraw.Draw(picture).arc(_box(centre, 58), 190, 350, fill=(8, 8, 8), width=14)
        if lamp == lit:
            _disc(glow, centre, 64, colour)
    picture = ImageChops.screen(picture, _dimmed(glow.filter(ImageFilter.GaussianBlur(34)), 0.7))
    return _photographed(picture, time_seconds, zoom=1.0 + 0.012 * time_seconds)


def bell_cote(time_seconds: float) -> Image.Image:
    """A bell swings in the arched gable of a stone church, the sky behind it."""
    picture = _sky().copy()
    wall = _textured(_vertical([(0.0, (226, 212, 186)), (1.0, (176, 160, 132))]), 20, seed=3)
    _courses(wall, (150, 136, 110))
    shape = Image.new("L", (W, H))
    draw = ImageDraw.Draw(shape)
    x = W / 2
    draw.polygon([(x - 150, 178), (x, 62), (x + 150, 178)], fill=255)
    draw.rectangle((x - 132, 170, x + 132, H), fill=255)
    draw.polygon([(0, H), (0, 440), (x - 132, 402), (x + 132, 402), (W, 440), (W, H)], fill=255)
    draw.rectangle((x - 6, 8, x + 6, 70), fill=255)
    draw.rectangle((x - 24, 24, x + 24, 35), fill=255)
    draw.ellipse((x - 74, 150, x + 74, 298), fill=0)
    draw.rectangle((x - 74, 224, x + 74, 374), fill=0)
    solid = Image.composite(wall, _dimmed(wall, 0.5), _inner_light(shape))
    picture.paste(solid, (0, 0), shape)
    draw = ImageDraw.Draw(picture)
    for side in (-1, 1):
        draw.line((x, 56, x + side * 160, 182), fill=(150, 84, 58), width=16)
        draw.line((x, 50, x + side * 160, 176), fill=(192, 116, 84), width=6)
    draw.rectangle((x - 146, 372, x + 146, 388), fill=(206, 192, 166))
    draw.rectangle((x - 78, 176, x + 78, 190), fill=(74, 50, 34))
    bell = _bell().resize((W * 5 // 11, H * 5 // 11), Image.Resampling.LANCZOS)
    swung = bell.rotate(
        12 * math.sin(2 * math.pi * time_seconds / 1.5),
        center=(bell.width / 2, 44),
        resample=Image.Resampling.BICUBIC,
    )
    picture.paste(swung, (round(x - bell.width / 2), 144), swung)
    return _photographed(picture, time_seconds)


def umbrella_in_rain(time_seconds: float) -> Image.Image:
    """A red umbrella, seen a little from above, sways in falling rain on a grey day."""
    heights: Sequence[tuple[float, Colour]] = (
        (0.0, (150, 158, 168)),
        (0.7, (178, 184, 188)),
        (1.0, (96, 98, 102)),
    )
    picture = _textured(_vertical(heights), 8, seed=2)
    umbrella = _umbrella().rotate(
        29 + 3 * math.sin(2 * math.pi * time_seconds / 3),
        center=(W / 2, 250),
        resample=Image.Resampling.BICUBIC,
    )
    picture.paste(umbrella, (0, 0), umbrella)
    _rain_streaks(picture, time_seconds)
    return _photographed(picture, time_seconds)


def lighthouse(time_seconds: float) -> Image.Image:
    """A red and white lighthouse stands on a rock; waves roll past and break."""
    picture = _sea(time_seconds)
    rock = Image.new("L", (W, H))
    draw = ImageDraw.Draw(rock)
    ridge = [(170, 424), (204, 384), (250, 362), (300, 352), (352, 352), (408, 366), (452, 392)]
    draw.polygon([*ridge, (520, 432), (470, 446), (330, 454), (210, 446)], fill=255)
    stone = _textured(_vertical([(0.7, (126, 112, 96)), (0.95, (58, 52, 48))]), 60, seed=15)
    picture.paste(stone, (0, 0), rock)
    _tower(picture)
    foam = Image.new("L", (W, H))
    draw = ImageDraw.Draw(foam)
    splash = 0.5 + 0.5 * math.sin(2 * math.pi * time_seconds / 4.5 - 0.6)
    rng = np.random.default_rng(27)
    for fleck_x, lift in zip(rng.uniform(165, 525, 320), rng.exponential(1, 320), strict=True):
        shore = 444 - 22 * abs((fleck_x - 345) / 180) ** 2
        draw.ellipse(_box((fleck_x, shore + 6 - (4 + 9 * splash) * lift), 2 + 3 * splash), fill=230)
    picture.paste((246, 250, 252), (0, 0, W, H), foam.filter(ImageFilter.GaussianBlur(2)))
    return _photographed(picture, time_seconds)


def hot_air_balloon(time_seconds: float) -> Image.Image:
    """A striped hot-air balloon drifts over hills."""
    picture = _sky().copy()
    hills = ImageDraw.Draw(picture)
    for base, colour in ((430, (112, 138, 150)), (446, (86, 120, 92)), (462, (58, 92, 52))):
        ridge = [(x, base + 14 * math.sin(x / 67 + base)) for x in range(0, W + 8, 8)]
        hills.polygon([*ridge, (W, H), (0, H)], fill=colour)
    balloon = _balloon()
    x = round(-20 + 9 * time_seconds)
    y = round(6 - 4 * time_seconds + 4 * math.sin(time_seconds))
    picture.paste(balloon, (x, y), balloon)
    return _photographed(picture, time_seconds)


def candle(time_seconds: float) -> Image.Image:
    """A candle burns in the dark; its flame flickers."""
    picture = _textured(_vertical([(0.0, (24, 14, 10)), (1.0, (46, 26, 16))]), 5, seed=9)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((90, 404, W - 90, 520), fill=(58, 34, 20))
    left, right, top = W / 2 - 50, W / 2 + 50, 246
    body = _cylinder(100, H - 20 - top, (236, 214, 170))
    picture.paste(body, (int(left), top))
    draw.ellipse((left, top - 13, right, top + 13), fill=(255, 226, 160), outline=(200, 160, 104))
    draw.ellipse((left + 14, top - 7, right - 14, top + 8), fill=(255, 240, 190))
    draw.line((W / 2, top, W / 2 + 2, top - 30), fill=(30, 18, 12), width=5)
    flicker = 0.5 * math.sin(9.1 * time_seconds) + 0.5 * math.sin(5.3 * time_seconds + 1)
    glow = Image.new("RGB", (W, H))
    _flame(glow, top - 16, 1.9, flicker, (255, 140, 40))
    halo = glow.filter(ImageFilter.GaussianBlur(60))
    picture = ImageChops.screen(picture, halo)
    flame = Image.new("RGB", (W, H))
    _flame(flame, top - 14, 1.0, flicker, (255, 176, 60))
    flame = flame.filter(ImageFilter.GaussianBlur(5))
    core = Image.new("RGB", (W, H))
    _flame(core, top - 18, 0.68, flicker, (255, 244, 200))
    picture = ImageChops.screen(picture, flame)
    picture = ImageChops.screen(picture, core.filter(ImageFilter.GaussianBlur(6)))
    return _photographed(picture, time_seconds)


# Building blocks.


def _photographed(picture: Image.Image, time_seconds: float, *, zoom: float = 1.0) -> Image.Image:
    """Zoom about the centre, darken the corners, scale down and add the grain of a sensor."""
    dx, dy = W * (1 - 1 / zoom) / 2, H * (1 - 1 / zoom) / 2
    frame = picture.resize(
        (WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=(dx, dy, W - dx, H - dy), reducing_gap=None
    )
    x = (np.arange(WIDTH)[None, :] / WIDTH - 0.5) * 2
    y = (np.arange(HEIGHT)[:, None] / HEIGHT - 0.5) * 2
    vignette = 1 - 0.13 * (x**2 + y**2)
    grain = np.random.default_rng(round(time_seconds * 1000)).normal(0, 1.5, (HEIGHT, WIDTH))
    lit = np.asarray(frame, float) * vignette[..., None] + grain[..., None]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


@functools.cache
def _fractal(seed: int, *, stretch: int = 1, finest: int = 3) -> Field:
    """Cloud noise in 0..1, at least (H, W): octaves of blurred noise, the coarse ones strongest."""
    rng = np.random.default_rng(seed)
    total = np.zeros((H, W))
    for octave in range(finest, 9):
        cell = 2**octave
        grid = rng.uniform(0, 255, (H // cell + 2, W // (cell * stretch) + 2)).astype(np.uint8)
        layer = Image.fromarray(grid).resize((W, H), Image.Resampling.BICUBIC)
        total += np.asarray(layer, float) * cell**0.8
    return np.asarray((total - total.min()) / np.ptp(total), np.float64)


def _ramp(position: Field, colours: tuple[Colour, Colour]) -> Field:
    """Blend from one colour at 0 to the other at 1: (..., 3)."""
    u = np.clip(position, 0, 1)[..., None]
    return np.array(colours[0]) * (1 - u) + np.array(colours[1]) * u


def _vertical(stops: Sequence[tuple[float, Colour]]) -> Image.Image:
    """A picture whose rows run through colours at heights 0 (top) to 1."""
    rows = np.linspace(0, 1, H)
    heights = [height for height, _ in stops]
    columns = [np.interp(rows, heights, [colour[c] for _, colour in stops]) for c in range(3)]
    column = np.stack(columns, axis=-1)[:, None, :]
    return Image.fromarray(np.broadcast_to(column, (H, W, 3)).astype(np.uint8))


def _textured(picture: Image.Image, strength: float, *, seed: int) -> Image.Image:
    """Mottle a picture by `strength` grey levels."""
    mottle = (_fractal(seed, finest=1) - 0.5) * 2 * strength
    mottle = mottle + np.random.default_rng(seed).normal(0, strength / 5, (H, W))
    mottled = np.asarray(picture, float) + mottle[..., None]
    return Image.fromarray(np.clip(mottled, 0, 255).astype(np.uint8))


def _dimmed(picture: Image.Image, factor: float) -> Image.Image:
    return picture.point(lambda value: int(value * factor))


def _box(centre: Point, radius: float) -> tuple[float, float, float, float]:
    x, y = centre
    return (x - radius, y - radius, x + radius, y + radius)


def _disc(picture: Image.Image, centre: Point, radius: float, colour: Colour) -> None:
    ImageDraw.Draw(picture).ellipse(_box(centre, radius), fill=colour)


def _paste_lit_disc(picture: Image.Image, centre: Point, radius: float, colour: Colour) -> None:
    """A disc lit from the upper left."""
    size = round(2 * radius)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    light = 1.04 - 0.22 * (x + y) - 0.35 * (x**2 + y**2)
    lit = np.clip(light[..., None] * np.array(colour), 0, 255).astype(np.uint8)
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).ellipse((0, 0, size - 1, size - 1), fill=255)
    picture.paste(
        Image.fromarray(lit), (round(centre[0] - radius), round(centre[1] - radius)), mask
    )


def _shadow(
    picture: Image.Image,
    centre: Point,
    radius: float,
    *,
    offset: Point,
) -> None:
    """Darken what lies behind a disc, shifted by `offset` and blurred."""
    mask = Image.new("L", (W, H))
    shifted = (centre[0] + offset[0], centre[1] + offset[1])
    ImageDraw.Draw(mask).ellipse(_box(shifted, radius), fill=150)
    picture.paste((40, 30, 20), (0, 0, W, H), mask.filter(ImageFilter.GaussianBlur(14)))


def _polar(centre: Point, clockwise_degrees: float, radius: float) -> Point:
    """The point at an angle from twelve o'clock."""
    angle = math.radians(clockwise_degrees)
    return (centre[0] + radius * math.sin(angle), centre[1] - radius * math.cos(angle))


def _ray(
    draw: ImageDraw.ImageDraw,
    centre: Point,
    clockwise_degrees: float,
    start: float,
    end: float,
    *,
    colour: Colour,
    width: int,
) -> None:
    ends = [_polar(centre, clockwise_degrees, radius) for radius in (start, end)]
    draw.line(ends, fill=colour, width=width)


@functools.cache
def _sky() -> Image.Image:
    """Blue above, pale below, with clouds."""
    blue = np.asarray(_vertical([(0.0, (64, 124, 198)), (1.0, (196, 220, 238))]), float)
    clouds = np.clip(_fractal(12, stretch=2) - 0.55, 0, 1)[..., None] * 2.4
    return Image.fromarray((blue * (1 - clouds) + 250 * clouds).clip(0, 255).astype(np.uint8))


def _sea(time_seconds: float) -> Image.Image:
    """Open water below a cloudy sky: swell in perspective, with whitecaps that drift."""
    picture = np.asarray(_sky(), float).copy()
    horizon = 300
    depth = (np.arange(H - horizon)[:, None] + 6) / (H - horizon)
    x = (np.arange(W)[None, :] - W / 2) / W
    wobble = _fractal(5, finest=2)[horizon:, :]
    phase = 2 * np.pi * (3.2 / depth + 2.2 * wobble + 0.45 * time_seconds) + 3 * x / depth
    swell = np.sin(phase) * np.clip(depth * 3, 0, 1)
    water = _ramp(depth + 0 * x, ((72, 118, 152), (22, 70, 98))) + 20 * swell[..., None]
    caps = np.clip(swell - 0.62, 0, 1) * np.clip(wobble * 3 - 1.3, 0, 1) * 2.2
    picture[horizon:] = water * (1 - caps[..., None]) + 245 * caps[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _tower(picture: Image.Image) -> None:
    """A lighthouse with its gallery, lantern and cap, lit from the left."""
    x, foot, top = W / 2, 362, 128
    rows = np.arange(H)[:, None]
    half = np.interp(rows, (top, foot), (29, 47))
    u = (np.arange(W)[None, :] - x) / half
    band = ((rows - top) * 5 // (foot - top)) % 2
    colours = np.where(band[..., None] == 0, (244, 240, 232), (200, 34, 32))
    light = (1.0 - 0.5 * np.clip(u + 0.35, 0, 2) ** 1.4)[..., None]
    mask = ((np.abs(u) <= 1) & (rows >= top) & (rows <= foot)).astype(np.uint8) * 255
    lit = np.clip(colours * light, 0, 255).astype(np.uint8)
    picture.paste(Image.fromarray(lit), (0, 0), Image.fromarray(mask))
    draw = ImageDraw.Draw(picture)
    for y in (196, 290):
        draw.rectangle((x - 5, y, x + 5, y + 16), fill=(44, 48, 56))
    draw.rectangle((x - 9, foot - 34, x + 9, foot), fill=(70, 52, 40))
    draw.rectangle((x - 40, top - 6, x + 40, top + 4), fill=(52, 52, 56))
    for post in range(-36, 40, 12):
        draw.line((x + post, top - 24, x + post, top - 6), fill=(44, 44, 48), width=2)
    draw.line((x - 38, top - 24, x + 38, top - 24), fill=(44, 44, 48), width=3)
    draw.rectangle((x - 20, top - 54, x + 20, top - 6), fill=(250, 232, 160))
    for bar in (-20, -7, 7, 20):
        draw.line((x + bar, top - 54, x + bar, top - 6), fill=(60, 60, 64), width=3)
    draw.pieslice((x - 27, top - 82, x + 27, top - 26), 180, 360, fill=(184, 30, 30))
    draw.line((x, top - 98, x, top - 80), fill=(60, 60, 64), width=4)


@functools.cache
def _street() -> Image.Image:
    """House fronts, trees and a road, out of focus."""
    picture = _vertical([(0.0, (150, 178, 204)), (0.55, (206, 214, 216)), (1.0, (120, 118, 116))])
    draw = ImageDraw.Draw(picture)
    rng = np.random.default_rng(21)
    x = -20
    while x < W:
        width, top = int(rng.integers(70, 150)), int(rng.integers(60, 220))
        shade = int(rng.integers(90, 170))
        draw.rectangle((x, top, x + width, 380), fill=(shade, shade - 12, shade - 26))
        for window_y in range(top + 16, 350, 44):
            for window_x in range(x + 10, x + width - 20, 34):
                draw.rectangle(
                    (window_x, window_y, window_x + 18, window_y + 26), fill=(62, 70, 84)
                )
        x += width
    for x in (60, 180, 520, 600):
        _disc(picture, (x, 300), 62, (58, 84, 46))
    draw.rectangle((0, 380, W, H), fill=(92, 92, 94))
    return picture.filter(ImageFilter.GaussianBlur(9))


def _inner_light(shape: Image.Image) -> Image.Image:
    """A mask that is dark along the edges of a shape, so that a flat wall looks thick."""
    return shape.filter(ImageFilter.GaussianBlur(7)).point(lambda v: min(255, int(v * 1.35) - 60))


def _courses(picture: Image.Image, colour: Colour) -> None:
    """Mortar lines of a wall of squared stones."""
    draw = ImageDraw.Draw(picture)
    for row, y in enumerate(range(0, H, 60)):
        draw.line((0, y, W, y), fill=colour, width=4)
        for x in range(-50 + 55 * (row % 2), W, 110):
            draw.line((x, y, x, y + 60), fill=colour, width=4)


@functools.cache
def _bell() -> Image.Image:
    """A bronze bell, hung at (W/2, 96), on a clear ground."""
    top, mouth, half_mouth = 118, 392, 138
    outline = []
    for step in range(41):
        u = step / 40
        half = 52 + 26 * u + (half_mouth - 78) * u**5 if u > 0.06 else 30 + 22 * math.sqrt(u / 0.06)
        outline.append((half, top + (mouth - top) * u))
    shape = Image.new("L", (W, H))
    draw = ImageDraw.Draw(shape)
    right = [(W / 2 + half, y) for half, y in outline]
    left = [(W / 2 - half, y) for half, y in reversed(outline)]
    draw.polygon(right + left, fill=255)
    draw.ellipse((W / 2 - half_mouth, mouth - 16, W / 2 + half_mouth, mouth + 16), fill=255)
    halves = np.interp(np.arange(H), [y for _, y in outline], [half for half, _ in outline])
    across = np.clip((np.arange(W)[None, :] - W / 2) / halves[:, None], -1, 1)
    gleam = np.exp(-(((across + 0.42) / 0.3) ** 2))
    reflection = np.exp(-(((across - 0.7) / 0.14) ** 2))
    light = (0.45 + 0.55 * gleam + 0.18 * reflection) * (1 - 0.35 * across**4)
    light = light * (0.94 + 0.12 * _fractal(14, finest=2))
    bronze = np.clip(light[..., None] * np.array((214, 160, 82)), 0, 255).astype(np.uint8)
    bell = Image.new("RGBA", (W, H))
    ImageDraw.Draw(bell).ellipse((W / 2 - 28, 380, W / 2 + 28, 436), fill=(58, 46, 36, 255))
    bell.paste(Image.fromarray(bronze), (0, 0), shape)
    draw = ImageDraw.Draw(bell)
    for y, half in ((176, 60), (186, 61), (340, 95), (352, 101)):
        draw.arc((W / 2 - half, y - 10, W / 2 + half, y + 10), 0, 180, (96, 64, 30, 255), 3)
    draw.ellipse(
        (W / 2 - half_mouth, mouth - 16, W / 2 + half_mouth, mouth + 16),
        outline=(90, 62, 30, 255),
        width=5,
    )
    draw.rounded_rectangle((W / 2 - 26, 88, W / 2 + 26, 130), 12, fill=(120, 86, 44, 255))
    return bell


@functools.cache
def _umbrella() -> Image.Image:
    """An open umbrella with eight panels and its crook, on a clear ground."""
    layer = Image.new("RGBA", (W, H))
    draw = ImageDraw.Draw(layer)
    x, y, reach, depth = W / 2, 205.0, 252.0, 134.0
    apex = (x - 34, 70.0)
    draw.line((*apex, x + 45, 440), fill=(40, 36, 34), width=9)
    draw.arc((x + 40, 406, x + 106, 466), 0, 180, fill=(110, 66, 36), width=13)
    angles = [2 * math.pi * (k + 0.2) / 8 for k in range(9)]
    tips = [(x + reach * math.cos(a), y + depth * math.sin(a)) for a in angles]
    # The panels in front are drawn over those behind.
    for left, right in sorted(itertools.pairwise(tips), key=lambda pair: pair[0][1] + pair[1][1]):
        middle = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
        shade = 0.85 - 0.3 * (middle[0] - x) / reach - 0.12 * (middle[1] - y) / depth
        hem = _sagging(left, right, towards=(x, y - 30), middle=middle)
        edge = _rib(apex, right)
        draw.polygon(
            [*_rib(apex, left), *hem, *reversed(edge)],
            fill=(min(255, int(206 * shade)), int(26 * shade), int(34 * shade)),
        )
        draw.line(edge, fill=(int(124 * shade), int(16 * shade), int(20 * shade)), width=2)
    draw.line((apex[0], apex[1] - 18, apex[0], apex[1] + 3), fill=(40, 40, 40), width=6)
    return layer


def _rib(apex: Point, tip: Point) -> list[Point]:
    """Points along a bent rib from the top of an umbrella to its tip."""
    bend = 1.7 if tip[1] > apex[1] else 0.8
    return [
        (apex[0] + (tip[0] - apex[0]) * u, apex[1] + (tip[1] - apex[1]) * u**bend)
        for u in np.linspace(0, 1, 20)
    ]


def _sagging(left: Point, right: Point, *, towards: Point, middle: Point) -> list[Point]:
    """Points from one tip to the next, drawn in towards the shaft between them."""
    return [
        (
            left[0] + (right[0] - left[0]) * u + (towards[0] - middle[0]) * 0.13 * sag,
            left[1] + (right[1] - left[1]) * u + (towards[1] - middle[1]) * 0.13 * sag,
        )
        for u in np.linspace(0, 1, 12)
        for sag in (math.sin(math.pi * u),)
    ]


def _rain_streaks(picture: Image.Image, time_seconds: float) -> None:
    """Slanted streaks that fall 900 pixels a second."""
    layer = Image.new("L", (W, H))
    draw = ImageDraw.Draw(layer)
    rng = np.random.default_rng(25)
    for x, y, length in zip(
        rng.uniform(-40, W, 240), rng.uniform(0, H, 240), rng.uniform(16, 46, 240), strict=True
    ):
        fallen = (y + 900 * time_seconds) % (H + 60) - 60
        draw.line((x, fallen, x - length / 6, fallen + length), fill=70, width=2)
    picture.paste((226, 232, 238), (0, 0, W, H), layer.filter(ImageFilter.GaussianBlur(1)))


@functools.cache
def _balloon() -> Image.Image:
    """A striped envelope with its basket, on a clear ground."""
    x0, y0, radius, waist, foot = W / 2, 168.0, 146.0, 208.0, 352.0
    rows = np.arange(H)[:, None]
    round_half = np.sqrt(np.clip(radius**2 - (rows - y0) ** 2, 0, None))
    # Below the waist the sides run nearly straight down to the mouth, a little drawn in.
    down = np.clip((rows - waist) / (foot - waist), 0, 1)
    widest = math.sqrt(radius**2 - (waist - y0) ** 2)
    straight_half = widest * (1 - down) + 24 * down + 30 * down * (1 - down)
    half = np.where(rows <= waist, round_half, straight_half)
    u = (np.arange(W)[None, :] - x0) / np.maximum(half, 1)
    inside = (np.abs(u) <= 1) & (rows <= foot) & (half > 1)
    gore = np.floor((np.arcsin(np.clip(u, -1, 1)) / math.pi + 0.5) * 12).astype(int) % 4
    palette = np.array([(214, 40, 40), (250, 196, 46), (36, 96, 178), (250, 240, 224)])
    light = np.clip(1.02 - 0.45 * (u + 0.35) ** 2 - 0.25 * (rows - 60) / H, 0.2, 1.1)
    pixels = np.zeros((H, W, 4))
    pixels[..., :3] = np.clip(palette[gore] * light[..., None], 0, 255)
    pixels[..., 3] = 255 * inside
    layer = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(layer)
    for side in (-1, 1):
        draw.line(
            (x0 + side * 23, foot, x0 + side * 17, foot + 38), fill=(60, 44, 30, 255), width=2
        )
    draw.rounded_rectangle((x0 - 20, foot + 36, x0 + 20, foot + 66), 5, fill=(122, 82, 44, 255))
    draw.line((x0 - 20, foot + 38, x0 + 20, foot + 38), fill=(70, 44, 22, 255), width=4)
    return layer


def _cylinder(width: int, height: int, colour: Colour) -> Image.Image:
    """An upright wax cylinder: darker at its edges and towards its foot."""
    x = np.linspace(-1, 1, width)[None, :]
    y = np.linspace(0, 1, height)[:, None]
    light = (0.45 + 0.55 * np.sqrt(np.clip(1 - x**2, 0, 1))) * (1.05 - 0.6 * y)
    return Image.fromarray(np.clip(light[..., None] * np.array(colour), 0, 255).astype(np.uint8))


def _flame(picture: Image.Image, foot: float, size: float, flicker: float, colour: Colour) -> None:
    """A flame's drop shape, bent by `flicker` (-1 to 1)."""
    points = []
    for step in range(61):
        angle = 2 * math.pi * step / 60
        height = (1 - math.cos(angle)) / 2
        half = 34 * size * math.sin(angle) * math.sin(angle / 2) * (1 - 0.35 * height)
        lean = 12 * flicker * height**2
        points.append((W / 2 + half + lean, foot - (150 + 10 * flicker) * size * height))
    ImageDraw.Draw(picture).polygon(points, fill=colour)
