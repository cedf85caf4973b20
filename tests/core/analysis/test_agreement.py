from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from twigma_core.analysis.agreement import (
    adjusted_mutual_information,
    adjusted_rand,
    normalized_mutual_information,
)

groupings = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(groupings)
def test_measures_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    assert adjusted_rand(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b), abs=1e-12)
    nmi = metrics.normalized_mutual_info_score(a, b)
    assert normalized_mutual_information(a, b) == pytest.approx(nmi, abs=1e-9)
    ami = metrics.adjusted_mutual_info_score(a, b)
    # where expectation and maximum coincide, both quotients are of rounding errors
    if abs(metrics.mutual_info_score(a, b)) > 1e-9 and abs(ami) < 10:
        assert adjusted_mutual_information(a, b) == pytest.approx(ami, abs=1e-6)


def test_names_of_groups_do_not_matter_and_chance_is_zero() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 5, 4000)
    renamed = np.array([7, 3, 9, 0, 2])[a]
    random = rng.integers(0, 5, 4000)
    for measure in (adjusted_rand, normalized_mutual_information, adjusted_mutual_information):
        assert measure(a, renamed) == pytest.approx(1)
        assert abs(measure(a, random)) < 0.01
    many = rng.integers(0, 40, 100)  # small groups: only the adjusted ones are 0 by chance
    assert normalized_mutual_information(many, a[:100]) > 0.25
    assert abs(adjusted_mutual_information(many, a[:100])) < 0.15


def test_what_is_not_two_groupings_of_the_same_things_is_refused() -> None:
    for a, b in (([], []), ([1, 2], [1]), ([[1]], [[1]])):
        with pytest.raises(ValueError, match="two groupings of the same things"):
            adjusted_rand(np.array(a, dtype=int), np.array(b, dtype=int))
