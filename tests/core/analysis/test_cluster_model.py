from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests.core.analysis.test_clusters import blobs
from twigma_core import tables
from twigma_core.analysis.cluster_model import assign_month, drift_share, freeze, keep
from twigma_core.analysis.clusters import assign, fit_kmeans
from twigma_core.lake import ArrayTable, Lake


def test_old_pictures_keep_their_labels_when_a_month_is_added() -> None:
    x, _ = blobs([120, 90, 60])
    model = freeze(fit_kmeans(x[:200], 3, seed=0), x[:200])
    c = model.arrays["centroids"]
    first = assign_month([str(i) for i in range(200)], x[:200], model.table, c, "2021-01")
    both = assign_month([str(i) for i in range(270)], x, model.table, c, "2021-02")
    assert first["cluster"].to_list() == both["cluster"].to_list()[:200]
    assert model.table["pictures"].sum() == 200
    assert assign_month([], x[:0], model.table, c, "2021-03").equals(tables.empty("clusters"))
    with pytest.raises(ValueError, match="2021-03: 1 ids for 2"):
        assign_month(["a"], x[:2], model.table, c, "2021-03")
    with pytest.raises(ValueError, match="materialize cluster_model again"):
        assign_month(["a"], x[:1], model.table, c[:2], "2021-03")


def test_a_refit_takes_over_the_labels_and_says_how_many_pictures_went_along() -> None:
    x, truth = blobs([300, 200, 150, 100], seed=1)
    before = freeze(fit_kmeans(x, 4, seed=0), x)
    assert before.table["previous_version"].null_count() == 4
    # the smallest group triples, so that labels by size would change
    more = np.concatenate([x, np.tile(x[truth == 3], (3, 1))])
    after = freeze(fit_kmeans(more, 4, seed=5), more, before)
    old, new = (assign(x, model.arrays["centroids"])[0] for model in (before, after))
    assert np.mean(old == new) > 0.97
    assert not after.table["pictures"].is_sorted(descending=True)
    assert after.table["previous_version"].unique().to_list() == [before.table["version"][0]]
    assert after.table["previous_cluster"].to_list() == [1, 2, 3, 4]
    of_more = [assign(more, model.arrays["centroids"])[0] for model in (before, after)]
    kept = [np.mean(of_more[1][of_more[0] == c] == c) for c in range(1, 5)]
    assert after.table["kept"].to_list() == pytest.approx(kept)
    again = freeze(fit_kmeans(more, 4, seed=5), more, after)
    assert again.table.equals(after.table), "the same fit again changes nothing, not even its history"


def test_a_refit_with_another_k_or_another_model_of_pictures() -> None:
    x, _ = blobs([300, 200, 150, 100], seed=1)
    before = freeze(fit_kmeans(x, 4, seed=0), x)
    finer = freeze(fit_kmeans(x, 6, seed=0), x, before)
    assert finer.table["pictures"].is_sorted(descending=True), "by size, as k differs"
    assert sorted(finer.table["previous_cluster"].drop_nulls()) == [1, 2, 3, 4]
    coarser = freeze(fit_kmeans(x, 2, seed=0), x, before)
    assert coarser.table["previous_cluster"].null_count() == 0 and (coarser.table["kept"] > 0.9).all()
    other = freeze(fit_kmeans(x[:, :8].copy(), 4, seed=0), x[:, :8].copy(), before)
    assert other.table["previous_version"][0] == before.table["version"][0]
    assert other.table["previous_cluster"].null_count() == 4, "vectors of another width have no old label"
    with pytest.raises(ValueError, match="pass the rows of the fit"):
        freeze(fit_kmeans(x, 4, seed=0), x[:10])


def test_a_previous_cluster_without_a_picture_leaves_its_label_free() -> None:
    x, _ = blobs([60, 50], seed=2)
    far = np.full((1, 16), 9, np.float32)
    first = freeze(fit_kmeans(x, 2, seed=0), x)
    arrays = {"centroids": np.concatenate([far, first.arrays["centroids"]])}
    table = pl.concat([first.table, first.table.head(1)]).with_columns(cluster=pl.Series([1, 2, 3]))
    after = freeze(fit_kmeans(x, 3, seed=0), x, ArrayTable(table, arrays))
    assert after.table["cluster"].to_list() == [1, 2, 3]
    assert sorted(after.table["previous_cluster"].drop_nulls()) == [2, 3]
    assert after.table["pictures"].sum() == 110


def test_every_version_stays_in_the_lake(lake: Lake) -> None:
    x, _ = blobs([60, 50], seed=2)
    models = [freeze(fit_kmeans(x, k, seed=0), x) for k in (2, 3)]
    for model in models:
        keep(lake, model)
    for model in models:
        file = lake.path(f"models/cluster_model/{model.table['version'][0]}.npy")
        assert np.array_equal(np.load(str(file)), model.arrays["centroids"])


def test_drift_is_one_per_cent_at_the_fit_and_large_for_other_pictures() -> None:
    x, _ = blobs([800, 800, 800])
    fit = fit_kmeans(x, 3, seed=0)
    radius = freeze(fit, x).table["radius_p99"].to_numpy()
    labels, distances = assign(x, fit.centroids)
    assert drift_share(distances, labels, radius) == pytest.approx(0.01, abs=0.003)
    rng = np.random.default_rng(9)
    strange = rng.normal(size=(400, 16)).astype(np.float32)
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    labels, distances = assign(strange, fit.centroids)
    assert drift_share(distances, labels, radius) > 0.5
    assert np.isnan(drift_share(distances[:0], labels[:0], radius))


@pytest.mark.parametrize("x", [np.ones((12, 4), np.float32), np.eye(4, dtype=np.float32)])
def test_identical_pictures_and_as_many_clusters_as_pictures(x: np.ndarray) -> None:
    fit = fit_kmeans(x, 4, seed=0)
    assert fit.inertia == pytest.approx(0, abs=1e-5)
    model = freeze(fit, x).table
    assert model.height == 4 and model["pictures"].sum() == len(x)
    assert model["pictures"].is_sorted(descending=True)
