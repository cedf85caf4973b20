"""The joint quantizer: k-means cells over all sources together, in several sizes.

Here: the fit on equal numbers from each source, the histogram of any embeddings over its cells, and its
storage. Not here: what is computed from histograms (`divergence`, `variation`) and the themes (`clusters`).

The paper quantizes four datasets with one joint k-means (Section 3, after Pillutla et al.); equal numbers
keep the largest source from owning all cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import xxhash

from twigma_core import tables
from twigma_core.analysis.distances import check_rows
from twigma_core.stacked import StackedRows

SIZES = (4, 10, 50)
PER_SOURCE = 20_000
_BLOCK = 8192


@dataclass(frozen=True)
class Codebook:
    """Centroids for several sizes of quantizer.

    Attributes:
        centroids: (k, d) float32 for each size k.
        version: hash of the centroids; histograms of different versions cannot be compared.
    """

    centroids: Mapping[int, np.ndarray]
    version: str

    @classmethod
    def from_centroids(cls, centroids: Mapping[int, np.ndarray]) -> Codebook:
        """Return the codebook of these centroids, with their version.

        Raises:
            ValueError: there are none, a key is not the number of its rows, or the widths differ.
        """
        kept = {k: np.ascontiguousarray(centroids[k], dtype=np.float32) for k in sorted(centroids)}
        if not kept:
            raise ValueError("a codebook needs centroids of at least one size")
        digest = xxhash.xxh3_128()
        for k, array in kept.items():
            if check_rows(array, f"centroids of size {k}").shape[0] != k:
                raise ValueError(f"centroids of size {k} have {len(array)} rows")
            digest.update(f"{k} {array.shape}".encode() + array.tobytes())
        if len({array.shape[1] for array in kept.values()}) > 1:
            raise ValueError("centroids of a codebook must all have the same width")
        return cls(kept, digest.hexdigest()[:16])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of its quantizers, ascending."""
        return tuple(self.centroids)

    @property
    def dim(self) -> int:
        """Width of its centroids."""
        return next(iter(self.centroids.values())).shape[1]

    def assign(self, x: np.ndarray, cells: int) -> np.ndarray:
        """Return the cell of each row, (n,) int64 from 0: the nearest centroid, of equals the first.

        Raises:
            KeyError: there is no quantizer of that size.
            ValueError: the width differs from the centroids', or a value is not finite.
        """
        if cells not in self.centroids:
            raise KeyError(f"the codebook has no quantizer of {cells} cells; it has {list(self.sizes)}")
        x = check_rows(x)
        if x.shape[1] != self.dim:
            raise ValueError(
                f"embeddings of width {x.shape[1]} do not fit a codebook of width {self.dim}; "
                "embed both with the same model"
            )
        centroids = self.centroids[cells].astype(np.float64)
        half_squares = np.einsum("ij,ij->i", centroids, centroids) / 2
        labels = np.empty(len(x), dtype=np.int64)
        for start in range(0, len(x), _BLOCK):
            block = x[start : start + _BLOCK].astype(np.float64)
            # rounded, so that a tie falls to the same cell whatever the shape of the matrix product
            scores = np.round(half_squares - block @ centroids.T, 9)
            labels[start : start + _BLOCK] = scores.argmin(axis=1)
        return labels

    def counts(self, x: np.ndarray) -> dict[int, np.ndarray]:
        """Return the histogram of the rows over the cells of each size, (k,) int64.

        Raises:
            ValueError: as `assign`.
        """
        return {k: np.bincount(self.assign(x, k), minlength=k).astype(np.int64) for k in self.sizes}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the centroids as named arrays, for the lake."""
        return {f"centroids_{k}": array for k, array in self.centroids.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Codebook:
        """Return the codebook that `to_arrays` described; other arrays are ignored.

        Raises:
            ValueError: there are no centroids among the arrays.
        """
        prefix = "centroids_"
        found = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        return cls.from_centroids({int(k): np.asarray(array) for k, array in found.items()})


def fitting_sizes(
    vectors_by_source: Mapping[str, np.ndarray | StackedRows], sizes: Sequence[int] = SIZES
) -> tuple[int, ...]:
    """Return the sizes that equal numbers of rows from each source can fill; the smallest in any case."""
    smallest = min((len(x) for x in vectors_by_source.values()), default=0)
    rows = smallest * len(vectors_by_source)
    return tuple(k for k in sizes if k <= rows) or (min(sizes),)


def fit_codebook(
    vectors_by_source: Mapping[str, np.ndarray | StackedRows],
    sizes: Sequence[int] = SIZES,
    per_source: int | None = None,
    seed: int = 0,
    starts: int = 10,
) -> tuple[Codebook, pl.DataFrame]:
    """Fit one joint quantizer of each size on equal numbers of rows from each source (paper, Section 3).

    Args:
        vectors_by_source: (n, d) embeddings of twigma and of each reference corpus; of stacked ones only the
            chosen rows are read.
        sizes: numbers of cells; the paper's matrix has 10.
        per_source: rows from each source; by default those of the smallest, at most `PER_SOURCE`.
        seed: seed of the choice of rows and of k-means.
        starts: starts of k-means, the best of which is kept.

    Returns:
        The codebook, and table `codebook`: how many of each source's chosen rows lie in each cell.

    Raises:
        ValueError: no source, an empty one, one with fewer rows than `per_source`, different widths, or
            fewer rows in all than cells.
    """
    from twigma_core.analysis.clusters import fit_kmeans

    chosen = _equal_samples(vectors_by_source, per_source, seed)
    rows = np.concatenate(list(chosen.values()))
    if max(sizes) > len(rows):
        raise ValueError(
            f"codebook: {len(rows)} pictures ({len(rows) // len(chosen)} from each of {len(chosen)} sources) "
            f"cannot fill {max(sizes)} cells; choose sizes of at most {len(rows)} or add pictures"
        )
    codebook = Codebook.from_centroids({k: fit_kmeans(rows, k, seed, starts).centroids for k in set(sizes)})
    records = [
        {
            "cells": k,
            "cell": cell,
            "source": source,
            "pictures": int(pictures),
            "version": codebook.version,
        }
        for source, x in chosen.items()
        for k, counts in codebook.counts(x).items()
        for cell, pictures in enumerate(counts)
    ]
    return codebook, tables.conform("codebook", pl.DataFrame(records).sort("cells", "cell", "source"))


def _equal_samples(
    vectors_by_source: Mapping[str, np.ndarray | StackedRows], per_source: int | None, seed: int
) -> dict[str, np.ndarray]:
    if not vectors_by_source:
        raise ValueError(
            "codebook: no source of embeddings; materialize embeddings or a reference corpus first"
        )
    smallest = min(vectors_by_source, key=lambda name: len(vectors_by_source[name]))
    available = len(vectors_by_source[smallest])
    if available == 0:
        raise ValueError(f"codebook: source {smallest} has no picture; leave it out or add pictures to it")
    take = min(available, PER_SOURCE) if per_source is None else per_source
    if not 1 <= take <= available:
        raise ValueError(
            f"codebook: source {smallest} has {available} pictures, not the {take} asked of each source; "
            f"choose per_source between 1 and {available}"
        )
    widths = {name: x.shape[-1] for name, x in vectors_by_source.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"codebook: sources differ in width ({widths}); embed all with the same model")
    rng = np.random.default_rng(seed)
    chosen = {}
    for name in sorted(vectors_by_source):
        x = vectors_by_source[name]
        rows = np.sort(rng.choice(len(x), size=take, replace=False))
        chosen[name] = check_rows(np.asarray(x[rows], dtype=np.float32), name, allow_zero=False)
    return chosen
