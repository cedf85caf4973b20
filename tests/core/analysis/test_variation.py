"""The variation metrics of arrays and counts: closed forms, and independent computations of the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist
from scipy.stats import entropy, t
from sklearn.metrics import pairwise_distances

from tests.core.analysis.made import unit
from twigma_core.analysis import variation
from twigma_core.analysis.distances import distance_histogram, mean_distance_interval, row_mean_distances

# ---------------------------------------------------------------- closed forms


def test_mean_pairwise_distance_of_known_shapes() -> None:
    assert variation.mean_pairwise_distance(np.eye(7)) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert variation.mean_pairwise_distance(np.array([[0.6, 0.8], [-0.6, -0.8]])) == pytest.approx(2)
    assert variation.mean_pairwise_distance(np.array([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx(5)
    d = 64
    expected = 2 ** (d - 1) * math.gamma(d / 2) ** 2 / (math.sqrt(math.pi) * math.gamma(d - 0.5))
    assert expected == pytest.approx(1.41141, abs=1e-5)
    assert variation.mean_pairwise_distance(unit(3000, d, 0)) == pytest.approx(expected, abs=2e-3)


def test_inverse_explained_variance_of_known_spectra() -> None:
    assert variation.inverse_explained_variance(np.eye(9)) == pytest.approx(9)
    assert variation.inverse_explained_variance(np.outer([1, 2, 3], [1, 1])) == pytest.approx(1)
    assert variation.inverse_explained_variance(np.diag(0.5 ** np.arange(7))) == pytest.approx(1.984375)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (2500, 30)])
@pytest.mark.parametrize("centred", [False, True])
def test_inverse_explained_variance_agrees_with_svd(shape: tuple[int, int], centred: bool) -> None:
    x = unit(*shape, seed=3, shift=1)
    sigma = np.linalg.svd(x - centred * x.mean(axis=0), compute_uv=False)
    assert variation.inverse_explained_variance(x, centred) == pytest.approx(sigma.sum() / sigma[0], rel=1e-6)


def test_product_of_marginal_variances_of_known_shapes() -> None:
    d = 6
    axes = np.concatenate([np.eye(d), -np.eye(d)])
    assert variation.product_of_marginal_variances(axes) == pytest.approx(math.sqrt(2 / (2 * d - 1)))
    x = unit(100, 768, 1)
    assert variation.product_of_marginal_variances(x) > 0.03  # where the product itself is 0 in float64
    assert variation.product_of_marginal_variances(5 * x) == pytest.approx(
        5 * variation.product_of_marginal_variances(x)
    )
    x[:, 3] = 0.25
    assert variation.product_of_marginal_variances(x) == 0


def test_vendi_score_of_its_authors_examples() -> None:
    """The README of vendi-score: three samples apart, and three of which two are alike at 0.9."""
    assert variation.vendi_score(np.eye(3)) == pytest.approx(3)
    kernel = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert variation.vendi_score(np.linalg.cholesky(kernel)) == pytest.approx(2.1573, abs=1e-4)
    far = np.eye(3) + 1e-2 * (1 - np.eye(3))
    assert variation.vendi_score(np.linalg.cholesky(far)) == pytest.approx(2.9999, abs=3e-4)
    assert variation.vendi_score(np.repeat(unit(1, 5, 0), 9, axis=0)) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (300, 30)])
def test_vendi_score_agrees_with_its_authors_code(shape: tuple[int, int]) -> None:
    from vendi_score import vendi

    x = unit(*shape, seed=3, shift=1)
    assert variation.vendi_score(x) == pytest.approx(vendi.score_dual(x, normalize=True), rel=1e-6)
    assert variation.vendi_score(x) == pytest.approx(vendi.score_X(x), rel=1e-6)


def test_entropy_of_known_histograms() -> None:
    assert variation.quantized_entropy(np.full(10, 7)) == pytest.approx(math.log(10))
    assert variation.quantized_entropy(np.array([0.5, 0.5, 0])) == pytest.approx(math.log(2))
    assert variation.quantized_entropy(np.array([0, 5, 0])) == 0
    counts = np.random.default_rng(0).integers(0, 30, size=50)
    assert variation.quantized_entropy(counts) == pytest.approx(entropy(counts))
    for bad in ([0, 0], [1, -1], [1, math.nan]):
        with pytest.raises(ValueError):
            variation.quantized_entropy(np.array(bad))


def test_corrected_entropy_is_nearer_where_cells_are_sparse() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(500, 5.0))
    truth = variation.quantized_entropy(p)
    draws = rng.multinomial(500, p, size=50)
    plug_in = np.mean([variation.quantized_entropy(c) for c in draws]) - truth
    corrected = np.mean([variation.corrected_entropy(c) for c in draws]) - truth
    assert plug_in < -0.5 and abs(corrected) < 0.1


def test_expected_entropy_is_the_mean_over_draws() -> None:
    rng = np.random.default_rng(1)
    counts = np.array([400, 150, 40, 9, 1, 0])
    draws = rng.multivariate_hypergeometric(counts, 30, size=20_000)
    simulated = np.mean([variation.quantized_entropy(c) for c in draws])
    assert variation.expected_entropy(counts, 30) == pytest.approx(simulated, abs=3e-3)
    assert variation.expected_entropy(counts, 600) == pytest.approx(variation.quantized_entropy(counts))
    assert variation.expected_entropy(counts, 1) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="601 of 600"):
        variation.expected_entropy(counts, 601)


# ---------------------------------------------------------------- distances


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 1000), st.sampled_from([1e-3, 1.0, 1e3]))
def test_distances_agree_with_scipy(n: int, d: int, seed: int, size: float) -> None:
    x = np.random.default_rng(seed).normal(size=(n, d)) * size
    assert variation.mean_pairwise_distance(x) == pytest.approx(pdist(x).mean(), rel=1e-7)
    direct = pairwise_distances(x).sum() / (n * (n - 1))
    assert variation.mean_pairwise_distance(x) == pytest.approx(direct, rel=1e-6)


def test_distances_over_several_blocks_agree_with_scipy() -> None:
    x = unit(2500, 16, 0).astype(np.float32)
    exact = pdist(x.astype(np.float64))
    assert variation.mean_pairwise_distance(x) == pytest.approx(exact.mean(), rel=1e-9)
    edges = np.linspace(0, 2, 41)
    np.testing.assert_allclose(distance_histogram(x, edges), np.histogram(exact, edges)[0], atol=2)
    assert distance_histogram(x, edges).sum() == len(exact)


def test_identical_rows_are_at_no_distance() -> None:
    x = np.repeat(unit(1, 512, 0).astype(np.float32), 1500, axis=0)
    assert row_mean_distances(x).max() < 1e-12
    with pytest.raises(ValueError, match="at least 2 rows"):
        variation.mean_pairwise_distance(x[:1])
    x[7, 3] = np.nan
    with pytest.raises(ValueError, match="row 7 "):
        variation.mean_pairwise_distance(x)


def test_many_rows_agree_with_scipy_near_copies_and_all() -> None:
    """Beyond 4,096 rows products are in float32; near copies and copies must not suffer."""
    x = unit(4_500, 24, 0, shift=1)
    x[100:110] = x[0:10]
    x[200:210] = x[0:10] + 1e-6
    means = row_mean_distances(x)
    exact = cdist(x, x)
    np.testing.assert_allclose(means, exact.sum(axis=1) / (len(x) - 1), rtol=1e-6)
    assert means.mean() == pytest.approx(exact.sum() / (len(x) * (len(x) - 1)), rel=1e-7)
    nearest = np.array([0, 1e-8, 1e-5, 3])
    counts = np.histogram(pdist(x), nearest)[0]
    first = distance_histogram(x, np.linspace(0, 2.4, 240_001))[0]  # up to 1e-5
    assert first == counts[0] + counts[1] == 30


def test_two_points_many_times_over() -> None:
    """Half of all pairs are copies: their blocks are computed again as a whole."""
    a, b = unit(2, 16, 0)
    x = np.concatenate([np.repeat(a[None], 2_500, axis=0), np.repeat(b[None], 2_500, axis=0)])
    expected = np.linalg.norm(a - b) * 2_500 / 4_999
    np.testing.assert_allclose(row_mean_distances(x.astype(np.float32)), expected, rtol=1e-6)


@pytest.mark.parametrize("n", [3, 12])
def test_the_interval_of_the_mean_distance_is_the_jackknifes(n: int) -> None:
    x = unit(n, 4, n)
    without = np.array([pdist(np.delete(x, row, axis=0)).mean() for row in range(n)])
    error = math.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    found, half = mean_distance_interval(x), t.ppf(0.975, n - 1) * error
    assert found.value == pytest.approx(pdist(x).mean())
    assert found.high == pytest.approx(pdist(x).mean() + half)
    assert found.low == pytest.approx(max(0.0, pdist(x).mean() - half))


def test_pairs_that_share_rows_are_not_counted_as_independent() -> None:
    x = unit(400, 8, 0, shift=3)
    interval = mean_distance_interval(x)
    assert interval.low is not None and interval.high is not None
    naive = 2 * 1.96 * pdist(x).std() / math.sqrt(400 * 399 / 2)
    assert interval.high - interval.low > 5 * naive
