"""Measures of histograms: closed forms, laws, independent formulas, intervals that cover or say why not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from twigma_core.analysis import divergence
from twigma_core.analysis.distances import Interval
from twigma_core.analysis.histograms import _unbiased_kl, histogram_interval

histogram = st.lists(st.integers(0, 50), min_size=5, max_size=5).filter(any).map(np.array)


def test_kl_of_known_histograms() -> None:
    assert divergence.kl_divergence([0.5, 0.5], [0.9, 0.1], smoothing=0) == pytest.approx(0.510826, abs=1e-6)
    assert divergence.kl_divergence([1, 1], [1, 0], smoothing=0) == math.inf
    for n, expected in ((1_000, 7.56), (10_000, 9.90), (60_000, 11.69)):  # disjoint, ten cells
        p, q = n * np.eye(10)[:2]
        assert divergence.kl_divergence(p, q) == pytest.approx(expected, abs=6e-3)
    grid = np.linspace(-8, 9, 40)
    p, q = (np.diff(scipy.stats.norm(mean, 1).cdf(grid)) for mean in (0, 1))
    assert 0.45 < divergence.kl_divergence(p, q, smoothing=0) <= 0.5  # data processing


@settings(max_examples=150, deadline=None)
@given(histogram, histogram)
def test_histogram_measures_hold_their_laws(p: np.ndarray, q: np.ndarray) -> None:
    kl = divergence.kl_divergence(p, q)
    smoothed = (p + 0.5) / (p + 0.5).sum(), (q + 0.5) / (q + 0.5).sum()
    assert kl == pytest.approx(entropy(*smoothed), abs=1e-12)
    assert divergence.kl_divergence(p, p) == pytest.approx(0, abs=1e-12)
    js = divergence.js_divergence(p, q)
    assert js == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-9)
    assert js == pytest.approx(divergence.js_divergence(q, p))
    mauve = divergence.mauve_score(p, q)
    assert 0 <= mauve <= 1 and mauve == pytest.approx(divergence.mauve_score(q, p), abs=1e-9)
    assert divergence.mauve_score(p, p) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("gap", [0.3, 1.0, 3.0])
def test_mauve_is_the_area_under_a_curve_of_many_more_mixtures(gap: float) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(10))
    q = p * np.exp(gap * np.random.default_rng(1).normal(size=10))
    q /= q.sum()
    weights = np.linspace(0, 1, 5_001)[1:-1, None]
    mixtures = weights * p + (1 - weights) * q
    x = [1.0, *np.exp(-5 * entropy(q[None], mixtures, axis=1)), 0.0]
    y = [0.0, *np.exp(-5 * entropy(p[None], mixtures, axis=1)), 1.0]
    assert divergence.mauve_score(p, q) == pytest.approx(-np.trapezoid(y, x), abs=1e-3)


def test_mauve_falls_as_histograms_part() -> None:
    scores = [divergence.mauve_score([100 - k, k], [k, 100 - k]) for k in (50, 40, 25, 10, 0)]
    assert all(a > b for a, b in itertools.pairwise(scores))
    assert scores[0] == pytest.approx(1, abs=1e-3) and scores[-1] < 0.05


@pytest.mark.parametrize(
    ("p", "q", "smoothing", "said"),
    [
        ([1, 2], [1, 2, 3], 0.5, "same codebook"),
        ([0, 0], [1, 2], 0.5, "p is empty"),
        ([1, 2], [1, -2], 0.5, "q holds a value below 0"),
        ([1, 2], [1, math.nan], 0.5, "q holds a value below 0"),
        ([0.5, 0.5], [1, 2], 0.5, "p holds probabilities"),
        ([1, 2], [1, 2], -1, "smoothing=-1"),
    ],
)
def test_what_is_no_histogram_is_refused(p: list, q: list, smoothing: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        divergence.kl_divergence(np.array(p), np.array(q), smoothing)


# ---------------------------------------------------------------- intervals

EXACT = {
    "kl": lambda p, q: float(entropy(p, q)),
    "kl_reverse": lambda p, q: float(entropy(q, p)),
    "js": lambda p, q: float(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2),
    "mauve": lambda p, q: divergence.mauve_score(p, q),
}


def shares(k: int, gap: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two distributions over k cells whose log odds differ by about `gap`."""
    p = rng.dirichlet(np.full(k, 3.0))
    q = p * np.exp(gap * rng.normal(size=k))
    return p, q / q.sum()


def holds(interval: Interval, truth: float) -> bool:
    assert interval.low is not None and interval.high is not None
    return interval.low - 1e-4 <= truth <= interval.high + 1e-4


@pytest.mark.parametrize("measure", list(EXACT))
@pytest.mark.parametrize(("k", "n", "m"), [(4, 60, 60), (10, 100, 2000), (50, 500, 500)])
@pytest.mark.parametrize("gap", [0.0, 0.7])
def test_histogram_intervals_hold_the_divergence_of_the_sources(
    measure: str, k: int, n: int, m: int, gap: float
) -> None:
    """The truth is that of the shares, not of the counts: bias at few pictures must not carry it off."""
    rng = np.random.default_rng(k)
    hits, runs = 0, 80
    for seed in range(runs):
        p, q = shares(k, gap, rng)
        found = histogram_interval(measure, rng.multinomial(n, p), rng.multinomial(m, q), seed)
        hits += holds(found, EXACT[measure](p, q))
    assert hits >= 0.86 * runs, hits / runs


def test_the_centre_of_kl_intervals_has_no_bias_of_first_order() -> None:
    """Ends lie about Zhang and Grabchak's estimate, not about the plug-in, which is too high."""
    rng = np.random.default_rng(0)
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.25, 0.25, 0.25, 0.25])
    draws = [(rng.multinomial(40, p), rng.multinomial(40, q)) for _ in range(4000)]
    estimates = [_unbiased_kl(a.astype(float), b.astype(float)) for a, b in draws]
    plug_in = [divergence.kl_divergence(a, b) for a, b in draws]
    error = np.std(estimates) / math.sqrt(len(draws))
    assert abs(np.mean(estimates) - entropy(p, q)) < 3 * error < 0.006
    assert np.mean(plug_in) - entropy(p, q) > 0.03


def test_kl_is_open_above_where_the_second_source_was_never_seen() -> None:
    p, q = np.array([40, 40, 20, 0]), np.array([50, 50, 0, 0])
    found = histogram_interval("kl", p, q)
    assert found.high == math.inf and found.low is not None and 0 < found.low < found.value  # type: ignore[operator]
    assert found.reason == "no upper end: cells without any picture of the second hold 20% of the first"
    back = histogram_interval("kl_reverse", q, p)
    assert back == found, "the same pair turned round"
    assert math.isfinite(histogram_interval("kl", q, p).high or math.inf)
    assert histogram_interval("js", p, q).reason is None


def test_fewer_pictures_than_cells_keep_the_value_and_say_why_there_is_no_interval() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.multinomial(30, np.full(50, 0.02)), rng.multinomial(900, np.full(50, 0.02))
    for measure in EXACT:
        found = histogram_interval(measure, p, q)
        assert found.value is not None and found.low is found.high is None
        assert found.reason == "an interval needs 400 pictures of each, 8 a cell, here 30"
    empty = histogram_interval("kl", np.zeros(4), np.ones(4))
    assert empty.value is None and empty.reason == "no picture in one of the two"


def test_intervals_of_equal_counts_reach_no_difference() -> None:
    counts = np.array([60, 30, 10])
    for measure, alike in (("kl", 0.0), ("js", 0.0), ("mauve", 1.0)):
        found = histogram_interval(measure, counts, counts)
        assert holds(found, alike) and found.high - found.low > 1e-3, "pictures are few"  # type: ignore[operator]


@settings(max_examples=100, deadline=None)
@given(histogram, histogram, st.sampled_from(list(EXACT)), st.integers(1, 40))
def test_an_interval_holds_its_value_whatever_the_counts(
    p: np.ndarray, q: np.ndarray, measure: str, times: int
) -> None:
    found = histogram_interval(measure, p * times, q * times)
    assert found.value is not None and math.isfinite(found.value)
    if found.low is None:
        assert found.reason
    else:
        assert 0 <= found.low <= found.value <= found.high  # type: ignore[operator]
