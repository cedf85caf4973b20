"""The kernel distance: its definition, no bias, intervals that cover."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel

from tests.core.analysis.made import summarise, unit
from twigma_core.analysis.kernel import kernel_distance, kernel_interval


def test_kernel_distance_agrees_with_its_definition() -> None:
    x, y = unit(12, 5, 0), unit(9, 5, 1, shift=1)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 5 + 1) ** 3

    expected = (
        np.mean([k(a, b) for a, b in itertools.permutations(x, 2)])
        + np.mean([k(a, b) for a, b in itertools.permutations(y, 2)])
        - 2 * np.mean([k(a, b) for a in x for b in y])
    )
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="two rows or more"):
        kernel_distance(x[:1], y)


def test_kernel_distance_is_unbiased_and_its_interval_covers() -> None:
    values, hits = [], 0
    truth = kernel_distance(unit(2000, 6, 1), unit(2000, 6, 2, shift=0.7), gamma=1.0)
    alike = 0
    for seed in range(60):
        x, y = summarise(unit(60, 6, 1000 + seed)), summarise(unit(60, 6, 2000 + seed, shift=0.7))
        z = summarise(unit(60, 6, 3000 + seed))
        far, near = kernel_interval(x, y), kernel_interval(x, z)
        assert far.low is not None and far.high is not None and near.low is not None and near.high is not None
        assert near.value is not None
        values.append(near.value)
        hits += far.low <= truth <= far.high
        alike += near.low <= 0 <= near.high
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
    assert hits >= 52 and alike >= 52


def test_the_interval_is_nearly_the_jackknifes() -> None:
    """Leaving out a picture of either set, and of both sets' variances the sum."""
    x, y = unit(90, 6, 0), unit(70, 6, 1, shift=0.7)
    variance = 0.0
    for rows, distance in (
        (x, lambda left: kernel_distance(left, y, gamma=1.0)),
        (y, lambda left: kernel_distance(x, left, gamma=1.0)),
    ):
        without = np.array([distance(np.delete(rows, row, axis=0)) for row in range(len(rows))])
        variance += (len(rows) - 1) / len(rows) * np.square(without - without.mean()).sum()
    found = kernel_interval(summarise(x), summarise(y))
    assert found.value is not None and found.high is not None and found.low is not None
    assert found.high - found.value == pytest.approx(1.959964 * np.sqrt(variance), rel=0.02)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_kernel_distance_agrees_with_scikit_learn() -> None:
    x, y = unit(40, 12, 0), unit(30, 12, 1, shift=1)
    xx, yy, xy = (polynomial_kernel(a, b, degree=3) for a, b in ((x, x), (y, y), (x, y)))
    expected = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)) - 2 * xy.mean()
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert kernel_interval(summarise(x[:1]), summarise(y)).reason
