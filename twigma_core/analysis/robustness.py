"""Does it matter how distinctiveness is measured? (paper, Section 3: "our results are robust")

Here: table `divergence_robustness`: every measure of `divergence_matrix`, and those on histograms again over
quantizers of 4 to 500 cells fitted from several seeds; the order of the pairs under each, its agreement with
the paper's KL over 10 cells, and whether the paper's claim holds. Not here: the measures (`divergence`).

All is computed from the summaries: quantizers are fitted on equal numbers of pictures from the samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.codebook import fit_codebook
from twigma_core.analysis.distances import Interval, undefined
from twigma_core.analysis.divergence import CELLS, SIMILARITIES, divergence_matrix
from twigma_core.analysis.histograms import PICTURES_A_CELL, SMOOTHING

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary

SIZES = (4, 10, 50, 500)
SEEDS = (0, 1, 2, 3, 4)
GENERATED = ("twigma", "diffusiondb")
_MEASURES = ("kl", "js", "mauve")
_STARTS = 3
_KEYS = ("measure", "cells", "seed")


def divergence_robustness(
    summaries: Mapping[str, EmbeddingSummary],
    matrix: pl.DataFrame,
    sizes: Sequence[int] = SIZES,
    seeds: Sequence[int] = SEEDS,
) -> pl.DataFrame:
    """Return table `divergence_robustness`.

    A variant is a measure with its quantizer: that of the frozen codebook, or one fitted here with a seed.
    KL(q‖p) is KL of the pair turned round, so both directions stand in the rows of `kl`.

    Args:
        summaries: twigma and the reference corpora.
        matrix: table `divergence_matrix` of the same sources. Its `kl` over 10 cells is what the order of the
            pairs under each variant is compared with.
        sizes: numbers of cells. A size with fewer than eight pictures a cell is not fitted: its rows say so.
        seeds: seeds of the quantizers.

    Raises:
        ValueError: as `divergence_matrix`.
    """
    frozen = matrix.select(
        *("source_p", "source_q", "cells", "value", "low", "high", "n_p", "n_q", "smoothing", "reason"),
        pl.when(pl.col("cells").is_null())
        .then("measure")
        .otherwise(pl.col("measure").str.replace(r"_\d+$", ""))
        .alias("measure"),
        pl.lit(None, dtype=pl.Int64).alias("seed"),
    )
    parts = [frozen, *(_refitted(summaries, k, seed) for k, seed in itertools.product(sizes, seeds))]
    full = [part for part in parts if part.height]
    if not full:
        return tables.empty("divergence_robustness")
    rows = pl.concat(full, how="diagonal_relaxed")
    return tables.conform("divergence_robustness", _ordered(rows))


def _refitted(summaries: Mapping[str, EmbeddingSummary], cells: int, seed: int) -> pl.DataFrame:
    """Return the measures over the cells of a quantizer fitted to equal parts of the samples."""
    take = min((len(summary.sample) for summary in summaries.values()), default=0)
    total, needed = take * len(summaries), PICTURES_A_CELL * cells
    if total < needed:
        reason = (
            f"{cells} cells need {needed} pictures, {PICTURES_A_CELL} a cell; "
            f"{take} from each of {len(summaries)} sources are {total}"
        )
        return _blank(summaries, cells, seed, take, undefined(reason))
    from twigma_core.analysis.summary import EmbeddingSummary

    samples = {source: summary.sample[:take] for source, summary in summaries.items()}
    codebook, _ = fit_codebook(samples, (cells,), take, seed, _STARTS)
    ids = [str(row) for row in range(take)]
    equal = {
        source: EmbeddingSummary.from_embeddings(x, ids, codebook, sample_size=1)
        for source, x in samples.items()
    }
    rows = divergence_matrix(equal, _MEASURES, seed)
    return rows.with_columns(
        pl.col("measure").str.replace(r"_\d+$", ""), pl.lit(seed, dtype=pl.Int64).alias("seed")
    )


def _blank(
    summaries: Mapping[str, EmbeddingSummary], cells: int, seed: int, take: int, why: Interval
) -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {"measure": measure, "cells": cells, "seed": seed, "source_p": p, "source_q": q}
        | {"n_p": take, "n_q": take, "smoothing": SMOOTHING if measure == "kl" else 0.0, **why.columns()}
        for measure in _MEASURES
        for p, q in itertools.permutations(summaries, 2)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with their variant, rank, agreement with the paper's KL, and the paper's claim."""
    apart = pl.when(pl.col("measure").is_in(SIMILARITIES)).then(-pl.col("value")).otherwise(pl.col("value"))
    rows = rows.with_columns(apart.alias("apart"))
    of_paper = (pl.col("measure") == "kl") & (pl.col("cells") == CELLS) & pl.col("seed").is_null()
    order = rows.filter(of_paper).select("source_p", "source_q", pl.col("apart").alias("of_paper"))
    rows = rows.join(order, on=["source_p", "source_q"], how="left", maintain_order="left")
    parts = []
    for _, part in rows.group_by(_KEYS, maintain_order=True):
        complete = part["value"].is_not_null().all()
        rank = part["apart"].rank("min").cast(pl.Int64) if complete else None
        parts.append(
            part.with_columns(
                pl.lit(_name(part.row(0, named=True))).alias("variant"),
                pl.lit(rank, dtype=pl.Int64).alias("rank") if rank is None else rank.alias("rank"),
                pl.lit(_agreement(part), dtype=pl.Float64).alias("kendall_tau"),
                pl.lit(_claim(part) if complete else None, dtype=pl.Boolean).alias("claim_holds"),
            )
        )
    return pl.concat(parts)


def _name(row: Mapping[str, Any]) -> str:
    if row["cells"] is None:
        return str(row["measure"])
    quantizer = "frozen codebook" if row["seed"] is None else f"seed {row['seed']}"
    return f"{row['measure']}, {row['cells']} cells, {quantizer}"


def _agreement(part: pl.DataFrame) -> float | None:
    """Return Kendall's τ-b of the order of the pairs and that of the paper's KL; None where undefined."""
    from scipy.stats import kendalltau

    known = part.drop_nulls(["apart", "of_paper"])
    if known.height < part.height or known["apart"].n_unique() < 2 or known["of_paper"].n_unique() < 2:
        return None
    return float(kendalltau(known["apart"].to_numpy(), known["of_paper"].to_numpy()).statistic)


def _claim(part: pl.DataFrame) -> bool | None:
    """Say whether generated sources are nearer to one another than any is to a human one."""
    p, q = pl.col("source_p").is_in(GENERATED), pl.col("source_q").is_in(GENERATED)
    within, across = part.filter(p & q)["apart"], part.filter(p != q)["apart"]
    if within.is_empty() or across.is_empty():
        return None
    return bool(np.max(within.to_numpy()) < np.min(across.to_numpy()))


def in_words(robustness: pl.DataFrame) -> dict[str, str]:
    """Return plain sentences on what stays the same whatever the measure, for whoever reads the table."""
    variants = robustness.unique(_KEYS, maintain_order=True)
    known, missing = (variants.filter(pl.col("rank").is_not_null() == there) for there in (True, False))
    if known.is_empty():
        return {"what stays the same": "no variant could be computed for every pair of sources"}
    holds = known.filter(pl.col("claim_holds").is_not_null())
    lowest = known.drop_nulls("kendall_tau").sort("kendall_tau")
    said = {
        "what stays the same": (
            f"in {holds.filter(pl.col('claim_holds')).height} of {holds.height} variants the posted and the "
            "generated pictures are nearer to one another than either is to a human corpus"
        )
    }
    if broken := holds.filter(~pl.col("claim_holds"))["variant"].to_list():
        said["where it does not hold"] = "; ".join(broken)
    if lowest.height:
        first, middle = lowest.row(0, named=True), float(np.median(lowest["kendall_tau"].to_numpy()))
        said["order of the pairs"] = (
            f"agrees with KL over {CELLS} cells at Kendall's τ = {middle:.2f} in the middle of "
            f"{lowest.height} variants; least for {first['variant']}, {first['kendall_tau']:.2f}"
        )
    if missing.height:
        sizes = sorted({f"{row['cells']} cells" for row in missing.iter_rows(named=True) if row["cells"]})
        said["not computed"] = (
            f"{missing.height} variants ({', '.join(sizes) or 'measures without cells'}): "
            + next((why for why in missing["reason"].to_list() if why), "a source has too few pictures")
        )
    return said
