"""Embeddings with known properties, for the tests of the analysis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.summary import EmbeddingSummary


def unit(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Return n directions; `shift` moves them towards the first axis."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[:, 0] += shift
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def summarise(
    x: np.ndarray, codebook: Codebook | None = None, prefix: str = "", sample_size: int = 4096
) -> EmbeddingSummary:
    return EmbeddingSummary.from_embeddings(
        x, [f"{prefix}{i}" for i in range(len(x))], codebook, sample_size=sample_size
    )


def population(d: int, seed: int) -> Callable[[int, np.random.Generator], np.ndarray]:
    """Return a source to draw from: clusters about a common direction, as CLIP's embeddings lie."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** -0.4
    centres = rng.normal(size=(25, d)) * scale
    shares = rng.dirichlet(np.ones(25))
    common = np.zeros(d)
    common[0] = 1.5 * np.linalg.norm(scale)

    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        x = common + centres[rng.choice(25, n, p=shares)] + 0.7 * scale * rng.normal(size=(n, d))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    return draw
