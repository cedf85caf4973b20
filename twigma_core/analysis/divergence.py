"""How far apart sources are: every measure of two summaries, and the tables of them.

Here: the choice of measures, tables `divergences` (each month against each corpus) and `divergence_matrix`
(every source against every other; paper, Figure 2c), and the names under which a notebook finds the measures
of arrays.
Not here: how a measure is computed (`histograms`, `frechet`, `kernel`, `manifolds`), and whether the choice
matters (`robustness`).

Measures of the tables, each from two summaries alone (docs/methods.md):

- `kl`: Kullback–Leibler divergence of the ordered pair, nats, ½ added to each cell; `kl_reverse` that of
  the pair turned round.
- `js`: Jensen–Shannon divergence, nats, 0 to log 2.
- `mauve`: area under the divergence curve of the histograms, 1 the same, 0 disjoint.
These are of the paper's quantizer of 10 cells, exact from histograms; `kl_50` is `kl` of 50 cells, and so on.
- `frechet`: Fréchet distance of the two normal distributions with the sources' moments, exact from these;
  biased upwards by small n. `frechet_corrected`: the same, extrapolated to infinite n.
- `kernel`: unbiased squared maximum mean discrepancy under (x·y + 1)³, from at most 2,000 pictures of each
  sample; may fall below 0 where the sources are alike.
- `precision`, `recall`, `density`, `coverage`: of the two manifolds, from equal numbers of each sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from twigma_core import tables
from twigma_core.analysis.distances import Interval
from twigma_core.analysis.frechet import NAMES as FRECHET_MEASURES
from twigma_core.analysis.frechet import frechet_distance, frechet_intervals
from twigma_core.analysis.histograms import (
    SMOOTHING,
    histogram_interval,
    js_divergence,
    kl_divergence,
    mauve_score,
    smoothing_of,
)
from twigma_core.analysis.kernel import kernel_distance, kernel_interval
from twigma_core.analysis.manifolds import MEASURES as MANIFOLD_MEASURES
from twigma_core.analysis.manifolds import manifold_intervals, manifold_measures

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary

__all__ = [
    "MEASURES",
    "SMOOTHING",
    "divergence_matrix",
    "divergence_table",
    "frechet_distance",
    "js_divergence",
    "kernel_distance",
    "kl_divergence",
    "manifold_measures",
    "mauve_score",
    "month_divergences",
]

CELLS = 10
HISTOGRAM_MEASURES = ("kl", "kl_reverse", "js", "mauve")
MEASURES = (*HISTOGRAM_MEASURES, *FRECHET_MEASURES, "kernel", *MANIFOLD_MEASURES)
SYMMETRIC = ("js", "mauve", *FRECHET_MEASURES, "kernel")
SIMILARITIES = ("mauve", *MANIFOLD_MEASURES)
"""Measures that are larger the nearer two sources are."""


class Measured(NamedTuple):
    """One measure of one ordered pair, and the pictures of each that it is computed from."""

    measure: str
    cells: int | None
    interval: Interval
    n_p: int
    n_q: int

    @property
    def name(self) -> str:
        """Name in the tables: cells other than the paper's 10 are part of it."""
        return self.measure if self.cells in (None, CELLS) else f"{self.measure}_{self.cells}"


Done = dict[tuple[str, frozenset[str] | tuple[str, str]], Any]
"""What is computed already of a pair, unordered or ordered: some measures come together, or are symmetric."""


def divergence_matrix(
    summaries: Mapping[str, EmbeddingSummary],
    measure: str | Sequence[str] = "kl",
    seed: int = 0,
) -> pl.DataFrame:
    """Return a measure, or several, of every ordered pair of different sources (Figure 2c).

    Args:
        summaries: twigma and the reference corpora. One of no picture gives null values.
        measure: one or several of `MEASURES`; those on histograms come for each size of the codebook.
        seed: seed of the bootstrap.

    Returns:
        Table `divergence_matrix`.

    Raises:
        ValueError: an unknown measure, widths or codebooks that differ, or no codebook where a measure needs
            one; the message names the sources.
    """
    measures = [measure] if isinstance(measure, str) else list(measure)
    done: Done = {}
    rows = [
        {"source_p": p, "source_q": q, **_columns(found), "n_p": found.n_p, "n_q": found.n_q}
        | {"smoothing": smoothing_of(found.measure) if found.cells else None}
        for p, q in itertools.permutations(summaries, 2)
        for found in _measured(summaries, p, q, measures, seed, done)
    ]
    return _table("divergence_matrix", rows)


def divergence_table(summaries: Mapping[str, EmbeddingSummary], seed: int = 0) -> pl.DataFrame:
    """Return table `divergence_matrix` with all measures; `kl_reverse` is the other of each two rows."""
    return divergence_matrix(summaries, [name for name in MEASURES if name != "kl_reverse"], seed)


def month_divergences(
    month: str, summary: EmbeddingSummary, references: Mapping[str, EmbeddingSummary], seed: int = 0
) -> pl.DataFrame:
    """Return table `divergences`: how far one month is from each corpus, by every measure.

    The ordered pair is (month, corpus): `kl` is KL(month‖corpus), `precision` the share of the corpus's
    pictures among the month's, `recall` the share of the month's among the corpus's. A month of no picture
    has null values.

    Raises:
        ValueError: as `divergence_matrix`.
    """
    sources = {month: summary, **references}
    rows = [
        {"month": month, "corpus": corpus, **_columns(found), "n_month": found.n_p, "n_corpus": found.n_q}
        for corpus in references
        for found in _measured(sources, month, corpus, MEASURES, seed, {})
    ]
    return _table("divergences", rows)


def _measured(
    summaries: Mapping[str, EmbeddingSummary],
    p: str,
    q: str,
    measures: Sequence[str],
    seed: int,
    done: Done,
) -> Iterator[Measured]:
    """Yield each measure of a pair, those on histograms for each size of the codebook."""
    a, b = summaries[p], summaries[q]
    if a.dim != b.dim:
        raise ValueError(f"{p} and {q} differ in width ({a.dim}, {b.dim}); embed both with the same model")
    if unknown := [name for name in measures if name not in MEASURES]:
        raise ValueError(f"no measure named {unknown[0]!r}; choose from {', '.join(MEASURES)}")

    def once(what: str, compute: Callable[[], Any], symmetric: bool = True) -> Any:
        key = (what, frozenset((p, q)) if symmetric else (p, q))
        if key not in done:
            done[key] = compute()
        return done[key]

    for name in measures:
        if name in HISTOGRAM_MEASURES:
            _same_codebook(p, a, q, b)
            for k in sorted(a.histogram):
                compute = partial(histogram_interval, name, a.histogram[k], b.histogram[k], seed)
                interval = once(f"{name} {k}", compute, symmetric=name in SYMMETRIC)
                yield Measured(name, k, interval, a.count, b.count)
        elif name in FRECHET_MEASURES:
            intervals = once("frechet", partial(frechet_intervals, a, b))
            yield Measured(name, None, intervals[name], a.count, b.count)
        elif name == "kernel":
            yield Measured(name, None, once(name, partial(kernel_interval, a, b)), a.count, b.count)
        else:
            intervals, n = once("manifolds", partial(manifold_intervals, a, b), symmetric=False)
            yield Measured(name, None, intervals[name], n, n)


def _same_codebook(p: str, a: EmbeddingSummary, q: str, b: EmbeddingSummary) -> None:
    if not a.codebook_version or a.codebook_version != b.codebook_version:
        raise ValueError(
            f"{p} and {q} are summarised with codebooks {a.codebook_version or 'none'} and "
            f"{b.codebook_version or 'none'}; summarise both with the same codebook"
        )


def _columns(found: Measured) -> dict[str, Any]:
    return {"measure": found.name, "cells": found.cells, **found.interval.columns()}


def _table(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    if not rows:
        return tables.empty(name)
    return tables.conform(name, pl.DataFrame(rows, infer_schema_length=None))
