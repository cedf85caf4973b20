"""Duplicates: the same media id, the same file, the same pixels, the same embedding; the first posting wins.

What belongs here: which posted pictures are one picture. What does not: which embeddings are the same
(`lookalikes`), pictures that could not be had, and the tables that come of it (`twigma_core.dataset`).

The paper (Section 3) keeps one picture a media id, then removes pictures with identical embeddings. An
identical embedding is not well defined in floating point, so the file and the decoded pixels come first.
"""

from __future__ import annotations

import numpy as np
import polars as pl

ORDER = ("month", "created_at", "tweet_id", "position", "image_id")
"""What decides the first posting. The month leads, so that a new month never changes an older one."""

REASONS = ("same media id", "same file", "same pixels", "same embedding")


def unique_images(frame: pl.DataFrame, identical: pl.DataFrame | None = None) -> pl.DataFrame:
    """Mark which of the posted pictures are kept, and what the others duplicate.

    The four criteria apply in turn, each among those that the ones before left over; a survivor that a
    later criterion drops hands its duplicates on, so `survivor_id` always names a picture that is kept.

    Args:
        frame: one row a posted picture: tweet_id, image_id, month, created_at, position, sha256,
            pixel_sha256. A null hash equals no other.
        identical: image_id and other_id of pictures with one embedding, for the fourth criterion
            (`twigma_core.images.lookalikes` finds them); chains of pairs are one group.

    Returns:
        `frame` sorted by `ORDER` with keep (bool), reason (one of `REASONS`; null where kept), survivor_id
        and survivor_tweet_id (of the row itself where kept).
    """
    frame = frame.sort(*ORDER)
    survivor = np.arange(frame.height)
    reason = np.full(frame.height, -1)
    for level, column in enumerate(("image_id", "sha256", "pixel_sha256")):
        alive = np.flatnonzero(reason < 0)
        # The first row of each key, as positions in the whole frame; a null key is a key of its own.
        row, key = pl.col("row"), pl.col(column)
        first = (
            frame[alive]
            .select(key, pl.Series("row", alive))
            .select(pl.when(key.is_null()).then(row).otherwise(row.min().over(key)))
            .to_series()
            .to_numpy()
        )
        survivor, reason = _merge(survivor, reason, alive, first, level)
    if identical is not None and identical.height:
        alive = np.flatnonzero(reason < 0)
        first = _first_of_group(frame["image_id"], survivor, identical)[alive]
        survivor, reason = _merge(survivor, reason, alive, first, 3)
    reasons = [None if level < 0 else REASONS[level] for level in reason.tolist()]
    return frame.with_columns(
        pl.Series("keep", reason < 0, dtype=pl.Boolean),
        pl.Series("reason", reasons, dtype=pl.String),
        frame["image_id"].gather(survivor).alias("survivor_id"),
        frame["tweet_id"].gather(survivor).alias("survivor_tweet_id"),
    )


def _merge(
    survivor: np.ndarray, reason: np.ndarray, alive: np.ndarray, first: np.ndarray, level: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return survivors and reasons after each row of `alive` gave way to its `first`."""
    step = np.arange(len(survivor))
    step[alive] = first
    reason = reason.copy()
    reason[alive[first != alive]] = level
    return step[survivor], reason


def _first_of_group(ids: pl.Series, survivor: np.ndarray, identical: pl.DataFrame) -> np.ndarray:
    """Return for each row the first row of its connected component.

    A pair links those that stand for its two pictures: the picture that was compared may itself have been
    dropped for its file.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    stands = pl.DataFrame({"image_id": ids, "row": survivor}).unique("image_id", keep="first")
    links = (
        identical.select("image_id", "other_id")
        .join(stands, on="image_id")
        .join(stands.rename({"image_id": "other_id", "row": "other"}), on="other_id")
    )
    ends = links["row"].to_numpy(), links["other"].to_numpy()
    graph = coo_array((np.ones(links.height, bool), ends), shape=(len(survivor), len(survivor)))
    _, label = connected_components(graph, directed=False)
    _, first = np.unique(label, return_index=True)
    return first[label]
