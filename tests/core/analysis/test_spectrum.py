"""What a spectrum says without each picture: exact, by leaving each out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.analysis.made import unit
from twigma_core.analysis import spectrum, variation


def directly(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithms of both metrics without each row, by doing it."""
    parts = [np.delete(x, i, axis=0) for i in range(len(x))]
    return tuple(  # type: ignore[return-value]
        np.log([metric(part) for part in parts])
        for metric in (variation.inverse_explained_variance, variation.vendi_score)
    )


def by_formula(x: np.ndarray) -> tuple[spectrum.Change, spectrum.Change]:
    values, vectors = np.linalg.eigh(x.T @ x)
    kept = np.flatnonzero(spectrum.positive(values))[::-1]
    return spectrum.without_each(values[kept], np.square(x @ vectors[:, kept]))


@pytest.mark.parametrize(("n", "d"), [(3, 40), (20, 64), (64, 20), (30, 30), (200, 16), (60, 100)])
def test_leaving_out_a_row_is_exact_for_any_shape(n: int, d: int) -> None:
    x = unit(n, d, 0, shift=2) * np.linspace(0.5, 1.5, n)[:, None]  # of any length
    explained, vendi = directly(x)
    for change, metric, without in zip(
        by_formula(x),
        (variation.inverse_explained_variance, variation.vendi_score),
        (explained, vendi),
        strict=True,
    ):
        np.testing.assert_allclose(change.exact, without - np.log(metric(x)), atol=3e-7, rtol=0)
        assert abs(change.slope.sum()) < 1e-9, "first-order parts of all rows sum to 0"


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 12), st.integers(2, 8), st.integers(0, 10_000))
def test_repeated_rows_are_left_out_one_by_one(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = unit(n, d, seed)[rng.integers(0, n, size=2 * n)]
    if variation.inverse_explained_variance(x) < 1 + 1e-9:
        return  # all rows the same
    for change, metric, without in zip(
        by_formula(x), (variation.inverse_explained_variance, variation.vendi_score), directly(x), strict=True
    ):
        np.testing.assert_allclose(change.exact, without - np.log(metric(x)), atol=1e-6, rtol=0)


def test_one_row_that_is_all_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="outweighs all others"):
        by_formula(np.array([[1e9, 0.0], [0.0, 1.0], [0.0, 1.0]]))
