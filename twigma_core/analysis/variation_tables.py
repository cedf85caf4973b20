"""Tables `variation_metrics`, `variation_table` and `pair_distances` (paper, Figures 3a and 3b).

Here: which sources, conditions and metrics stand in them. Not here: the metrics (`variation`), their
intervals (`intervals`, `groups`), text sources and prompt lengths (`prompts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.distances import Interval, distance_histogram
from twigma_core.analysis.groups import contrast, group_distances
from twigma_core.analysis.intervals import equal_n_intervals, metric_intervals

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary
    from twigma_core.lake import ArrayTable

Groups = Mapping[str, tuple[np.ndarray, Sequence[str | None]]]

EDGES = np.linspace(0.0, 2.0, 101)
CONDITIONS = {
    "artbench_same_artist": ("artbench", "artist"),
    "diffusiondb_same_prompt": ("diffusiondb", "prompt_id"),
}


def variation_metrics(summary: EmbeddingSummary, month: str) -> pl.DataFrame:
    """Return table `variation_metrics` of one month; without pictures, each metric is null."""
    rows = [{"month": month, **_row(name, *found)} for name, found in metric_intervals(summary).items()]
    return _table("variation_metrics", rows)


def variation_table(summaries: Mapping[str, EmbeddingSummary], groups: Groups | None = None) -> pl.DataFrame:
    """Return table `variation_table`: every metric of each source, and distances within groups.

    Metrics that depend on n come again as `<metric>_equal_n`, all at the size of the smallest source
    (`intervals.equal_n_intervals`). A condition has its mean pairwise distance within groups, that across
    groups (`…_across`) and the ratio of the two (`within_across_ratio`).

    Args:
        summaries: twigma and the reference corpora.
        groups: for sources such as artbench_same_artist, embeddings (n, d) and the group of each row.
    """
    rows = [
        {"source": source, **_row(name, *found)}
        for source, summary in summaries.items()
        for name, found in metric_intervals(summary).items()
    ]
    rows += [
        {"source": source, **_row(f"{name}_equal_n", *found)}
        for source, metrics in equal_n_intervals(summaries).items()
        for name, found in metrics.items()
    ]
    for source, (x, names) in (groups or {}).items():
        found = contrast(x, names)
        rows += [
            {"source": source, **_row("mean_pairwise_distance", found.within, found.rows)},
            {"source": source, **_row("mean_pairwise_distance_across", found.across, found.rows_across)},
            {"source": source, **_row("within_across_ratio", found.ratio, found.rows_across)},
        ]
    return _table("variation_table", rows)


def groups_of(reference_embeddings: Mapping[str, ArrayTable]) -> Groups:
    """Return the conditions of Figure 3a: ArtBench by artist, DiffusionDB by prompt, of the corpora given."""
    return {
        source: (reference_embeddings[corpus].vectors, reference_embeddings[corpus].table[column].to_list())
        for source, (corpus, column) in CONDITIONS.items()
        if corpus in reference_embeddings
    }


def pair_distances(
    summaries: Mapping[str, EmbeddingSummary],
    groups: Groups | None = None,
    texts: Mapping[str, ArrayTable] | None = None,
) -> pl.DataFrame:
    """Return table `pair_distances`: histograms over 0 to 2 of unit vectors' distances (Figures 3a, 3d).

    Args:
        summaries: sources of pictures; all pairs of the sample count.
        groups: conditions; all pairs within a group count, see `groups.group_distances`.
        texts: `text_embeddings` by source; matched in words to the prompts as in `prompts.text_variation`.

    A source without two pictures or texts has no row.

    Raises:
        ValueError: a distance above 2: the embeddings are not of length 1.
    """
    from twigma_core.analysis.prompts import matched_texts

    histograms = {source: distance_histogram(summary.sample, EDGES) for source, summary in summaries.items()}
    for source, (x, names) in (groups or {}).items():
        histograms[source] = group_distances(x, names, EDGES).histogram
    for source, (x, _) in matched_texts(texts or {}).items():
        histograms[source] = distance_histogram(x, EDGES)
    width = EDGES[1] - EDGES[0]
    rows = [
        {
            "source": source,
            "left": float(EDGES[i]),
            "right": float(EDGES[i + 1]),
            "pairs": int(pairs),
            "density": float(pairs / counts.sum() / width),
        }
        for source, counts in histograms.items()
        if counts.sum() > 0
        for i, pairs in enumerate(counts)
    ]
    return _table("pair_distances", rows)


def _row(metric: str, interval: Interval, n: int) -> dict[str, Any]:
    return {"metric": metric, **interval.columns(), "n": n}


def _table(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    if not rows:
        return tables.empty(name)
    return tables.conform(name, pl.DataFrame(rows, infer_schema_length=None))
