"""The joint quantizer: equal numbers from each source, nearest cells, storage, refusals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import cdist

from twigma_core.analysis import codebook as codebook_module
from twigma_core.analysis.codebook import Codebook, fit_codebook


def blobs(n: int, centres: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return centres[rng.integers(len(centres), size=n)] + rng.normal(scale=0.03, size=(n, centres.shape[1]))


def test_fit_takes_equal_numbers_and_finds_the_cells() -> None:
    centres = np.eye(8)
    sources = {"twigma": blobs(900, centres[:5], 0), "laion": blobs(120, centres[3:], 1)}
    codebook, table = fit_codebook(sources, sizes=(8, 2), seed=3)
    assert codebook.sizes == (2, 8) and codebook.dim == 8
    assert cdist(centres, codebook.centroids[8]).min(axis=1).max() < 0.05
    totals = table.group_by("cells", "source").agg(pl.col("pictures").sum())
    assert sorted(totals.iter_rows()) == [
        (2, "laion", 120),
        (2, "twigma", 120),
        (8, "laion", 120),
        (8, "twigma", 120),
    ]
    assert table["version"].unique().to_list() == [codebook.version]
    assert table.height == 2 * (2 + 8)
    again, _ = fit_codebook(dict(reversed(sources.items())), sizes=(2, 8), seed=3)
    assert again.version == codebook.version


def test_large_sources_give_a_capped_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook_module, "PER_SOURCE", 30)
    _, table = fit_codebook({"twigma": blobs(90, np.eye(4), 0), "laion": blobs(60, np.eye(4), 1)}, sizes=(4,))
    assert table["pictures"].sum() == 2 * 30


def test_counts_are_of_the_nearest_centroid_and_add_up() -> None:
    rng = np.random.default_rng(0)
    codebook = Codebook.from_centroids({4: rng.normal(size=(4, 6)), 10: rng.normal(size=(10, 6))})
    x = rng.normal(size=(9000, 6))
    for k, counts in codebook.counts(x).items():
        nearest = cdist(x, codebook.centroids[k]).argmin(axis=1)
        np.testing.assert_array_equal(counts, np.bincount(nearest, minlength=k))
    assert {k: int(c.sum()) for k, c in codebook.counts(x[:0]).items()} == {4: 0, 10: 0}
    stored = Codebook.from_arrays({**codebook.to_arrays(), "vectors": x})
    assert stored.version == codebook.version and stored.sizes == codebook.sizes
    moved = {4: codebook.centroids[4] + 1e-3, 10: codebook.centroids[10]}
    assert Codebook.from_centroids(moved).version != codebook.version


def test_what_cannot_be_fitted_is_refused_with_the_cure() -> None:
    x = np.eye(8)
    with pytest.raises(ValueError, match=r"8 pictures \(4 from each of 2 sources\) cannot fill 10 cells"):
        fit_codebook({"twigma": x, "laion": x[:4]}, sizes=(4, 10))
    with pytest.raises(ValueError, match="source laion has no picture"):
        fit_codebook({"twigma": x, "laion": x[:0]})
    with pytest.raises(ValueError, match="source laion has 4 pictures, not the 5"):
        fit_codebook({"twigma": x, "laion": x[:4]}, sizes=(2,), per_source=5)
    with pytest.raises(ValueError, match="differ in width"):
        fit_codebook({"twigma": x, "laion": x[:, :4]}, sizes=(2,))
    with pytest.raises(ValueError, match="no source"):
        fit_codebook({})
    broken = x.copy()
    broken[5] = np.nan
    with pytest.raises(ValueError, match="row 5 of twigma"):
        fit_codebook({"twigma": broken}, sizes=(2,))
    codebook, _ = fit_codebook({"twigma": x}, sizes=(2,))
    with pytest.raises(ValueError, match="width 4 do not fit a codebook of width 8"):
        codebook.counts(x[:, :4])
    with pytest.raises(KeyError, match="no quantizer of 10 cells"):
        codebook.assign(x, 10)
    with pytest.raises(ValueError, match="at least one size"):
        Codebook.from_arrays({})
