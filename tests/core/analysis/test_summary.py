"""EmbeddingSummary: exact sums, storage, and agreement with the metrics computed on the rows themselves."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twigma_core import tables
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.summary import EmbeddingSummary, add_up, summary_row
from twigma_core.analysis.variation import (
    inverse_explained_variance,
    mean_pairwise_distance,
    product_of_marginal_variances,
    quantized_entropy,
    vendi_score,
)
from twigma_core.lake import ArrayTable, Lake

DIM = 3
CODEBOOK = Codebook.from_centroids({2: np.eye(DIM)[:2], 3: np.eye(DIM)})


def rows(n: int, d: int = 24, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d)) + 0.5
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def names(n: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


def assert_same(a: EmbeddingSummary, b: EmbeddingSummary) -> None:
    assert (a.count, a.sample_size, a.codebook_version) == (b.count, b.sample_size, b.codebook_version)
    np.testing.assert_allclose(a.sum, b.sum, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(a.second_moment, b.second_moment, rtol=1e-9, atol=1e-9)
    assert list(a.histogram) == list(b.histogram)
    for k in a.histogram:
        np.testing.assert_array_equal(a.histogram[k], b.histogram[k])
    for name in ("sample", "sample_ids", "sample_keys"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.sample_ids.dtype == b.sample_ids.dtype


@st.composite
def three_parts(draw: st.DrawFn) -> tuple[np.ndarray, list[int], int]:
    cell = st.integers(-4, 4).map(float)  # small integers: ties between cells are common
    row = st.lists(cell, min_size=DIM, max_size=DIM).filter(any)
    x = draw(st.lists(row, max_size=24))
    owner = draw(st.lists(st.integers(0, 2), min_size=len(x), max_size=len(x)))
    return np.array(x, dtype=np.float32).reshape(-1, DIM), owner, draw(st.integers(1, 10))


@settings(max_examples=150, deadline=None)
@given(three_parts())
def test_summaries_form_a_commutative_monoid(parts: tuple[np.ndarray, list[int], int]) -> None:
    x, owner, k = parts
    ids = np.array(names(len(x)), dtype=object)
    index = [np.flatnonzero(np.array(owner, dtype=int) == part) for part in range(3)]
    a, b, c = (
        EmbeddingSummary.from_embeddings(x[i], ids[i].tolist(), CODEBOOK, sample_size=k) for i in index
    )
    at_once = EmbeddingSummary.from_embeddings(x, ids.tolist(), CODEBOOK, sample_size=k)
    assert_same(a + b + c, at_once)
    assert_same(a + (b + c), at_once)
    assert_same(c + a + b, at_once)
    assert_same(a + EmbeddingSummary.identity(DIM), a)
    assert_same(EmbeddingSummary.identity(DIM, CODEBOOK) + a, a)


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 60), st.integers(2, 12), st.integers(1, 5), st.integers(0, 10_000))
def test_every_metric_of_a_sum_is_that_of_the_whole(n: int, d: int, parts: int, seed: int) -> None:
    """1e-6 relative is the promise; months may be cut anywhere, empty ones among them."""
    rng = np.random.default_rng(seed)
    x, ids = rows(n, d, seed), names(n)
    cuts = [0, *sorted(rng.integers(0, n + 1, size=parts - 1).tolist()), n]
    codebook = Codebook.from_centroids({3: rows(3, d, seed + 1)})
    merged = add_up(
        EmbeddingSummary.from_embeddings(x[i:j], ids[i:j], codebook) for i, j in itertools.pairwise(cuts)
    )
    whole = EmbeddingSummary.from_embeddings(x, ids, codebook)
    for metric in (
        "mean_pairwise_distance",
        "inverse_explained_variance",
        "product_of_marginal_variances",
        "vendi_score",
        "entropy",
    ):
        assert getattr(merged, metric)() == pytest.approx(getattr(whole, metric)(), rel=1e-6), metric


def test_metrics_of_a_sum_are_those_of_the_rows() -> None:
    x = rows(900)
    ids = names(900)
    codebook = Codebook.from_centroids({5: rows(5, seed=9)})
    merged = add_up(
        EmbeddingSummary.from_embeddings(x[i : i + 90], ids[i : i + 90], codebook) for i in range(0, 900, 90)
    )
    assert merged.mean_pairwise_distance() == pytest.approx(mean_pairwise_distance(x), rel=1e-9)
    assert merged.inverse_explained_variance() == pytest.approx(inverse_explained_variance(x), rel=1e-9)
    assert merged.product_of_marginal_variances() == pytest.approx(product_of_marginal_variances(x), rel=1e-9)
    assert merged.vendi_score() == pytest.approx(vendi_score(x), rel=1e-9)
    assert merged.entropy() == pytest.approx(quantized_entropy(codebook.counts(x)[5]), rel=1e-12)
    np.testing.assert_allclose(merged.covariance(), np.cov(x.T.astype(np.float64)), atol=1e-12)


def test_the_sample_is_of_fixed_size_and_spread_over_all_rows() -> None:
    x, ids = rows(4000), names(4000)
    summary = EmbeddingSummary.from_embeddings(x, ids, sample_size=400)
    assert summary.sample.shape == (400, 24)
    positions = np.sort(summary.sample_ids.astype(int))
    assert np.all(np.diff(summary.sample_keys.astype(object)) > 0)
    assert 1700 < positions.mean() < 2300  # not the first rows, whose mean would be 200
    np.testing.assert_array_equal(summary.sample, x[summary.sample_ids.astype(int)])
    first, second = summary.subsamples(100, most=2)
    np.testing.assert_array_equal(first.sample_ids, summary.sample_ids[:100])
    np.testing.assert_array_equal(second.sample_ids, summary.sample_ids[100:200])
    assert len(summary.subsamples(150, most=9)) == 2
    with pytest.raises(ValueError, match="401 rows of a sample of 400"):
        summary.subsamples(401)


def test_saved_and_loaded_without_pickle(tmp_path) -> None:
    summary = EmbeddingSummary.from_embeddings(rows(50, DIM), [f"bild-{i}é" for i in range(50)], CODEBOOK)
    path = tmp_path / "2021-01.summary"
    summary.save(path)
    assert_same(EmbeddingSummary.load(path), summary)
    for name, array in summary.to_arrays().items():
        assert array.ndim > 0 and array.dtype.kind in "fiuU", name
    without = {name: array for name, array in summary.to_arrays().items() if name != "sample"}
    with pytest.raises(ValueError, match="'sample' is missing"):
        EmbeddingSummary.from_arrays(without)


@pytest.mark.parametrize("content", [b"", b"not a summary", b"PK\x03\x04 cut short"])
def test_a_file_that_holds_no_summary_is_named(tmp_path, content: bytes) -> None:
    path = tmp_path / "broken.summary"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken.summary holds no summary .* make the summary again"):
        EmbeddingSummary.load(path)
    np.save(path.with_suffix(".npy"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="holds no summary"):
        EmbeddingSummary.load(path.with_suffix(".npy"))  # never unpickled
    with pytest.raises(FileNotFoundError):
        EmbeddingSummary.load(tmp_path / "none.summary")


def test_kept_in_the_lake_as_it_is(lake: Lake) -> None:
    codebook = Codebook.from_centroids({2: np.eye(DIM)[:2]})
    for n in (0, 40):
        summary = EmbeddingSummary.from_embeddings(rows(n, DIM), names(n), codebook)
        lake.write(
            "summaries", ArrayTable(summary_row(summary, month="2021-02"), summary.to_arrays()), "2021-02"
        )
        assert_same(EmbeddingSummary.from_arrays(lake.read_arrays("summaries", "2021-02").arrays), summary)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pictures_have_a_row_with_nulls(n: int) -> None:
    summary = EmbeddingSummary.from_embeddings(rows(n, DIM), names(n), CODEBOOK)
    row = tables.conform("summaries", summary_row(summary, month="2021-01")).row(0, named=True)
    assert (row["count"], row["dim"], row["sampled"]) == (n, DIM, n)
    assert (row["mean_pairwise_distance"] is None) == (n < 2)
    assert (row["product_of_marginal_variances"] is None) == (n < 2)
    assert (row["inverse_explained_variance"] is None) == (n < 1)
    assert (row["quantized_entropy"] is None) == (n < 1)
    assert tables.conform("reference_summaries", summary_row(summary, corpus="laion")).height == 1


def test_identical_pictures_have_no_variation() -> None:
    summary = EmbeddingSummary.from_embeddings(np.repeat(rows(1), 300, axis=0), names(300))
    assert summary.mean_pairwise_distance() == pytest.approx(0, abs=1e-12)
    assert summary.inverse_explained_variance() == pytest.approx(1, abs=1e-6)
    assert summary.product_of_marginal_variances() == 0


def test_small_variance_about_a_large_mean_is_not_taken_for_none() -> None:
    x = np.random.default_rng(0).normal(1, 1e-4, size=(50_000, 4))
    summary = EmbeddingSummary.from_embeddings(x, names(len(x)))
    assert summary.product_of_marginal_variances() == pytest.approx(1e-4, rel=0.02)


def test_what_does_not_fit_is_refused_by_name() -> None:
    x = rows(4, DIM)
    with pytest.raises(ValueError, match="4 embeddings but 3 ids"):
        EmbeddingSummary.from_embeddings(x, names(3))
    with pytest.raises(ValueError, match="'1' occurs twice"):
        EmbeddingSummary.from_embeddings(x, ["0", "1", "1", "2"])
    for bad, said in ((np.nan, "NaN"), (np.inf, "infinity"), (0.0, "all zero")):
        broken = x.copy()
        broken[2] = bad
        with pytest.raises(ValueError, match=f"row 2 .*{said}"):
            EmbeddingSummary.from_embeddings(broken, names(4))
    one = EmbeddingSummary.from_embeddings(x, names(4), CODEBOOK)
    other = EmbeddingSummary.from_embeddings(x, names(4, "b"), Codebook.from_centroids({2: -np.eye(DIM)[:2]}))
    with pytest.raises(ValueError, match="different codebooks"):
        _ = one + other
    with pytest.raises(ValueError, match="different codebooks"):
        _ = one + EmbeddingSummary.from_embeddings(x, names(4, "c"))
    with pytest.raises(ValueError, match="width 3 and 5"):
        _ = one + EmbeddingSummary.identity(5)
    with pytest.raises(ValueError, match="no summary to add up"):
        add_up([])


def test_the_example_of_the_package_runs() -> None:
    from twigma_core import analysis

    result = doctest.testmod(analysis)
    assert result.attempted > 10 and result.failed == 0


def test_ids_may_be_a_series() -> None:
    x = rows(5)
    assert_same(
        EmbeddingSummary.from_embeddings(x, pl.Series(names(5))),
        EmbeddingSummary.from_embeddings(x, names(5)),
    )
