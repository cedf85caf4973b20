"""Nearest human pictures of each picture, by cosine similarity (paper, Figures 2d and 4e).

Here: exact nearest-neighbour search and the tables `neighbors` and `inspirations`. Not here: what
similarity has to do with likes (`engagement`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core import tables

if TYPE_CHECKING:
    import torch

_QUERIES_PER_BLOCK = 2048
_BASE_PER_BLOCK = 32768
_GROUP = 64


def mean_topk_similarity(queries: np.ndarray, base: np.ndarray, k: int = 5) -> np.ndarray:
    """Return the mean cosine similarity of each query's k nearest rows of `base`, (n,) float64.

    Args:
        queries: (n, d) float; rows are normalised here.
        base: (m, d) float; with m < k, the mean is over all m.
        k: neighbours.

    Raises:
        ValueError: see `topk`.
    """
    similarities, _ = topk(queries, base, k)
    return similarities.mean(axis=1, dtype=np.float64)


def topk(queries: np.ndarray, base: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find each query's k most similar rows of `base`, exactly: blocked products, two-level selection.

    In each block the columns are taken in groups of 64: the k best lie in the k groups with the largest
    maxima, so that only those are searched. This is several times faster than FAISS's flat index as
    shipped, and exact up to ties.

    Args:
        queries: (n, d) float; rows are normalised here.
        base: (m, d) float.
        k: neighbours; with m < k, all m are returned.

    Returns:
        Cosine similarities (n, min(k, m)) float32, most similar first, and row numbers of `base`, int64.

    Raises:
        ValueError: no row in `base`, k below 1, different widths, a zero or non-finite row.
    """
    import torch

    if k < 1:
        raise ValueError(f"k={k} neighbours: at least 1 is needed")
    q, b = _unit_rows(queries, "queries"), _unit_rows(base, "base")
    if not len(b):
        raise ValueError("no picture to compare with: the base has no row; materialize its embeddings first")
    if q.shape[1] != b.shape[1]:
        raise ValueError(
            f"queries have {q.shape[1]} dimensions and the base {b.shape[1]}: they come from different models"
        )
    k = min(k, len(b))
    similarities = np.empty((len(q), k), dtype=np.float32)
    indices = np.empty((len(q), k), dtype=np.int64)
    queries_t, base_t = torch.from_numpy(q), torch.from_numpy(b)
    with torch.inference_mode():
        for start in range(0, len(q), _QUERIES_PER_BLOCK):
            block = queries_t[start : start + _QUERIES_PER_BLOCK]
            found = [
                _block_topk(block, base_t[first : first + _BASE_PER_BLOCK], first, k)
                for first in range(0, len(b), _BASE_PER_BLOCK)
            ]
            values = torch.cat([v for v, _ in found], dim=1).numpy()
            rows = torch.cat([i for _, i in found], dim=1).numpy()
            order = np.lexsort((rows, -values), axis=1)[:, :k]  # among equals, the earlier row first
            similarities[start : start + len(block)] = np.take_along_axis(values, order, axis=1)
            indices[start : start + len(block)] = np.take_along_axis(rows, order, axis=1)
    return np.clip(similarities, -1, 1), indices


def _block_topk(
    block: torch.Tensor, part: torch.Tensor, first: int, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k best of one product, (values, row numbers from `first`): fewer if it has fewer columns."""
    import torch

    products = block @ part.T
    columns = products.shape[1]
    groups = columns // _GROUP
    if groups <= 2 * k:
        values, index = torch.topk(products, min(k, columns), dim=1)
        return values, index + first
    head = products[:, : groups * _GROUP].view(len(block), groups, _GROUP)
    best = torch.topk(head.amax(dim=2), k, dim=1).indices
    inside = torch.gather(head, 1, best.unsqueeze(2).expand(-1, -1, _GROUP)).reshape(len(block), -1)
    number = (best.unsqueeze(2) * _GROUP + torch.arange(_GROUP)).reshape(len(block), -1)
    tail = products[:, groups * _GROUP :]
    inside = torch.cat([inside, tail], dim=1)
    rest = torch.arange(groups * _GROUP, columns).expand(len(block), -1)
    number = torch.cat([number, rest], dim=1)
    values, position = torch.topk(inside, k, dim=1)
    return values, torch.gather(number, 1, position) + first


def nearest(
    queries: np.ndarray, base: np.ndarray, base_ids: Sequence[str], k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean similarity, ids and similarities of the k most similar rows of `base`.

    Args:
        queries: (n, d) float.
        base: (m, d) float.
        base_ids: m ids.
        k: neighbours.

    Returns:
        Mean similarity (n,) float64; ids (n, min(k, m)) of objects; similarities (n, min(k, m)) float32.

    Raises:
        ValueError: ids and rows of the base do not match; see also `topk`.
    """
    if len(base_ids) != len(base):
        raise ValueError(f"{len(base_ids)} ids for {len(base)} rows of the base")
    similarities, indices = topk(queries, base, k)
    names = np.array(list(base_ids), dtype=object)
    return similarities.mean(axis=1, dtype=np.float64), names[indices], similarities


def neighbors_table(
    month: str,
    ids: Sequence[str],
    x: np.ndarray,
    corpora: Mapping[str, tuple[Sequence[str], np.ndarray]],
    k: int = 5,
) -> pl.DataFrame:
    """Return table `neighbors` of a month: a row for each picture and corpus; none for an empty month.

    Args:
        month: "YYYY-MM".
        ids: n picture ids.
        x: (n, d) their embeddings.
        corpora: ids and (m, d) embeddings of each human corpus.
        k: neighbours.

    Raises:
        ValueError: ids and rows do not match, or a corpus has no picture; the message names it.
    """
    if len(ids) != len(x):
        raise ValueError(f"neighbors/{month}: {len(ids)} ids for {len(x)} embeddings")
    if not len(ids):
        return tables.empty("neighbors")
    parts = []
    for corpus, (base_ids, base) in sorted(corpora.items()):
        try:
            similarity, names, similarities = nearest(x, base, base_ids, k)
        except ValueError as error:
            raise ValueError(f"neighbors/{month}: corpus {corpus}: {error}") from error
        parts.append(
            pl.DataFrame(
                {
                    "image_id": list(ids),
                    "corpus": [corpus] * len(ids),
                    "month": [month] * len(ids),
                    "similarity": similarity,
                    "neighbor_ids": names.tolist(),
                    "neighbor_similarities": similarities.tolist(),
                },
                schema_overrides={"neighbor_similarities": pl.List(pl.Float32)},
            )
        )
    return tables.conform("neighbors", pl.concat(parts)) if parts else tables.empty("neighbors")


def inspirations(
    neighbors: pl.DataFrame, dataset: pl.DataFrame, references: pl.DataFrame | None = None, n: int = 24
) -> pl.DataFrame:
    """Return table `inspirations`: the n pictures closest to a single human picture (paper, Figure 4e).

    Each picture appears once, with the nearest of all corpora. A human picture may appear beside several. The
    margin over the second nearest tells a likely source from one of many look-alikes.

    Args:
        neighbors: table `neighbors`, any months.
        dataset: table `dataset`, for the NSFW scores; a picture that is not in it is left out.
        references: columns corpus, image_id, nsfw_score of the human pictures; without them their scores are
            unknown.
        n: pairs to keep.
    """
    best = (
        neighbors.filter(pl.col("neighbor_ids").list.len() > 0)
        .select(
            "image_id",
            "corpus",
            neighbor_id=pl.col("neighbor_ids").list.first(),
            similarity=pl.col("neighbor_similarities").list.first().cast(pl.Float64),
            second=pl.col("neighbor_similarities").list.get(1, null_on_oob=True).cast(pl.Float64),
        )
        .join(dataset.select("image_id", "nsfw_score"), on="image_id", how="inner")
        .sort(["similarity", "image_id", "corpus"], descending=[True, False, False])
        .unique("image_id", keep="first", maintain_order=True)
        .head(n)
        .with_row_index("rank", offset=1)
        .with_columns(margin=pl.col("similarity") - pl.col("second"))
    )
    if references is None:
        best = best.with_columns(neighbor_nsfw_score=pl.lit(None, pl.Float32))
    else:
        theirs = references.select("corpus", neighbor_id="image_id", neighbor_nsfw_score="nsfw_score")
        theirs = theirs.unique(["corpus", "neighbor_id"])
        best = best.join(theirs, on=["corpus", "neighbor_id"], how="left", maintain_order="left")
    return tables.conform("inspirations", best.select(tables.SCHEMAS["inspirations"].column_names()))


def _unit_rows(x: np.ndarray, name: str) -> np.ndarray:
    """Return a copy of `x` with rows of length 1, float32, refusing rows without a direction."""
    x = np.array(x, dtype=np.float32, order="C")
    if x.ndim != 2:
        raise ValueError(f"{name} must be an (n, d) array, not of shape {x.shape}")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    bad = ~(np.isfinite(norms) & (norms > 0)).ravel()
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(x)} {name} are zero, NaN or infinite, first at row {bad.argmax()}: "
            "they have no cosine similarity"
        )
    x /= norms
    return x
