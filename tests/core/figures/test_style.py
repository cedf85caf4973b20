"""Colours that colour-blind readers can tell apart, and text that can be read on them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from twigma_core.figures import figure_1c
from twigma_core.figures.figure_2c import RAMP
from twigma_core.figures.style import (
    INK,
    MUTED,
    SOURCE_COLOURS,
    TREND_COLOURS,
    colour,
    ink_on,
)
from twigma_core.tables import CORPORA, TEXT_SOURCES

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SEEN_BY = {
    "all": np.eye(3),
    "protanopes": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopes": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopes": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TOLD_APART = {
    "sources": [colour(source) for source in ("twigma", *CORPORA)],
    "trends": [TREND_COLOURS[trend] for trend in ("rising", "falling", "steady")],
    "words": list(figure_1c.KINDS.values()),
    "texts": [colour("prompts"), colour("captions")],
}
FAR = 25  # CIELAB; a just noticeable difference is about 2.3


def linear(shade: object) -> np.ndarray:
    """Return linear RGB."""
    rgb: np.ndarray = np.array(to_rgb(shade))  # type: ignore[arg-type]
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """Return CIELAB (D65) of linear RGB."""
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.072175],
            [0.0193339, 0.119192, 0.9503041],
        ]
    )
    xyz = to_xyz @ light / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def seen(shade: object, by: str) -> np.ndarray:
    """Return the CIELAB colour that a shade is to these readers."""
    return lab(np.clip(SEEN_BY[by] @ linear(shade), 0, 1))


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast ratio."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    dark, light = sorted(float(weights @ linear(shade)) for shade in (one, other))
    return (light + 0.05) / (dark + 0.05)


def test_the_simulation_is_the_published_one() -> None:
    assert np.allclose(lab(np.ones(3)), [100, 0, 0], atol=0.02)
    assert np.allclose(lab(linear("#ff0000")), [53.24, 80.09, 67.2], atol=0.05)
    grey = linear("#808080")
    assert all(np.allclose(matrix @ grey, grey, atol=1e-5) for matrix in SEEN_BY.values())
    assert np.linalg.norm(seen("#ff0000", "deuteranopes") - seen("#6e6e00", "deuteranopes")) < 25
    assert np.linalg.norm(seen("#ff0000", "all") - seen("#6e6e00", "all")) > 60


@pytest.mark.parametrize("by", SEEN_BY)
@pytest.mark.parametrize("kind", TOLD_APART)
def test_colours_that_tell_things_apart_do_so_for_all_readers(kind: str, by: str) -> None:
    shades = [seen(shade, by) for shade in TOLD_APART[kind]]
    assert min(np.linalg.norm(a - b) for a, b in combinations(shades, 2)) >= FAR


@pytest.mark.parametrize("by", SEEN_BY)
def test_ramps_are_ordered_by_lightness_for_all_readers(by: str) -> None:
    viridis = colormaps["viridis"]
    for ramp in ([viridis(x) for x in np.linspace(0, 1, 12)], RAMP[::-1]):
        steps = np.diff([seen(shade, by)[0] for shade in ramp])
        assert (steps > 3).all()


def test_text_is_read_on_what_it_stands_on() -> None:
    for shade in {INK, MUTED, *TREND_COLOURS.values()}:
        assert contrast(shade, "#ffffff") >= 4.5, shade
    for shade in {*SOURCE_COLOURS.values(), *RAMP}:
        assert contrast(ink_on(shade), shade) >= 4.5, shade
    assert set(TEXT_SOURCES) - {"prompts"} == {s for s in TEXT_SOURCES if colour(s) == colour("captions")}
