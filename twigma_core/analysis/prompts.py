"""Prompts and texts: do longer prompts vary less, and how variable are prompts beside other texts?

Here: tables `prompt_variation` (Figure 3c) and `text_variation` (Figure 3d), and the match in word count that
makes texts comparable. Not here: pictures' own variation (`variation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.distances import mean_distance_interval
from twigma_core.analysis.groups import group_distances

if TYPE_CHECKING:
    from twigma_core.lake import ArrayTable

CORPUS = "diffusiondb"
PROMPTS = "prompts"
MAX_TEXTS = 2000
_MAX_PAIRED = 3000
_Z = 1.959963984540054

# ---------------------------------------------------------------- prompts and their pictures


def prompt_variation(
    reference_images: pl.DataFrame, reference_embeddings: Mapping[str, ArrayTable], seed: int = 0
) -> pl.DataFrame:
    """Return table `prompt_variation`: each prompt's mean pairwise distance, and Kendall's τ over prompts.

    Rows are prompts of DiffusionDB with at least two pictures and a known text; the number of words is that
    of the text split at white space. τ-b and its p-value are SciPy's; the interval is `kendall_interval`'s.
    Both are null below three prompts or where all prompts are equally long.

    Args:
        reference_images: table `reference_images`, for the texts of the prompts.
        reference_embeddings: table and vectors by corpus; without DiffusionDB the result is empty.
        seed: seed of `group_distances`, for prompts of very many pictures.
    """
    from scipy.stats import kendalltau

    if CORPUS not in reference_embeddings:
        return tables.empty("prompt_variation")
    stored = reference_embeddings[CORPUS]
    texts = reference_images.filter(pl.col("corpus") == CORPUS, pl.col("prompt").is_not_null())
    known = texts.group_by("prompt_id").agg(pl.col("prompt").sort().first())
    words = {row["prompt_id"]: len(row["prompt"].split()) for row in known.iter_rows(named=True)}
    names = [name if name in words else None for name in stored.table["prompt_id"].to_list()]
    within = group_distances(stored.vectors, names, seed=seed)
    if not within.names:
        return tables.empty("prompt_variation")
    lengths = np.array([words[name] for name in within.names], dtype=np.int64)
    tau = p_value = low = high = None
    if len(lengths) >= 3 and len(set(lengths.tolist())) > 1 and np.ptp(within.means) > 0:
        result = kendalltau(lengths, within.means)
        tau, p_value = float(result.statistic), float(result.pvalue)
        low, high = kendall_interval(lengths, within.means, seed)
    frame = pl.DataFrame(
        {"prompt_id": within.names, "words": lengths, "pictures": within.rows, "mean_distance": within.means}
    ).with_columns(
        pl.lit(tau, dtype=pl.Float64).alias("kendall_tau"),
        pl.lit(low, dtype=pl.Float64).alias("tau_low"),
        pl.lit(high, dtype=pl.Float64).alias("tau_high"),
        pl.lit(p_value, dtype=pl.Float64).alias("p_value"),
    )
    return tables.conform("prompt_variation", frame)


def kendall_interval(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float | None, float | None]:
    """Return the 95 % interval of Kendall's τ-b of a and b, (n,), which may be tied.

    τ-b is C/√(AB), of three U-statistics over pairs: concordance, and pairs untied in a and in b. Its
    standard error is that of the ratio linearised (delta method; Samara and Randles 1988), and the interval
    is taken on the scale of atanh τ, where it stays within [−1, 1]. Beyond 3,000 values the error is
    estimated on a random 3,000 and scaled. (None, None) below four values, or where all are tied.
    """
    from scipy.stats import kendalltau

    n = len(a)
    tau = float(kendalltau(a, b).statistic) if n >= 4 else np.nan
    if not np.isfinite(tau):
        return None, None
    if n > _MAX_PAIRED:
        chosen = np.random.default_rng(seed).choice(n, size=_MAX_PAIRED, replace=False)
        a, b = a[chosen], b[chosen]
    m = len(a)
    sign_a = np.sign(np.subtract.outer(a, a).astype(np.float32))
    sign_b = np.sign(np.subtract.outer(b, b).astype(np.float64)).astype(np.float32)
    c = (sign_a * sign_b).sum(axis=1, dtype=np.float64) / (m - 1)
    u = np.abs(sign_a).sum(axis=1, dtype=np.float64) / (m - 1)
    v = np.abs(sign_b).sum(axis=1, dtype=np.float64) / (m - 1)
    if u.mean() == 0 or v.mean() == 0:
        return None, None
    influence = (c - c.mean()) / np.sqrt(u.mean() * v.mean())
    influence -= tau / 2 * ((u / u.mean() - 1) + (v / v.mean() - 1))
    error = 2 * float(influence.std(ddof=1)) / np.sqrt(n) * (m - 1) / (m - 2)
    if abs(tau) >= 1:
        return tau, tau
    middle, half = np.arctanh(tau), _Z * error / (1 - tau**2)
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


# ---------------------------------------------------------------- texts


def text_variation(text_embeddings: Mapping[str, ArrayTable], seed: int = 0) -> pl.DataFrame:
    """Return table `text_variation`: mean pairwise distance of each source, matched in words to the prompts.

    The match is `matched_texts`. A source with fewer than two matched texts has null values.

    Args:
        text_embeddings: table and vectors by text source.
        seed: seed of the choice among texts of equal length.
    """
    rows = []
    for source, (x, words) in matched_texts(text_embeddings, seed).items():
        interval = mean_distance_interval(x)
        rows.append(
            {
                "source": source,
                **interval.columns(),
                "n": len(x),
                "mean_words": float(words.mean()) if len(words) else None,
            }
        )
    if not rows:
        return tables.empty("text_variation")
    return tables.conform("text_variation", pl.DataFrame(rows, infer_schema_length=None))


def matched_texts(
    text_embeddings: Mapping[str, ArrayTable], seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return each source's vectors (m, d) and word counts (m,) after matching, by source.

    Up to 2,000 prompts drawn at random set the target. Each takes one text of the source, once, of the same
    number of words or else of the nearest, within a tenth of its length (at least one word); a prompt without
    such a text has none, so `n` and the mean of words tell how far a source could be matched. Prompts are
    their own match. Without prompts there is nothing to match: each source keeps up to 2,000 random texts.
    """
    rng = np.random.default_rng(seed)
    drawn = {}
    for source in sorted(text_embeddings):
        order = rng.permutation(text_embeddings[source].table.height)
        drawn[source] = (order, text_embeddings[source].table["words"].to_numpy()[order])
    target = drawn[PROMPTS][1][:MAX_TEXTS] if PROMPTS in drawn else None
    matched = {}
    for source, (order, words) in drawn.items():
        if source == PROMPTS or target is None:
            chosen = np.arange(min(len(order), MAX_TEXTS))
        else:
            chosen = match_words(target, words)
        rows = np.sort(order[chosen])
        stored = text_embeddings[source]
        matched[source] = (np.asarray(stored.vectors[rows]), stored.table["words"].to_numpy()[rows])
    return matched


def match_words(target: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return the rows of `words` matched one to one to `target`, both (n,) word counts; the first of equals.

    Exact matches are made first, then those one word off, and so on up to max(1, a tenth of the target).
    """
    free: dict[int, list[int]] = {}
    for row in range(len(words) - 1, -1, -1):
        free.setdefault(int(words[row]), []).append(row)
    wanted = dict(zip(*(v.tolist() for v in np.unique(target, return_counts=True)), strict=True))
    chosen: list[int] = []
    for off in range(max((_tolerance(w) for w in wanted), default=0) + 1):
        for length in sorted(wanted):
            if off > _tolerance(length):
                continue
            for candidate in dict.fromkeys((length - off, length + off)):
                pool = free.get(candidate, [])
                while wanted[length] and pool:
                    chosen.append(pool.pop())
                    wanted[length] -= 1
    return np.array(sorted(chosen), dtype=np.int64)


def _tolerance(words: int) -> int:
    return max(1, words // 10)
