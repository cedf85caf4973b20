"""Distances within and across groups: direct computation, coverage, planted effects."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import t

from tests.core.analysis.made import unit
from twigma_core.analysis import groups as module
from twigma_core.analysis.groups import contrast, group_distances


def artists(n: int, pictures: int, spread: float, seed: int) -> tuple[np.ndarray, list[str]]:
    """Return pictures of n artists, each about a direction of his own."""
    rng = np.random.default_rng(seed)
    x = unit(n, 8, seed)[np.repeat(np.arange(n), pictures)] + rng.normal(scale=spread, size=(n * pictures, 8))
    return x / np.linalg.norm(x, axis=1, keepdims=True), [f"a{i // pictures}" for i in range(n * pictures)]


def test_distances_within_groups() -> None:
    x = unit(60, 8, 4)
    groups = [None if i % 5 == 0 else f"g{i % 3}" for i in range(60)]
    groups[1] = "alone"
    within = group_distances(x, groups, np.linspace(0, 2, 11))
    for name, rows, pairs, mean in zip(within.names, within.rows, within.pairs, within.means, strict=True):
        member = x[[i for i, g in enumerate(groups) if g == name]]
        assert (rows, pairs) == (len(member), len(member) * (len(member) - 1) // 2)
        assert mean == pytest.approx(pdist(member).mean())
    assert "alone" not in within.names and within.histogram.sum() == within.pairs.sum()
    assert group_distances(x, ["one"] * 60, per_group=10).rows.tolist() == [10]
    with pytest.raises(ValueError, match="60 rows but 59 groups"):
        group_distances(x, groups[1:])


def test_distances_across_groups_are_those_of_all_other_pairs() -> None:
    x = unit(40, 6, 1)
    names = [None if i == 7 else f"g{i % 4}" for i in range(40)]
    kept = [i for i in range(40) if names[i]]
    direct = [np.linalg.norm(x[i] - x[j]) for i, j in itertools.combinations(kept, 2) if names[i] != names[j]]
    found = contrast(x, names)
    assert found.across.value == pytest.approx(np.mean(direct))
    assert found.ratio.value == pytest.approx(found.within.value / np.mean(direct))  # type: ignore[operator]
    assert (found.rows, found.rows_across) == (39, 39)


def test_a_planted_difference_is_found_and_none_where_there_is_none() -> None:
    x, names = artists(40, 5, 0.1, 0)
    close = contrast(x, names)
    assert close.ratio.high < 0.4 and close.within.high < close.across.low  # type: ignore[operator]
    mixed = contrast(x, np.random.default_rng(0).permutation(names).tolist())
    assert mixed.ratio.low < 1 < mixed.ratio.high  # type: ignore[operator]


def test_intervals_cover_over_draws_of_artists() -> None:
    """Groups, not pictures, are the draws: an interval over pictures would be far too narrow."""
    truth_x, truth_names = artists(400, 6, 0.3, 99)
    truth = contrast(truth_x, truth_names)
    hits = np.zeros(3)
    for seed in range(120):
        found = contrast(*artists(30, 6, 0.3, seed))
        for k, name in enumerate(("within", "across", "ratio")):
            interval, expected = getattr(found, name), getattr(truth, name).value
            hits[k] += interval.low <= expected <= interval.high
    assert (hits >= 0.87 * 120).all(), hits


@pytest.mark.parametrize("what", ["within", "across", "ratio"])
def test_intervals_are_nearly_the_jackknifes_over_groups(what: str) -> None:
    """Of artists whose own spread moves both distances, so that the ratio's errors partly cancel."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), rng.integers(3, 9, 30))
    spread = rng.uniform(0.3, 3, 30)[owner, None]
    x = rng.normal(size=(30, 5))[owner] + spread * rng.normal(size=(len(owner), 5))
    names = np.array([f"{o:02d}" for o in owner])
    parts = [contrast(x[owner != g], names[owner != g].tolist()) for g in range(30)]
    scale = np.log if what == "ratio" else np.asarray
    without = scale(np.array([getattr(part, what).value for part in parts]))
    error = np.sqrt(29 / 30 * np.square(without - without.mean()).sum())
    found = getattr(contrast(x, names.tolist()), what)
    half = scale(np.array(found.high)) - scale(np.array(found.value))
    assert half == pytest.approx(t.ppf(0.975, 29) * error, rel=0.08)


def test_large_conditions_are_bounded_by_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ACROSS_ROWS", 60)
    x, names = artists(50, 6, 0.2, 3)
    found = contrast(x, names)
    assert found.rows == 300 and 60 <= found.rows_across < 72
    exact = cdist(x, x)[~np.equal.outer(np.array(names), np.array(names))].mean()
    assert found.across.value == pytest.approx(exact, rel=0.12)


def test_too_few_groups_are_said() -> None:
    x = unit(6, 4, 0)
    none = contrast(x, [None] * 6)
    assert none.within.value is None and "no group has 2 pictures" in str(none.within.reason)
    one = contrast(x, ["a", "a", "b", None, None, None])
    assert one.within.value and one.within.low is None and one.across.value is None
    assert "need 2 groups" in str(one.across.reason)
    same = contrast(np.repeat(x[:1], 6, axis=0), ["a", "a", "a", "b", "b", "b"])
    assert same.within.value == 0 and same.ratio.value is None and same.ratio.reason
