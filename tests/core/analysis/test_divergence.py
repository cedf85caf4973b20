"""Divergence: closed forms, invariants, independent formulas, intervals, and the two tables."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from twigma_core.analysis import divergence
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.summary import EmbeddingSummary

histogram = st.lists(st.integers(0, 50), min_size=5, max_size=5).filter(any).map(np.array)


def unit(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[:, 0] += shift
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def summarise(x: np.ndarray, codebook: Codebook | None = None) -> EmbeddingSummary:
    return EmbeddingSummary.from_embeddings(x, [str(i) for i in range(len(x))], codebook)


# ---------------------------------------------------------------- histograms


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


@pytest.mark.parametrize("measure", ["kl", "js", "mauve"])
def test_histogram_intervals_cover(measure: str) -> None:
    rng = np.random.default_rng(0)
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    functional = divergence._HISTOGRAMS[measure][0]
    hits = alike = 0
    for seed in range(50):
        first = divergence.histogram_interval(measure, rng.multinomial(400, p), rng.multinomial(400, q), seed)
        same = divergence.histogram_interval(measure, rng.multinomial(400, p), rng.multinomial(400, p), seed)
        assert first.low is not None and first.high is not None
        assert same.low is not None and same.high is not None
        hits += first.low <= float(functional(p, q)) <= first.high
        alike += same.low - 1e-9 <= float(functional(p, p)) <= same.high + 1e-9
        assert first.high - first.low < 0.5
    assert hits >= 43 and alike >= 46


# ---------------------------------------------------------------- embeddings


def test_frechet_of_known_moments() -> None:
    one, zero = np.eye(8), np.zeros(8)
    assert divergence.frechet_distance(zero, one, zero + 1, one) == pytest.approx(8)
    assert divergence.frechet_distance(zero, one, zero, 4 * one) == pytest.approx(8)
    assert divergence.frechet_distance(zero, one, zero, 0 * one) == pytest.approx(8)  # singular
    with pytest.raises(ValueError, match="do not fit"):
        divergence.frechet_distance(zero, one, np.zeros(7), np.eye(7))
    with pytest.raises(ValueError, match="two summaries, or"):
        divergence.frechet_distance(zero, one)


def test_frechet_agrees_with_the_matrix_root() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 20)), rng.normal(size=(200, 20)) + 0.3
    c1, c2 = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(c1 + c2 - 2 * root)
    assert divergence.frechet_distance(summarise(x), summarise(y)) == pytest.approx(expected, rel=1e-8)
    few = summarise(y[:9])  # fewer pictures than dimensions: a singular covariance
    assert divergence.frechet_distance(few, few) == pytest.approx(0, abs=1e-8)
    assert divergence.frechet_distance(summarise(x), few) > expected


def test_kernel_distance_agrees_with_its_definition() -> None:
    x, y = unit(12, 5, 0), unit(9, 5, 1, shift=1)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 5 + 1) ** 3

    expected = (
        np.mean([k(a, b) for a, b in itertools.permutations(x, 2)])
        + np.mean([k(a, b) for a, b in itertools.permutations(y, 2)])
        - 2 * np.mean([k(a, b) for a in x for b in y])
    )
    assert divergence.kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="two rows or more"):
        divergence.kernel_distance(x[:1], y)


def test_kernel_distance_is_unbiased_and_its_interval_covers() -> None:
    values, hits = [], 0
    truth = divergence.kernel_distance(unit(2000, 6, 1), unit(2000, 6, 2, shift=0.7), gamma=1.0)
    alike = 0
    for seed in range(60):
        x, y = summarise(unit(60, 6, 1000 + seed)), summarise(unit(60, 6, 2000 + seed, shift=0.7))
        z = summarise(unit(60, 6, 3000 + seed))
        far, near = divergence.kernel_interval(x, y), divergence.kernel_interval(x, z)
        assert far.low is not None and far.high is not None and near.low is not None and near.high is not None
        assert near.value is not None
        values.append(near.value)
        hits += far.low <= truth <= far.high
        alike += near.low <= 0 <= near.high
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
    assert hits >= 52 and alike >= 52


def test_frechet_interval_has_the_width_of_the_sampling_variation() -> None:
    found = [
        divergence.frechet_interval(summarise(unit(200, 6, s)), summarise(unit(200, 6, 500 + s, shift=1)))
        for s in range(60)
    ]
    values = np.array([interval.value for interval in found], dtype=float)
    widths = np.array([interval.high for interval in found], dtype=float)
    widths -= np.array([interval.low for interval in found], dtype=float)
    assert 0.75 < widths.mean() / (2 * 1.96 * values.std()) < 1.4


# ---------------------------------------------------------------- tables


def world(codebook: Codebook) -> dict[str, EmbeddingSummary]:
    return {
        "twigma": summarise(unit(400, 8, 0, shift=1), codebook),
        "diffusiondb": summarise(unit(300, 8, 1, shift=1.2), codebook),
        "laion": summarise(unit(500, 8, 2, shift=-1), codebook),
    }


CODEBOOK = Codebook.from_centroids({4: unit(4, 8, 5), 10: unit(10, 8, 6)})


def test_divergence_matrix_orders_the_sources() -> None:
    frame = divergence.divergence_table(world(CODEBOOK))
    names = {"kl", "kl_4", "js", "js_4", "mauve", "mauve_4", "frechet", "kernel"}
    assert set(frame["measure"]) == names and frame.height == 6 * len(names)
    assert frame.filter(measure="kl").select(pl.col("cells").unique()).item() == 10
    assert frame.filter(measure="kl")["smoothing"].unique().to_list() == [0.5]
    got = {(r["source_p"], r["source_q"], r["measure"]): r for r in frame.iter_rows(named=True)}
    for name in names - {"mauve", "mauve_4"}:
        near, far = got["twigma", "diffusiondb", name], got["twigma", "laion", name]
        assert near["high"] < far["low"], name
    assert got["twigma", "diffusiondb", "mauve"]["low"] > got["twigma", "laion", "mauve"]["high"]
    assert got["twigma", "laion", "frechet"]["value"] == got["laion", "twigma", "frechet"]["value"]
    assert got["twigma", "laion", "kl"]["value"] != got["laion", "twigma", "kl"]["value"]
    only = divergence.divergence_matrix(world(CODEBOOK), measure="js")
    assert set(only["measure"]) == {"js", "js_4"}


def test_month_divergences_go_both_ways() -> None:
    sources = world(CODEBOOK)
    references = {"diffusiondb": sources["diffusiondb"], "laion": sources["laion"]}
    frame = divergence.month_divergences("2022-08", sources["twigma"], references)
    matrix = divergence.divergence_matrix(sources, "kl")
    for corpus in references:
        here = frame.filter(corpus=corpus)
        there = matrix.filter(source_p="twigma", source_q=corpus, measure="kl")["value"].item()
        back = matrix.filter(source_p=corpus, source_q="twigma", measure="kl")["value"].item()
        assert here.filter(measure="kl")["value"].item() == there
        assert here.filter(measure="kl_reverse")["value"].item() == back
        assert here["n_month"].unique().to_list() == [400]
    assert divergence.month_divergences("2022-08", sources["twigma"], {}).is_empty()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_month_of_few_pictures_has_rows(n: int) -> None:
    frame = divergence.month_divergences("2021-01", summarise(unit(n, 8, 0), CODEBOOK), world(CODEBOOK))
    assert frame.height == 3 * 10
    histograms, moments = (frame.filter(pl.col("cells").is_null() == flag) for flag in (False, True))
    assert histograms["value"].count() == (0 if n == 0 else histograms.height)
    assert moments["value"].count() == (0 if n < 2 else moments.height)


def test_summaries_that_do_not_compare_are_refused_by_name() -> None:
    x = unit(30, 8, 0)
    other = Codebook.from_centroids({4: unit(4, 8, 7)})
    with pytest.raises(ValueError, match="twigma and laion are summarised with codebooks"):
        divergence.divergence_matrix({"twigma": summarise(x, CODEBOOK), "laion": summarise(x, other)})
    with pytest.raises(ValueError, match="codebooks none and none"):
        divergence.divergence_matrix({"twigma": summarise(x), "laion": summarise(x)})
    with pytest.raises(ValueError, match=r"differ in width \(8, 5\)"):
        divergence.divergence_matrix({"twigma": summarise(x), "laion": summarise(x[:, :5])}, "kernel")
    with pytest.raises(ValueError, match="no measure named 'klx'"):
        divergence.divergence_matrix({"twigma": summarise(x), "laion": summarise(x)}, "klx")
