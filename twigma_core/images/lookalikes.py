"""Pictures of nearly the same embedding, found without reading the vectors of older months.

What belongs here: which pairs of pictures have one embedding, or nearly. What does not: which of them is kept
(`dedupe`).

The paper (Section 3) removes pictures with identical embeddings. An identical embedding is not well defined
in floating point, so it is a cosine of at least 1 - 1e-6 here. For unit vectors that is a distance of at
most 1.4e-3, and a projection of norm one makes no two points farther apart: neighbours within that distance
among the *fingerprints*, 12 numbers a picture, hold every such pair, and only their vectors are read and
compared in full. So a month costs 48 bytes for each older picture, not 3 kB, and misses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl
import xxhash

from twigma_core.lake import ArrayTable

IDENTICAL = 1 - 1e-6
"""Cosine from which two embeddings count as identical."""
NEAR = 0.98
"""Cosine from which two pictures are reported as nearly alike; none is removed for it."""
WIDTH = 12
"""Numbers in a fingerprint."""
LISTED = 1000
"""Closest near pairs of a month that are listed."""

_PRINCIPAL = 64
"""Principal directions in which all pairs of a month are compared."""
_BOUND_ERROR = 1e-5
"""Most that rounding to float32 takes from a bound."""
_FEW = 64
"""A block in which more than one in so many pairs passes the bound is compared in full."""

ReadVectors = Callable[[str, Sequence[int]], np.ndarray]
"""From a month and rows of its table `embeddings` to their vectors, (rows, d)."""

_PAIRS = {
    "image_id": pl.String,
    "month": pl.String,
    "other_id": pl.String,
    "other_month": pl.String,
    "cosine": pl.Float64,
    "identical": pl.Boolean,
}


@dataclass(frozen=True)
class Lookalikes:
    """What was found for a month.

    Attributes:
        pairs: table lookalikes: all identical pairs and the closest near ones.
        near: number of near pairs within the month, listed or not.
    """

    pairs: pl.DataFrame
    near: int


def fingerprint(embeddings: ArrayTable) -> ArrayTable:
    """Return table `fingerprints` of a month: row i is of row i of table `embeddings`.

    Args:
        embeddings: columns image_id, month, sha256, model, weights_sha256 and (n, d) `vectors`; rows need
            not be normalised.

    Returns:
        The table with a digest of each vector, and `vectors` (n, min(d, 12)) float32: projections of the
        normalised rows onto fixed directions, the same on every machine.

    Raises:
        ValueError: a row is zero or not finite; the message names it.
    """
    x = embeddings.vectors
    directions = _directions(x.shape[1])
    shadow = np.empty((len(x), directions.shape[1]), np.float32)
    hashes: list[str] = []
    for start in range(0, len(x), 16384):
        rows = np.ascontiguousarray(x[start : start + 16384])
        squares = np.square(rows.astype(np.float64)).sum(axis=1)
        bad = np.flatnonzero(~np.isfinite(squares) | (squares == 0))
        if len(bad):
            name = embeddings.table["image_id"][start + int(bad[0])]
            raise ValueError(f"embedding of {name} is zero or not finite ({len(bad)} such); embed it again")
        shadow[start : start + len(rows)] = _unit(rows) @ directions
        hashes += digests(rows)
    table = embeddings.table.select("image_id", "month", "sha256", "model", "weights_sha256")
    table = table.with_columns(digest=pl.Series(hashes, dtype=pl.String))
    return ArrayTable(table, {"vectors": shadow})


def find_lookalikes(
    month: str, fingerprints: ArrayTable, read: ReadVectors, listed: int = LISTED
) -> Lookalikes:
    """Compare a month's pictures with one another and with all of the months before.

    A file is compared once, by the vector of its first posting: its other postings are duplicates anyway.
    Only vectors of the month's own model are compared.

    Args:
        month: such as "2021-01".
        fingerprints: those of this month and all before it, stacked in the order of months.
        read: gives vectors; of older months only those that may be identical are asked for.
        listed: how many of the closest near pairs to list.

    Raises:
        ValueError: a vector is not the one that its fingerprint was made of.
    """
    table = fingerprints.table.with_columns(
        row=pl.int_range(pl.len()).over("month"), at=pl.int_range(pl.len())
    )
    weights = table.filter(pl.col("month") == month)["weights_sha256"].unique()
    table = table.filter(
        (pl.col("month") <= month) & pl.col("weights_sha256").is_in(weights.implode())
    ).unique("sha256", keep="first", maintain_order=True)
    # Vectors equal bit for bit are one point: a blank picture posted ten thousand times is one comparison.
    first = pl.col("at").first().over("digest")
    table = table.with_columns(first=first)
    points = table.filter(pl.col("at") == pl.col("first"))
    new = np.flatnonzero((points["month"] == month).to_numpy())
    vectors = _Vectors(points, read)
    pairs = _identical(fingerprints.vectors[points["at"].to_numpy()], new, vectors)
    near, closest = _near(vectors.of(new, np.float32), new, pairs, listed)
    equal = table.filter((pl.col("month") == month) & (pl.col("at") != pl.col("first")))
    found = pl.concat(
        [
            _equal_pairs(equal, points),
            _named(points, pairs, identical=True),
            _named(points, closest, identical=False),
        ]
    )
    # The same picture in a second month, perhaps in another size, is no pair of pictures.
    found = found.filter(pl.col("image_id") != pl.col("other_id"))
    return Lookalikes(found.sort("identical", "cosine", "image_id", "other_id", descending=True), near)


@dataclass(frozen=True)
class _Pairs:
    """Places of points, the later first, and their cosines."""

    later: np.ndarray
    earlier: np.ndarray
    cosine: np.ndarray

    def and_(self, other: _Pairs) -> _Pairs:
        return _Pairs(*(np.concatenate(two) for two in zip(self.columns(), other.columns(), strict=True)))

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.later, self.earlier, self.cosine

    def take(self, places: np.ndarray) -> _Pairs:
        return _Pairs(self.later[places], self.earlier[places], self.cosine[places])

    def keys(self, points: int) -> np.ndarray:
        """Return a number for each pair."""
        return self.later * points + self.earlier


_NONE = _Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


class _Vectors:
    """The unit vectors of some pictures, read where they are needed and checked."""

    def __init__(self, points: pl.DataFrame, read: ReadVectors) -> None:
        self._points, self._read = points, read

    def of(self, places: np.ndarray, dtype: type = np.float64) -> np.ndarray:
        """Return the unit vectors (n, d) of the points at these places, in their order."""
        wanted = np.unique(places)
        found: np.ndarray | None = None
        rows = self._points[wanted]
        for (month,), part in rows.with_row_index("to").group_by("month", maintain_order=True):
            got = self._read(str(month), part["row"].to_list())
            for digest, image_id, found_digest in zip(
                part["digest"], part["image_id"], digests(got), strict=True
            ):
                if found_digest != digest:
                    raise ValueError(
                        f"embeddings/{month}: the vector of {image_id} is not the one of its fingerprint; "
                        f"materialize fingerprints/{month} again"
                    )
            if found is None:
                found = np.empty((len(wanted), got.shape[1]), dtype)
            found[part["to"].to_numpy()] = _unit(got, dtype)
        if found is None:
            return np.empty((0, 1), dtype)
        return found[np.searchsorted(wanted, places)]


def _identical(shadow: np.ndarray, new: np.ndarray, vectors: _Vectors) -> _Pairs:
    """Return all pairs of points of one embedding of which the later is new."""
    from scipy.spatial import cKDTree

    found = _NONE
    if not len(new):
        return found
    # Beyond the distance itself: rounding of the fingerprints to float32.
    radius = float(np.sqrt(2 - 2 * IDENTICAL)) * (1 + 1e-6) + 1e-6
    tree = cKDTree(shadow.astype(np.float64), compact_nodes=False, balanced_tree=False)
    for start in range(0, len(new), 4096):
        some = new[start : start + 4096]
        close = tree.query_ball_point(shadow[some].astype(np.float64), radius, return_sorted=False)
        sizes = np.fromiter(map(len, close), np.int64, len(close))
        i = np.repeat(some, sizes)
        j = np.fromiter(chain.from_iterable(close), np.int64, int(sizes.sum()))
        i, j = i[j < i], j[j < i]
        for block in range(0, len(i), 8192):
            a, b = i[block : block + 8192], j[block : block + 8192]
            pairs = _Pairs(a, b, np.einsum("nd,nd->n", vectors.of(a), vectors.of(b)))
            # Rounding alone must not part rows that are the same but for their length.
            found = found.and_(pairs.take(np.flatnonzero(pairs.cosine >= IDENTICAL - 1e-12)))
    return found


def _near(
    unit: np.ndarray, new: np.ndarray, identical: _Pairs, listed: int, block: int = 1024
) -> tuple[int, _Pairs]:
    """Return how many pairs of new points are near and not identical, and the closest of them.

    All pairs of a month are compared, by products of 65 columns that no cosine exceeds (`_bounding`); the
    cosines themselves are taken of the few pairs that remain: two fifths of the time for 16,000 pictures of
    768 columns, and less for more.
    """
    count, best = 0, _NONE
    points = int(new[-1]) + 1 if len(new) else 0
    known = identical.keys(points)
    bounding = _bounding(unit)
    for start in range(0, len(unit), block):
        bound = bounding[start : start + block] @ bounding[: start + block].T
        later, earlier = np.nonzero(bound >= NEAR - _BOUND_ERROR)
        if len(later) > bound.size // _FEW:
            later, earlier = np.nonzero(unit[start : start + block] @ unit[: start + block].T >= NEAR)
        value = _cosines(unit, later + start, earlier)
        later, earlier, value = (found[value >= NEAR] for found in (later, earlier, value))
        pairs = _Pairs(new[later + start], new[earlier], value)
        fresh = (pairs.earlier < pairs.later) & ~np.isin(pairs.keys(points), known)
        count += int(fresh.sum())
        best = best.and_(pairs.take(np.flatnonzero(fresh)))
        best = best.take(np.lexsort((best.earlier, best.later, -best.cosine))[:listed])
    return count, best


def _bounding(unit: np.ndarray) -> np.ndarray:
    """Return columns, (n, 65) or fewer, whose products are at least the cosines of unit rows.

    x·y = Px·Py + Qx·Qy for a projection P and its complement Q, and Qx·Qy is at most |Qx||Qy|: with the
    principal directions as P, the last column is |Qx|.
    """
    if unit.shape[1] <= _PRINCIPAL + 1 or len(unit) < _PRINCIPAL:
        return unit
    _, directions = np.linalg.eigh(unit.T @ unit)
    head = unit @ directions[:, -_PRINCIPAL:]
    # what rounding may have taken is put on: a root magnifies it where next to nothing is left
    rest = np.sqrt(np.maximum(0, 1 - np.square(head).sum(axis=1)) + _BOUND_ERROR)
    return np.column_stack([head, rest])


def _cosines(unit: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found = np.empty(len(a), unit.dtype)
    for start in range(0, len(a), 8192):
        rows = slice(start, start + 8192)
        found[rows] = np.einsum("nd,nd->n", unit[a[rows]], unit[b[rows]])
    return found


def _equal_pairs(equal: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs of pictures whose vectors are equal bit for bit, each with the first of its kind."""
    firsts = points.select("first", other_id="image_id", other_month="month")
    pairs = equal.join(firsts, on="first").with_columns(cosine=pl.lit(1.0), identical=pl.lit(True))
    return pairs.select(*_PAIRS)


def _named(points: pl.DataFrame, pairs: _Pairs, identical: bool) -> pl.DataFrame:
    ids, months = points["image_id"], points["month"]
    return pl.DataFrame(
        {
            "image_id": ids[pairs.later],
            "month": months[pairs.later],
            "other_id": ids[pairs.earlier],
            "other_month": months[pairs.earlier],
            "cosine": np.minimum(pairs.cosine, 1.0),
            "identical": np.full(len(pairs.later), identical),
        },
        schema=_PAIRS,
    )


def _directions(width: int) -> np.ndarray:
    """Return (width, min(width, 12)) fixed directions, scaled so that no distance grows.

    Signs from a hash, so that every machine and every version of numpy has the same.
    """
    count = min(width, WIDTH)
    if not count:
        return np.empty((0, 0))
    bits = hashlib.shake_256(b"twigma fingerprint").digest(-(-width * count // 8))
    signs = np.unpackbits(np.frombuffer(bits, np.uint8))[: width * count].reshape(width, count)
    directions = signs.astype(np.float64) * 2 - 1
    return directions / np.linalg.norm(directions, 2)


def _unit(rows: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    rows = np.asarray(rows, dtype)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def digests(x: np.ndarray) -> Iterator[str]:
    """Yield a hash of the bytes of each row of x, (n, d): equal for equal rows, and for no others."""
    for row in np.ascontiguousarray(x):
        yield xxhash.xxh3_128_hexdigest(row.data)
