"""The Fréchet distance: closed forms, other code's numbers, its bias and the removal of it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from tests.core.analysis.made import population, summarise, unit
from twigma_core.analysis.frechet import frechet_distance, frechet_intervals


def test_frechet_of_known_moments() -> None:
    one, zero = np.eye(8), np.zeros(8)
    assert frechet_distance(zero, one, zero + 1, one) == pytest.approx(8)
    assert frechet_distance(zero, one, zero, 4 * one) == pytest.approx(8)
    assert frechet_distance(zero, one, zero, 0 * one) == pytest.approx(8)  # singular
    with pytest.raises(ValueError, match="do not fit"):
        frechet_distance(zero, one, np.zeros(7), np.eye(7))
    with pytest.raises(ValueError, match="two summaries, or"):
        frechet_distance(zero, one)


def test_frechet_agrees_with_the_matrix_root() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 20)), rng.normal(size=(200, 20)) + 0.3
    c1, c2 = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(summarise(x), summarise(y)) == pytest.approx(expected, rel=1e-8)
    few = summarise(y[:9])  # fewer pictures than dimensions: a singular covariance
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(summarise(x), few) > expected


def test_frechet_agrees_with_clean_fid() -> None:
    from cleanfid.fid import frechet_distance as other

    x, y = unit(400, 30, 0, shift=1), unit(300, 30, 1, shift=2)
    a, b = summarise(x), summarise(y)
    expected = other(a.mean(), a.covariance(), b.mean(), b.covariance())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_interval_at_n_has_the_width_of_the_sampling_variation() -> None:
    draws = [(summarise(unit(200, 6, s)), summarise(unit(200, 6, 500 + s, shift=1))) for s in range(60)]
    found = [frechet_intervals(a, b)["frechet"] for a, b in draws]
    values = np.array([interval.value for interval in found], dtype=float)
    widths = np.array([interval.high for interval in found], dtype=float)
    widths -= np.array([interval.low for interval in found], dtype=float)
    assert 0.75 < widths.mean() / (2 * 1.96 * values.std()) < 1.4


@pytest.mark.parametrize("alike", [True, False])
def test_the_correction_takes_the_bias_of_few_pictures_off(alike: bool) -> None:
    """At four pictures a dimension the plug-in's interval misses the truth; the corrected one does not."""
    first, second = population(24, 1), population(24, 1 if alike else 2)
    rng = np.random.default_rng(0)
    big = [summarise(draw(60_000, rng)) for draw in (first, second)]
    truth = 0.0 if alike else frechet_distance(big[0], big[1])
    found = [frechet_intervals(summarise(first(96, rng)), summarise(second(96, rng))) for _ in range(80)]

    def of(name: str) -> np.ndarray:
        rows = [(row[name].low, row[name].value, row[name].high) for row in found]
        return np.array(rows, dtype=float)

    plain, corrected = of("frechet"), of("frechet_corrected")
    bias, left = plain[:, 1].mean() - truth, corrected[:, 1].mean() - truth
    assert bias > 0.02 and abs(left) < 0.15 * bias
    assert ((corrected[:, 0] <= truth) & (truth <= corrected[:, 2])).mean() >= 0.87
    assert ((plain[:, 0] <= truth) & (truth <= plain[:, 2])).mean() < 0.75


def test_the_correction_is_that_of_the_whole_where_the_sample_is_a_part() -> None:
    draws, rng = (population(16, 1), population(16, 2)), np.random.default_rng(0)
    x, y = draws[0](6000, rng), draws[1](6000, rng)
    whole = frechet_intervals(summarise(x, sample_size=6000), summarise(y, sample_size=6000))
    part = frechet_intervals(summarise(x, sample_size=600), summarise(y, sample_size=600))
    assert part["frechet"].value == pytest.approx(whole["frechet"].value, rel=1e-9)
    taken = [
        found["frechet"].value - found["frechet_corrected"].value  # type: ignore[operator]
        for found in (whole, part)
    ]
    assert taken[1] == pytest.approx(taken[0], rel=0.5) and taken[0] > 0


def test_too_few_pictures_are_said() -> None:
    one, many = summarise(unit(1, 8, 0)), summarise(unit(50, 8, 1))
    assert frechet_intervals(one, many)["frechet"].reason == "a covariance needs 2 pictures of each, here 1"
    two = frechet_intervals(summarise(unit(2, 8, 0)), many)
    assert two["frechet"].value is not None and two["frechet"].low is None
    few = frechet_intervals(summarise(unit(15, 8, 0)), many)
    assert few["frechet"].low is not None and few["frechet_corrected"].value is None
    assert "needs 16 pictures of each, 2 a dimension, here 15" in str(few["frechet_corrected"].reason)
