"""Nearest human pictures of each picture, by cosine similarity (paper, Figures 2d and 4e).

Here: mean similarities and the tables `neighbors` and `inspirations`. Not here: the search itself
(`exact_search`), and what similarity has to do with likes (`engagement`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.exact_search import topk


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
