"""The map: UMAP of a sample of all sources, and the place of every later picture on it (Figures 2a, 4a).

Here: the fit and the placement, both as plain arrays. Not here: how the map is drawn (`figures`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import xxhash

from twigma_core import tables
from twigma_core.analysis.clusters import threads_for
from twigma_core.analysis.distances import check_rows
from twigma_core.stacked import StackedRows

COMPONENTS = 50
NEIGHBORS = 15
EPOCHS = 200
PER_SOURCE = 300
_MIN_FOR_UMAP = 5
_BISECTIONS = 64
_FLOOR = 1e-3  # UMAP's MIN_K_DIST_SCALE
_SAME = 1e-5  # closer than this in PCA space, two unit vectors are the same picture


def fit_projection(
    vectors: Mapping[str, tuple[Sequence[str], np.ndarray | StackedRows]],
    per_source: int = PER_SOURCE,
    seed: int = 0,
) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """Fit a two-dimensional UMAP map on an equal-sized sample of each source (McInnes et al., 2018).

    The rows are reduced to 50 principal components first, which halves the time and changes the map
    little. One thread and a fixed seed: the same rows give the same map. A sample of fewer than 5 pictures
    has no neighbourhoods to keep; its map is its first two principal components.

    Args:
        vectors: for each source, n ids and their (n, d) embeddings, of which the sample alone is read; a
            source may be empty.
        per_source: pictures to sample of each source; less where the smallest source has fewer.
        seed: seed of the samples and of UMAP.

    Returns:
        Table `projection_model`, and the arrays to store beside it: `pca_mean` (d,), `pca_components`
        (p, d), `vectors` (m, p) the sample in PCA space, `coordinates` (m, 2), all float32,
        and `reach` (1,), the distance within which 99 % of the sample have another of it.

    Raises:
        ValueError: no picture at all, or embeddings that differ in width or are not finite.
    """
    from sklearn.decomposition import PCA

    present = {source: pair for source, pair in vectors.items() if len(pair[0])}
    if not present:
        raise ValueError("projection_model: no picture in any source; materialize embeddings first")
    widths = {source: x.shape[1] for source, (_, x) in present.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"projection_model: embeddings of different models: dimensions {widths}")
    size = min(per_source, *(len(ids) for ids, _ in present.values()))
    rng = np.random.default_rng(seed)
    sources: list[str] = []
    image_ids: list[str] = []
    rows = []
    for source, (ids, x) in sorted(present.items()):
        chosen = np.sort(rng.choice(len(ids), size=size, replace=False))
        sources += [source] * size
        image_ids += [ids[int(i)] for i in chosen]
        rows.append(check_rows(np.asarray(x[chosen], dtype=np.float32), f"the sample of {source}"))
    sample = np.concatenate(rows)
    with np.errstate(invalid="ignore"):  # one picture has no variance, which is not used here
        pca = PCA(min(COMPONENTS, *sample.shape), svd_solver="full").fit(sample)
    arrays = {
        "pca_mean": pca.mean_.astype(np.float32),
        "pca_components": pca.components_.astype(np.float32),
    }
    arrays["vectors"] = _reduce(arrays, sample)
    arrays["coordinates"] = _umap(arrays["vectors"], seed)
    arrays["reach"] = _reach(arrays["vectors"])
    digest = xxhash.xxh3_128(arrays["coordinates"].tobytes() + arrays["vectors"].tobytes())
    table = pl.DataFrame(
        {
            "source": sources,
            "image_id": image_ids,
            "x": arrays["coordinates"][:, 0],
            "y": arrays["coordinates"][:, 1],
            "version": [digest.hexdigest()[:16]] * len(sources),
        }
    )
    return tables.conform("projection_model", table), arrays


def _umap(reduced: np.ndarray, seed: int) -> np.ndarray:
    n = len(reduced)
    if n < _MIN_FOR_UMAP:
        two = np.zeros((n, 2), dtype=np.float32)
        width = min(2, reduced.shape[1])
        two[:, :width] = reduced[:, :width]
        return two
    import warnings

    import umap

    with warnings.catch_warnings():
        # said once here: a fixed seed means one thread
        warnings.filterwarnings("ignore", message=".*n_jobs value.*")
        warnings.filterwarnings("ignore", message=".*Spectral initialisation failed.*")
        warnings.filterwarnings("ignore", message=".*not fully connected.*")
        # said of given neighbours: there is no index for later rows, which `project` places
        warnings.filterwarnings("ignore", message=".*knn_search_index.*")
        k = min(NEIGHBORS, n - 1)
        model = umap.UMAP(
            n_neighbors=k,
            # exact, and umap need not compile its own approximate search
            precomputed_knn=_nearest(reduced, reduced, k),
            n_epochs=EPOCHS,
            min_dist=0.1,
            # the spectral start needs more rows than it has eigenvectors to find
            init="spectral" if n > NEIGHBORS else "random",
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(model.fit_transform(reduced), dtype=np.float32)


def _nearest(sample: np.ndarray, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k rows of `sample` nearest to each row of `x` and their exact distances, ascending."""
    import faiss

    index = faiss.IndexFlatL2(sample.shape[1])
    index.add(sample)
    with threads_for(x.size * len(sample)):
        _, nearest = index.search(x, k)
    # FAISS's squared distances come from products: near zero their roots are off by 1e-4
    distances = np.linalg.norm(x[:, None, :].astype(np.float64) - sample[nearest], axis=2)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(nearest, order, axis=1), np.take_along_axis(distances, order, axis=1)


def project(arrays: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Place pictures on a fitted map: (n, 2) float32.

    A picture goes to the mean of the map coordinates of its nearest sample pictures, weighted by UMAP's
    membership strengths. This is the initialisation of `umap.UMAP.transform` (smooth_knn_dist,
    compute_membership_strengths, init_graph_transform), with exact neighbours and without the stochastic
    refinement after it: the place of a picture depends on nothing but the picture and the map. A picture of
    the sample keeps its place. The weights are computed here and not by umap, whose import costs seconds
    in each process; the tests compare the two.

    Args:
        arrays: what `fit_projection` returned, as loaded from the lake.
        x: (n, d) embeddings; n may be 0.

    Raises:
        ValueError: the width differs from that of the map, or a value is not finite.
    """
    x = _fitting(arrays, x)
    coordinates = np.asarray(arrays["coordinates"], dtype=np.float64)
    if not len(x):
        return np.empty((0, 2), dtype=np.float32)
    sample = np.ascontiguousarray(arrays["vectors"], dtype=np.float32)
    reduced = _reduce(arrays, x)
    k = min(NEIGHBORS, len(sample))
    nearest, distances = _nearest(sample, reduced, k)
    weights = membership(distances, k)
    same = distances[:, 0] < _SAME
    weights[same] = distances[same] < _SAME
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("nk,nkc->nc", weights, coordinates[nearest]).astype(np.float32)


def far_from_map(arrays: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Say of each picture whether it is farther from the map's sample than 99 % of that is from itself.

    Both are distances to the nearest other picture, in the map's PCA space. About 1 % of pictures like those
    of the fit are; of many more, the map has no place, and a refit should be considered.

    Args:
        arrays: what `fit_projection` returned.
        x: (n, d) embeddings; n may be 0.

    Returns:
        (n,) bool.

    Raises:
        ValueError: the width differs from that of the map, or a value is not finite.
    """
    x = _fitting(arrays, x)
    if not len(x):
        return np.zeros(0, dtype=bool)
    sample = np.ascontiguousarray(arrays["vectors"], dtype=np.float32)
    # A map that was fitted before its reach was kept has none: it is as much work as 20,000 pictures.
    reach = arrays["reach"] if "reach" in arrays else _reach(sample)
    theirs = _nearest(sample, _reduce(arrays, x), 1)[1][:, 0]
    return theirs > reach


def _reach(sample: np.ndarray) -> np.ndarray:
    """Return the distance within which 99 % of the sample have another of it, (1,)."""
    own = _nearest(sample, sample, min(2, len(sample)))[1][:, -1]
    return np.quantile(own, [0.99])


def _fitting(arrays: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float32)
    width = len(arrays["pca_mean"])
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(
            f"embeddings of shape {x.shape} do not fit a map of {width} dimensions: they come from different "
            "models; materialize projection_model again"
        )
    check_rows(x, "the embeddings")
    return x


def membership(distances: np.ndarray, k: int) -> np.ndarray:
    """Return UMAP's membership strengths of new points in their neighbours, exp(-d / sigma), (n, k) float64.

    sigma is such that the strengths beyond the first sum to log2(k) (McInnes et al., 2018, algorithm 3,
    with local connectivity 0, as for new points), and at least 1e-3 of the point's mean distance.

    Args:
        distances: (n, k) distances, ascending.
        k: neighbours.
    """
    target = np.log2(k)
    low = np.zeros(len(distances))
    high = np.full(len(distances), np.inf)
    sigma = np.ones(len(distances))
    for _ in range(_BISECTIONS):
        total = np.exp(-distances[:, 1:] / sigma[:, None]).sum(axis=1)
        high = np.where(total > target, sigma, high)
        low = np.where(total > target, low, sigma)
        sigma = np.where(np.isinf(high), sigma * 2, (low + high) / 2)
    # UMAP takes the mean over all new points here, which would make a place depend on the others
    floor = _FLOOR * distances.mean(axis=1)
    sigma = np.maximum(np.maximum(sigma, floor), np.finfo(np.float64).tiny)
    return np.exp(-distances / sigma[:, None])


def projection_table(
    month: str, ids: Sequence[str], x: np.ndarray, model_table: pl.DataFrame, arrays: Mapping[str, np.ndarray]
) -> pl.DataFrame:
    """Return table `projection` of a month; an empty month gives an empty table.

    Args:
        month: "YYYY-MM".
        ids: n picture ids.
        x: (n, d) their embeddings.
        model_table: table `projection_model`.
        arrays: the arrays beside it.

    Raises:
        ValueError: ids and rows do not match; see also `project`.
    """
    if len(ids) != len(x):
        raise ValueError(f"projection/{month}: {len(ids)} ids for {len(x)} embeddings")
    if not len(ids):
        return tables.empty("projection")
    places = project(arrays, x)
    frame = pl.DataFrame(
        {
            "image_id": list(ids),
            "month": [month] * len(ids),
            "x": places[:, 0],
            "y": places[:, 1],
            "version": [model_table["version"][0]] * len(ids),
        }
    )
    return tables.conform("projection", frame)


def _reduce(arrays: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    centred = np.asarray(x, dtype=np.float64) - arrays["pca_mean"]
    return np.ascontiguousarray(centred @ arrays["pca_components"].T.astype(np.float64), dtype=np.float32)
