"""Bad input to the statistics: a defined result, or an error that names cause and cure; never a NaN."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.analysis.made import summarise, unit
from twigma_core.analysis import divergence, variation
from twigma_core.analysis.codebook import Codebook, fit_codebook
from twigma_core.analysis.groups import contrast
from twigma_core.analysis.intervals import metric_intervals
from twigma_core.analysis.summary import EmbeddingSummary
from twigma_core.analysis.variation_tables import variation_metrics, variation_table

OF_ONE: dict[str, Callable[[np.ndarray], object]] = {
    "mean_pairwise_distance": variation.mean_pairwise_distance,
    "inverse_explained_variance": variation.inverse_explained_variance,
    "product_of_marginal_variances": variation.product_of_marginal_variances,
    "vendi_score": variation.vendi_score,
    "summary": summarise,
    "contrast": lambda x: contrast(x, ["a", "b"] * (len(x) // 2) + ["a"] * (len(x) % 2)),
    "codebook": lambda x: fit_codebook({"twigma": x}, sizes=(2,)),
}
OF_TWO: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "kernel_distance": divergence.kernel_distance,
    "manifold_measures": divergence.manifold_measures,
}
SOME = st.integers(2, 12)


def no_nan(value: float | None) -> bool:
    return value is None or not math.isnan(value)


@pytest.mark.parametrize("name", list(OF_ONE))
@settings(max_examples=25, deadline=None)
@given(n=SOME, d=st.integers(1, 6), bad=st.sampled_from([math.nan, math.inf, -math.inf]), where=st.data())
def test_what_is_not_finite_is_refused_with_its_row(
    name: str, n: int, d: int, bad: float, where: st.DataObject
) -> None:
    x = unit(n, d, 0)
    row = where.draw(st.integers(0, n - 1))
    x[row, where.draw(st.integers(0, d - 1))] = bad
    with pytest.raises(ValueError, match=rf"row {row} of .* holds NaN or infinity; leave it out or embed"):
        OF_ONE[name](x)


@pytest.mark.parametrize("name", list(OF_TWO))
def test_pairs_of_sets_name_the_bad_one(name: str) -> None:
    x, y = unit(20, 5, 0), unit(20, 5, 1)
    y[3, 2] = math.nan
    with pytest.raises(ValueError, match="row 3 of y holds NaN"):
        OF_TWO[name](x, y)
    with pytest.raises(ValueError, match=r"shapes \(20, 5\) and \(20, 4\)"):
        OF_TWO[name](x, x[:, :4])


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (5, 0)])
@pytest.mark.parametrize("name", list(OF_ONE))
def test_what_is_no_matrix_is_refused_with_its_shape(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"has shape .*expected \(rows, dimensions\)|shape|axis"):
        OF_ONE[name](np.ones(shape))


@settings(max_examples=40, deadline=None)
@given(n=SOME, d=st.integers(1, 6), row=st.integers(0, 11))
def test_a_zero_vector_is_no_embedding(n: int, d: int, row: int) -> None:
    x = unit(n, d, 0)
    x[row % n] = 0
    with pytest.raises(
        ValueError, match=f"row {row % n} of embeddings is all zero: .*embed that picture again"
    ):
        summarise(x)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 9),
    d=st.integers(1, 6),
    copies=st.booleans(),
    length=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 500),
)
def test_few_or_equal_or_unnormalised_pictures_give_numbers_or_reasons(
    n: int, d: int, copies: bool, length: float, seed: int
) -> None:
    x = np.repeat(unit(1, d, seed), n, axis=0) if copies else unit(n, d, seed)
    codebook = Codebook.from_centroids({2: unit(2, d, 1), 7: unit(7, d, 2)})  # more cells than pictures
    summary = summarise(length * x, codebook)
    for name, (interval, used) in metric_intervals(summary).items():
        assert all(no_nan(end) for end in (interval.value, interval.low, interval.high)), name
        assert used <= n
        if interval.value is None or interval.low is None:
            assert interval.reason, name
        else:
            assert interval.high is not None and interval.low <= interval.high, name
    assert variation_metrics(summary, "2021-01").height == 9
    other = summarise(unit(30, d, 3), codebook, "o")
    for frame in (
        divergence.divergence_matrix({"a": summary, "b": other}, divergence.MEASURES),
        divergence.month_divergences("2021-01", summary, {"laion": other}),
        variation_table({"twigma": summary, "laion": other}),
    ):
        for row in frame.iter_rows(named=True):
            assert all(no_nan(row[key]) for key in ("value", "low", "high")), row
            assert row["reason"] or (row["value"] is not None and row["low"] is not None), row


def test_cells_that_no_picture_is_in_are_no_trouble() -> None:
    far = np.concatenate([unit(4, 6, 0), 100 + unit(6, 6, 1)])  # six cells that nothing is near
    codebook = Codebook.from_centroids({10: far})
    a, b = (summarise(unit(200, 6, seed), codebook, str(seed)) for seed in (2, 3))
    assert np.count_nonzero(a.histogram[10]) == 4
    frame = divergence.divergence_matrix({"a": a, "b": b}, ["kl", "js", "mauve"])
    assert frame["value"].is_finite().all() and frame["high"].is_finite().all()
    assert a.entropy() < math.log(4) + 1e-9  # type: ignore[operator]


def test_widths_that_differ_are_named_with_the_cure() -> None:
    a, b = summarise(unit(5, 4, 0)), summarise(unit(5, 6, 0), prefix="b")
    with pytest.raises(ValueError, match="width 4 and 6 do not add; embed both with the same model"):
        a + b
    with pytest.raises(ValueError, match=r"a and b differ in width \(4, 6\); embed both"):
        divergence.divergence_matrix({"a": a, "b": b}, "frechet")
    with pytest.raises(ValueError, match="width 4 do not fit a codebook of width 6"):
        summarise(unit(5, 4, 0), Codebook.from_centroids({2: unit(2, 6, 0)}))
    with pytest.raises(ValueError, match=r"3 pictures .* cannot fill 9 cells; choose sizes of at most 3"):
        fit_codebook({"twigma": unit(3, 4, 0)}, sizes=(9,))


def test_integers_and_lists_are_taken_for_what_they_are() -> None:
    whole = EmbeddingSummary.from_embeddings(np.array([[1, 0], [0, 1], [1, 1]]), ["a", "b", "c"])
    assert whole.mean_pairwise_distance() == pytest.approx((math.sqrt(2) + 2) / 3)
    assert variation.mean_pairwise_distance([[0.0, 0.0], [3.0, 4.0]]) == pytest.approx(5)  # type: ignore[arg-type]
