"""Intervals of the variation metrics: they cover what they say, at few pictures too, or are withheld."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.core.analysis.made import population, summarise, unit
from twigma_core.analysis import intervals, variation
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.distances import Interval

MOMENTS = intervals.MOMENT_METRICS
ALL = [
    "mean_pairwise_distance",
    *(f"{name}{end}" for name in MOMENTS for end in ("", "_corrected")),
    "quantized_entropy",
    "quantized_entropy_corrected",
]


def holds(interval: Interval, truth: float) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high


@pytest.mark.parametrize("n", [20, 150])
def test_intervals_hold_what_so_many_pictures_give(n: int) -> None:
    """Nominal 95 % over 150 draws, of fewer and of more pictures than dimensions."""
    draw, rng = population(48, 1), np.random.default_rng(2)
    found = [intervals.metric_intervals(summarise(draw(n, rng))) for _ in range(150)]
    for name in ("mean_pairwise_distance", *MOMENTS):
        values = np.array([row[name][0].value for row in found])
        covered = np.mean([holds(row[name][0], values.mean()) for row in found])
        widths = np.array([row[name][0].high - row[name][0].low for row in found])  # type: ignore[operator]
        assert covered >= 0.89, (name, covered)
        assert np.median(widths) < 5.5 * values.std(), (name, "not by being wide")


def test_corrected_intervals_hold_the_value_of_the_source() -> None:
    draw, rng = population(16, 1), np.random.default_rng(3)
    big = summarise(draw(60_000, rng))
    truth = dict(
        zip(
            MOMENTS,
            (big.inverse_explained_variance(), big.product_of_marginal_variances(), big.vendi_score()),
            strict=True,
        )
    )
    found = [intervals.metric_intervals(summarise(draw(64, rng))) for _ in range(400)]
    for name, value in truth.items():
        assert value is not None
        corrected = np.mean([holds(row[f"{name}_corrected"][0], value) for row in found])
        assert corrected >= 0.88, (name, corrected)
        plain, left = (
            np.mean(np.log([row[key][0].value for row in found])) - np.log(value)  # type: ignore[arg-type]
            for key in (name, f"{name}_corrected")
        )
        assert plain < -0.01 and abs(left) < 0.4 * abs(plain), (name, "most of the bias is gone")


def test_what_n_cannot_tell_is_withheld_with_the_reason() -> None:
    found = intervals.metric_intervals(summarise(unit(100, 60, 0)))
    withheld = found["inverse_explained_variance_corrected"][0]
    assert withheld.value is withheld.low is withheld.high is None
    assert withheld.reason == "needs 240 pictures, 4 a dimension, here 100; compare sources at equal n"
    assert found["vendi_score_corrected"][0].value is not None
    assert found["inverse_explained_variance"][0].low is not None
    assert list(found) == ALL
    enough = intervals.metric_intervals(summarise(unit(240, 60, 0)))
    assert enough["inverse_explained_variance_corrected"][0].value is not None


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_pictures_have_no_interval_and_say_so(n: int) -> None:
    codebook = Codebook.from_centroids({4: unit(4, 6, 8)})
    found = intervals.metric_intervals(summarise(unit(n, 6, 0), codebook))
    assert list(found) == ALL
    for name, (interval, _) in found.items():
        assert interval.low is interval.high is None and interval.reason, name


def test_pictures_without_variation_say_so() -> None:
    same = intervals.metric_intervals(summarise(np.repeat(unit(1, 12, 0), 50, axis=0)))
    assert same["mean_pairwise_distance"][0].value == pytest.approx(0, abs=1e-12)
    for name in ("inverse_explained_variance", "vendi_score"):
        assert same[name][0].value == pytest.approx(1, abs=1e-6)
        assert same[name][0].high == pytest.approx(1, abs=1e-6)
    product = same["product_of_marginal_variances"][0]
    assert product.value == 0 and product.low is None and product.reason == "a dimension does not vary"
    x = np.repeat(unit(1, 4, 0), 20, axis=0)
    x[3] = unit(1, 4, 1)
    lone = intervals.metric_intervals(summarise(x))["product_of_marginal_variances"][0]
    assert lone.value and lone.low is None and lone.reason == "a dimension varies in one picture only"


def test_one_picture_that_outweighs_all_is_no_crash() -> None:
    x = unit(30, 5, 0)
    x[4] *= 1e8
    found = intervals.metric_intervals(summarise(x))
    assert found["vendi_score"][0].value == pytest.approx(1)
    assert "outweighs all others" in str(found["vendi_score"][0].reason)


def test_a_sample_stands_for_all_pictures() -> None:
    """Values are exact for all; intervals and the bias come from a sixth of them."""
    x = population(24, 1)(6000, np.random.default_rng(0))
    whole = intervals.metric_intervals(summarise(x, sample_size=6000))
    part = intervals.metric_intervals(summarise(x, sample_size=1000))
    for name in MOMENTS:
        a, b = whole[name][0], part[name][0]
        assert b.value == pytest.approx(a.value, rel=1e-9)
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.15)  # type: ignore[operator]
        taken = [(found[f"{name}_corrected"][0].value or 0) - (a.value or 0) for found in (whole, part)]
        assert taken[1] == pytest.approx(taken[0], rel=0.2), name
    assert (whole["mean_pairwise_distance"][1], part["mean_pairwise_distance"][1]) == (6000, 1000)


def test_equal_n_takes_the_mean_over_disjoint_subsamples() -> None:
    draw, rng = population(24, 1), np.random.default_rng(1)
    wide = draw(1000, rng)
    found = intervals.equal_n_intervals({"wide": summarise(wide), "few": summarise(draw(200, rng))})
    summary = summarise(wide)
    parts = [variation.vendi_score(part.sample) for part in summary.subsamples(200, 10)]
    interval, n = found["wide"]["vendi_score"]
    assert len(parts) == 5 and n == 200
    assert interval.value == pytest.approx(np.mean(parts), rel=1e-6)
    alone = found["few"]["vendi_score"][0]
    ratio = (interval.high - interval.low) / (alone.high - alone.low)  # type: ignore[operator]
    assert 0.3 < ratio < 0.6, "five subsamples: narrower by √5"


def test_entropy_intervals_cover() -> None:
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.ones(10))
    truth, hits = variation.quantized_entropy(p), 0
    for counts in rng.multinomial(150, p, size=200):
        hits += holds(intervals.entropy_interval(counts, corrected=True), truth)
    assert hits >= 180
    uniform = intervals.entropy_interval(np.full(10, 20), corrected=True)
    assert uniform.high == pytest.approx(math.log(10)) and uniform.low < math.log(10)  # type: ignore[operator]
    few = intervals.entropy_interval(np.array([3, 2, 1, 0, 0]), corrected=True)
    assert few.value is not None and few.reason == "an interval needs 20 pictures, 4 a cell, here 6"
    assert intervals.entropy_interval(None).reason == "no histogram: summarise with a codebook"
    assert intervals.entropy_interval(np.zeros(4)).value is None
