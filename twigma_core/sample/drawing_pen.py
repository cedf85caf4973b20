"""The pen of the drawn pictures: shapes in unit coordinates, and the inks they are filled with.

What belongs here: turning unit coordinates into pixels, and making one colour lighter or darker. What does
not: any subject (``drawing_subjects``), any style (``drawing_styles``), any choice of what is drawn
(``drawing``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
Point = tuple[float, float]


def mix(a: Rgb, b: Rgb, t: float) -> Rgb:
    """The colour a share ``t`` of the way from ``a`` to ``b``; ``t`` in [0, 1]."""
    return (
        round(a[0] + (b[0] - a[0]) * t),
        round(a[1] + (b[1] - a[1]) * t),
        round(a[2] + (b[2] - a[2]) * t),
    )


def lighter(c: Rgb, t: float = 0.35) -> Rgb:
    """``c`` mixed with white."""
    return mix(c, (255, 255, 255), t)


def darker(c: Rgb, t: float = 0.35) -> Rgb:
    """``c`` mixed with a bluish black, which looks better than black beside bright colours."""
    return mix(c, (14, 12, 30), t)


@dataclass(frozen=True)
class Ink:
    """The colours one scene is drawn with.

    ``main`` is the subject's own colour; the other four come from the palette: the backdrop, its second tone,
    an accent, and the darkest tone.
    """

    main: Rgb
    back: Rgb
    second: Rgb
    accent: Rgb
    dark: Rgb


class Pen:
    """Draws on one picture in unit coordinates: (0, 0) is top left, (1, 1) bottom right.

    ``move`` shifts, scales and mirrors all that is drawn after it, about the picture's centre.
    """

    def __init__(self, image: Image.Image) -> None:
        self.size = image.size[0]
        self._draw = ImageDraw.Draw(image)
        self._dx = self._dy = 0.0
        self._scale = 1.0
        self._flip = False

    def move(self, dx: float = 0.0, dy: float = 0.0, scale: float = 1.0, flip: bool = False) -> None:
        """Set the transform of what follows; without arguments, back to none."""
        self._dx, self._dy, self._scale, self._flip = dx, dy, scale, flip

    def _at(self, x: float, y: float) -> Point:
        x = (x - 0.5) * self._scale
        x = 0.5 + (-x if self._flip else x) + self._dx
        y = 0.5 + (y - 0.5) * self._scale + self._dy
        return x * self.size, y * self.size

    def _width(self, width: float) -> int:
        return max(1, round(width * self._scale * self.size))

    def _box(self, x0: float, y0: float, x1: float, y1: float) -> list[float]:
        (a, b), (c, d) = self._at(x0, y0), self._at(x1, y1)
        return [min(a, c), min(b, d), max(a, c), max(b, d)]

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Rgb) -> None:
        """A filled ellipse with centre (x, y) and half-axes rx, ry."""
        self._draw.ellipse(self._box(x - rx, y - ry, x + rx, y + ry), fill=fill)

    def circle(self, x: float, y: float, r: float, fill: Rgb) -> None:
        """A filled circle."""
        self.ellipse(x, y, r, r, fill)

    def ring(self, x: float, y: float, rx: float, ry: float, color: Rgb, width: float) -> None:
        """The outline of an ellipse."""
        self._draw.ellipse(self._box(x - rx, y - ry, x + rx, y + ry), outline=color, width=self._width(width))

    def rect(self, x0: float, y0: float, x1: float, y1: float, fill: Rgb) -> None:
        """A filled rectangle between two corners."""
        self._draw.rectangle(self._box(x0, y0, x1, y1), fill=fill)

    def poly(self, points: Sequence[Point], fill: Rgb) -> None:
        """A filled polygon."""
        self._draw.polygon([self._at(*p) for p in points], fill=fill)

    def line(self, points: Sequence[Point], color: Rgb, width: float) -> None:
        """A polyline with rounded joints."""
        self._draw.line([self._at(*p) for p in points], fill=color, width=self._width(width), joint="curve")

    def arc(self, x: float, y: float, rx: float, ry: float, span: Point, color: Rgb, width: float) -> None:
        """Part of an ellipse's outline; ``span`` in degrees, clockwise from three o'clock."""
        steps = 24
        start, end = math.radians(span[0]), math.radians(span[1])
        angles = [start + (end - start) * i / steps for i in range(steps + 1)]
        self.line([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles], color, width)

    def star(self, x: float, y: float, r: float, fill: Rgb, points: int = 5, inner: float = 0.42) -> None:
        """A star with its first point upwards."""
        corners: list[Point] = []
        for i in range(2 * points):
            radius = r if i % 2 == 0 else r * inner
            angle = i * math.pi / points
            corners.append((x + radius * math.sin(angle), y - radius * math.cos(angle)))
        self.poly(corners, fill)
