from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from twigma_core import tables
from twigma_core.analysis.clusters import (
    align_labels,
    assign,
    assign_month,
    cluster_model_table,
    drift_share,
    fit_kmeans,
)


def blobs(sizes: list[int], seed: int = 0, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(len(sizes), d))
    truth = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(truth))
    x = centers[truth] + 0.35 * rng.normal(size=(len(truth), d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x[order].astype(np.float32), truth[order]


def test_fit_is_as_good_as_scikit_learn_and_finds_the_groups() -> None:
    x, truth = blobs([300, 200, 150, 100, 50])
    fit = fit_kmeans(x, 5, seed=1)
    oracle = KMeans(5, n_init=10, random_state=0).fit(x)
    assert fit.inertia <= oracle.inertia_ * 1.005
    assert adjusted_rand_score(fit.labels, truth) > 0.95
    assert fit.inertia == pytest.approx(np.square(x - fit.centroids[fit.labels - 1]).sum(), rel=1e-4)


def test_labels_run_by_size_and_repeat_exactly() -> None:
    x, _ = blobs([300, 200, 150, 100, 50])
    one, two = fit_kmeans(x, 5, seed=1), fit_kmeans(x, 5, seed=1)
    assert np.array_equal(one.centroids, two.centroids)
    assert one.version == two.version
    sizes = np.bincount(one.labels)[1:]
    assert list(sizes) == sorted(sizes, reverse=True)
    assert np.array_equal(assign(x, one.centroids)[0], one.labels)
    assert fit_kmeans(x, 4, seed=1).version != one.version


def test_assign_agrees_with_brute_force_far_from_the_origin() -> None:
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(9000, 6)) + 1000).astype(np.float32)  # more than one block
    c = (rng.normal(size=(7, 6)) + 1000).astype(np.float32)
    labels, distances = assign(x, c)
    every = np.linalg.norm(x[:, None, :].astype(float) - c[None].astype(float), axis=2)
    assert np.array_equal(labels, every.argmin(axis=1) + 1)
    assert np.allclose(distances, every.min(axis=1), rtol=1e-5)


def test_old_pictures_keep_their_labels_when_a_month_is_added() -> None:
    x, _ = blobs([120, 90, 60])
    fit = fit_kmeans(x[:200], 3, seed=0)
    model = cluster_model_table(fit, x[:200])
    first = assign_month([str(i) for i in range(200)], x[:200], model, fit.centroids, "2021-01")
    both = assign_month([str(i) for i in range(270)], x, model, fit.centroids, "2021-02")
    assert first["cluster"].to_list() == both["cluster"].to_list()[:200]
    assert model["pictures"].sum() == 200
    assert assign_month([], x[:0], model, fit.centroids, "2021-03").equals(tables.empty("clusters"))
    with pytest.raises(ValueError, match="2021-03: 1 ids for 2"):
        assign_month(["a"], x[:2], model, fit.centroids, "2021-03")
    with pytest.raises(ValueError, match="different models"):
        assign(x[:, :5], fit.centroids)


def test_align_labels_undoes_a_renaming_and_numbers_what_is_new() -> None:
    rng = np.random.default_rng(0)
    old = rng.integers(1, 6, 500)
    renamed = np.array([0, 3, 5, 1, 2, 4])[old]
    noisy = np.where(rng.random(500) < 0.1, rng.integers(1, 6, 500), renamed)
    mapping = align_labels(old, noisy)
    assert mapping == {3: 1, 5: 2, 1: 3, 2: 4, 4: 5}
    finer = np.where((old == 1) & (rng.random(500) < 0.2), 6, old)
    assert align_labels(old, finer) == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
    with pytest.raises(ValueError, match="same pictures"):
        align_labels(old, old[:3])


def test_drift_is_one_per_cent_at_the_fit_and_large_for_other_pictures() -> None:
    x, _ = blobs([800, 800, 800])
    fit = fit_kmeans(x, 3, seed=0)
    radius = cluster_model_table(fit, x)["radius_p99"].to_numpy()
    labels, distances = assign(x, fit.centroids)
    assert drift_share(distances, labels, radius) == pytest.approx(0.01, abs=0.003)
    rng = np.random.default_rng(9)
    strange = rng.normal(size=(400, 16)).astype(np.float32)
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    labels, distances = assign(strange, fit.centroids)
    assert drift_share(distances, labels, radius) > 0.5
    assert np.isnan(drift_share(distances[:0], labels[:0], radius))


def test_bad_input_is_refused_with_the_reason() -> None:
    x, _ = blobs([20, 20])
    with pytest.raises(ValueError, match="a corpus of 7 pictures is smaller than k=10 clusters"):
        fit_kmeans(x[:7], 10, seed=0)
    broken = x.copy()
    broken[5, 3] = np.nan
    with pytest.raises(ValueError, match="1 of 40 embeddings hold NaN or infinity, first at row 5"):
        fit_kmeans(broken, 2, seed=0)


@pytest.mark.parametrize("x", [np.ones((12, 4), np.float32), np.eye(4, dtype=np.float32)])
def test_identical_pictures_and_as_many_clusters_as_pictures(x: np.ndarray) -> None:
    fit = fit_kmeans(x, 4, seed=0)
    assert fit.inertia == pytest.approx(0, abs=1e-5)
    model = cluster_model_table(fit, x)
    assert model.height == 4 and model["pictures"].sum() == len(x)
    assert model.select(pl.col("pictures").is_sorted(descending=True)).item()
