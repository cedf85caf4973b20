"""Fixtures of the sample world's tests: the shipped world, and a second one that needs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from twigma_core.sample.building import build
from twigma_core.sample.world import World, load


def rough_likeness(pictures: Sequence[Mapping[str, Any]], art: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Stand-in for CLIP where only the plan's structure is tested: shared palettes, and the jitter."""
    palettes = [row["palette"] for row in art]
    return np.array([palettes.count(row["palette"]) + row["jitter"] / 2**31 for row in pictures])


@pytest.fixture(scope="session")
def world() -> World:
    """The world that ships with the project."""
    return load()


@pytest.fixture(scope="session")
def built() -> World:
    """A world built anew."""
    return build(7, rough_likeness)
