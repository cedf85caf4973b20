"""Duplicates: the same media id, the same file, the same pixels, the same embedding; the first posting wins.

What belongs here: which posted pictures are one picture. What does not: pictures that could not be had
and the tables that come of it (`twigma_core.dataset`).

The paper (Section 3) keeps one picture a media id, then removes pictures with identical embeddings. An
identical embedding is not well defined in floating point, so the file and the decoded pixels are compared
first, and embeddings by cosine >= 1 - 1e-6. Nearer than ordinary but not identical is counted, not removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl
import xxhash

IDENTICAL = 1 - 1e-6
"""Cosine from which two embeddings count as identical."""

ORDER = ("month", "created_at", "tweet_id", "position", "image_id")
"""What decides the first posting. The month leads, so that a new month never changes an older one."""

REASONS = ("same media id", "same file", "same pixels", "same embedding")


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of pictures that are very alike.

    Attributes:
        count: number of pairs at or above the threshold.
        pairs: the closest of them: image_id, other_id, cosine, closest first.
    """

    count: int
    pairs: pl.DataFrame


def unique_images(
    frame: pl.DataFrame, vectors: tuple[Sequence[str], np.ndarray] | None = None, threshold: float = IDENTICAL
) -> pl.DataFrame:
    """Mark which of the posted pictures are kept, and what the others duplicate.

    The four criteria apply in turn, each among those that the ones before left over; a survivor that a
    later criterion drops hands its duplicates on, so `survivor_id` always names a picture that is kept.

    Args:
        frame: one row a posted picture: tweet_id, image_id, month, created_at, position, sha256,
            pixel_sha256. A null hash equals no other.
        vectors: (ids, (n, d) embeddings) for the fourth criterion; pictures without one are not compared.
        threshold: cosine from which two embeddings are one.

    Returns:
        `frame` sorted by `ORDER` with keep (bool), reason (one of `REASONS`; null where kept), survivor_id
        and survivor_tweet_id (of the row itself where kept).
    """
    frame = frame.sort(*ORDER)
    if vectors is None:
        groups = pl.DataFrame(schema={"image_id": pl.String, "group": pl.String})
    else:
        # A picture posted again in a later month is there twice: one group each, or the join adds rows.
        found = identical_vectors(*vectors, threshold=threshold)
        groups = found.unique("image_id", keep="first", maintain_order=True)
    keyed = frame.select("image_id", "sha256", "pixel_sha256").join(
        groups, on="image_id", how="left", maintain_order="left"
    )
    survivor = np.arange(frame.height)
    reason = np.full(frame.height, -1)
    for level, column in enumerate(("image_id", "sha256", "pixel_sha256", "group")):
        alive = np.flatnonzero(reason < 0)
        # The first row of each key, as positions in the whole frame; a null key is a key of its own.
        row, key = pl.col("row"), pl.col(column)
        first = (
            keyed[alive]
            .select(key, pl.Series("row", alive))
            .select(pl.when(key.is_null()).then(row).otherwise(row.min().over(key)))
            .to_series()
            .to_numpy()
        )
        step = np.arange(frame.height)
        step[alive] = first
        reason[alive[first != alive]] = level
        survivor = step[survivor]
    reasons = [None if level < 0 else REASONS[level] for level in reason.tolist()]
    return frame.with_columns(
        pl.Series("keep", reason < 0, dtype=pl.Boolean),
        pl.Series("reason", reasons, dtype=pl.String),
        frame["image_id"].gather(survivor).alias("survivor_id"),
        frame["tweet_id"].gather(survivor).alias("survivor_tweet_id"),
    )


def identical_vectors(
    ids: Sequence[str], x: np.ndarray, threshold: float = IDENTICAL, seed: int = 0
) -> pl.DataFrame:
    """Group the rows whose cosine is at least `threshold`, without an n x n matrix.

    For unit vectors cosine >= t means a distance of at most sqrt(2 - 2t), and no projection makes two
    points farther apart: neighbours within that distance in a few random dimensions, found by a k-d tree,
    hold every pair, and their cosines are then computed in full. Rows equal bit for bit are merged first.
    Meant for thresholds close to 1; memory is O(n d) at worst for the rows that have a candidate.

    Args:
        ids: id of each row.
        x: (n, d) float; rows need not be normalised.
        threshold: cosine from which two rows are one.
        seed: of the random dimensions; the result does not depend on it.

    Returns:
        Columns image_id and group, for the rows that have at least one partner: `group` is the first id
        of the connected component. Sorted as `ids`.

    Raises:
        ValueError: ids and rows differ in number, or a row is zero or not finite; the message names it.
    """
    ids = list(ids)
    if len(ids) != len(x):
        raise ValueError(f"identical_vectors: {len(ids)} ids for {len(x)} rows; they must match one to one")
    if not 0 < threshold <= 1:
        raise ValueError(f"identical_vectors: threshold {threshold} is not in (0, 1]")
    if len(ids) < 2:
        return pl.DataFrame(schema={"image_id": pl.String, "group": pl.String})
    _check_rows(ids, x)
    first_of = _bitwise_first(x)
    distinct = np.unique(first_of)
    pairs = _close_pairs(x, distinct, threshold, seed)
    duplicate = np.flatnonzero(first_of != np.arange(len(ids)))
    edges = np.concatenate([pairs, np.stack([first_of[duplicate], duplicate], axis=1)])
    if not len(edges):
        return pl.DataFrame(schema={"image_id": pl.String, "group": pl.String})
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(ids), len(ids)))
    _, label = connected_components(graph, directed=False)
    members = np.unique(edges)
    _, where, inverse = np.unique(label[members], return_index=True, return_inverse=True)
    leaders = members[where][inverse]
    return pl.DataFrame(
        {"image_id": [ids[i] for i in members], "group": [ids[i] for i in leaders]},
        schema={"image_id": pl.String, "group": pl.String},
    )


def near_duplicates(
    ids: Sequence[str], x: np.ndarray, threshold: float = 0.98, keep: int = 1000, block: int = 1024
) -> NearDuplicates:
    """Count the pairs of rows whose cosine is at least `threshold`; they are reported, never removed.

    Args:
        ids: id of each row.
        x: (n, d) float.
        threshold: cosine.
        keep: how many of the closest pairs to list.
        block: rows compared at once: memory is O(n x block), time O(n^2 d).
    """
    ids = list(ids)
    _check_rows(ids, x)
    unit = np.asarray(x, np.float32)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    count = 0
    best: list[tuple[float, int, int]] = []
    for start in range(0, len(ids), block):
        cosines = unit[start : start + block] @ unit[start:].T
        rows, columns = np.nonzero(np.triu(cosines >= threshold, k=1))
        count += len(rows)
        values = cosines[rows, columns]
        top = np.argsort(-values, kind="stable")[:keep]
        best += zip(
            values[top].tolist(), (rows[top] + start).tolist(), (columns[top] + start).tolist(), strict=True
        )
        best = sorted(best, key=lambda pair: (-pair[0], pair[1], pair[2]))[:keep]
    pairs = pl.DataFrame(
        [(ids[i], ids[j], min(value, 1.0)) for value, i, j in best],
        schema={"image_id": pl.String, "other_id": pl.String, "cosine": pl.Float64},
        orient="row",
    )
    return NearDuplicates(count, pairs)


def _check_rows(ids: list[str], x: np.ndarray) -> None:
    for start in range(0, len(ids), 65536):
        squares = np.square(np.asarray(x[start : start + 65536], np.float64)).sum(axis=1)
        bad = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
        if len(bad):
            raise ValueError(
                f"embedding of {ids[start + bad[0]]} is zero or not finite ({len(bad)} such); embed it again"
            )


def _bitwise_first(x: np.ndarray) -> np.ndarray:
    """Return for each row the first row with the same bytes."""
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(x)
    return np.array([seen.setdefault(xxhash.xxh3_128_digest(row.data), i) for i, row in enumerate(rows)])


def _close_pairs(x: np.ndarray, rows: np.ndarray, threshold: float, seed: int) -> np.ndarray:
    """Return the pairs (i, j) of `rows`, i < j, whose cosine is at least `threshold`: (m, 2)."""
    from scipy.spatial import cKDTree

    width = x.shape[1]
    directions = np.random.default_rng(seed).standard_normal((width, min(width, 12)))
    directions, _ = np.linalg.qr(directions)
    shadow = np.empty((len(rows), directions.shape[1]))
    for start in range(0, len(rows), 16384):
        part = slice(start, start + 16384)
        shadow[part] = _unit(x[rows[part]]) @ directions
    radius = float(np.sqrt(max(2 - 2 * threshold, 0.0))) * (1 + 1e-6) + 1e-9
    tree = cKDTree(shadow)
    found: list[np.ndarray] = [np.empty((0, 2), np.int64)]
    for start in range(0, len(rows), 4096):
        near = tree.query_ball_point(shadow[start : start + 4096], radius, return_sorted=False)
        sizes = np.fromiter(map(len, near), np.int64, len(near))
        left = np.repeat(np.arange(start, start + len(near)), sizes)
        right = np.fromiter(chain.from_iterable(near), np.int64, int(sizes.sum()))
        left, right = left[left < right], right[left < right]
        for block in range(0, len(left), 8192):
            i, j = rows[left[block : block + 8192]], rows[right[block : block + 8192]]
            cosine = np.einsum("nd,nd->n", _unit(x[i]), _unit(x[j]))
            # Rounding alone must not part rows that are the same but for their length.
            identical = cosine >= threshold - 1e-12
            found.append(np.stack([i[identical], j[identical]], axis=1))
    return np.concatenate(found)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
