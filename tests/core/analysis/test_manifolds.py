"""Precision, recall, density, coverage: closed forms, the authors' code, intervals, few pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from tests.core.analysis.made import population, summarise, unit
from twigma_core.analysis.manifolds import MEASURES, manifold_intervals, manifold_measures


def test_identical_sets_and_sets_apart() -> None:
    x = unit(60, 8, 0)
    same = manifold_measures(x, x)
    assert [getattr(same, name) for name in MEASURES] == [1, 1, 1, 1]
    apart = manifold_measures(x, x + 100)
    assert [getattr(apart, name) for name in MEASURES] == [0, 0, 0, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))
def test_measures_agree_with_their_authors_code(n: int, m: int, d: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) * 1.3 + 0.2
    found, expected = manifold_measures(x, y, k), compute_prdc(x, y, k)
    for name in MEASURES:
        assert getattr(found, name) == pytest.approx(expected[name], abs=1e-12), name


def test_turning_the_pair_round_swaps_precision_and_recall() -> None:
    x, y = unit(80, 6, 0), unit(80, 6, 1, shift=1)
    there, back = manifold_measures(x, y), manifold_measures(y, x)
    assert (there.precision, there.recall) == (back.recall, back.precision)


def test_intervals_hold_the_mean_over_draws() -> None:
    first, second, rng = population(16, 1), population(16, 2), np.random.default_rng(0)
    found = [
        manifold_intervals(summarise(first(120, rng)), summarise(second(120, rng)))[0] for _ in range(80)
    ]
    for name in MEASURES:
        rows = np.array([(row[name].low, row[name].value, row[name].high) for row in found], dtype=float)
        mean = rows[:, 1].mean()
        assert ((rows[:, 0] <= mean) & (mean <= rows[:, 2])).mean() >= 0.9, name
        assert 0.05 < mean < 0.95, "where they could be missed"


def test_sets_are_taken_at_equal_size_and_too_few_are_said() -> None:
    many = summarise(unit(300, 6, 0))
    found, n = manifold_intervals(many, summarise(unit(100, 6, 1)))
    assert n == 100 and found["density"].low is not None
    few, n = manifold_intervals(many, summarise(unit(10, 6, 1)))
    assert n == 10 and few["recall"].value is not None and few["recall"].low is None
    assert few["recall"].reason == "an interval needs 25 pictures of each, here 10"
    none, _ = manifold_intervals(many, summarise(unit(5, 6, 1)))
    assert none["recall"].value is None and none["recall"].reason == "needs 6 pictures of each, here 5"
    with pytest.raises(ValueError, match="more than k=5 rows"):
        manifold_measures(unit(5, 6, 0), unit(9, 6, 1))
