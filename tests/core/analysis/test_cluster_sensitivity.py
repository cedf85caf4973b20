from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from tests.core.analysis.test_clusters import blobs
from twigma_core.analysis.cluster_sensitivity import cluster_sensitivity, explain
from twigma_core.analysis.clusters import fit_kmeans
from twigma_core.analysis.themes import cluster_trends


def world(sizes: list[int], months: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return vectors of groups, of which the first becomes rarer and the last more frequent."""
    x, truth = blobs(sizes, seed=3)
    rng = np.random.default_rng(0)
    tilt = {0: -1.0, len(sizes) - 1: 1.0}
    p = np.array([[np.exp(tilt.get(g, 0.0) * 0.6 * m) for m in range(months)] for g in range(len(sizes))])
    month = [int(rng.choice(months, p=p[g] / p[g].sum())) for g in truth]
    return x, [f"2021-{m + 1:02d}" for m in month], truth


def test_groups_that_are_there_are_found_by_every_seed_and_best_by_their_own_k() -> None:
    x, months, truth = world([300, 250, 200, 150], 5)
    centroids = fit_kmeans(x, 4, seed=9).centroids
    table = cluster_sensitivity(x, months, centroids, sizes=(2, 3, 6, 2000))
    assert table["k"].unique().to_list() == [2, 3, 4, 6], "the model's own k is there, too large ones are not"
    own = table.filter(k=4)
    assert (own["ari_seeds"] > 0.99).all() and (own["ari_model"] > 0.99).all()
    mean = table.group_by("k").agg(pl.col("silhouette", "inertia").mean()).sort("k")
    assert mean["silhouette"].arg_max() == 2
    assert mean["inertia"].is_sorted(descending=True)
    direct = cluster_trends(pl.DataFrame({"month": months, "cluster": truth + 1}), 4)
    moving = direct.filter(pl.col("trend").is_in(["rising", "falling"]))
    assert moving.height and moving["cluster"].n_unique() < 4
    assert own["rising"].to_list() == [moving.filter(trend="rising")["cluster"].n_unique()] * 3
    assert own["falling"].to_list() == [moving.filter(trend="falling")["cluster"].n_unique()] * 3
    assert own["shifting"].to_list() == pytest.approx([moving["pictures"].sum() / len(x)] * 3, abs=0.02)
    said = explain(table, 4)
    assert said.startswith("k = 4: two seeds agree to an adjusted Rand index of 1.00")
    assert f"{100 * own['shifting'][0]:.0f} % (k = 4)" in said
    assert explain(table, 7) == "k = 7 was not tried."


def test_numbers_are_those_of_the_fits() -> None:
    x, months, _ = world([90, 80, 70], 4)
    centroids = fit_kmeans(x, 3, seed=0).centroids
    row = cluster_sensitivity(x, months, centroids, sizes=(5,), seeds=(7, 8)).filter(k=5).row(0, named=True)
    chosen, other = (fit_kmeans(x, 5, seed) for seed in (7, 8))
    assert row["inertia"] == pytest.approx(chosen.inertia)
    assert row["excess"] == pytest.approx(chosen.inertia / min(chosen.inertia, other.inertia) - 1)
    assert row["ari_seeds"] == pytest.approx(adjusted_rand_score(chosen.labels, other.labels))
    assert row["silhouette"] == pytest.approx(silhouette_samples(x, chosen.labels).mean(), abs=1e-4)
    direct = cluster_trends(pl.DataFrame({"month": months, "cluster": chosen.labels}), 5)
    assert row["rising"] == direct.filter(trend="rising")["cluster"].n_unique()


def test_one_picture_two_months_and_nothing() -> None:
    x, months, _ = world([40, 40], 2)
    early = cluster_sensitivity(x, months, x[:2], sizes=(3,), seeds=(1,))
    assert early["shifting"].null_count() == early["ari_seeds"].null_count() == early.height
    assert explain(early, 3).endswith("no trend to compare.")
    one = cluster_sensitivity(x[:1], months[:1], x[:1], sizes=(5,))
    assert one["k"].unique().to_list() == [1] and one["silhouette"].null_count() == one.height
    same = cluster_sensitivity(np.ones((9, 4), np.float32), ["2021-01"] * 9, np.eye(4)[:2], sizes=(3,))
    assert same["inertia"].max() == pytest.approx(0, abs=1e-6) and (same["excess"] == 0).all()
    with pytest.raises(ValueError, match="1 months for 2"):
        cluster_sensitivity(x[:2], months[:1], x[:1])
    with pytest.raises(ValueError, match="no picture"):
        cluster_sensitivity(x[:0], [], x[:1])
