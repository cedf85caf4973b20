"""Embeddings with known properties, for the tests of the analysis."""

from __future__ import annotations

import numpy as np

from benchmarks.coverage import population as population
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
