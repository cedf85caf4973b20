"""`EmbeddingSummary`: what a set of embeddings is reduced to, so that sets add up.

Here: the summary, its sum and its storage. Not here: intervals and tables (`variation`), distances between
sources (`divergence`).

A summary holds the count, the sum, the second moments XᵀX, the histogram over each size of the codebook,
and a bottom-k sample: the rows whose ids have the k smallest 64-bit hashes. A hash is as good as a draw at
random, needs no seed, and the smallest of two sets are among the smallest of each; so `a + b` is the summary
of both sets, whatever the order and grouping (Cohen and Kaplan 2007, bottom-k sketches). Counts and sample
are the same to the bit, moments to float64 rounding.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import polars as pl
import xxhash

from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.distances import check_rows, row_mean_distances
from twigma_core.analysis.spectrum import explained_by_largest, positive, vendi
from twigma_core.analysis.variation import geometric_mean_deviation, quantized_entropy

SAMPLE_SIZE = 4096
NO_LIMIT = 2**62
_BLOCK = 8192
_ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class EmbeddingSummary:
    """Mergeable statistics of (n, d) embeddings.

    Attributes:
        count: n.
        sum: (d,) float64, the sum of the rows.
        second_moment: (d, d) float64, XᵀX.
        histogram: for each size of the codebook, (k,) int64 rows in each cell; empty without a codebook.
        codebook_version: version of that codebook; "" without one.
        sample: (m, d) float32, the bottom-k rows by hash of their id, ascending; its first rows are the
            bottom of a smaller k.
        sample_ids: (m,) text.
        sample_keys: (m,) uint64, the hashes.
        sample_size: k; m is the smaller of k and n.
    """

    count: int
    sum: np.ndarray
    second_moment: np.ndarray
    histogram: Mapping[int, np.ndarray]
    codebook_version: str
    sample: np.ndarray
    sample_ids: np.ndarray
    sample_keys: np.ndarray
    sample_size: int

    # ------------------------------------------------------------ making

    @classmethod
    def from_embeddings(
        cls,
        x: np.ndarray,
        ids: Sequence[str] | np.ndarray | pl.Series,
        codebook: Codebook | None = None,
        sample_size: int = SAMPLE_SIZE,
    ) -> EmbeddingSummary:
        """Summarise embeddings; n may be 0, and memory beyond `x` is bounded.

        Args:
            x: (n, d) float; length 1 is usual and not required.
            ids: (n,) text, unique.
            codebook: the quantizer of the histograms.
            sample_size: rows kept at most, for what second moments cannot tell.

        Raises:
            ValueError: lengths or widths differ, an id occurs twice, or a row holds NaN, infinity or only
                zeros; the message names the row.
        """
        x = check_rows(x, "embeddings", allow_zero=False)
        names = [str(i) for i in ids]
        if len(names) != len(x):
            raise ValueError(f"{len(x)} embeddings but {len(names)} ids; give one id for each row")
        if len(set(names)) != len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise ValueError(f"id {twice!r} occurs twice; summarise each picture once")
        if sample_size < 1:
            raise ValueError(f"sample_size={sample_size} must be at least 1")
        dim = x.shape[1]
        total, moment = np.zeros(dim), np.zeros((dim, dim))
        for start in range(0, len(x), _BLOCK):
            block = x[start : start + _BLOCK].astype(np.float64)
            total += block.sum(axis=0)
            moment += block.T @ block
        keys = np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], dtype=np.uint64)
        if len(keys) > sample_size:  # ties at the edge are kept here and settled by _bottom
            rows = np.flatnonzero(keys <= np.partition(keys, sample_size - 1)[sample_size - 1])
        else:
            rows = np.arange(len(keys))
        sample, sample_ids, sample_keys = _bottom(
            np.asarray(x[rows], dtype=np.float32), _texts([names[r] for r in rows]), keys[rows], sample_size
        )
        return cls(
            count=len(x),
            sum=total,
            second_moment=moment,
            histogram=codebook.counts(x) if codebook else {},
            codebook_version=codebook.version if codebook else "",
            sample=sample,
            sample_ids=sample_ids,
            sample_keys=sample_keys,
            sample_size=sample_size,
        )

    @classmethod
    def identity(
        cls, dim: int, codebook: Codebook | None = None, sample_size: int = NO_LIMIT
    ) -> EmbeddingSummary:
        """Return the summary of no picture, which leaves any summary of width `dim` as it is."""
        none = np.zeros((0, dim), dtype=np.float32)
        return cls.from_embeddings(none, [], codebook, sample_size)

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return len(self.sum)

    def __add__(self, other: EmbeddingSummary) -> EmbeddingSummary:
        """Return the summary of both sets; of two sample sizes, the smaller holds.

        The sets must not share a picture: nothing in a summary could tell.

        Raises:
            ValueError: widths or codebooks differ.
        """
        if not isinstance(other, EmbeddingSummary):
            return NotImplemented
        if self.dim != other.dim:
            raise ValueError(
                f"summaries of width {self.dim} and {other.dim} do not add; embed both with the same model"
            )
        histogram, version = _add_histograms(self, other)
        size = min(self.sample_size, other.sample_size)
        sample, ids, keys = _bottom(
            np.concatenate([self.sample, other.sample]),
            np.concatenate([self.sample_ids, other.sample_ids]),
            np.concatenate([self.sample_keys, other.sample_keys]),
            size,
        )
        return EmbeddingSummary(
            count=self.count + other.count,
            sum=self.sum + other.sum,
            second_moment=self.second_moment + other.second_moment,
            histogram=histogram,
            codebook_version=version,
            sample=sample,
            sample_ids=ids,
            sample_keys=keys,
            sample_size=size,
        )

    def subsamples(self, n: int, most: int = 1) -> list[EmbeddingSummary]:
        """Return the summaries of disjoint random subsets of `n` pictures, without histograms.

        The subsets are runs of the sample, which a hash has put in random order.

        Args:
            n: pictures of each, at least 1.
            most: subsets at most; the sample may hold fewer.

        Raises:
            ValueError: the sample has fewer than n rows.
        """
        if not 1 <= n <= len(self.sample):
            raise ValueError(f"cannot take {n} rows of a sample of {len(self.sample)}; keep a larger sample")
        starts = range(0, min(most, len(self.sample) // n) * n, n)
        return [
            EmbeddingSummary.from_embeddings(
                self.sample[i : i + n], self.sample_ids[i : i + n], sample_size=self.sample_size
            )
            for i in starts
        ]

    # ------------------------------------------------------------ moments

    def mean(self) -> np.ndarray:
        """Return the mean embedding, (d,) float64.

        Raises:
            ValueError: the summary is of no picture.
        """
        if self.count == 0:
            raise ValueError("a summary of no picture has no mean; add pictures first")
        return self.sum / self.count

    def covariance(self) -> np.ndarray:
        """Return the sample covariance, (d, d) float64, divisor n − 1.

        Raises:
            ValueError: fewer than two pictures.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 pictures; the summary has {self.count}")
        mean = self.mean()
        scatter = self.second_moment - self.count * np.outer(mean, mean)
        # what is left of a constant coordinate is the rounding of the difference, not a variance
        constant = np.diag(scatter) <= _ROUNDING * np.diag(self.second_moment)
        scatter[constant, :] = 0.0
        scatter[:, constant] = 0.0
        return scatter / (self.count - 1)

    @cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of XᵀX that are not 0, (r,) descending, and their eigenvectors, (d, r)."""
        values, vectors = np.linalg.eigh(self.second_moment)
        kept = np.flatnonzero(positive(values))[::-1]
        return values[kept], vectors[:, kept]

    # ------------------------------------------------------------ metrics

    def mean_pairwise_distance(self) -> float | None:
        """Return the mean distance between two pictures of the sample; None below two."""
        return None if self.count < 2 else float(row_mean_distances(self.sample).mean())

    def inverse_explained_variance(self) -> float | None:
        """Return Σσᵢ/σ₁ of the embedding matrix, exact from XᵀX; None without pictures."""
        return None if self.count == 0 else explained_by_largest(self.spectrum[0])

    def vendi_score(self) -> float | None:
        """Return the Vendi score of the embeddings, exact from XᵀX; None without pictures."""
        return None if self.count == 0 else vendi(self.spectrum[0])

    def product_of_marginal_variances(self) -> float | None:
        """Return (Πσ̂ᵢ)^(1/d), exact from the moments; None below two pictures."""
        return None if self.count < 2 else geometric_mean_deviation(np.diag(self.covariance()))

    def entropy(self, cells: int | None = None) -> float | None:
        """Return the entropy of the histogram in nats (plug-in); None without pictures or codebook.

        Args:
            cells: size of the quantizer; by default the largest of the codebook.

        Raises:
            KeyError: the codebook has no such size.
        """
        counts = self.counts(cells)
        return None if counts is None or counts.sum() == 0 else quantized_entropy(counts)

    def counts(self, cells: int | None = None) -> np.ndarray | None:
        """Return the histogram of that size, by default the largest; None without a codebook.

        Raises:
            KeyError: the codebook has no such size.
        """
        if not self.histogram:
            return None
        size = max(self.histogram) if cells is None else cells
        if size not in self.histogram:
            raise KeyError(f"no histogram of {size} cells; the codebook has {sorted(self.histogram)}")
        return self.histogram[size]

    # ------------------------------------------------------------ storage

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the summary as numeric and fixed-width text arrays, none of which needs pickle."""
        return {
            "count": np.array([self.count], dtype=np.int64),
            "sum": self.sum,
            "second_moment": self.second_moment,
            **{f"histogram_{k}": counts for k, counts in self.histogram.items()},
            "codebook_version": _texts([self.codebook_version]),
            "sample": self.sample,
            "sample_ids": self.sample_ids,
            "sample_keys": self.sample_keys,
            "sample_size": np.array([self.sample_size], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> EmbeddingSummary:
        """Return the summary that `to_arrays` described.

        Raises:
            ValueError: an array is missing.
        """
        prefix = "histogram_"
        try:
            return cls(
                count=int(arrays["count"][0]),
                sum=np.asarray(arrays["sum"]),
                second_moment=np.asarray(arrays["second_moment"]),
                histogram={
                    int(name.removeprefix(prefix)): np.asarray(arrays[name])
                    for name in sorted(arrays, key=lambda name: (len(name), name))
                    if name.startswith(prefix)
                },
                codebook_version=str(arrays["codebook_version"][0]),
                sample=np.asarray(arrays["sample"]),
                sample_ids=np.asarray(arrays["sample_ids"]),
                sample_keys=np.asarray(arrays["sample_keys"]),
                sample_size=int(arrays["sample_size"][0]),
            )
        except KeyError as error:
            raise ValueError(
                f"not a stored summary: array {error} is missing; make the summary again"
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the summary to a file: NumPy's npz, without pickle. The name is kept as it is."""
        buffer = io.BytesIO()
        np.savez(buffer, **self.to_arrays())  # type: ignore[arg-type]
        Path(path).write_bytes(buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingSummary:
        """Read a summary that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no summary.
        """
        with Path(path).open("rb") as file:
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    return cls.from_arrays(dict(arrays))
            except (AttributeError, TypeError, EOFError, BadZipFile, ValueError) as error:
                raise ValueError(f"{path} holds no summary ({error}); make the summary again") from error


def add_up(summaries: Iterable[EmbeddingSummary]) -> EmbeddingSummary:
    """Return the sum of one or more summaries.

    Raises:
        ValueError: there is none, or they do not add.
    """
    parts = iter(summaries)
    total = next(parts, None)
    if total is None:
        raise ValueError("no summary to add up; materialize summaries for at least one month first")
    for part in parts:
        total = total + part
    return total


def summary_row(summary: EmbeddingSummary, **keys: str) -> pl.DataFrame:
    """Return the one row of table `summaries` (with month=...) or `reference_summaries` (with corpus=...)."""
    scalars = {
        "count": summary.count,
        "dim": summary.dim,
        "sampled": len(summary.sample),
        "mean_pairwise_distance": summary.mean_pairwise_distance(),
        "inverse_explained_variance": summary.inverse_explained_variance(),
        "product_of_marginal_variances": summary.product_of_marginal_variances(),
        "quantized_entropy": summary.entropy(),
    }
    types = {name: pl.Int64 if isinstance(value, int) else pl.Float64 for name, value in scalars.items()}
    return pl.DataFrame({**keys, **scalars}, schema_overrides=types)


def _add_histograms(a: EmbeddingSummary, b: EmbeddingSummary) -> tuple[Mapping[int, np.ndarray], str]:
    if a.codebook_version == b.codebook_version:
        return {k: a.histogram[k] + b.histogram[k] for k in a.histogram}, a.codebook_version
    for empty, other in (
        (a, b),
        (b, a),
    ):  # no picture, no histogram: nothing that could be of another codebook
        if empty.count == 0 and not empty.codebook_version:
            return other.histogram, other.codebook_version
    raise ValueError(
        f"summaries of different codebooks do not add: {a.codebook_version or 'none'} and "
        f"{b.codebook_version or 'none'}; summarise both with the same codebook"
    )


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(list(values), dtype=f"<U{max((len(value) for value in values), default=1) or 1}")


def _bottom(
    rows: np.ndarray, ids: np.ndarray, keys: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of the `size` smallest keys, ascending; equal keys go by id."""
    order = np.lexsort((ids, keys))[:size]
    return rows[order], _texts(ids[order].tolist()), keys[order]
