"""What the drawn pictures show, continued: made and imagined things (see ``drawing_subjects``).

What belongs here: the subjects of the themes abstract, city, still life, space, machines and
fantasy. Every function returns the anchor (x, y, width) of the subject's top.
"""

from __future__ import annotations

import math

import numpy as np

from twigma_core.sample.drawing_pen import Ink, Pen, Rgb, darker, lighter, mix
from twigma_core.sample.drawing_subjects import BLACK, GOLD, GREEN, WHITE, Anchor

GREY: Rgb = (150, 156, 168)


# abstract --------------------------------------------------------------------------------------------------


def swirls(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for x, y, r, color in (
        (0.34, 0.36, 0.32, ink.main),
        (0.72, 0.66, 0.3, ink.main),
        (0.78, 0.22, 0.16, ink.accent),
    ):
        turn = float(rng.uniform(0, 6.28))
        spiral = [
            (x + r * t / 60 * math.cos(turn + t * 0.3), y + r * t / 60 * math.sin(turn + t * 0.3))
            for t in range(61)
        ]
        pen.line(spiral, color, 0.045)
    return 0.5, 0.3, 0.3


def lines(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for k in range(9):
        a, b = (float(v) for v in rng.uniform(-0.1, 1.1, 2))
        color = (ink.main, ink.main, ink.accent)[k % 3]
        pen.line([(a, -0.1), (b, 1.1)] if k % 2 else [(-0.1, a), (1.1, b)], color, 0.02 + 0.012 * (k % 4))
    return 0.5, 0.3, 0.3


def blobs(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for k in range(7):
        x, y = (float(v) for v in rng.uniform(0.08, 0.92, 2))
        rx, ry = (float(v) for v in rng.uniform(0.09, 0.21, 2))
        color = (ink.main, lighter(ink.main, 0.3), ink.accent)[k % 3]
        pen.ellipse(x, y, rx, ry, color)
        pen.ellipse(x - rx * 0.2, y - ry * 0.25, rx * 0.45, ry * 0.4, lighter(color, 0.3))
    return 0.5, 0.3, 0.3


def tiles(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for i in range(4):
        for j in range(4):
            x, y, k = i / 4, j / 4, int(rng.integers(4))
            if k == 0:
                pen.rect(x + 0.015, y + 0.015, x + 0.235, y + 0.235, ink.main)
            elif k == 1:
                pen.poly([(x + 0.015, y + 0.015), (x + 0.235, y + 0.235), (x + 0.015, y + 0.235)], ink.main)
            elif k == 2:
                pen.circle(x + 0.125, y + 0.125, 0.105, ink.main)
            else:
                pen.rect(x + 0.06, y + 0.06, x + 0.19, y + 0.19, ink.accent)
    return 0.5, 0.3, 0.3


# city ------------------------------------------------------------------------------------------------------


def _windows(pen: Pen, box: tuple[float, float, float, float], rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = box
    columns = max(2, round((x1 - x0) / 0.06))
    step = (x1 - x0) / columns
    for c in range(columns):
        for r in range(int((y1 - y0 - 0.05) / 0.085)):
            color = GOLD if rng.random() < 0.6 else BLACK
            x, y = x0 + (c + 0.25) * step, y0 + 0.05 + r * 0.085
            pen.rect(x, y, x + step * 0.5, y + 0.045, color)


def skyline(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    x = -0.12
    for k in range(7):
        width = float(rng.uniform(0.14, 0.22))
        top = (0.5, 0.32, 0.58, 0.24, 0.46, 0.36, 0.55)[k] + float(rng.uniform(-0.05, 0.05))
        wall = (ink.main, darker(ink.main, 0.3), lighter(ink.main, 0.25))[k % 3]
        pen.rect(x, top, x + width, 1.3, wall)
        _windows(pen, (x, top, x + width, 1.0), rng)
        x += width
    return 0.5, 0.26, 0.2


def street(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for s in (-1, 1):
        for k, near in enumerate((0.12, 0.3, 0.52)):
            far = (0.3, 0.52, 0.95)[k]
            wall = (lighter(ink.main, 0.3), ink.main, darker(ink.main, 0.2))[k]
            pen.poly([(0.5 + s * near, 0.5 - near * 0.75),
                      (0.5 + s * far, 0.5 - far * 0.85), (0.5 + s * far, 0.52 + far * 0.75),
                      (0.5 + s * near, 0.52 + near * 0.6)], wall)  # fmt: skip
            for w in range(2):
                x, y = 0.5 + s * (near + (far - near) * 0.4), 0.36 + 0.13 * w
                pen.rect(x - 0.015 * (k + 1), y, x + 0.015 * (k + 1), y + 0.04 * (k + 1), GOLD)
    pen.poly([(0.47, 0.54), (0.53, 0.54), (1.05, 1.3), (-0.05, 1.3)], (86, 88, 100))
    for y in (0.62, 0.74, 0.9):
        pen.poly(
            [
                (0.5 - y * 0.008, y),
                (0.5 + y * 0.008, y),
                (0.5 + y * 0.016, y + 0.07),
                (0.5 - y * 0.016, y + 0.07),
            ],
            WHITE,
        )
    return 0.5, 0.36, 0.16


def bridge(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.rect(-0.3, 0.74, 1.3, 1.3, mix(ink.second, (60, 120, 190), 0.6))
    for y in (0.82, 0.9):
        pen.line([(0.1, y), (0.3, y)], WHITE, 0.012)
        pen.line([(0.6, y + 0.03), (0.85, y + 0.03)], WHITE, 0.012)
    for x in (0.24, 0.76):
        pen.rect(x - 0.035, 0.26, x + 0.035, 0.84, ink.main)
        pen.rect(x - 0.055, 0.24, x + 0.055, 0.29, darker(ink.main, 0.3))
    for a, b in ((-0.26, 0.24), (0.24, 0.76), (0.76, 1.26)):
        sag = [(a + (b - a) * t / 12, 0.3 + 0.3 * (1 - (2 * t / 12 - 1) ** 2)) for t in range(13)]
        pen.line(sag, ink.main, 0.02)
        for px, py in sag[1:-1]:
            pen.line([(px, py), (px, 0.64)], ink.main, 0.008)
    pen.rect(-0.3, 0.62, 1.3, 0.68, darker(ink.main, 0.25))
    return 0.5, 0.3, 0.2


def tower(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.rect(-0.3, 0.88, 1.3, 1.3, darker(ink.second, 0.2))
    pen.poly([(0.34, 0.92), (0.42, 0.4), (0.58, 0.4), (0.66, 0.92)], ink.main)
    pen.poly([(0.5, 0.92), (0.5, 0.4), (0.58, 0.4), (0.66, 0.92)], darker(ink.main, 0.25))
    pen.ellipse(0.5, 0.38, 0.18, 0.07, darker(ink.main, 0.35))
    pen.ellipse(0.5, 0.35, 0.15, 0.05, GOLD)
    pen.poly([(0.45, 0.32), (0.5, 0.05), (0.55, 0.32)], ink.main)
    for y in (0.52, 0.64, 0.76):
        pen.rect(0.455, y, 0.545, y + 0.05, GOLD)
    return 0.5, 0.1, 0.14


# still life ------------------------------------------------------------------------------------------------


def _table(pen: Pen, ink: Ink) -> None:
    pen.rect(-0.3, 0.76, 1.3, 1.3, darker(ink.second, 0.3))
    pen.rect(-0.3, 0.76, 1.3, 0.785, lighter(ink.second, 0.2))


def apple(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _table(pen, ink)
    pen.ellipse(0.5, 0.84, 0.27, 0.045, darker(ink.second, 0.55))
    for s in (-1, 1):
        pen.ellipse(0.5 + s * 0.1, 0.6, 0.19, 0.24, ink.main)
    pen.ellipse(0.37, 0.5, 0.05, 0.08, lighter(ink.main, 0.6))
    pen.line([(0.5, 0.4), (0.53, 0.26)], (96, 60, 36), 0.03)
    pen.poly([(0.53, 0.33), (0.62, 0.22), (0.74, 0.24), (0.65, 0.34)], GREEN)
    return 0.5, 0.28, 0.24


def teapot(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _table(pen, ink)
    pen.ring(0.79, 0.6, 0.12, 0.14, darker(ink.main, 0.2), 0.04)
    pen.poly([(0.3, 0.62), (0.04, 0.42), (0.12, 0.38), (0.36, 0.5)], darker(ink.main, 0.15))
    pen.ellipse(0.52, 0.64, 0.27, 0.2, ink.main)
    pen.ellipse(0.52, 0.46, 0.14, 0.05, darker(ink.main, 0.3))
    pen.circle(0.52, 0.39, 0.04, ink.accent)
    pen.ellipse(0.52, 0.66, 0.2, 0.04, lighter(ink.main, 0.5))
    return 0.52, 0.36, 0.2


def bottle(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _table(pen, ink)
    pen.poly([(0.44, 0.12), (0.56, 0.12), (0.56, 0.34), (0.66, 0.46), (0.66, 0.9), (0.34, 0.9), (0.34, 0.46),
              (0.44, 0.34)], ink.main)  # fmt: skip
    pen.rect(0.43, 0.08, 0.57, 0.15, (150, 100, 60))
    pen.rect(0.34, 0.56, 0.66, 0.76, WHITE)
    pen.star(0.5, 0.66, 0.07, ink.accent)
    pen.rect(0.385, 0.44, 0.41, 0.54, lighter(ink.main, 0.6))
    return 0.5, 0.08, 0.16


def vase(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _table(pen, ink)
    for k, x in enumerate((0.34, 0.5, 0.66)):
        y = (0.22, 0.13, 0.2)[k]
        pen.line([(x, y), (0.5, 0.5)], GREEN, 0.02)
        pen.star(x, y, 0.085, ink.accent if k == 1 else WHITE, points=6, inner=0.5)
        pen.circle(x, y, 0.028, GOLD)
    pen.poly([(0.38, 0.42), (0.62, 0.42), (0.58, 0.5), (0.72, 0.68), (0.6, 0.9), (0.4, 0.9),
              (0.28, 0.68), (0.42, 0.5)], ink.main)  # fmt: skip
    for y in (0.63, 0.72):
        pen.line(
            [(0.31, y), (0.4, y - 0.035), (0.5, y), (0.6, y - 0.035), (0.69, y)],
            lighter(ink.main, 0.55),
            0.02,
        )
    return 0.5, 0.1, 0.16


# space -----------------------------------------------------------------------------------------------------


def _stars(pen: Pen, rng: np.random.Generator) -> None:
    for _ in range(26):
        x, y = (float(v) for v in rng.uniform(-0.05, 1.05, 2))
        pen.circle(x, y, float(rng.uniform(0.004, 0.012)), WHITE)


def planet(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _stars(pen, rng)
    pen.ring(0.5, 0.52, 0.46, 0.13, ink.accent, 0.035)
    pen.circle(0.5, 0.5, 0.27, ink.main)
    for y, h in ((0.38, 0.03), (0.52, 0.04), (0.64, 0.025)):
        half = math.sqrt(max(0.0, 0.25**2 - (y - 0.5) ** 2))
        pen.ellipse(0.5, y, half, h, lighter(ink.main, 0.35))
    pen.arc(0.5, 0.52, 0.46, 0.13, (12, 168), ink.accent, 0.035)
    return 0.5, 0.22, 0.3


def rocket(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _stars(pen, rng)
    pen.poly([(0.4, 0.76), (0.5, 1.02 + float(rng.uniform(-0.04, 0.04))), (0.6, 0.76)], (250, 170, 50))
    for s in (-1, 1):
        pen.poly(
            [(0.5 + s * 0.12, 0.52), (0.5 + s * 0.28, 0.8), (0.5 + s * 0.1, 0.74)], darker(ink.main, 0.3)
        )
    pen.ellipse(0.5, 0.46, 0.14, 0.34, ink.main)
    pen.poly([(0.39, 0.25), (0.5, 0.05), (0.61, 0.25)], WHITE)
    pen.circle(0.5, 0.42, 0.07, WHITE)
    pen.circle(0.5, 0.42, 0.05, (110, 190, 230))
    return 0.5, 0.08, 0.16


def galaxy(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _stars(pen, rng)
    turn = float(rng.uniform(0, 6.28))
    for t in range(90):
        for arm in range(3):
            a, r = turn + arm * 2.094 + t * 0.045, 0.03 + 0.0048 * t
            color = mix(lighter(ink.main, 0.6), ink.main, t / 90)
            pen.circle(0.5 + r * math.cos(a), 0.5 + 0.68 * r * math.sin(a), 0.034 - 0.0002 * t, color)
    pen.ellipse(0.5, 0.5, 0.1, 0.08, (255, 248, 220))
    return 0.5, 0.22, 0.3


def astronaut(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _stars(pen, rng)
    suit = (226, 230, 238)
    pen.rect(0.28, 0.52, 0.72, 0.84, ink.main)
    for s in (-1, 1):
        pen.line([(0.5 + s * 0.14, 0.62), (0.5 + s * 0.33, 0.74), (0.5 + s * 0.36, 0.56)], suit, 0.1)
        pen.line([(0.5 + s * 0.09, 0.84), (0.5 + s * 0.11, 1.1)], suit, 0.13)
    pen.ellipse(0.5, 0.7, 0.18, 0.2, suit)
    pen.rect(0.42, 0.64, 0.58, 0.75, ink.main)
    pen.circle(0.5, 0.36, 0.2, suit)
    pen.ellipse(0.5, 0.37, 0.15, 0.125, darker(ink.main, 0.35))
    pen.ellipse(0.44, 0.33, 0.04, 0.03, WHITE)
    return 0.5, 0.16, 0.3


# machines --------------------------------------------------------------------------------------------------


def robot(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.line([(0.5, 0.22), (0.5, 0.08)], GREY, 0.025)
    pen.circle(0.5, 0.07, 0.035, ink.accent)
    for s in (-1, 1):
        pen.line([(0.5 + s * 0.24, 0.72), (0.5 + s * 0.38, 0.8), (0.5 + s * 0.36, 0.98)], GREY, 0.06)
        pen.rect(0.5 + s * 0.28 - 0.04, 0.34, 0.5 + s * 0.28 + 0.04, 0.48, GREY)
    pen.rect(0.24, 0.2, 0.76, 0.6, ink.main)
    pen.rect(0.29, 0.64, 0.71, 1.1, darker(ink.main, 0.2))
    pen.rect(0.31, 0.29, 0.69, 0.43, BLACK)
    for s in (-1, 1):
        pen.circle(0.5 + s * 0.1, 0.36, 0.045, (120, 240, 240))
    for k in range(4):
        pen.rect(0.36 + 0.075 * k, 0.48, 0.4 + 0.075 * k, 0.54, WHITE)
    pen.circle(0.5, 0.8, 0.07, GOLD)
    return 0.5, 0.2, 0.36


def car(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.rect(-0.3, 0.74, 1.3, 1.3, (92, 94, 106))
    pen.line([(0.05, 0.88), (0.3, 0.88)], WHITE, 0.02)
    pen.line([(0.6, 0.88), (0.9, 0.88)], WHITE, 0.02)
    pen.poly([(0.26, 0.52), (0.36, 0.32), (0.64, 0.32), (0.76, 0.52)], darker(ink.main, 0.1))
    pen.poly([(0.31, 0.51), (0.38, 0.36), (0.49, 0.36), (0.49, 0.51)], (170, 214, 236))
    pen.poly([(0.52, 0.51), (0.52, 0.36), (0.62, 0.36), (0.7, 0.51)], (170, 214, 236))
    pen.poly([(0.08, 0.54), (0.16, 0.5), (0.84, 0.5), (0.93, 0.58), (0.93, 0.72), (0.08, 0.72)], ink.main)
    for x in (0.27, 0.74):
        pen.circle(x, 0.73, 0.105, BLACK)
        pen.circle(x, 0.73, 0.05, GREY)
    pen.circle(0.9, 0.59, 0.03, GOLD)
    return 0.5, 0.32, 0.28


def clock(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.circle(0.5, 0.52, 0.37, ink.main)
    pen.circle(0.5, 0.52, 0.29, WHITE)
    for k in range(12):
        a = k * math.tau / 12
        pen.circle(0.5 + 0.245 * math.cos(a), 0.52 + 0.245 * math.sin(a), 0.016, BLACK)
    for length, width in ((0.21, 0.02), (0.14, 0.034)):
        a = float(rng.uniform(0, math.tau))
        pen.line([(0.5, 0.52), (0.5 + length * math.cos(a), 0.52 + length * math.sin(a))], BLACK, width)
    pen.circle(0.5, 0.52, 0.03, ink.accent)
    return 0.5, 0.15, 0.28


def gear(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for x, y, r, color, hole in ((0.38, 0.42, 0.24, ink.main, ink.back), (0.74, 0.74, 0.17, GREY, ink.back)):
        turn = float(rng.uniform(0, 0.7))
        for k in range(8):
            a = turn + k * math.tau / 8
            pen.line([(x, y), (x + r * 1.3 * math.cos(a), y + r * 1.3 * math.sin(a))], color, r * 0.36)
        pen.circle(x, y, r, color)
        pen.circle(x, y, r * 0.45, darker(color, 0.35))
        pen.circle(x, y, r * 0.3, hole)
    return 0.38, 0.14, 0.24


# fantasy ---------------------------------------------------------------------------------------------------


def dragon(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.poly(
        [(0.5, 0.56), (0.6, 0.12), (0.98, 0.2), (0.86, 0.34), (0.92, 0.46), (0.72, 0.6)],
        darker(ink.main, 0.25),
    )
    body = [(1.0, 0.98), (0.84, 0.9), (0.66, 0.82), (0.5, 0.74), (0.42, 0.58), (0.42, 0.42), (0.36, 0.32)]
    pen.line(body, ink.main, 0.16)
    pen.ellipse(0.55, 0.74, 0.2, 0.14, ink.main)
    pen.poly([(0.1, 0.34), (0.28, 0.2), (0.46, 0.22), (0.46, 0.38), (0.24, 0.42)], ink.main)
    for x in (0.34, 0.42):
        pen.poly([(x, 0.23), (x + 0.06, 0.08), (x + 0.05, 0.25)], GOLD)
    pen.circle(0.31, 0.28, 0.028, GOLD)
    pen.circle(0.31, 0.28, 0.013, BLACK)
    flame = float(rng.uniform(-0.03, 0.03))
    pen.poly(
        [(0.12, 0.37), (-0.06, 0.5 + flame), (0.02, 0.54), (0.0, 0.66 + flame), (0.16, 0.42)], (250, 140, 40)
    )
    return 0.36, 0.18, 0.2


def castle(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.ellipse(0.5, 1.08, 0.8, 0.26, GREEN)
    for x, top in ((0.24, 0.46), (0.76, 0.42), (0.5, 0.3)):
        half = 0.1 if x != 0.5 else 0.12
        pen.rect(x - half, top, x + half, 0.9, lighter(ink.main, 0.15) if x == 0.5 else ink.main)
        pen.poly([(x - half - 0.03, top), (x, top - 0.24), (x + half + 0.03, top)], ink.accent)
        pen.rect(x - 0.025, top + 0.08, x + 0.025, top + 0.17, GOLD)
    pen.rect(0.14, 0.68, 0.86, 0.92, darker(ink.main, 0.12))
    pen.ellipse(0.5, 0.84, 0.08, 0.1, BLACK)
    pen.rect(0.42, 0.84, 0.58, 0.93, BLACK)
    return 0.5, 0.06, 0.12


def ghost(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    body = lighter(ink.main, 0.3)
    pen.circle(0.5, 0.4, 0.27, body)
    hem = [(0.77 - 0.09 * k, 0.88 + (0.06 if k % 2 else -0.03)) for k in range(7)]
    pen.poly([(0.23, 0.4), (0.77, 0.4), *hem], body)
    for s in (-1, 1):
        pen.ellipse(0.5 + s * 0.1, 0.38, 0.045, 0.07, BLACK)
        pen.ellipse(0.5 + s * 0.32, 0.55, 0.1, 0.05, body)
        pen.circle(0.5 + s * 0.17, 0.5, 0.035, (244, 160, 180))
    pen.ellipse(0.5, 0.56, 0.045, 0.06, BLACK)
    return 0.5, 0.14, 0.34


def wizard(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.poly([(0.5, 0.42), (0.88, 1.15), (0.12, 1.15)], ink.main)
    pen.circle(0.5, 0.46, 0.14, (246, 208, 178))
    pen.poly([(0.35, 0.5), (0.65, 0.5), (0.5, 0.96)], (236, 236, 240))
    pen.ellipse(0.5, 0.36, 0.27, 0.05, darker(ink.main, 0.3))
    pen.poly([(0.34, 0.36), (0.56, -0.02), (0.66, 0.36)], ink.main)
    pen.star(0.52, 0.25, 0.05, GOLD)
    _wand = [(0.72, 0.98), (0.86, 0.4)]
    pen.line(_wand, (110, 70, 44), 0.025)
    pen.star(0.87, 0.36, 0.09, GOLD)
    for s in (-1, 1):
        pen.circle(0.5 + s * 0.055, 0.45, 0.02, BLACK)
    return 0.55, 0.0, 0.14
