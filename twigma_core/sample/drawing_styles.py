"""The styles of the drawn pictures: each turns a clean drawing into a photo, a painting, a render, ...

What belongs here: functions of a drawing and a seeded generator that return a picture of the same size. What
does not: what is shown and where (``drawing``, ``drawing_subjects``).

Pictures pass between the functions as (size, size, 3) float arrays in [0, 1]. All lengths are in units of
1/128 of the picture's side, so that a style looks the same at every size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.floating[Any]]
Style = Callable[[Pixels, np.random.Generator], Pixels]


def to_pixels(image: Image.Image) -> Pixels:
    """The picture as (h, w, 3) float32 in [0, 1]."""
    return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)


def to_image(x: Pixels) -> Image.Image:
    """The (h, w, 3) array as an RGB picture; values outside [0, 1] are clipped."""
    return Image.fromarray((np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8))


def _unit(x: Pixels) -> float:
    return x.shape[0] / 128


def _blur(x: Pixels, radius: float) -> Pixels:
    return to_pixels(to_image(x).filter(ImageFilter.GaussianBlur(radius * _unit(x))))


def _grid(x: Pixels) -> tuple[Pixels, Pixels]:
    axis = np.linspace(-1, 1, x.shape[0], dtype=np.float32)
    return axis[None, :, None], axis[:, None, None]


def _grain(x: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    return x + rng.standard_normal((x.shape[0], x.shape[1], 1), dtype=np.float32) * np.float32(strength)


def _clouds(x: Pixels, rng: np.random.Generator, cells: int) -> Pixels:
    """Smooth noise in [0, 1] with about ``cells`` bumps a side, (h, w, 1)."""
    small = Image.fromarray((rng.random((cells, cells), dtype=np.float32) * 255).astype(np.uint8))
    big = small.resize((x.shape[1], x.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(big, dtype=np.float32)[..., None] / np.float32(255)


def _edges(x: Pixels, width: float = 1.0) -> Pixels:
    """How strong an edge each pixel is on, (h, w, 1) in [0, 1]."""
    step = max(1, round(width * _unit(x)))
    dx = np.abs(x - np.roll(x, step, axis=1))
    dy = np.abs(x - np.roll(x, step, axis=0))
    dx[:, :step] = 0
    dy[:step] = 0
    return np.clip((dx + dy).max(axis=2, keepdims=True) * 1.8, 0, 1)


def _saturate(x: Pixels, amount: float) -> Pixels:
    grey = x.mean(axis=2, keepdims=True)
    return grey + (x - grey) * np.float32(amount)


# photographs -----------------------------------------------------------------------------------------------


def photo(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Soft lens, light from one side, a dark rim, a little grain."""
    u, v = _grid(x)
    side = np.float32(rng.uniform(-0.2, 0.2))
    light = 1.06 + side * u - 0.12 * v - 0.28 * (u**2 + v**2) / 2
    return _grain(_blur(_saturate(x, 0.85), 0.7) * light, rng, 0.035)


def film(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Faded, warm, grainy, in a cream border, as an old print."""
    warm = np.array([0.98, 0.9, 0.74], dtype=np.float32)
    y = _grain((0.16 + 0.78 * _saturate(_blur(x, 0.6), 0.75)) * warm, rng, 0.06)
    border = round(6 * _unit(x))
    framed = np.full_like(y, 1.0) * np.array([0.96, 0.93, 0.85], dtype=np.float32)
    framed[border:-border, border : -2 * border] = y[border:-border, border : -2 * border]
    return framed


def bokeh(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Sharp in the middle, blurred around it, with discs of out-of-focus light."""
    u, v = _grid(x)
    far = np.clip((np.sqrt(u**2 + v**2) - 0.45) * 1.8, 0, 1)
    y = x * (1 - far) + _blur(x, 5) * far
    lights = Image.new("RGB", (x.shape[1], x.shape[0]))
    pen, n = ImageDraw.Draw(lights), x.shape[0]
    for _ in range(14):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.34, 0.62)
        cx, cy = n * (0.5 + radius * np.cos(angle)), n * (0.5 + radius * np.sin(angle))
        r = n * rng.uniform(0.03, 0.075)
        shade = int(rng.integers(90, 150))
        pen.ellipse([cx - r, cy - r, cx + r, cy + r], fill=(shade, shade, int(shade * 0.8)))
    return 1 - (1 - y * 0.92) * (1 - _blur(to_pixels(lights), 0.8))


# paintings -------------------------------------------------------------------------------------------------


def sketch(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Pencil outlines and hatching on white paper, with a pale wash of the colours."""
    n = x.shape[0]
    dark = 1 - x.mean(axis=2, keepdims=True)
    rows, columns = np.mgrid[0:n, 0:n]
    period = 5 * _unit(x)
    hatch = (((rows + columns) % period) < period * 0.35)[..., None]
    paper = 0.97 - 0.04 * _clouds(x, rng, 40)
    shade = np.where(hatch, 0.45 * np.clip(dark - 0.25, 0, 1), 0)
    wash = 0.42 * x + 0.58
    return np.minimum(paper, wash) * (1 - shade) * (1 - 0.8 * _edges(x, 1.2))


def watercolor(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Wobbling edges, pigment that pools, and unpainted paper around."""
    n = x.shape[0]
    shift = 7 * _unit(x)
    rows = np.arange(n)[:, None] + ((_clouds(x, rng, 14)[..., 0] - 0.5) * shift).astype(int)
    columns = np.arange(n)[None, :] + ((_clouds(x, rng, 14)[..., 0] - 0.5) * shift).astype(int)
    y = _blur(x[np.clip(rows, 0, n - 1), np.clip(columns, 0, n - 1)], 0.8)
    y = 1 - (1 - y) * (0.45 + 0.5 * _clouds(x, rng, 7))
    u, v = _grid(x)
    rim = np.maximum(np.abs(u), np.abs(v)) + 0.22 * (_clouds(x, rng, 16) - 0.5)
    paint = 1 / (1 + np.exp((rim - 0.9) * 40))
    return y * paint + 0.985 * (1 - paint)


def oil(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Thick short strokes that follow a slow field of directions."""
    n, unit = x.shape[0], _unit(x)
    canvas = to_image(x * 0.8)
    pen = ImageDraw.Draw(canvas)
    count = 1500
    at = rng.random((count, 2)) * n
    shade = 1 + 0.28 * (rng.random(count) - 0.5)
    field = _clouds(x, rng, 4)[..., 0] * 6.3
    iy, ix = at[:, 0].astype(int), at[:, 1].astype(int)
    colors = (np.clip(x[iy, ix] * shade[:, None], 0, 1) * 255).astype(int).tolist()
    dx, dy = np.cos(field[iy, ix]) * 3.4 * unit, np.sin(field[iy, ix]) * 3.4 * unit
    width = max(1, round(3.2 * unit))
    for (y0, x0), a, b, color in zip(at.tolist(), dx.tolist(), dy.tolist(), colors, strict=True):
        pen.line([x0 - a, y0 - b, x0 + a, y0 + b], fill=tuple(color), width=width)
    return _saturate(to_pixels(canvas), 1.2)


def pointillist(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Separate dots of paint, each a little off in colour, on cream."""
    n, unit = x.shape[0], _unit(x)
    canvas = Image.new("RGB", (n, n), (250, 243, 222))
    pen = ImageDraw.Draw(canvas)
    cells = 34
    jitter = rng.uniform(-0.35, 0.35, (cells, cells, 2))
    tint = rng.uniform(-0.13, 0.13, (cells, cells, 3))
    radius = 1.75 * unit
    soft = _blur(x, 0.8)
    for i in range(cells):
        for j in range(cells):
            cy = min(n - 1.0, max(0.0, (i + 0.5 + jitter[i, j, 0]) * n / cells))
            cx = min(n - 1.0, max(0.0, (j + 0.5 + jitter[i, j, 1]) * n / cells))
            color = (np.clip(soft[int(cy), int(cx)] + tint[i, j], 0, 1) * 255).astype(int).tolist()
            pen.ellipse([cx - radius, cy - radius, cx + radius, cy + radius], fill=tuple(color))
    return to_pixels(canvas)


def mosaic(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Square stones of slightly different shades with pale joints between them."""
    n, cells = x.shape[0], 25
    small = to_pixels(to_image(x).resize((cells, cells), Image.Resampling.BOX))
    small = small * (1 + 0.3 * (rng.random((cells, cells, 1), dtype=np.float32) - 0.5))
    where = np.arange(n) * cells // n
    y = small[where][:, where]
    place = (np.arange(n) * cells % n) / n
    joint = place < 0.17
    y[joint] = 0.88
    y[:, joint] = 0.88
    return y


# digital pictures ------------------------------------------------------------------------------------------


def neon(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Glowing outlines in the colours of what they enclose, in the dark."""
    vivid = _saturate(x, 1.9)
    vivid = vivid / np.maximum(vivid.max(axis=2, keepdims=True), 0.35)
    tube = np.clip(vivid, 0.05, 1) * _edges(x, 1.6)
    return 0.2 * _saturate(x, 1.3) + 1.1 * tube + 1.3 * _blur(tube, 3.2)


def pixel(x: Pixels, rng: np.random.Generator) -> Pixels:
    """A coarse grid of pixels in few colours, as in an old video game."""
    n, cells = x.shape[0], 32
    small = to_pixels(to_image(_saturate(x, 1.25)).resize((cells, cells), Image.Resampling.BOX))
    small = np.round(small * 5) / 5
    where = np.arange(n) * cells // n
    return small[where][:, where]


def anime(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Flat bright colours, black outlines, a wash of light from above and a few sparkles."""
    y = _saturate(np.round(x * 7) / 7, 1.35) * 0.92 + 0.1
    u, v = _grid(x)
    y = y + 0.16 * np.clip(-v - 0.1 + 0.3 * u, 0, 1)
    y = y * (1 - 0.95 * np.clip(_edges(x, 1.4) * 1.3, 0, 1))
    canvas = to_image(y)
    pen, n = ImageDraw.Draw(canvas), x.shape[0]
    for _ in range(5):
        cx, cy, r = rng.uniform(0.05, 0.95) * n, rng.uniform(0.05, 0.95) * n, rng.uniform(0.025, 0.05) * n
        w = r * 0.22
        pen.polygon(
            [(cx, cy - r), (cx + w, cy - w), (cx + r, cy), (cx + w, cy + w), (cx, cy + r), (cx - w, cy + w),
             (cx - r, cy), (cx - w, cy - w)], fill=(255, 255, 255))  # fmt: skip
    return to_pixels(canvas)


def render(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Rounded, glossy bodies lit from the top left, as plastic in a 3D program."""
    n = x.shape[0]
    grey = x.mean(axis=2)
    soft = Image.fromarray((grey * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2.6 * _unit(x)))
    height = np.asarray(soft, dtype=np.float32) / np.float32(255)
    gy, gx = np.gradient(height)
    slope = ((gx + gy) * (n / 128) * 9)[..., None].astype(np.float32)
    y = _saturate(x, 1.25) * (0.95 - 0.55 * np.clip(slope, -1, 1))
    gloss = np.clip(-slope - 0.28, 0, 1) * 1.1
    _, v = _grid(x)
    floor = 0.3 * np.clip(v, 0, 1) ** 2
    return _blur(y, 0.4) * (1 - floor) + gloss + 0.05 * (1 - v)


def glitch(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Colour channels apart, slices shifted, scan lines: a broken screen."""
    n, unit = x.shape[0], _unit(x)
    y = x.copy()
    for _ in range(7):
        top = int(rng.integers(0, n - 1))
        height = max(2, int(rng.uniform(3, 11) * unit))
        y[top : top + height] = np.roll(y[top : top + height], int(rng.uniform(-16, 16) * unit), axis=1)
    step = round(4 * unit)
    out = np.stack([np.roll(y[..., 0], step, axis=1), y[..., 1], np.roll(y[..., 2], -step, axis=1)], axis=2)
    lines = (np.arange(n) % max(2, round(4 * unit)) < max(1, round(1.4 * unit)))[:, None, None]
    return np.where(lines, out * 0.62, out * 1.06)


def poster(x: Pixels, rng: np.random.Generator) -> Pixels:
    """Few flat tones, printed with coarse dots, in a heavy black frame."""
    n, unit = x.shape[0], _unit(x)
    y = _saturate(np.round(_blur(x, 1.0) * 3) / 3, 1.5)
    rows, columns = np.mgrid[0:n, 0:n]
    period = 6 * unit
    inside = ((rows % period) - period / 2) ** 2 + ((columns % period) - period / 2) ** 2 < (
        period * 0.3
    ) ** 2
    y = np.where(inside[..., None], y * 0.72, y)
    frame = round(7 * unit)
    framed = np.full_like(y, 0.07)
    framed[frame:-frame, frame:-frame] = y[frame:-frame, frame:-frame]
    return framed


PHOTO: dict[str, Style] = {"photo": photo, "film": film, "bokeh": bokeh}
ART: dict[str, Style] = {
    "sketch": sketch,
    "watercolor": watercolor,
    "oil": oil,
    "pointillist": pointillist,
    "mosaic": mosaic,
}
DIGITAL: dict[str, Style] = {
    "neon": neon,
    "pixel": pixel,
    "anime": anime,
    "render": render,
    "glitch": glitch,
    "poster": poster,
}
