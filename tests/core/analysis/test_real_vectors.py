"""Real CLIP vectors (ViT-B/32 of museum works) through every metric, beside plain NumPy and SciPy.

Two collections: 80 works of all kinds from the Met, and 16 portraits.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist, jensenshannon, pdist
from scipy.stats import entropy

from tests.core.analysis.made import summarise
from twigma_core.analysis.codebook import Codebook, fit_codebook
from twigma_core.analysis.divergence import MEASURES, SIMILARITIES, divergence_matrix
from twigma_core.analysis.intervals import equal_n_intervals, metric_intervals
from twigma_core.analysis.summary import EmbeddingSummary

CELLS = 4


@pytest.fixture(scope="module")
def vectors(shared_data: Path) -> dict[str, np.ndarray]:
    folders = {name: shared_data / "pictures" / "art" / f"museum_{name}" for name in ("met", "local")}
    found = {
        name: np.load(next(folder.rglob("embeddings.npy"))).astype(np.float64)
        for name, folder in folders.items()
    }
    assert {name: x.shape for name, x in found.items()} == {"met": (80, 512), "local": (16, 512)}
    return found


@pytest.fixture(scope="module")
def codebook(vectors: dict[str, np.ndarray]) -> Codebook:
    return fit_codebook(vectors, (CELLS,))[0]


@pytest.fixture(scope="module")
def summaries(vectors: dict[str, np.ndarray], codebook: Codebook) -> Mapping[str, EmbeddingSummary]:
    """Both collections, and the Met's in two halves, odd and even rows."""
    parts = {**vectors, "even": vectors["met"][::2], "odd": vectors["met"][1::2]}
    return {name: summarise(x, codebook, name) for name, x in parts.items()}


def histogram(x: np.ndarray, codebook: Codebook) -> np.ndarray:
    return np.bincount(cdist(x, codebook.centroids[CELLS]).argmin(axis=1), minlength=CELLS)


@pytest.mark.parametrize("name", ["met", "local"])
def test_variation_equals_a_plain_computation(
    name: str, vectors: dict[str, np.ndarray], codebook: Codebook, summaries: Mapping[str, EmbeddingSummary]
) -> None:
    x, found = vectors[name], metric_intervals(summaries[name])
    sigma = np.linalg.svd(x, compute_uv=False)
    p = sigma**2 / (sigma**2).sum()
    expected = {
        "mean_pairwise_distance": pdist(x).mean(),
        "inverse_explained_variance": sigma.sum() / sigma[0],
        "product_of_marginal_variances": np.exp(np.log(x.std(axis=0, ddof=1)).mean()),
        "vendi_score": np.exp(entropy(p)),
        "quantized_entropy": entropy(histogram(x, codebook)),
    }
    for metric, value in expected.items():
        interval = found[metric][0]
        assert interval.value == pytest.approx(value, rel=1e-6), metric
        assert interval.low < interval.value < interval.high, metric  # type: ignore[operator]
    assert found["mean_pairwise_distance"][0].high < 1.2, "random directions are at 1.41"  # type: ignore[operator]


def test_works_of_all_kinds_are_more_variable_than_portraits(
    summaries: Mapping[str, EmbeddingSummary],
) -> None:
    pair = {name: summaries[name] for name in ("met", "local")}
    equal = equal_n_intervals(pair)
    for metric in ("inverse_explained_variance", "product_of_marginal_variances", "vendi_score"):
        met, local = (equal[name][metric] for name in ("met", "local"))
        assert met[1] == local[1] == 16
        assert met[0].low > local[0].high, metric  # type: ignore[operator]
    met, local = (metric_intervals(pair[name])["mean_pairwise_distance"] for name in ("met", "local"))
    assert met[0].low > local[0].high  # type: ignore[operator]


def test_divergence_equals_a_plain_computation(
    vectors: dict[str, np.ndarray], codebook: Codebook, summaries: Mapping[str, EmbeddingSummary]
) -> None:
    pair = {name: summaries[name] for name in ("met", "local")}
    frame = divergence_matrix(pair, MEASURES).filter(source_p="met")
    found = dict(frame.select("measure", "value").iter_rows())
    x, y = vectors["met"], vectors["local"]
    p, q = histogram(x, codebook), histogram(y, codebook)
    smoothed = p + 0.5, q + 0.5
    c, d = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c @ d + 1e-12 * np.eye(512)).real
    xx, yy, xy = ((a @ b.T + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    gaps = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    near = np.sort(cdist(x[:16], x[:16]), axis=1)[:, 5]
    inside = cdist(summaries["met"].sample[:16], summaries["local"].sample)
    expected = {
        f"kl_{CELLS}": entropy(*smoothed),
        f"kl_reverse_{CELLS}": entropy(*reversed(smoothed)),
        f"js_{CELLS}": jensenshannon(p, q) ** 2,
        "frechet": np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.trace(c + d - 2 * root),
        "kernel": sum(gaps) - 2 * xy.mean(),
    }
    for measure, value in expected.items():
        assert found[measure] == pytest.approx(value, rel=2e-3 if measure == "frechet" else 1e-6), measure
    sample = summaries["met"].sample[:16].astype(np.float64)
    near = np.sort(cdist(sample, sample), axis=1)[:, 5]
    assert found["precision"] == pytest.approx((inside < near[:, None]).any(axis=0).mean())
    assert found["coverage"] == pytest.approx((inside < near[:, None]).any(axis=1).mean())


def test_two_halves_of_a_collection_are_nearer_than_two_collections(
    summaries: Mapping[str, EmbeddingSummary],
) -> None:
    """By every measure of distance; each value is finite, and what has no interval says why.

    Precision and density are of another kind: portraits lie among works of all kinds, not the other way
    round.
    """
    three = {name: summaries[name] for name in ("even", "odd", "local")}
    frame = divergence_matrix(three, MEASURES)
    rows = {(r["source_p"], r["source_q"], r["measure"]): r for r in frame.iter_rows(named=True)}
    for measure in frame["measure"].unique():
        if measure == "frechet_corrected":
            continue
        sign = -1 if measure.removesuffix(f"_{CELLS}") in SIMILARITIES else 1
        value = {(p, q): sign * rows[p, q, measure]["value"] for p, q in itertools.permutations(three, 2)}
        assert all(np.isfinite(list(value.values())))
        for half, other in (("even", "odd"), ("odd", "even")):
            if measure not in ("precision", "density"):
                assert value[half, other] < value[half, "local"], measure
    silent = frame.filter(pl.col("low").is_null(), pl.col("reason").is_null())
    assert silent.is_empty()
    withheld = frame.filter(measure="frechet_corrected")
    assert withheld["value"].null_count() == 6 and "2 a dimension" in withheld["reason"][0]
