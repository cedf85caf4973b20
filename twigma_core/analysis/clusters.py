"""k-means as the themes use it: the fit, the assignment, and the match between two labelings.

Here: numbers in, numbers out. Not here: the frozen model that months are assigned to (`cluster_model`), how
much it hangs on seed and k (`cluster_sensitivity`), what a cluster is about (`themes`), and the quantizers of
the divergences (`codebook`, which uses `fit_kmeans`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import xxhash

from twigma_core.analysis.faiss_device import has_gpus

_ROWS_PER_BLOCK = 2048
_ROWS_PER_CENTROID = 512
_ITERATIONS_OF_A_START = 12
_DIRECTIONS = 64
_ITERATIONS = 100
_GAIN = 1e-5
_CLOSE = 1e-5
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
    """Fit k-means to all rows, from the best of several k-means++ starts (paper, Sections 3 and 4.2).

    The starts are made by FAISS on a random sample of 512 rows a centroid, in its 64 leading directions; the
    best one is then carried on over all rows (Lloyd, 1982) until an iteration gains less than 1e-5 of the
    explained part. FAISS's own defaults (one random start on 256 rows a centroid, no pass over the others)
    end 3 to 4 % above the best inertia and depend on the order of the rows; many starts matter more than many
    rows a start. Labels run by size, largest first. The same rows, k, seed and starts give the same fit.

    Args:
        x: (n, d) float, finite.
        k: number of clusters, 1 to n.
        seed: seed of the sample and of the starts.
        starts: number of starts, of which the one with the lowest inertia is kept.

    Returns:
        The fit. Rows with fewer than k distinct values leave some clusters without a row.

    Raises:
        ValueError: fewer rows than clusters, `x` not two-dimensional or not finite, `k` or `starts` below 1.
    """
    x = _matrix(x)
    if k < 1 or starts < 1:
        raise ValueError(f"k={k} clusters from {starts} starts: both must be at least 1")
    if len(x) < k:
        raise ValueError(
            f"a corpus of {len(x)} pictures is smaller than k={k} clusters; "
            "materialize more months or choose a smaller k"
        )
    with threads_for(x.size * k):
        centroids = _lloyd(x, _best_start(x, k, seed, starts))
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
        version=version_of(centroids),
    )


def version_of(centroids: np.ndarray) -> str:
    """Return the version of a model: a hash of its centroids, 16 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(centroids).tobytes())[:16]


def _best_start(x: np.ndarray, k: int, seed: int, starts: int) -> np.ndarray:
    """Return centroids of the best of several starts, in the leading directions of a sample.

    For wide rows that takes a quarter of the time. The leading directions keep the cost of every partition
    nearly as it is where they are many times k (Cohen et al., 2015); beyond that, to k = 500, inertia after
    `_lloyd` was seen to stay as it was (docs/performance.md).
    """
    import faiss

    wanted = k * _ROWS_PER_CENTROID
    if len(x) > wanted:
        chosen = np.random.default_rng(seed).choice(len(x), size=wanted, replace=False)
        x = x[np.sort(chosen)]
    middle, directions = _leading(x, seed)
    low = np.ascontiguousarray((x - middle) @ directions.T, dtype=np.float32)
    model = faiss.Kmeans(
        low.shape[1],
        k,
        niter=_ITERATIONS_OF_A_START,
        nredo=starts,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,
        max_points_per_centroid=_ROWS_PER_CENTROID,
        gpu=has_gpus(),
    )
    model.train(low)
    return np.asarray(middle + model.centroids @ directions, dtype=np.float32)


def _leading(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of the rows, (d,), and their leading directions, (m, d); where those are few, all."""
    n, d = x.shape
    if d <= _DIRECTIONS or n <= _DIRECTIONS:
        return np.zeros(d, dtype=x.dtype), np.eye(d, dtype=x.dtype)
    from sklearn.utils.extmath import randomized_svd

    middle = x.mean(axis=0)
    _, _, directions = randomized_svd(
        x - middle, _DIRECTIONS, n_iter=2, power_iteration_normalizer="LU", random_state=seed
    )
    return middle, directions


def _lloyd(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Move centroids to the means of their rows until that gains next to nothing; an empty one stays."""
    k = len(centroids)
    before = -np.inf
    for _ in range(_ITERATIONS):
        half_norms = np.square(centroids).sum(axis=1) / 2
        sums = np.zeros(centroids.shape)
        counts = np.zeros(k, dtype=np.int64)
        explained = 0.0  # sum of x·c − |c|²/2 over the rows: what inertia loses, up to a constant
        for start in range(0, len(x), _ROWS_PER_BLOCK):
            block = x[start : start + _ROWS_PER_BLOCK]
            scores = block @ centroids.T - half_norms
            nearest = scores.argmax(axis=1)
            member = np.zeros(scores.shape, dtype=np.float32)
            member[np.arange(len(block)), nearest] = 1
            explained += float(scores[np.arange(len(block)), nearest].sum(dtype=np.float64))
            sums += member.T @ block
            counts += np.bincount(nearest, minlength=k)
        held = counts > 0
        centroids = centroids.copy()
        centroids[held] = sums[held] / counts[held, None]
        if explained - before <= _GAIN * abs(explained):
            break
        before = explained
    return centroids


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """Run FAISS and BLAS on one thread inside, unless there is enough to do: 10⁹ multiplications in one step.

    Their threads wait for one another by spinning: on a busy machine, small fits took 20 to 900 times as long
    with two threads as with one. The result is the same.
    """
    import faiss
    from threadpoolctl import threadpool_limits

    if work >= _WORK_FOR_THREADS:
        yield
        return
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        faiss.omp_set_num_threads(threads)


def assign(x: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centroid of each row: labels (n,) int64 from 1, distances (n,) float32 (Euclidean).

    Computed in float32 about the centroids' mean, and again in float64 for rows that are nearly as close to
    a second centroid: the label does not hang on the machine or on the other rows. Of equals, the first.

    Args:
        x: (n, d) float, finite; n may be 0.
        centroids: (k, d) float.

    Raises:
        ValueError: the widths differ, or a value is not finite.
    """
    x = _matrix(x)
    c = np.asarray(centroids, dtype=np.float64)
    if c.ndim != 2 or not len(c) or x.shape[1] != c.shape[1]:
        raise ValueError(
            f"embeddings have {x.shape[1]} dimensions and centroids are of shape {c.shape}: they come from "
            "different models; fit the cluster model again on embeddings of this model"
        )
    labels = np.empty(len(x), dtype=np.int64)
    distances = np.empty(len(x), dtype=np.float32)
    # far from the origin, products of float32 would cancel to nothing
    middle = c.mean(axis=0).astype(np.float32)
    near = (c - middle).astype(np.float32)
    half_norms = np.square(near).sum(axis=1) / 2
    reach = float(np.sqrt(2 * half_norms.max()))
    for start in range(0, len(x), _ROWS_PER_BLOCK):
        rows = slice(start, start + _ROWS_PER_BLOCK)
        block = x[rows] - middle
        scores = block @ near.T - half_norms
        nearest = scores.argmax(axis=1)
        if len(c) > 1:
            second, first = np.partition(scores, -2, axis=1)[:, -2:].T
            scale = reach * (np.sqrt(np.einsum("ij,ij->i", block, block)) + reach)
            close = np.flatnonzero(first - second <= _CLOSE * scale)
            exact = x[rows][close].astype(np.float64) @ c.T - np.square(c).sum(axis=1) / 2
            nearest[close] = exact.argmax(axis=1)
        block -= near[nearest]
        labels[rows] = nearest + 1
        distances[rows] = np.sqrt(np.einsum("ij,ij->i", block, block))
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


def _matrix(x: np.ndarray) -> np.ndarray:
    """Return `x` as a C-ordered float32 matrix, refusing what k-means cannot measure."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    if x.ndim != 2:
        raise ValueError(f"embeddings must be an (n, d) array, not of shape {x.shape}")
    bad = [
        start + int(row)
        for start in range(0, len(x), _ROWS_PER_BLOCK)
        for row in np.flatnonzero(~np.isfinite(x[start : start + _ROWS_PER_BLOCK]).all(axis=1))
    ]
    if bad:
        raise ValueError(f"{len(bad)} of {len(x)} embeddings hold NaN or infinity, first at row {bad[0]}")
    return x
