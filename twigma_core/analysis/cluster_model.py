"""The frozen, versioned cluster model: months are assigned to it, a refit carries the labels on.

Here: the model's table, the crosswalk from one version to the next, the table of a month, and the drift
measure. Not here: k-means itself (`clusters`) and what a cluster is about (`themes`).

A fit is made on demand and then frozen: new months are assigned to its centroids, so that no label of an
old picture ever changes. A refit is a deliberate act. Its clusters take over the labels of the old ones that
they continue, and the table says how many pictures went along.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.clusters import KMeansFit, align_labels, assign, version_of
from twigma_core.lake import ArrayTable, Lake


def freeze(fit: KMeansFit, x: np.ndarray, previous: ArrayTable | None = None) -> ArrayTable:
    """Return the model to store: table `cluster_model` with the array `centroids` (k, d) float32.

    With a previous model of as many clusters, labels follow it: each new cluster takes the label of the old
    one with which it shares most pictures, one to one (`clusters.align_labels`). Else they run by size.

    Args:
        fit: the fit.
        x: (n, d) the rows it was fitted on.
        previous: the model that this one replaces.

    Raises:
        ValueError: `x` is not what was fitted.
    """
    if len(x) != len(fit.labels):
        raise ValueError(
            f"the model was fitted on {len(fit.labels)} rows, not {len(x)}: pass the rows of the fit"
        )
    old = _labels_under(previous, x)
    if previous is not None and old is not None and previous.table.height == fit.k:
        fit = _renumbered(fit, align_labels(old, fit.labels))
    labels, distances = assign(x, fit.centroids)
    rows = []
    for cluster in range(1, fit.k + 1):
        inside = distances[labels == cluster]
        rows.append(
            {
                "cluster": cluster,
                "version": fit.version,
                "pictures": len(inside),
                "radius_p99": float(np.quantile(inside, 0.99)) if len(inside) else 0.0,
                "inertia": fit.inertia,
                "starts": fit.starts,
                "seed": fit.seed,
            }
        )
    table = pl.DataFrame(rows).with_columns(*_crosswalk(fit, labels, previous, old))
    return ArrayTable(tables.conform("cluster_model", table), {"centroids": fit.centroids})


def keep(lake: Lake, model: ArrayTable) -> str:
    """Store the centroids of a version for good, where a refit does not replace them; return the file."""
    buffer = io.BytesIO()
    np.save(buffer, model.arrays["centroids"], allow_pickle=False)
    name = f"models/cluster_model/{model.table['version'][0]}.npy"
    return str(lake.write_bytes(name, buffer.getvalue()))


def _labels_under(model: ArrayTable | None, x: np.ndarray) -> np.ndarray | None:
    """Return the rows' labels of a model, None where there is none or its embeddings are another model's."""
    if model is None or model.arrays["centroids"].shape[1] != np.shape(x)[1]:
        return None
    return assign(x, model.arrays["centroids"])[0]


def _renumbered(fit: KMeansFit, names: dict[int, int]) -> KMeansFit:
    """Return a fit whose clusters carry the labels that `names` gives them, the free ones in order."""
    wanted = {label: name for label, name in names.items() if name <= fit.k}
    free = iter(sorted(set(range(1, fit.k + 1)) - set(wanted.values())))
    label_of = np.array([wanted.get(label) or next(free) for label in range(1, fit.k + 1)])
    centroids = np.empty_like(fit.centroids)
    centroids[label_of - 1] = fit.centroids
    return replace(fit, centroids=centroids, labels=label_of[fit.labels - 1], version=version_of(centroids))


def _crosswalk(
    fit: KMeansFit, labels: np.ndarray, previous: ArrayTable | None, old: np.ndarray | None
) -> list[pl.Series]:
    """Return the columns that say what each cluster was called under the previous model."""
    columns = ("previous_version", "previous_cluster", "kept")
    if previous is not None and previous.table["version"][0] == fit.version:
        return [previous.table[column] for column in columns]  # fitted again to the same end
    version = None if previous is None else previous.table["version"][0]
    before: list[int | None] = [None] * fit.k
    kept: list[float | None] = [None] * fit.k
    if old is not None:
        known = {int(label) for label in np.unique(old)}
        for label, name in align_labels(old, labels).items():
            if name in known:
                before[label - 1] = name
                kept[label - 1] = float(np.mean(labels[old == name] == label))
    return [
        pl.Series("previous_version", [version] * fit.k, dtype=pl.String),
        pl.Series("previous_cluster", before, dtype=pl.Int64),
        pl.Series("kept", kept, dtype=pl.Float64),
    ]


def assign_month(
    ids: Sequence[str], x: np.ndarray, model_table: pl.DataFrame, centroids: np.ndarray, month: str
) -> pl.DataFrame:
    """Return table `clusters` of a month under the frozen model; an empty month gives an empty table.

    Args:
        ids: n picture ids.
        x: (n, d) their embeddings.
        model_table: table `cluster_model`.
        centroids: (k, d) the array beside it.
        month: "YYYY-MM".

    Raises:
        ValueError: ids and rows, or model and centroids, do not match.
    """
    if len(ids) != len(x):
        raise ValueError(f"clusters/{month}: {len(ids)} ids for {len(x)} embeddings")
    if model_table.height != len(centroids):
        raise ValueError(
            f"clusters/{month}: cluster_model has {model_table.height} rows and {len(centroids)} centroids; "
            "materialize cluster_model again"
        )
    if not len(ids):
        return tables.empty("clusters")
    labels, distances = assign(x, centroids)
    frame = pl.DataFrame(
        {
            "image_id": list(ids),
            "month": [month] * len(ids),
            "cluster": labels,
            "distance": distances,
            "version": [model_table["version"][0]] * len(ids),
        }
    )
    return tables.conform("clusters", frame)


def drift_share(distances: np.ndarray, labels: np.ndarray, radius: np.ndarray) -> float:
    """Return the share of pictures farther from their centroid than 99 % of the fit's pictures were.

    About 0.01 where the pictures are like those of the fit; much more means that the model has aged and a
    refit should be considered.

    Args:
        distances: (n,) distances to the centroids.
        labels: (n,) labels from 1.
        radius: (k,) column `radius_p99` of table `cluster_model`, by label.

    Returns:
        A share in [0, 1]; NaN for no pictures.
    """
    if not len(distances):
        return float("nan")
    # distances are stored as float32: without the allowance a picture at its own radius could count
    limit = np.asarray(radius, dtype=np.float64)[np.asarray(labels) - 1] * (1 + 1e-6)
    return float(np.mean(np.asarray(distances, dtype=np.float64) > limit))
