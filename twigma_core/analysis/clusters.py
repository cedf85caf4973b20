"""k-means themes: fitting the frozen model, assigning pictures to it, and telling when it has aged.

Here: the fit, the assignment, the match between two labelings, the drift measure, and the two tables of
them. Not here: what a cluster is about and how its share moves (`themes`), and the quantizers of the
divergences (`codebook`, which uses `fit_kmeans`).

A fit is made on demand and then frozen: new months are assigned to its centroids, so that no label of an
old picture ever changes. A refit is a deliberate act; `align_labels` gives the crosswalk to the old labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import polars as pl
import xxhash

from twigma_core import tables

_ROWS_PER_BLOCK = 8192
_ITERATIONS = 50
_WORK_FOR_THREADS = 1_000_000_000


@dataclass(frozen=True)
class KMeansFit:
    """A fitted k-means model.

    Attributes:
        centroids: (k, d) float32; row i is the centroid of label i + 1.
        labels: (n,) int64 labels 1..k of the rows that were fitted; 1 is the largest cluster.
        inertia: sum of squared Euclidean distances of the rows to their centroids.
        starts: random starts tried; the best one is kept.
        seed: seed of the first start.
        version: hash of the centroids.
    """

    centroids: np.ndarray
    labels: np.ndarray
    inertia: float
    starts: int
    seed: int
    version: str

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centroids)


def fit_kmeans(x: np.ndarray, k: int, seed: int, starts: int = 10) -> KMeansFit:
    """Fit k-means to all rows, from several k-means++ starts (FAISS; paper, Sections 3 and 4.2).

    FAISS's own defaults (one random start on 256 rows a centroid) end 3 to 4 % above the best inertia and
    depend on the order of the rows; several starts on all rows cost little. Labels run by size, largest
    first. The same rows, k, seed and starts give the same fit.

    Args:
        x: (n, d) float, finite.
        k: number of clusters, 1 to n.
        seed: seed of the starts.
        starts: number of starts, of which the one with the lowest inertia is kept.

    Returns:
        The fit. Rows with fewer than k distinct values leave some clusters without a row.

    Raises:
        ValueError: fewer rows than clusters, `x` not two-dimensional or not finite, `k` or `starts` below 1.
    """
    import faiss

    x = _matrix(x)
    if k < 1 or starts < 1:
        raise ValueError(f"k={k} clusters from {starts} starts: both must be at least 1")
    if len(x) < k:
        raise ValueError(
            f"a corpus of {len(x)} pictures is smaller than k={k} clusters; "
            "materialize more months or choose a smaller k"
        )
    model = faiss.Kmeans(
        x.shape[1],
        k,
        niter=_ITERATIONS,
        nredo=starts,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,
        max_points_per_centroid=len(x),
    )
    with faiss_threads(x.size * k):
        model.train(x)
    centroids = np.array(model.centroids, dtype=np.float32)
    labels, distances = assign(x, centroids)
    order = np.argsort(-np.bincount(labels - 1, minlength=k), kind="stable")
    rank = np.empty(k, dtype=np.int64)
    rank[order] = np.arange(1, k + 1)
    centroids = np.ascontiguousarray(centroids[order])
    return KMeansFit(
        centroids=centroids,
        labels=rank[labels - 1],
        inertia=float(np.square(distances, dtype=np.float64).sum()),
        starts=starts,
        seed=seed,
        version=xxhash.xxh3_128_hexdigest(centroids.tobytes())[:16],
    )


@contextmanager
def faiss_threads(work: int) -> Iterator[None]:
    """Run FAISS on one thread inside, unless there is enough to do: 10⁹ multiplications in one step.

    Its threads wait for one another by spinning: on a busy machine, small fits took 20 to 900 times as long
    with two threads as with one. The result is the same.
    """
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if work < _WORK_FOR_THREADS else threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def assign(x: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centroid of each row: labels (n,) int64 from 1, distances (n,) float32 (Euclidean).

    Args:
        x: (n, d) float, finite; n may be 0.
        centroids: (k, d) float.

    Raises:
        ValueError: the widths differ, or a value is not finite.
    """
    x = _matrix(x)
    c = np.asarray(centroids, dtype=np.float64)
    if c.ndim != 2 or x.shape[1] != c.shape[1]:
        raise ValueError(
            f"embeddings have {x.shape[1]} dimensions and centroids are of shape {c.shape}: they come from "
            "different models; fit the cluster model again on embeddings of this model"
        )
    labels = np.empty(len(x), dtype=np.int64)
    distances = np.empty(len(x), dtype=np.float32)
    half_norms = np.square(c).sum(axis=1) / 2
    for start in range(0, len(x), _ROWS_PER_BLOCK):
        # float64: far from the origin, float32 products would cancel to nothing
        block = x[start : start + _ROWS_PER_BLOCK].astype(np.float64)
        nearest = np.argmax(block @ c.T - half_norms, axis=1)
        labels[start : start + len(block)] = nearest + 1
        distances[start : start + len(block)] = np.linalg.norm(block - c[nearest], axis=1)
    return labels, distances


def align_labels(old: np.ndarray, new: np.ndarray) -> dict[int, int]:
    """Return the crosswalk from the labels of a new fit to those of an old one, for the same pictures.

    The match that keeps the most pictures under their old label (Hungarian method). New labels in excess
    of the old ones get numbers above the largest old label.

    Args:
        old: (n,) integer labels of the old fit.
        new: (n,) integer labels of the new fit, row for row.

    Returns:
        For each label in `new`, the label it should carry.

    Raises:
        ValueError: the two do not describe the same number of pictures.
    """
    from scipy.optimize import linear_sum_assignment

    if len(old) != len(new):
        raise ValueError(
            f"labels of {len(old)} and {len(new)} pictures cannot be aligned: pass the same pictures"
        )
    old_values, old_codes = np.unique(np.asarray(old), return_inverse=True)
    new_values, new_codes = np.unique(np.asarray(new), return_inverse=True)
    together = np.zeros((len(new_values), len(old_values)), dtype=np.int64)
    np.add.at(together, (new_codes, old_codes), 1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    mapping = {
        int(new_values[row]): int(old_values[column]) for row, column in zip(rows, columns, strict=True)
    }
    spare = max((int(value) for value in old_values), default=0)
    for value in new_values:
        if int(value) not in mapping:
            spare += 1
            mapping[int(value)] = spare
    return mapping


def cluster_model_table(fit: KMeansFit, x: np.ndarray) -> pl.DataFrame:
    """Return table `cluster_model`, one row a centroid; `fit.centroids` is the array to store beside it.

    Args:
        fit: the fit.
        x: (n, d) the rows it was fitted on.

    Raises:
        ValueError: `x` is not what was fitted.
    """
    if len(x) != len(fit.labels):
        raise ValueError(
            f"the model was fitted on {len(fit.labels)} rows, not {len(x)}: pass the rows of the fit"
        )
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
    return tables.conform("cluster_model", pl.DataFrame(rows))


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


def _matrix(x: np.ndarray) -> np.ndarray:
    """Return `x` as a C-ordered float32 matrix, refusing what k-means cannot measure."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    if x.ndim != 2:
        raise ValueError(f"embeddings must be an (n, d) array, not of shape {x.shape}")
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(x)} embeddings hold NaN or infinity, first at row {bad.argmax()}"
        )
    return x
