"""The paper's numbers beside ours: table `paper_comparison`.

`paper_numbers.csv` holds every number and stated order of the paper with its place, the asset that ours
comes from, and how it is read from it. Here: reading ours and the verdict. Not here: any estimate that the
assets do not already hold; differences and ratios of two of them are taken here, with their intervals.

Kinds of number:

- setting: a choice of the method, such as k = 10. Reproduced where ours is the same.
- level: a value that depends on the data. Reproduced where the intervals meet (within 5 % where neither
  side has one); not comparable on synthetic data.
- direction: a stated order, turned into a contrast that is positive where the order holds. Reproduced where
  its interval lies above 0; compared on synthetic data, too.
- outside: stated by the paper but not computed from our tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import polars as pl

from twigma_core import tables

Tables = Mapping[str, pl.DataFrame]
TOLERANCE = 0.05
HUMAN = ("laion", "artbench")
GENERATED = ("twigma", "diffusiondb")


@dataclass(frozen=True)
class Ours:
    """Our counterpart of a number: value and 95 % interval; None where the data do not give it."""

    value: float | None
    low: float | None = None
    high: float | None = None


NOTHING = Ours(None)


def paper_numbers() -> pl.DataFrame:
    """Return every number of the paper: number, place, paper, value, low, high, kind, asset, how."""
    text = resources.files("twigma_core.analysis").joinpath("paper_numbers.csv").read_bytes()
    schema = {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.read_csv(text, schema_overrides=schema, infer_schema_length=None)


def needed_assets() -> list[str]:
    """Return the assets whose tables `paper_comparison` reads, sorted."""
    named = paper_numbers()["asset"].drop_nulls().to_list()
    return sorted({*named, "tweet_media"})


def paper_comparison(tables_by_asset: Tables, synthetic: bool) -> pl.DataFrame:
    """Return table `paper_comparison`: each number of the paper, ours with its interval, and a verdict.

    Args:
        tables_by_asset: whole tables by asset; one that is missing or empty makes its numbers not comparable.
        synthetic: whether the data are simulated or paired by invention: only settings and directions are
            then compared.
    """
    rows = []
    for entry in paper_numbers().iter_rows(named=True):
        ours, because = _find(entry, tables_by_asset)
        verdict = "not comparable"
        if because is None:
            verdict, because = _judge(entry, ours, synthetic)
        rows.append(
            {
                "number": entry["number"],
                "place": entry["place"],
                "paper": entry["paper"],
                "value": ours.value,
                "low": ours.low,
                "high": ours.high,
                "asset": entry["asset"] or "none",
                "verdict": verdict,
                "because": because,
            }
        )
    schema: Any = tables.empty("paper_comparison").schema
    return tables.conform("paper_comparison", pl.DataFrame(rows, schema=schema))


def _find(entry: Mapping[str, Any], given: Tables) -> tuple[Ours, str | None]:
    """Return ours, or nothing and why there is none."""
    if entry["kind"] == "outside":
        return NOTHING, "stated in the paper, but not computed from the tables here"
    asset = entry["asset"]
    if asset not in given or given[asset].is_empty():
        return NOTHING, f"{asset} is not materialized or has no row"
    name, _, argument = entry["how"].partition(" ")
    try:
        ours = _READERS[name](given, asset, argument)
    except _Missing as missing:
        return NOTHING, str(missing)
    if ours.value is None or not np.isfinite(ours.value):
        return NOTHING, f"{asset} holds no estimate of it"
    return ours, None


def _judge(entry: Mapping[str, Any], ours: Ours, synthetic: bool) -> tuple[str, str | None]:
    value = ours.value
    assert value is not None
    if entry["kind"] == "setting":
        same = value == entry["value"]
        return ("reproduced", None) if same else ("differs", f"the setting here is {value:g}")
    if entry["kind"] == "direction":
        note = "; the data are synthetic, which says nothing about the paper's" if synthetic else ""
        if value <= 0 or (ours.high is not None and ours.high <= 0):
            return "differs", f"the order is the other way round or absent{note}"
        if ours.low is not None and ours.low <= 0:
            return "differs", f"same direction, but not beyond chance: the interval holds 0{note}"
        beyond = "" if ours.low is not None else "direction only, without an interval"
        return "reproduced", (beyond + note).removeprefix("; ") or None
    if synthetic:
        return "not comparable", "synthetic data: only settings and directions can be compared"
    low, high = entry["low"], entry["high"]
    bounded = ours.low is not None and ours.high is not None
    if bounded or low is not None:
        paper_low, paper_high = (low, high) if low is not None else (entry["value"], entry["value"])
        our_low, our_high = (ours.low, ours.high) if bounded else (value, value)
        meet = our_low <= paper_high and paper_low <= our_high  # type: ignore[operator]
        return (
            ("reproduced", None) if meet else ("differs", "the intervals do not meet; other data or period")
        )
    if abs(value - entry["value"]) <= TOLERANCE * abs(entry["value"]):
        return "reproduced", None
    return "differs", f"{value / entry['value']:.3g} times the paper's; other data, sample or period"


# ---------------------------------------------------------------- reading ours


class _Missing(LookupError):
    """What a number needs is not in the tables; the message says what."""


def _table(given: Tables, asset: str) -> pl.DataFrame:
    if asset not in given or given[asset].is_empty():
        raise _Missing(f"{asset} is not materialized or has no row")
    return given[asset]


def _where(frame: pl.DataFrame, conditions: str) -> pl.DataFrame:
    """Return the rows for which all of "column=value,column=value" hold."""
    for condition in filter(None, conditions.split(",")):
        column, _, value = condition.partition("=")
        frame = frame.filter(pl.col(column).cast(pl.String) == value)
    return frame


def _estimate(row: Mapping[str, Any], value: str = "value") -> Ours:
    return Ours(row[value], row["low"], row["high"])


def _one(frame: pl.DataFrame, conditions: str, what: str) -> Ours:
    rows = _where(frame, conditions)
    if not rows.height:
        raise _Missing(f"{what} has no row for {conditions}")
    return _estimate(rows.row(0, named=True), "value" if "value" in rows.columns else "estimate")


def _minus(a: Ours, b: Ours) -> Ours:
    """Return a − b with the interval of a difference of independent ones (MOVER, Zou and Donner 2008)."""
    if a.value is None or b.value is None:
        return NOTHING
    difference = a.value - b.value
    if None in (a.low, a.high, b.low, b.high):
        return Ours(difference)
    below = np.hypot(a.value - a.low, b.high - b.value)  # type: ignore[operator]
    above = np.hypot(a.high - a.value, b.value - b.low)  # type: ignore[operator]
    return Ours(difference, difference - float(below), difference + float(above))


def _ratio(a: Ours, b: Ours) -> Ours:
    """Return a / b of positive estimates, by `_minus` of their logarithms."""
    logs = []
    for each in (a, b):
        ends = (each.value, each.low, each.high)
        logs.append(Ours(*(None if end is None or end <= 0 else float(np.log(end)) for end in ends)))
    found = _minus(*logs)
    ends = (found.value, found.low, found.high)
    return Ours(*(None if end is None else float(np.exp(end)) for end in ends))


def _share(hits: int, total: int, minus: float = 0.0) -> Ours:
    from statsmodels.stats.proportion import proportion_confint

    if not total:
        return NOTHING
    low, high = proportion_confint(hits, total, method="wilson")
    return Ours(hits / total - minus, float(low) - minus, float(high) - minus)


def _extreme(found: Mapping[str, Ours], largest: bool) -> Ours:
    known = [ours for ours in found.values() if ours.value is not None]
    if not known:
        return NOTHING
    return (max if largest else min)(known, key=lambda ours: ours.value or 0.0)


def _rows(given: Tables, asset: str, conditions: str) -> Ours:
    return Ours(float(_where(given[asset], conditions).height))


def _distinct(given: Tables, asset: str, argument: str) -> Ours:
    column, _, conditions = argument.partition(" ")
    return Ours(float(_where(given[asset], conditions)[column].drop_nulls().n_unique()))


def _total(given: Tables, asset: str, column: str) -> Ours:
    return Ours(float(given[asset][column].sum()))


def _look(given: Tables, asset: str, conditions: str) -> Ours:
    return _one(given[asset], conditions, asset)


def _posts_with_pictures(given: Tables, asset: str, _: str) -> Ours:
    ok = given[asset].filter(pl.col("status").cast(pl.String) == "ok").select("image_id").unique()
    return Ours(float(_table(given, "tweet_media").join(ok, on="image_id")["tweet_id"].n_unique()))


def _posts_reviewed(given: Tables, asset: str, _: str) -> Ours:
    longest = given[asset]["first_posts"].list.len().max()
    return Ours(float(longest)) if isinstance(longest, int) else NOTHING


def _posts_grow(given: Tables, asset: str, _: str) -> Ours:
    """Kendall's tau of posts against months, with the interval of its normal approximation."""
    from scipy import stats

    months = given[asset].group_by("month").len().sort("month")["len"].to_numpy()
    n = len(months)
    if n < 3:
        raise _Missing(f"{n} months are too few for growth over time")
    tau = float(stats.kendalltau(np.arange(n), months).statistic)
    half = 1.96 * float(np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))
    return Ours(tau, max(-1.0, tau - half), min(1.0, tau + half))


def _unavailable(given: Tables, asset: str, _: str) -> Ours:
    status = given[asset]["status"].cast(pl.String)
    return _share(int((status == "unavailable").sum()), len(status))


def _has_cells(given: Tables, asset: str, wanted: str) -> Ours:
    held = given[asset]["cells"].drop_nulls().unique().to_list()
    if int(wanted) in held:
        return Ours(float(wanted))
    return Ours(float(min(held, key=lambda cells: abs(cells - int(wanted))))) if held else NOTHING


def _laion_cluster(given: Tables, asset: str, _: str) -> Ours:
    """Share of LAION in the cell of the 4-cell codebook that is most LAION's, less one half."""
    cells = given[asset].filter(pl.col("cells") == 4)
    if "laion" not in cells["source"].to_list():
        raise _Missing("codebook has no 4 cells with LAION")
    counted = cells.group_by("cell").agg(
        total=pl.col("pictures").sum(), laion=pl.col("pictures").filter(pl.col("source") == "laion").sum()
    )
    best = (
        counted.filter(pl.col("total") > 0)
        .sort(pl.col("laion") / pl.col("total"), "cell")
        .row(-1, named=True)
    )
    return _share(best["laion"], best["total"], minus=0.5)


def _ai_human_divergence(given: Tables, asset: str, _: str) -> Ours:
    """Smallest KL of an AI from a human source, less the larger of DiffusionDB's and TWIGMA's."""
    frame = given[asset].filter((pl.col("measure") == "kl") & (pl.col("cells") == 10))
    found = {(r["source_p"], r["source_q"]): _estimate(r) for r in frame.iter_rows(named=True)}
    apart = {f"{p} {q}": ours for (p, q), ours in found.items() if (p in HUMAN) != (q in HUMAN)}
    close = {f"{p} {q}": ours for (p, q), ours in found.items() if p != q and {p, q} == set(GENERATED)}
    if not apart or not close:
        raise _Missing("divergence_matrix lacks a human corpus or diffusiondb")
    return _minus(_extreme(apart, largest=False), _extreme(close, largest=True))


def _neighbours_per_picture(given: Tables, asset: str, _: str) -> Ours:
    longest = given[asset]["neighbor_ids"].list.len().max()
    return Ours(float(longest)) if isinstance(longest, int) else NOTHING


def _more_likes(given: Tables, asset: str, corpus: str) -> Ours:
    robust = f"corpus={corpus},column=robust,quantity=mean_likes,term="
    return _minus(_one(given[asset], robust + "1", asset), _one(given[asset], robust + "5", asset))


def _rate_above_one(given: Tables, asset: str, argument: str) -> Ours:
    corpus, _, quintile = argument.partition(" ")
    row = f"corpus={corpus},column=robust,quantity=rate_ratio,term={quintile}"
    return _minus(_one(given[asset], row, asset), Ours(1.0, 1.0, 1.0))


def _follower_bands(given: Tables, asset: str, _: str) -> Ours:
    held = given[asset].filter(pl.col("quantity").cast(pl.String) == "followers_ratio")["term"].unique()
    return Ours(1.0 + len([term for term in held if term != "unknown"])) if len(held) else NOTHING


def _variation(given: Tables, asset: str, metric: str, sources: tuple[str, ...] = ()) -> dict[str, Ours]:
    frame = _where(given[asset], f"metric={metric}")
    found = {row["source"]: _estimate(row) for row in frame.iter_rows(named=True)}
    missing = [source for source in sources if source not in found]
    if missing:
        raise _Missing(f"{asset} has no {metric} of {', '.join(missing)}")
    return found


def _laion_most(given: Tables, asset: str, metric: str) -> Ours:
    found = _variation(given, asset, metric, ("laion",))
    others = {source: ours for source, ours in found.items() if source in ("artbench", *GENERATED)}
    return _minus(found["laion"], _extreme(others, largest=True))


def _ai_less_variable(given: Tables, asset: str, _: str) -> Ours:
    """Mean pairwise distance, averaged over the human sources less averaged over the AI sources."""
    found = _variation(given, asset, "mean_pairwise_distance", (*HUMAN, *GENERATED))
    return _minus(_average([found[s] for s in HUMAN]), _average([found[s] for s in GENERATED]))


def _average(parts: list[Ours]) -> Ours:
    values = [part.value for part in parts if part.value is not None]
    if len(values) < len(parts):
        return NOTHING
    total = Ours(0.0, 0.0, 0.0)
    for part in parts:  # a + b is a − (−b)
        low, high = (None if end is None else -end for end in (part.high, part.low))
        total = _minus(total, Ours(-(part.value or 0.0), low, high))
    ends = (total.value, total.low, total.high)
    return Ours(*(None if end is None else end / len(parts) for end in ends))


def _within(given: Tables, asset: str, argument: str) -> Ours:
    whole, condition = argument.split(" ")
    found = _variation(given, asset, "mean_pairwise_distance", (whole, condition))
    return _minus(found[whole], found[condition])


def _same_prompt_ratio(given: Tables, asset: str, _: str) -> Ours:
    names = ("diffusiondb_same_prompt", "diffusiondb")
    found = _variation(given, asset, "mean_pairwise_distance", names)
    return _ratio(found[names[0]], found[names[1]])


def _tau(given: Tables, asset: str, _: str) -> Ours:
    row = given[asset].row(0, named=True)
    return Ours(row["kendall_tau"], row["tau_low"], row["tau_high"])


def _tau_p(given: Tables, asset: str, _: str) -> Ours:
    return Ours(given[asset]["p_value"][0])


def _longer_vary_less(given: Tables, asset: str, _: str) -> Ours:
    return _minus(Ours(0.0, 0.0, 0.0), _tau(given, asset, ""))


def _texts_order(given: Tables, asset: str, _: str) -> Ours:
    found = {row["source"]: _estimate(row) for row in given[asset].iter_rows(named=True)}
    varied = {s: found[s] for s in ("captions", "prompts", "tweets") if s in found}
    uniform = {s: found[s] for s in ("haiku", "book") if s in found}
    if len(varied) < 3 or len(uniform) < 2:
        raise _Missing("text_variation lacks one of captions, prompts, tweets, haiku, book")
    return _minus(_extreme(varied, largest=False), _extreme(uniform, largest=True))


def _trends(given: Tables, asset: str, direction: str) -> Ours:
    known = given[asset].filter(pl.col("trend").cast(pl.String) != "unknown")
    if not known.height:
        raise _Missing("cluster_trends covers fewer than three months")
    return Ours(float(known.filter(pl.col("trend").cast(pl.String) == direction)["cluster"].n_unique()))


def _themes_shift(given: Tables, asset: str, _: str) -> Ours:
    """The smaller of the numbers of rising and falling clusters, each of which passed its test."""
    found = [_trends(given, asset, direction).value or 0.0 for direction in ("rising", "falling")]
    return Ours(min(found))


def _nsfw_clusters(given: Tables, asset: str, _: str) -> Ours:
    """Number of clusters of which most pictures have an NSFW score of at least one half."""
    scores = _table(given, "dataset").select("image_id", "nsfw_score").drop_nulls()
    both = given[asset].select("image_id", "cluster").join(scores, on="image_id")
    if not both.height:
        raise _Missing("no picture of clusters has an NSFW score")
    shares = both.group_by("cluster").agg((pl.col("nsfw_score") >= 0.5).mean().alias("share"))
    return Ours(float(shares.filter(pl.col("share") > 0.5).height))


def _tasks_per_cluster(given: Tables, asset: str, _: str) -> Ours:
    largest = given[asset].group_by("cluster").len()["len"].max()
    return Ours(float(largest)) if isinstance(largest, int) else NOTHING


def _words_meet(given: Tables, asset: str, _: str) -> Ours:
    found = [_one(given[asset], f"measure=keyword_overlap{end},scope=all", asset) for end in ("", "_chance")]
    return _minus(found[0], found[1])


_READERS: dict[str, Callable[[Tables, str, str], Ours]] = {
    "rows": _rows,
    "distinct": _distinct,
    "total": _total,
    "look": _look,
    "posts_with_pictures": _posts_with_pictures,
    "posts_reviewed": _posts_reviewed,
    "posts_grow": _posts_grow,
    "unavailable": _unavailable,
    "has_cells": _has_cells,
    "laion_cluster": _laion_cluster,
    "ai_human_divergence": _ai_human_divergence,
    "neighbours_per_picture": _neighbours_per_picture,
    "more_likes": _more_likes,
    "rate_above_one": _rate_above_one,
    "follower_bands": _follower_bands,
    "laion_most": _laion_most,
    "ai_less_variable": _ai_less_variable,
    "within": _within,
    "same_prompt_ratio": _same_prompt_ratio,
    "tau": _tau,
    "tau_p": _tau_p,
    "longer_vary_less": _longer_vary_less,
    "texts_order": _texts_order,
    "trends": _trends,
    "themes_shift": _themes_shift,
    "nsfw_clusters": _nsfw_clusters,
    "tasks_per_cluster": _tasks_per_cluster,
    "words_meet": _words_meet,
}
