"""Our counterpart of each of the paper's numbers, read from the assets' tables with its interval.

`read` and `selection` understand the column `how` of `paper_numbers.csv`: a reader's name and its argument.
Here: picking rows, and differences and ratios of two estimates. Not here: any estimate that the assets do
not already hold, and the verdict (`paper.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from twigma_core.analysis.contrasts import NOTHING, Estimate, average, exactly, extreme, minus, ratio, share

Tables = Mapping[str, pl.DataFrame]
HUMAN = ("laion", "artbench")
GENERATED = ("twigma", "diffusiondb")
PRESENT = 0.05
"""Share of a cluster from which on AI-generated pictures count as present in it."""
NEARLY_ALL = 0.95
"""Share of measures and quantizers that must agree for a result to be called robust to their choice."""

MANY = 0.01
"""Share of a source's pictures from which on they count as a substantial number."""


class Missing(LookupError):
    """What a number needs is not in the tables; the message says what."""


@dataclass(frozen=True)
class _Reader:
    """Reads a number from its asset's table.

    `words` say from which rows and columns: {} stands for a part of its argument, {rest} for conditions.
    """

    read: Callable[[Tables, str, str], Estimate]
    words: str


def read(given: Tables, asset: str, how: str) -> Estimate:
    """Return ours.

    Raises:
        Missing: a table or a row that it needs is not there.
    """
    _table(given, asset)
    name, _, argument = how.partition(" ")
    return READERS[name].read(given, asset, argument)


def selection(how: str) -> str:
    """Return in words which rows and columns of its asset a number is read from."""
    name, *parts = how.split(" ")
    parts = [part.replace("=", " = ").replace(",", ", ") for part in parts]
    words = READERS[name].words
    rest = parts[words.count("{}") :]
    return words.replace("{rest}", f" where {rest[0]}" if rest else "").format(*parts)


def _table(given: Tables, asset: str) -> pl.DataFrame:
    if asset not in given or given[asset].is_empty():
        raise Missing(f"{asset} is not materialized or has no row")
    return given[asset]


def _where(frame: pl.DataFrame, conditions: str) -> pl.DataFrame:
    """Return the rows for which all of "column=value,column=value" hold."""
    for condition in filter(None, conditions.split(",")):
        column, _, value = condition.partition("=")
        frame = frame.filter(pl.col(column).cast(pl.String) == value)
    return frame


def _estimate(row: Mapping[str, Any], value: str = "value") -> Estimate:
    return Estimate(row[value], row["low"], row["high"])


def _one(frame: pl.DataFrame, conditions: str, what: str) -> Estimate:
    row = _row(frame, conditions, what)
    return _estimate(row, "value" if "value" in row else "estimate")


def _row(frame: pl.DataFrame, conditions: str, what: str) -> dict[str, Any]:
    rows = _where(frame, conditions)
    if not rows.height:
        raise Missing(f"{what} has no row for {conditions}")
    return rows.row(0, named=True)


# ---------------------------------------------------------------- the data


def _rows(given: Tables, asset: str, conditions: str) -> Estimate:
    return Estimate(float(_where(given[asset], conditions).height))


def _distinct(given: Tables, asset: str, argument: str) -> Estimate:
    column, _, conditions = argument.partition(" ")
    return Estimate(float(_where(given[asset], conditions)[column].drop_nulls().n_unique()))


def _total(given: Tables, asset: str, column: str) -> Estimate:
    return Estimate(float(given[asset][column].sum()))


def _look(given: Tables, asset: str, conditions: str) -> Estimate:
    return _one(given[asset], conditions, asset)


def _p_value(given: Tables, asset: str, conditions: str) -> Estimate:
    return Estimate(_row(given[asset], conditions, asset)["p_value"])


def _longest(given: Tables, asset: str, column: str) -> Estimate:
    longest = given[asset][column].list.len().max()
    return Estimate(float(longest)) if isinstance(longest, int) else NOTHING


def _posts_with_pictures(given: Tables, asset: str, _: str) -> Estimate:
    ok = given[asset].filter(pl.col("status").cast(pl.String) == "ok").select("image_id").unique()
    return Estimate(float(_table(given, "tweet_media").join(ok, on="image_id")["tweet_id"].n_unique()))


def _posts_grow(given: Tables, asset: str, _: str) -> Estimate:
    """Kendall's tau of posts against months, with the interval of its normal approximation."""
    from scipy import stats

    months = given[asset].group_by("month").len().sort("month")["len"].to_numpy()
    n = len(months)
    if n < 3:
        raise Missing(f"{n} months are too few for growth over time")
    tau = float(stats.kendalltau(np.arange(n), months).statistic)
    half = 1.96 * float(np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))
    return Estimate(tau, max(-1.0, tau - half), min(1.0, tau + half))


def _unavailable(given: Tables, asset: str, _: str) -> Estimate:
    status = given[asset]["status"].cast(pl.String)
    return share(int((status == "unavailable").sum()), len(status))


# ---------------------------------------------------------------- distinctiveness


def _map_neighbour(given: Tables, asset: str, _: str) -> Estimate:
    """The map is fitted on equal numbers of each source, so that none is met more often for its size."""
    from scipy.spatial import cKDTree

    ours = given[asset].filter(pl.col("source") == "twigma").select("x", "y")
    others = given[asset].filter(pl.col("source") != "twigma")
    if not ours.height or not {"diffusiondb", *HUMAN} <= set(others["source"]):
        raise Missing("projection_model lacks one of twigma, diffusiondb, laion, artbench")
    _, nearest = cKDTree(others.select("x", "y").to_numpy()).query(ours.to_numpy())
    hits = int((others["source"].gather(nearest) == "diffusiondb").sum())
    return minus(share(hits, ours.height), exactly(0.5))


def _has_cells(given: Tables, asset: str, wanted: str) -> Estimate:
    held = given[asset]["cells"].drop_nulls().unique().to_list()
    if int(wanted) in held:
        return Estimate(float(wanted))
    return Estimate(float(min(held, key=lambda cells: abs(cells - int(wanted))))) if held else NOTHING


def _four_cells(given: Tables, asset: str) -> pl.DataFrame:
    """Return total, laion and machine (counts) of each cell of the 4-cell codebook, LAION's own last."""
    cells = given[asset].filter(pl.col("cells") == 4)
    if "laion" not in cells["source"].to_list():
        raise Missing("codebook has no 4 cells with LAION")
    of = {"laion": ["laion"], "machine": list(GENERATED)}
    counted = cells.group_by("cell").agg(
        pl.col("pictures").sum().alias("total"),
        *(pl.col("pictures").filter(pl.col("source").is_in(s)).sum().alias(n) for n, s in of.items()),
    )
    return counted.filter(pl.col("total") > 0).sort(pl.col("laion") / pl.col("total"), "cell")


def _laion_cluster(given: Tables, asset: str, _: str) -> Estimate:
    best = _four_cells(given, asset).row(-1, named=True)
    return minus(share(best["laion"], best["total"]), exactly(0.5))


def _ai_clusters(given: Tables, asset: str, _: str) -> Estimate:
    others = _four_cells(given, asset).head(-1)
    return Estimate(float((others["machine"] / others["total"] >= PRESENT).sum()))


def _ai_human_divergence(given: Tables, asset: str, _: str) -> Estimate:
    frame = given[asset].filter((pl.col("measure") == "kl") & (pl.col("cells") == 10))
    found = {(r["source_p"], r["source_q"]): _estimate(r) for r in frame.iter_rows(named=True)}
    apart = {f"{p} {q}": ours for (p, q), ours in found.items() if (p in HUMAN) != (q in HUMAN)}
    close = {f"{p} {q}": ours for (p, q), ours in found.items() if p != q and {p, q} == set(GENERATED)}
    if not apart or not close:
        raise Missing("divergence_matrix lacks a human corpus or diffusiondb")
    return minus(extreme(apart, largest=False), extreme(close, largest=True))


def _robust_claim(given: Tables, asset: str, _: str) -> Estimate:
    holds = given[asset].unique("variant")["claim_holds"].drop_nulls()
    return Estimate(float(holds.mean()) - NEARLY_ALL) if len(holds) else NOTHING  # type: ignore[arg-type]


# ---------------------------------------------------------------- likes


def _more_likes(given: Tables, asset: str, corpus: str) -> Estimate:
    robust = f"corpus={corpus},column=robust,quantity=mean_likes,term="
    return minus(_one(given[asset], robust + "1", asset), _one(given[asset], robust + "5", asset))


def _rate_above_one(given: Tables, asset: str, argument: str) -> Estimate:
    corpus, _, quintile = argument.partition(" ")
    row = f"corpus={corpus},column=robust,quantity=rate_ratio,term={quintile}"
    return minus(_one(given[asset], row, asset), exactly(1.0))


def _terms(given: Tables, asset: str, quantity: str) -> Estimate:
    terms = _where(given[asset], f"quantity={quantity},column=paper")["term"].n_unique()
    return Estimate(float(terms)) if terms else NOTHING


def _bands(given: Tables, asset: str) -> list[str]:
    """Return the follower bands beside the baseline, such as "500-5,000" and "> 5,000"."""
    held = _where(given[asset], "quantity=followers_ratio")["term"].unique().to_list()
    return sorted(term for term in held if term != "unknown")


def _follower_bands(given: Tables, asset: str, _: str) -> Estimate:
    bands = _bands(given, asset)
    return Estimate(1.0 + len(bands)) if bands else NOTHING


def _follower_bound(given: Tables, asset: str, place: str) -> Estimate:
    """The numbers that the middle band's name begins and ends with."""
    for band in _bands(given, asset):
        ends = re.findall(r"\d[\d,]*", band)
        if len(ends) == 2:
            return Estimate(float(ends[int(place)].replace(",", "")))
    raise Missing("engagement has no follower band with two bounds")


# ---------------------------------------------------------------- variation


def _variation(given: Tables, asset: str, metric: str, sources: tuple[str, ...] = ()) -> dict[str, Estimate]:
    frame = _where(given[asset], f"metric={metric}")
    found = {row["source"]: _estimate(row) for row in frame.iter_rows(named=True)}
    missing = [source for source in sources if source not in found]
    if missing:
        raise Missing(f"{asset} has no {metric} of {', '.join(missing)}")
    return found


def _laion_most(given: Tables, asset: str, metric: str) -> Estimate:
    found = _variation(given, asset, metric, ("laion",))
    others = {source: ours for source, ours in found.items() if source in ("artbench", *GENERATED)}
    return minus(found["laion"], extreme(others, largest=True))


def _least(given: Tables, asset: str, argument: str) -> Estimate:
    metric, source = argument.split(" ")
    found = _variation(given, asset, metric, (*HUMAN, *GENERATED))
    others = {other: found[other] for other in (*HUMAN, *GENERATED) if other != source}
    return minus(extreme(others, largest=False), found[source])


def _ai_less_variable(given: Tables, asset: str, _: str) -> Estimate:
    found = _variation(given, asset, "mean_pairwise_distance", (*HUMAN, *GENERATED))
    return minus(average([found[s] for s in HUMAN]), average([found[s] for s in GENERATED]))


def _within(given: Tables, asset: str, argument: str) -> Estimate:
    whole, condition = argument.split(" ")
    found = _variation(given, asset, "mean_pairwise_distance", (whole, condition))
    return minus(found[whole], found[condition])


def _same_prompt_ratio(given: Tables, asset: str, _: str) -> Estimate:
    names = ("diffusiondb_same_prompt", "diffusiondb")
    found = _variation(given, asset, "mean_pairwise_distance", names)
    return ratio(found[names[0]], found[names[1]])


def _tau(given: Tables, asset: str, _: str) -> Estimate:
    row = given[asset].row(0, named=True)
    return Estimate(row["kendall_tau"], row["tau_low"], row["tau_high"])


def _tau_p(given: Tables, asset: str, _: str) -> Estimate:
    return Estimate(given[asset]["p_value"][0])


def _longer_vary_less(given: Tables, asset: str, _: str) -> Estimate:
    return minus(exactly(0.0), _tau(given, asset, ""))


def _texts_order(given: Tables, asset: str, _: str) -> Estimate:
    found = {row["source"]: _estimate(row) for row in given[asset].iter_rows(named=True)}
    varied = {s: found[s] for s in ("captions", "prompts", "tweets") if s in found}
    uniform = {s: found[s] for s in ("haiku", "book") if s in found}
    if len(varied) < 3 or len(uniform) < 2:
        raise Missing("text_variation lacks one of captions, prompts, tweets, haiku, book")
    return minus(extreme(varied, largest=False), extreme(uniform, largest=True))


# ---------------------------------------------------------------- themes


def _trends(given: Tables, asset: str, direction: str) -> Estimate:
    known = given[asset].filter(pl.col("trend").cast(pl.String) != "unknown")
    if not known.height:
        raise Missing("cluster_trends covers fewer than three months")
    return Estimate(float(known.filter(pl.col("trend").cast(pl.String) == direction)["cluster"].n_unique()))


def _themes_shift(given: Tables, asset: str, _: str) -> Estimate:
    found = [_trends(given, asset, direction).value or 0.0 for direction in ("rising", "falling")]
    return Estimate(min(found))


def _other_k(given: Tables, asset: str, k: str) -> Estimate:
    known = given[asset].drop_nulls("shifting")
    both = known.with_columns(pl.col("rising") > 0, pl.col("falling") > 0)
    ours, others = both.filter(pl.col("k") == int(k)), both.filter(pl.col("k") != int(k))
    if not ours.height or not others.height:
        raise Missing(f"{asset} has no trend of k = {k} and of another k, which takes three months")
    rising, falling = (ours[name].sum() * 2 > ours.height for name in ("rising", "falling"))
    same = others.filter((pl.col("rising") == rising) & (pl.col("falling") == falling))
    return Estimate(same.height / others.height - NEARLY_ALL)


def _nsfw_presence(given: Tables, asset: str, _: str) -> Estimate:
    laion = _where(_table(given, "reference_embeddings"), "corpus=laion")
    shares = {}
    for source, frame in (("twigma", given[asset]), ("laion", laion)):
        scores = frame["nsfw_score"].drop_nulls()
        if not len(scores):
            raise Missing(f"no picture of {source} has an NSFW score")
        shares[source] = share(int((scores >= 0.5).sum()), len(scores))
    return minus(extreme(shares, largest=False), exactly(MANY))


def _nsfw_clusters(given: Tables, asset: str, _: str) -> Estimate:
    scores = _table(given, "dataset").select("image_id", "nsfw_score").drop_nulls()
    both = given[asset].select("image_id", "cluster").join(scores, on="image_id")
    if not both.height:
        raise Missing("no picture of clusters has an NSFW score")
    shares = both.group_by("cluster").agg((pl.col("nsfw_score") >= 0.5).mean().alias("share"))
    return Estimate(float(shares.filter(pl.col("share") > 0.5).height))


def _tasks_per_cluster(given: Tables, asset: str, _: str) -> Estimate:
    largest = given[asset].group_by("cluster").len()["len"].max()
    return Estimate(float(largest)) if isinstance(largest, int) else NOTHING


def _words_meet(given: Tables, asset: str, _: str) -> Estimate:
    found = [_one(given[asset], f"measure=keyword_overlap{end},scope=all", asset) for end in ("", "_chance")]
    return minus(found[0], found[1])


_DISTANCE = "metric = mean_pairwise_distance: "
READERS: dict[str, _Reader] = {
    "rows": _Reader(_rows, "rows{rest}"),
    "distinct": _Reader(_distinct, "distinct {}{rest}"),
    "total": _Reader(_total, "sum of {}"),
    "look": _Reader(_look, "the row{rest}"),
    "p_value": _Reader(_p_value, "p_value of the row{rest}"),
    "longest": _Reader(_longest, "longest list in {}"),
    "posts_with_pictures": _Reader(
        _posts_with_pictures, "distinct tweet_id in tweet_media of the pictures with status = ok"
    ),
    "posts_grow": _Reader(_posts_grow, "Kendall's tau of rows per month against time"),
    "unavailable": _Reader(_unavailable, "share of rows with status = unavailable"),
    "map_neighbour": _Reader(
        _map_neighbour,
        "share of TWIGMA's pictures whose nearest on the map, of another source, is of DiffusionDB, less one "
        "half",
    ),
    "has_cells": _Reader(_has_cells, "cells = {}"),
    "laion_cluster": _Reader(_laion_cluster, "cells = 4: LAION's share of its own cell, less one half"),
    "ai_clusters": _Reader(
        _ai_clusters,
        "cells = 4: cells other than LAION's own that TWIGMA and DiffusionDB hold at least 5 % of",
    ),
    "ai_human_divergence": _Reader(
        _ai_human_divergence,
        "measure = kl, cells = 10: smallest value between an AI and a human source, less the larger of the "
        "two between TWIGMA and DiffusionDB",
    ),
    "robust_claim": _Reader(_robust_claim, f"share of variants in which claim_holds, less {NEARLY_ALL}"),
    "more_likes": _Reader(_more_likes, "mean_likes where corpus = {}, column = robust: term 1 less term 5"),
    "rate_above_one": _Reader(
        _rate_above_one, "rate_ratio where corpus = {}, column = robust, term = {}: less 1"
    ),
    "terms": _Reader(_terms, "distinct term where quantity = {}"),
    "follower_bands": _Reader(_follower_bands, "terms of followers_ratio, and the baseline"),
    "follower_bound": _Reader(_follower_bound, "bounds in the terms of followers_ratio"),
    "laion_most": _Reader(_laion_most, "metric = {}: LAION less the largest of the other three sources"),
    "least": _Reader(_least, "metric = {}: the smallest of the other three sources less {}"),
    "ai_less_variable": _Reader(
        _ai_less_variable, _DISTANCE + "mean of LAION and ArtBench less that of TWIGMA and DiffusionDB"
    ),
    "within": _Reader(_within, _DISTANCE + "{} less {}"),
    "same_prompt_ratio": _Reader(_same_prompt_ratio, _DISTANCE + "diffusiondb_same_prompt over diffusiondb"),
    "tau": _Reader(_tau, "kendall_tau [tau_low, tau_high]"),
    "tau_p": _Reader(_tau_p, "p_value"),
    "longer_vary_less": _Reader(_longer_vary_less, "kendall_tau with its sign turned"),
    "texts_order": _Reader(
        _texts_order, "smallest value of captions, prompts and tweets less the largest of haiku and book"
    ),
    "trends": _Reader(_trends, "distinct cluster where trend = {}"),
    "themes_shift": _Reader(_themes_shift, "the smaller of the numbers of rising and of falling clusters"),
    "other_k": _Reader(
        _other_k,
        "fits with another k than {} in which, as in most with it, there are rising and falling clusters, or "
        f"none: their share, less {NEARLY_ALL}",
    ),
    "nsfw_presence": _Reader(
        _nsfw_presence,
        f"smaller share with nsfw_score >= 0.5 of dataset and of LAION in reference_embeddings, less {MANY}",
    ),
    "nsfw_clusters": _Reader(
        _nsfw_clusters, "clusters of which most pictures have nsfw_score >= 0.5 in dataset"
    ),
    "tasks_per_cluster": _Reader(_tasks_per_cluster, "most rows of one cluster"),
    "words_meet": _Reader(_words_meet, "scope = all: keyword_overlap less keyword_overlap_chance"),
}
"""Every reader by the name that `how` calls it."""
