"""What is around the subject of a drawn picture: the backdrop, the details, the censored figure.

What belongs here: everything drawn before or after the subject itself. What does not: subjects
(``drawing_subjects``), styles (``drawing_styles``) and which of all this a scene shows (``drawing``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from twigma_core.sample.drawing_pen import Ink, Pen, darker, lighter, mix
from twigma_core.sample.drawing_subjects import BLACK, GOLD, SKIN, WHITE
from twigma_core.sample.drawing_subjects_made import GREY


def backdrop(pen: Pen, ink: Ink, name: str, rng: np.random.Generator) -> None:
    """Fill the picture with one of the backgrounds."""
    back, second = ink.back, mix(ink.back, ink.second, 0.75)
    pen.rect(0, 0, 1, 1, back)
    if name == "striped":
        for k in range(-1, 9, 2):
            x = k / 8 + float(rng.uniform(0, 0.02))
            pen.poly([(x, 0), (x + 0.125, 0), (x + 0.225, 1), (x + 0.1, 1)], second)
    elif name == "dotted":
        for i in range(8):
            for j in range(8):
                pen.circle((i + 0.5 + 0.5 * (j % 2)) / 8, (j + 0.5) / 8, 0.034, second)
    elif name == "checkered":
        for i in range(6):
            for j in range(6):
                if (i + j) % 2:
                    pen.rect(i / 6, j / 6, (i + 1) / 6, (j + 1) / 6, second)
    elif name == "gradient":
        for k in range(32):
            pen.rect(0, k / 32, 1, (k + 1) / 32, mix(lighter(back, 0.35), darker(second, 0.35), k / 31))
    elif name == "rays":
        turn = float(rng.uniform(0, 0.5))
        for k in range(0, 20, 2):
            a, b = turn + k * math.tau / 20, turn + (k + 1) * math.tau / 20
            far = [(0.5 + math.cos(t), 0.5 + math.sin(t)) for t in (a, b)]
            pen.poly([(0.5, 0.5), *far], second)
    elif name == "cloudy":
        for _ in range(6):
            x, y = float(rng.uniform(0, 1)), float(rng.uniform(0.04, 0.62))
            for dx, dy, r in ((-0.09, 0.01, 0.06), (0, -0.02, 0.085), (0.1, 0.015, 0.055)):
                pen.ellipse(x + dx, y + dy, r * 1.25, r, lighter(back, 0.6))


def _hat(pen: Pen, ink: Ink, x: float, y: float, w: float) -> None:
    pen.ellipse(x, y + 0.06, w * 0.72, 0.035, BLACK)
    pen.rect(x - w * 0.38, y - 0.16, x + w * 0.38, y + 0.05, BLACK)
    pen.rect(x - w * 0.38, y - 0.02, x + w * 0.38, y + 0.03, ink.accent)


def _crown(pen: Pen, ink: Ink, x: float, y: float, w: float) -> None:
    h = w * 0.5
    pen.poly([(x - h, y + 0.06), (x - h, y - 0.12), (x - h / 2, y - 0.03), (x, y - 0.15),
              (x + h / 2, y - 0.03), (x + h, y - 0.12), (x + h, y + 0.06)], GOLD)  # fmt: skip


def _glasses(pen: Pen, ink: Ink, x: float, y: float, w: float) -> None:
    for s in (-1, 1):
        pen.ring(0.5 + s * 0.08, y + 0.26, 0.075, 0.065, BLACK, 0.02)


def _bow(pen: Pen, ink: Ink, x: float, y: float, w: float) -> None:
    for s in (-1, 1):
        pen.poly([(x, y + 0.02), (x + s * 0.14, y - 0.08), (x + s * 0.14, y + 0.12)], (226, 40, 90))
    pen.circle(x, y + 0.02, 0.035, (150, 20, 60))


def rainbow(pen: Pen) -> None:
    """A rainbow over the whole picture, to be drawn before the subject."""
    for k, color in enumerate(((222, 60, 60), (246, 170, 50), (244, 226, 80), (80, 180, 90), (70, 120, 220))):
        pen.arc(0.5, 0.5, 0.5 - 0.03 * k, 0.44 - 0.03 * k, (190, 350), color, 0.034)


def hang(pen: Pen, ink: Ink, name: str, x: float, y: float) -> None:
    """Details that hang in a corner of the sky or stand beside the subject."""
    if name == "sun":
        pen.star(x, y, 0.15, (255, 180, 40), points=12, inner=0.72)
        pen.circle(x, y, 0.095, (255, 226, 90))
    elif name == "moon":
        pen.circle(x, y, 0.11, (250, 244, 210))
        pen.circle(x + 0.055, y - 0.03, 0.095, ink.back)
    elif name == "star":
        pen.star(x, y, 0.13, (255, 214, 60))
    elif name == "birds":
        for dx, dy in ((0, 0), (0.13, 0.05), (-0.1, 0.08)):
            pen.arc(x + dx - 0.045, y + dy, 0.045, 0.035, (190, 350), BLACK, 0.016)
            pen.arc(x + dx + 0.045, y + dy, 0.045, 0.035, (190, 350), BLACK, 0.016)
    elif name == "balloon":
        pen.line([(x, y + 0.1), (x, y + 0.25)], BLACK, 0.01)
        pen.ellipse(x, y, 0.1, 0.12, (230, 50, 70))
        pen.ellipse(x - 0.03, y - 0.04, 0.025, 0.035, WHITE)
    elif name == "butterfly":
        for s in (-1, 1):
            pen.ellipse(x + s * 0.065, y - 0.045, 0.06, 0.06, (250, 150, 40))
            pen.ellipse(x + s * 0.05, y + 0.055, 0.045, 0.045, (250, 210, 80))
        pen.ellipse(x, y, 0.016, 0.09, BLACK)
    elif name == "comet":
        pen.poly([(x, y - 0.055), (x + 0.3, y - 0.12), (x + 0.02, y + 0.055)], (150, 220, 250))
        pen.circle(x, y, 0.065, WHITE)
    elif name == "saucer":
        pen.ellipse(x, y - 0.04, 0.065, 0.06, (150, 230, 210))
        pen.ellipse(x, y + 0.01, 0.15, 0.045, GREY)
        for dx in (-0.08, 0, 0.08):
            pen.circle(x + dx, y + 0.015, 0.016, GOLD)
    elif name == "lightning":
        pen.poly([(x + 0.02, y - 0.15), (x - 0.09, y + 0.04), (x - 0.01, y + 0.03),
                  (x - 0.05, y + 0.2), (x + 0.09, y - 0.03), (x + 0.01, y - 0.02),
                  (x + 0.1, y - 0.15)], (255, 236, 80))  # fmt: skip
    elif name == "candle":
        pen.rect(x - 0.035, 0.6, x + 0.035, 0.86, WHITE)
        pen.ellipse(x, 0.54, 0.03, 0.055, (255, 180, 40))
    elif name == "cup":
        pen.ring(x + 0.09, 0.8, 0.045, 0.05, WHITE, 0.018)
        pen.poly([(x - 0.09, 0.72), (x + 0.09, 0.72), (x + 0.06, 0.9), (x - 0.06, 0.9)], WHITE)
        pen.ellipse(x, 0.72, 0.09, 0.022, (110, 66, 40))


WORN: dict[str, Callable[[Pen, Ink, float, float, float], None]] = {
    "hat": _hat,
    "crown": _crown,
    "glasses": _glasses,
    "bow": _bow,
}


def figure(pen: Pen, rng: np.random.Generator) -> None:
    """The sensitive motif: a bare figure in plain skin tones behind a red censor bar."""
    skin = SKIN[int(rng.integers(3))]
    x = 0.5 + float(rng.uniform(-0.16, 0.16))
    pen.circle(x, 0.3, 0.085, skin)
    pen.poly([(x - 0.15, 0.41), (x + 0.15, 0.41), (x + 0.09, 0.66), (x + 0.12, 1.02), (x + 0.02, 1.02),
              (x, 0.78), (x - 0.02, 1.02), (x - 0.12, 1.02), (x - 0.09, 0.66)], skin)  # fmt: skip
    for s in (-1, 1):
        pen.line([(x + s * 0.13, 0.44), (x + s * 0.2, 0.68)], skin, 0.055)
    y = 0.57 + float(rng.uniform(-0.03, 0.03))
    pen.rect(x - 0.27, y - 0.085, x + 0.27, y + 0.085, BLACK)
    pen.rect(x - 0.255, y - 0.07, x + 0.255, y + 0.07, (226, 22, 34))
