"""How much the clusters hang on the seed and on k (paper, Section 4.2: "other values of k yielded similar").

Here: refits with other seeds and numbers of clusters, beside the model in force. Not here: the model itself
(`cluster_model`) and the trends, which are those of `themes`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.clusters import assign, fit_kmeans
from twigma_core.analysis.themes import cluster_trends

SIZES = (5, 8, 10, 15, 20)
SEEDS = (1, 2, 3)
SAMPLE = 20_000
_SILHOUETTE = 1_000


def cluster_sensitivity(
    x: np.ndarray,
    months: Sequence[str] | pl.Series,
    centroids: np.ndarray,
    sizes: Sequence[int] = SIZES,
    seeds: Sequence[int] = SEEDS,
    sample: int = SAMPLE,
    starts: int = 10,
) -> pl.DataFrame:
    """Return table `cluster_sensitivity`: a row for each number of clusters and seed.

    Each fit is made on one random sample; inertia and the adjusted Rand indices (Hubert and Arabie, 1985)
    are of that sample, the silhouette (Rousseeuw, 1987) of 1,000 of it. The trends are those of all pictures,
    assigned to the fit's centroids.

    Args:
        x: (n, d) embeddings of the dataset.
        months: n months, "YYYY-MM".
        centroids: (k, d) those of the model in force, whose k is among the sizes.
        sizes: numbers of clusters to try; those above the number of sampled pictures are left out,
            and the table is empty where all are.
        seeds: seeds to try for each.
        sample: pictures to fit on, at most.
        starts: starts of each fit.

    Raises:
        ValueError: months and rows differ in number, or there is no picture.
    """
    from sklearn.metrics import adjusted_rand_score, pairwise_distances

    if len(months) != len(x):
        raise ValueError(f"cluster_sensitivity: {len(months)} months for {len(x)} embeddings")
    if not len(x):
        raise ValueError("cluster_sensitivity: no picture; materialize dataset for at least one month")
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(x), size=min(sample, len(x)), replace=False))
    rows = np.ascontiguousarray(x[chosen], dtype=np.float32)
    in_force = assign(rows, centroids)[0]
    few = rng.choice(len(rows), size=min(_SILHOUETTE, len(rows)), replace=False)
    apart = pairwise_distances(rows[few])
    found: list[dict[str, object]] = []
    for k in sorted({*sizes, len(centroids)}):
        if k > len(rows):
            continue
        fits = [fit_kmeans(rows, k, seed, starts) for seed in seeds]
        lowest = min(fit.inertia for fit in fits)
        for fit in fits:
            others = [adjusted_rand_score(fit.labels, other.labels) for other in fits if other is not fit]
            row = {
                "k": k,
                "seed": fit.seed,
                "pictures": len(rows),
                "inertia": fit.inertia,
                "excess": fit.inertia / lowest - 1 if lowest > 0 else 0.0,
                "silhouette": _silhouette(apart, fit.labels[few]),
                "ari_seeds": float(np.mean(others)) if others else None,
                "ari_model": float(adjusted_rand_score(fit.labels, in_force)),
            }
            found.append(row | _shifts(assign(x, fit.centroids)[0], months, k))
    if not found:
        return tables.empty("cluster_sensitivity")
    return tables.conform("cluster_sensitivity", pl.DataFrame(found, infer_schema_length=None))


def _silhouette(apart: np.ndarray, labels: np.ndarray) -> float | None:
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(labels)) < len(labels):
        return None
    return float(silhouette_score(apart, labels, metric="precomputed"))


def _shifts(labels: np.ndarray, months: Sequence[str] | pl.Series, k: int) -> dict[str, object]:
    """Return how many clusters rise and fall, and the share of pictures in them."""
    trends = cluster_trends(pl.DataFrame({"month": months, "cluster": labels}), k)
    directions = trends.group_by("cluster").agg(
        pl.col("trend").first().cast(pl.String), pl.col("pictures").sum()
    )
    moving = directions.filter(pl.col("trend").is_in(["rising", "falling"]))
    known = (directions["trend"] != "unknown").any()
    return {
        "rising": moving.filter(trend="rising").height,
        "falling": moving.filter(trend="falling").height,
        "shifting": moving["pictures"].sum() / len(labels) if known else None,
    }


def explain(table: pl.DataFrame, k: int) -> str:
    """Say in plain sentences how stable k clusters are over seeds, and whether other k tell the same."""
    ours = table.filter(k=k)
    if ours.is_empty():
        return f"k = {k} was not tried."
    text = f"k = {k}: "
    agreements = ours["ari_seeds"].drop_nulls().to_list()
    if agreements:
        with_model = np.mean(ours["ari_model"].to_list())
        text += (
            f"two seeds agree to an adjusted Rand index of {np.mean(agreements):.2f} on average, inertias "
            f"differ by at most {100 * max(ours['excess']):.2g} %; the model in force agrees with them to "
            f"{with_model:.2f}. "
        )
    shifting = table.drop_nulls("shifting").group_by("k").agg(pl.col("shifting").mean()).sort("k")
    if shifting.is_empty():
        return text + "Fewer than three months: no trend to compare."
    parts = ", ".join(f"{100 * share:.0f} % (k = {size})" for size, share in shifting.iter_rows())
    return text + f"Pictures in rising or falling clusters: {parts}."
