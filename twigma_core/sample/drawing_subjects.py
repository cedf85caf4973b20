"""What the drawn pictures show: one small function a subject.

What belongs here: people, landscapes, animals and flowers, each a function of a pen, the inks and a
seeded generator (which only nudges places and shades, never what is shown). What does not: other subjects
(``drawing_subjects_made``), backdrops and details (``drawing_around``), the composition (``drawing``) and
styles (``drawing_styles``).

Every function returns the anchor (x, y, width) of the subject's top, where a hat would sit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from twigma_core.sample.drawing_pen import Ink, Pen, Rgb, darker, lighter, mix

Anchor = tuple[float, float, float]
Subject = Callable[[Pen, Ink, np.random.Generator], Anchor]

BLACK: Rgb = (24, 22, 34)
WHITE: Rgb = (248, 246, 240)
GREEN: Rgb = (66, 140, 70)
GOLD: Rgb = (250, 206, 84)
SKIN: tuple[Rgb, ...] = ((246, 208, 178), (224, 172, 130), (176, 118, 80), (118, 76, 52))
HAIR: tuple[Rgb, ...] = ((46, 32, 28), (112, 68, 36), (206, 158, 84), (150, 60, 34), (190, 186, 182))


def _pick(rng: np.random.Generator, options: tuple[Rgb, ...]) -> Rgb:
    return options[int(rng.integers(len(options)))]


def _eyes(pen: Pen, x: float, y: float, gap: float, r: float, color: Rgb = BLACK) -> None:
    for side in (-1, 1):
        pen.circle(x + side * gap, y, r, color)
        pen.circle(x + side * gap + r * 0.3, y - r * 0.35, r * 0.35, WHITE)


# people ----------------------------------------------------------------------------------------------------


def _bust(pen: Pen, ink: Ink, skin: Rgb, width: float) -> None:
    pen.poly([(0.5 - width, 1.1), (0.5 - width * 0.8, 0.76), (0.42, 0.7), (0.58, 0.7),
              (0.5 + width * 0.8, 0.76), (0.5 + width, 1.1)], ink.main)  # fmt: skip
    pen.poly([(0.42, 0.7), (0.5, 0.8), (0.58, 0.7)], lighter(ink.main, 0.5))
    pen.rect(0.445, 0.58, 0.555, 0.72, darker(skin, 0.12))


def woman(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    skin, hair = _pick(rng, SKIN), _pick(rng, HAIR)
    pen.ellipse(0.5, 0.5, 0.27, 0.36, hair)
    _bust(pen, ink, skin, 0.36)
    pen.ellipse(0.5, 0.46, 0.175, 0.215, skin)
    pen.poly([(0.32, 0.46), (0.36, 0.26), (0.5, 0.2), (0.64, 0.26), (0.68, 0.46), (0.56, 0.3)], hair)
    _eyes(pen, 0.5, 0.46, 0.07, 0.025)
    pen.ellipse(0.5, 0.58, 0.05, 0.022, (196, 44, 66))
    for side in (-1, 1):
        pen.circle(0.5 + side * 0.115, 0.54, 0.03, mix(skin, (230, 110, 110), 0.4))
    return 0.5, 0.2, 0.44


def man(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    skin, hair = _pick(rng, SKIN), _pick(rng, HAIR)
    _bust(pen, ink, skin, 0.44)
    pen.ellipse(0.5, 0.47, 0.18, 0.22, skin)
    pen.poly([(0.31, 0.44), (0.31, 0.28), (0.42, 0.2), (0.6, 0.2), (0.69, 0.28), (0.69, 0.44), (0.65, 0.33),
              (0.35, 0.33)], hair)  # fmt: skip
    pen.poly(
        [(0.32, 0.52), (0.36, 0.68), (0.5, 0.74), (0.64, 0.68), (0.68, 0.52), (0.6, 0.57), (0.4, 0.57)], hair
    )
    pen.ellipse(0.5, 0.61, 0.05, 0.018, (160, 70, 70))
    _eyes(pen, 0.5, 0.44, 0.075, 0.022)
    for side in (-1, 1):
        pen.line([(0.5 + side * 0.04, 0.39), (0.5 + side * 0.12, 0.385)], hair, 0.02)
    return 0.5, 0.2, 0.42


def child(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    skin, hair = _pick(rng, SKIN), _pick(rng, HAIR)
    for side in (-1, 1):
        pen.circle(0.5 + side * 0.3, 0.42, 0.1, hair)
        pen.circle(0.5 + side * 0.23, 0.42, 0.035, ink.main)
    _bust(pen, ink, skin, 0.26)
    pen.circle(0.5, 0.5, 0.23, skin)
    pen.poly([(0.27, 0.48), (0.3, 0.32), (0.5, 0.24), (0.7, 0.32), (0.73, 0.48), (0.5, 0.36)], hair)
    _eyes(pen, 0.5, 0.51, 0.085, 0.038)
    pen.arc(0.5, 0.58, 0.07, 0.06, (20, 160), (180, 60, 70), 0.02)
    for side in (-1, 1):
        pen.circle(0.5 + side * 0.15, 0.59, 0.035, mix(skin, (240, 110, 120), 0.5))
    return 0.5, 0.25, 0.42


# landscapes ------------------------------------------------------------------------------------------------


def mountains(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for x, top, half, shade in ((0.22, 0.38, 0.4, 0.3), (0.8, 0.34, 0.42, 0.18), (0.5, 0.22, 0.42, 0.0)):
        top += float(rng.uniform(-0.03, 0.03))
        rock = lighter(ink.main, shade)
        pen.poly([(x - half, 0.86), (x, top), (x + half, 0.86)], rock)
        pen.poly([(x, top), (x + half, 0.86), (x + half * 0.15, 0.86)], darker(rock, 0.25))
        pen.poly([(x, top), (x - half * 0.24, top + 0.15), (x - 0.04, top + 0.11), (x + 0.03, top + 0.17),
                  (x + half * 0.25, top + 0.15)], WHITE)  # fmt: skip
    pen.rect(-0.3, 0.84, 1.3, 1.3, darker(ink.second, 0.15))
    return 0.5, 0.22, 0.2


def sea(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for i in range(5):
        y, phase = 0.5 + i * 0.11, float(rng.uniform(0, 6.28))
        wave = [(x / 16, y + 0.02 * math.sin(phase + x * 1.3)) for x in range(-6, 23)]
        pen.poly([*wave, (1.4, 1.4), (-0.4, 1.4)], mix(lighter(ink.main, 0.3), darker(ink.main, 0.4), i / 4))
    pen.poly([(0.3, 0.56), (0.7, 0.56), (0.62, 0.67), (0.38, 0.67)], (122, 72, 42))
    pen.line([(0.5, 0.57), (0.5, 0.24)], (90, 56, 36), 0.02)
    pen.poly([(0.52, 0.25), (0.52, 0.52), (0.7, 0.52)], WHITE)
    pen.poly([(0.48, 0.3), (0.48, 0.52), (0.33, 0.52)], ink.accent)
    return 0.5, 0.22, 0.2


def forest(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.rect(-0.3, 0.76, 1.3, 1.3, darker(ink.second, 0.2))
    for x, base, tall in ((0.1, 0.8, 0.45), (0.36, 0.8, 0.52), (0.64, 0.8, 0.48), (0.9, 0.8, 0.5),
                          (0.22, 0.92, 0.5), (0.52, 0.95, 0.6), (0.8, 0.92, 0.52)):  # fmt: skip
        x += float(rng.uniform(-0.03, 0.03))
        green = lighter(ink.main, 0.22) if base < 0.85 else ink.main
        pen.rect(x - 0.022, base - 0.1, x + 0.022, base, (96, 60, 40))
        for k in range(3):
            top = base - tall + k * tall * 0.24
            half = 0.075 + 0.035 * k
            pen.poly(
                [(x, top), (x - half, top + tall * 0.36), (x + half, top + tall * 0.36)],
                darker(green, 0.1 * k),
            )
    return 0.5, 0.3, 0.2


def desert(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for i, y in enumerate((0.55, 0.68, 0.82)):
        phase = float(rng.uniform(0, 6.28))
        dune = [(x / 12, y + 0.06 * math.sin(phase + x * 0.55)) for x in range(-5, 18)]
        pen.poly(
            [*dune, (1.4, 1.4), (-0.4, 1.4)], mix(lighter(ink.main, 0.45), darker(ink.main, 0.15), i / 2)
        )
    for x, y, s in ((0.3, 0.78, 1.0), (0.74, 0.7, 0.7)):
        cactus = (52, 128, 76)
        pen.line([(x, y), (x, y - 0.36 * s)], cactus, 0.075 * s)
        pen.line(
            [(x, y - 0.16 * s), (x - 0.12 * s, y - 0.16 * s), (x - 0.12 * s, y - 0.28 * s)], cactus, 0.05 * s
        )
        pen.line(
            [(x, y - 0.12 * s), (x + 0.12 * s, y - 0.12 * s), (x + 0.12 * s, y - 0.24 * s)], cactus, 0.05 * s
        )
    return 0.5, 0.4, 0.2


# animals ---------------------------------------------------------------------------------------------------


def _muzzle(pen: Pen, y: float, nose: Rgb) -> None:
    pen.poly([(0.46, y), (0.54, y), (0.5, y + 0.045)], nose)
    pen.arc(0.46, y + 0.05, 0.04, 0.035, (0, 180), BLACK, 0.012)
    pen.arc(0.54, y + 0.05, 0.04, 0.035, (0, 180), BLACK, 0.012)


def cat(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.ellipse(0.5, 0.98, 0.27, 0.3, darker(ink.main, 0.12))
    for s in (-1, 1):
        pen.poly([(0.5 + s * 0.27, 0.14), (0.5 + s * 0.29, 0.45), (0.5 + s * 0.05, 0.32)], ink.main)
        pen.poly([(0.5 + s * 0.24, 0.21), (0.5 + s * 0.25, 0.38), (0.5 + s * 0.12, 0.32)], (240, 160, 170))
    pen.ellipse(0.5, 0.52, 0.29, 0.25, ink.main)
    for s in (-1, 1):
        pen.ellipse(0.5 + s * 0.12, 0.48, 0.055, 0.065, (236, 220, 110))
        pen.ellipse(0.5 + s * 0.12, 0.48, 0.018, 0.058, BLACK)
        for k in (-1, 0, 1):
            pen.line([(0.5 + s * 0.13, 0.62), (0.5 + s * 0.36, 0.62 + 0.05 * k)], WHITE, 0.009)
    _muzzle(pen, 0.57, (230, 120, 140))
    for k in (-1, 0, 1):
        pen.line([(0.5 + k * 0.05, 0.28), (0.5 + k * 0.04, 0.36)], darker(ink.main, 0.4), 0.02)
    return 0.5, 0.29, 0.36


def bear(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.ellipse(0.5, 1.0, 0.34, 0.32, darker(ink.main, 0.12))
    pen.ellipse(0.5, 1.02, 0.2, 0.22, lighter(ink.main, 0.45))
    for s in (-1, 1):
        pen.circle(0.5 + s * 0.23, 0.27, 0.11, ink.main)
        pen.circle(0.5 + s * 0.23, 0.27, 0.06, lighter(ink.main, 0.4))
    pen.circle(0.5, 0.48, 0.29, ink.main)
    pen.ellipse(0.5, 0.6, 0.14, 0.11, lighter(ink.main, 0.55))
    pen.ellipse(0.5, 0.54, 0.05, 0.035, BLACK)
    pen.arc(0.5, 0.6, 0.06, 0.05, (20, 160), BLACK, 0.014)
    _eyes(pen, 0.5, 0.43, 0.12, 0.032)
    return 0.5, 0.2, 0.36


def rabbit(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for s in (-1, 1):
        pen.ellipse(0.5 + s * 0.12, 0.24, 0.075, 0.24, ink.main)
        pen.ellipse(0.5 + s * 0.12, 0.25, 0.035, 0.18, (244, 170, 184))
    pen.ellipse(0.5, 1.0, 0.26, 0.26, darker(ink.main, 0.12))
    pen.circle(0.5, 0.58, 0.235, ink.main)
    _eyes(pen, 0.5, 0.54, 0.1, 0.04)
    _muzzle(pen, 0.62, (240, 120, 150))
    pen.rect(0.465, 0.7, 0.535, 0.76, WHITE)
    return 0.5, 0.36, 0.3


def fish(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.poly([(0.68, 0.52), (0.96, 0.3), (0.9, 0.52), (0.96, 0.74)], darker(ink.main, 0.2))
    pen.poly([(0.36, 0.36), (0.5, 0.16), (0.64, 0.38)], ink.accent)
    pen.ellipse(0.44, 0.52, 0.34, 0.21, ink.main)
    for k in range(3):
        pen.arc(0.46 + 0.1 * k, 0.52, 0.06, 0.14, (-70, 70), lighter(ink.main, 0.45), 0.022)
    pen.circle(0.24, 0.47, 0.05, WHITE)
    pen.circle(0.23, 0.47, 0.026, BLACK)
    for k in range(3):
        pen.ring(0.08 + 0.05 * k, 0.3 - 0.1 * k, 0.03, 0.03, lighter(ink.second, 0.6), 0.01)
    return 0.4, 0.3, 0.26


def bird(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.line([(0.0, 0.9), (1.0, 0.84)], (104, 68, 44), 0.045)
    for x in (0.46, 0.54):
        pen.line([(x, 0.72), (x, 0.87)], (226, 140, 40), 0.02)
    pen.poly([(0.62, 0.6), (0.95, 0.72), (0.9, 0.84), (0.58, 0.72)], darker(ink.main, 0.3))
    pen.ellipse(0.5, 0.6, 0.22, 0.19, ink.main)
    pen.ellipse(0.44, 0.65, 0.12, 0.11, lighter(ink.main, 0.55))
    pen.circle(0.36, 0.36, 0.155, ink.main)
    pen.poly([(0.22, 0.34), (0.06, 0.39), (0.22, 0.43)], (240, 160, 40))
    pen.circle(0.32, 0.33, 0.035, WHITE)
    pen.circle(0.315, 0.33, 0.02, BLACK)
    pen.poly([(0.5, 0.52), (0.74, 0.54), (0.58, 0.72)], darker(ink.main, 0.25))
    return 0.36, 0.21, 0.22


def fox(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.ellipse(0.5, 1.02, 0.24, 0.28, darker(ink.main, 0.1))
    for s in (-1, 1):
        pen.poly([(0.5 + s * 0.32, 0.1), (0.5 + s * 0.34, 0.42), (0.5 + s * 0.08, 0.32)], ink.main)
        pen.poly([(0.5 + s * 0.29, 0.18), (0.5 + s * 0.29, 0.36), (0.5 + s * 0.16, 0.31)], BLACK)
    pen.poly([(0.18, 0.36), (0.5, 0.27), (0.82, 0.36), (0.78, 0.54), (0.5, 0.82), (0.22, 0.54)], ink.main)
    for s in (-1, 1):
        pen.poly([(0.5, 0.81), (0.5 + s * 0.31, 0.5), (0.5 + s * 0.1, 0.54), (0.5, 0.66)], WHITE)
    pen.circle(0.5, 0.78, 0.04, BLACK)
    _eyes(pen, 0.5, 0.46, 0.12, 0.032)
    return 0.5, 0.28, 0.32


# flowers ---------------------------------------------------------------------------------------------------


def _stem(pen: Pen, x: float, top: float) -> None:
    pen.line([(x, top), (x, 1.15)], GREEN, 0.035)
    for s in (-1, 1):
        y = 0.84 if s < 0 else 0.78
        pen.poly(
            [(x, y + 0.06), (x + s * 0.12, y - 0.06), (x + s * 0.24, y - 0.04), (x + s * 0.14, y + 0.05)],
            GREEN,
        )


def rose(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _stem(pen, 0.5, 0.5)
    pen.circle(0.5, 0.38, 0.25, darker(ink.main, 0.2))
    turn = float(rng.uniform(0, 6.28))
    for ring, r in ((0.17, 0.12), (0.09, 0.1)):
        for k in range(5):
            a = turn + k * 1.2566 + ring * 9
            pen.circle(
                0.5 + ring * math.cos(a), 0.38 + ring * math.sin(a), r, lighter(ink.main, 0.12 * (k % 3))
            )
    spiral = [
        (0.5 + 0.012 * t * math.cos(turn + t * 0.6), 0.38 + 0.012 * t * math.sin(turn + t * 0.6))
        for t in range(14)
    ]
    pen.line(spiral, darker(ink.main, 0.4), 0.018)
    return 0.5, 0.13, 0.3


def tulip(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    for x, y in ((0.24, 0.12), (0.76, 0.08), (0.5, -0.06)):
        y += float(rng.uniform(-0.03, 0.03))
        pen.line([(x, y + 0.45), (0.5, 1.15)], GREEN, 0.028)
        pen.poly([(x - 0.12, y + 0.22), (x - 0.06, y + 0.32), (x, y + 0.2), (x + 0.06, y + 0.32),
                  (x + 0.12, y + 0.22), (x + 0.11, y + 0.44), (x, y + 0.52),
                  (x - 0.11, y + 0.44)], ink.main)  # fmt: skip
        pen.poly(
            [(x, y + 0.2), (x + 0.05, y + 0.34), (x, y + 0.52), (x - 0.05, y + 0.34)], lighter(ink.main, 0.3)
        )
    return 0.5, 0.12, 0.2


def sunflower(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    _stem(pen, 0.5, 0.5)
    turn = float(rng.uniform(0, 0.4))
    for k in range(14):
        a = turn + k * math.tau / 14
        u, v = (math.cos(a), math.sin(a)), (-math.sin(a), math.cos(a))
        tip = (0.5 + 0.33 * u[0], 0.4 + 0.33 * u[1])
        sides = [(0.5 + 0.2 * u[0] + s * 0.06 * v[0], 0.4 + 0.2 * u[1] + s * 0.06 * v[1]) for s in (-1, 1)]
        pen.poly([(0.5, 0.4), sides[0], tip, sides[1]], ink.main if k % 2 else lighter(ink.main, 0.25))
    pen.circle(0.5, 0.4, 0.14, (92, 56, 34))
    pen.circle(0.5, 0.4, 0.08, (60, 36, 26))
    return 0.5, 0.08, 0.3


def bouquet(pen: Pen, ink: Ink, rng: np.random.Generator) -> Anchor:
    pen.poly([(0.2, 0.56), (0.8, 0.56), (0.58, 1.15), (0.42, 1.15)], lighter(ink.second, 0.4))
    pen.poly([(0.5, 0.6), (0.8, 0.56), (0.58, 1.15)], ink.second)
    for k in range(9):
        x = 0.5 + (k % 3 - 1) * 0.22 + float(rng.uniform(-0.04, 0.04))
        y = 0.22 + (k // 3) * 0.16 + float(rng.uniform(-0.03, 0.03))
        color = ink.accent if k % 4 == 3 else lighter(ink.main, 0.15 * (k % 3))
        for p in range(5):
            pen.circle(x + 0.06 * math.cos(p * 1.2566), y + 0.06 * math.sin(p * 1.2566), 0.055, color)
        pen.circle(x, y, 0.035, GOLD)
    return 0.5, 0.1, 0.3
