"""Pictures that a text describes: the nearest of the dataset's embeddings to the text's own.

What belongs here: the search. What does not: how its results are shown (`app`, the command line).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from twigma_core.lake import Lake, MissingPartition

if TYPE_CHECKING:
    from twigma_core.models.clip import ClipEncoder

RESULT = {
    "rank": pl.Int64,
    "image_id": pl.String,
    "month": pl.String,
    "similarity": pl.Float32,
    "caption": pl.String,
    "nsfw_score": pl.Float32,
}


def find(
    lake: Lake,
    encoder: ClipEncoder,
    text: str,
    months: Sequence[str] | None = None,
    k: int = 20,
    cluster: int | None = None,
) -> pl.DataFrame:
    """Return the k pictures of the dataset that CLIP finds nearest to a text (Radford et al., 2021).

    Vectors are mapped into memory a month at a time, so memory does not grow with the number of months.

    Args:
        lake: with `dataset` and `embeddings`.
        encoder: the model that made the embeddings.
        text: what to look for, best as a caption would say it.
        months: to look in; None is all months of the dataset.
        k: pictures; fewer where there are no more.
        cluster: label that they must have; None is any or none.

    Returns:
        rank (from 1), image_id, month, similarity (cosine), caption, nsfw_score; most similar first.

    Raises:
        ValueError: the text is empty, k is below 1, or another model made the embeddings of a month.
        MissingPartition: a month, or every month, has not been materialized.
    """
    if not text.strip():
        raise ValueError("search: the text is empty; say what to look for")
    if k < 1:
        raise ValueError(f"search: k is {k}; it must be at least 1")
    wanted = list(months) if months else lake.partitions("dataset")
    if not wanted:
        raise MissingPartition("dataset has no month; materialize dataset first")
    query = encoder.encode_texts([text])[0]
    best = pl.DataFrame(schema=RESULT)
    for month in wanted:
        rows = lake.read("dataset", month).select("image_id", "month", "caption", "nsfw_score")
        if cluster is not None:
            labels = lake.scan("clusters", [month]).filter(cluster=cluster).collect()
            rows = rows.join(labels, on="image_id", how="semi")
        if rows.is_empty():
            continue
        stored = lake.read_arrays("embeddings", month)
        if others := set(stored.table["weights_sha256"].unique()) - {encoder.weights_sha256}:
            raise ValueError(
                f"search: embeddings/{month} were made by other weights ({min(others)[:12]}…) than those of "
                f"{encoder.name}; set TWIGMA_CLIP_MODEL to that model, or materialize embeddings again"
            )
        at = rows.select("image_id").join(
            stored.table.select("image_id").with_row_index("row"),
            on="image_id",
            how="left",
            maintain_order="left",
        )["row"]
        if lost := at.null_count():
            raise ValueError(
                f"search: {lost} of {rows.height} pictures of dataset/{month} have no embedding; "
                f"materialize embeddings and dataset for {month}"
            )
        similarity = (stored.vectors @ query)[at.to_numpy()]
        found = rows.with_columns(pl.Series("similarity", similarity, pl.Float32))
        best = (
            pl.concat([best.select(found.columns), found])
            .sort("similarity", "image_id", descending=[True, False])
            .head(k)
        )
    return best.with_row_index("rank", 1).select(pl.col(name).cast(kind) for name, kind in RESULT.items())
