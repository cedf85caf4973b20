"""Whether a lake shows what was planted in the sample world: each truth beside what was found.

What belongs here: comparing tables with ``truths.json``. Nothing is computed anew: what a table does not say
is not found. What does not: the planting (``truths``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from twigma_core.lake import Lake
from twigma_core.sample import annotators
from twigma_core.sample.truths import Truth, load_truths
from twigma_core.sample.world import World, load

SCHEMA = {
    "finding": pl.String,
    "planted": pl.String,
    "found": pl.String,
    "low": pl.Float64,
    "high": pl.Float64,
    "recovered": pl.Boolean,
    "note": pl.String,
}


@dataclass(frozen=True)
class Found:
    """What a lake says about a truth."""

    planted: str
    found: str
    recovered: bool
    low: float | None = None
    high: float | None = None
    note: str = ""


class NotThere(LookupError):
    """A table that should show a truth has no rows for it."""


@dataclass(frozen=True)
class Evidence:
    """A lake's tables and the world they should tell of."""

    lake: Lake
    world: World

    def table(self, name: str, **where: Any) -> pl.DataFrame:
        """Return the rows of a table, of all its partitions, whose columns have the values of ``where``.

        Raises:
            NotThere: there is none.
        """
        frame = self.lake.scan(name).collect()
        for column, value in where.items():
            frame = frame.filter(pl.col(column) == value)
        if frame.is_empty():
            said = ", ".join(f"{column}={value}" for column, value in where.items())
            raise NotThere(f"table {name} has no rows{f' with {said}' if said else ''}")
        return frame


def verify(lake: Lake, world: World | None = None, truths: Mapping[str, Truth] | None = None) -> pl.DataFrame:
    """Compare every planted truth with the tables of a lake.

    A truth is recovered where a count is the very number, a planted value lies in the 95 % interval found,
    or a claimed order holds with the intervals apart.

    Args:
        lake: with the sample world's data, materialized.
        world: the plan; the shipped one by default.
        truths: what to look for, by name; the shipped ones by default.

    Returns:
        One row a truth: finding, planted, found, low, high (ends of the interval, null for counts and
        orders of several), recovered, and a note. A table that is missing makes a truth unrecovered, with
        the table's name in the note.
    """
    evidence = Evidence(lake, world or load())
    rows = []
    for truth in (truths or load_truths()).values():
        try:
            result = _checker(truth.name)(evidence, truth)
        except NotThere as error:
            result = Found("", "", False, note=str(error))
        rows.append({"finding": truth.description, **result.__dict__})
    return pl.DataFrame(rows, schema=SCHEMA)


def _checker(name: str) -> Callable[[Evidence, Truth], Found]:
    exact = {
        "posts": _posts,
        "posts_with_several_hashtags": _several_hashtags,
        "deleted_posts": _deleted,
        "unique_pictures": _unique,
        "without_likes": _without_likes,
        "prompt_length": _prompt_length,
        "text_variation": _texts,
        "near_copies": _near_copies,
        "sensitive_share": _sensitive,
        "sensitive_share_laion": _sensitive_laion,
        "hashtag_candidate": _hashtag,
        "annotators": _annotators,
    }
    if name in exact:
        return exact[name]
    families = {
        "trend_": _trend,
        "likes_quintile_": _likes,
        "variation_": _variation,
        "separation_": _separation,
    }
    return next((check for start, check in families.items() if name.startswith(start)), _drops)


# ---------------------------------------------------------------- counts


def _equal(evidence: Evidence, truth: Truth, frame: pl.DataFrame, found: int) -> Found:
    """Compare a planted number by month with one that was found in the months of the lake."""
    months = set(evidence.lake.partitions(truth.recovered_from)) or set(frame["month"].unique())
    planted = sum(count for month, count in truth.value.items() if month in months)
    missing = len(evidence.world.months) - len(months & set(evidence.world.months))
    note = f"{missing} of {len(evidence.world.months)} months not materialized" if missing else ""
    return Found(f"{planted:,}", f"{found:,}", planted == found, note=note)


def _posts(evidence: Evidence, truth: Truth) -> Found:
    frame = evidence.table("tweets")
    return _equal(evidence, truth, frame, frame.height)


def _several_hashtags(evidence: Evidence, truth: Truth) -> Found:
    frame = evidence.table("tweets")
    several = frame.filter(pl.col("matched_hashtags").list.len() > 1)
    return _equal(evidence, truth, frame, several["tweet_id"].n_unique())


def _deleted(evidence: Evidence, truth: Truth) -> Found:
    frame = evidence.table("tweet_counts")
    found = sum(row["counted"] - row["collected"] for row in frame.iter_rows(named=True))
    return _equal(evidence, truth, frame, found)


def _unique(evidence: Evidence, truth: Truth) -> Found:
    frame = evidence.table("dataset")
    planted = set(evidence.world.media.filter(pl.col("kind") == "unique")["media_id"])
    strange = frame.filter(~pl.col("image_id").is_in(list(planted))).height
    found = _equal(evidence, truth, frame, frame.height)
    if strange:
        return Found(found.planted, found.found, False, note=f"{strange} are not the first posting")
    return found


def _without_likes(evidence: Evidence, truth: Truth) -> Found:
    frame = evidence.table("dataset")
    return _equal(evidence, truth, frame, frame.filter(pl.col("like_count").is_null()).height)


def _drops(evidence: Evidence, truth: Truth) -> Found:
    frame = evidence.table("drops")
    reason = pl.col("reason").cast(pl.String) == truth.name.replace("_", " ")
    return _equal(evidence, truth, frame, frame.filter(reason).height)


def _hashtag(evidence: Evidence, truth: Truth) -> Found:
    row = evidence.table("hashtag_candidates", hashtag=truth.value["hashtag"]).row(0, named=True)
    months = evidence.lake.partitions("tweets")
    counts = (
        [truth.value["by_month"].get(month, 0) for month in (months[0], months[-1])] if months else [0, 0]
    )
    planted = counts[1] / counts[0] if counts[0] else float("nan")
    growth = row["growth"]
    same = growth is not None and abs(growth - planted) < 1e-9
    found = "none" if growth is None else f"{growth:.1f} times"
    return Found(f"{planted:.1f} times", found, same, note=f"{row['posts']} posts")


# ---------------------------------------------------------------- values in intervals


def _inside(
    planted: float, value: float | None, low: float | None, high: float | None, note: str = ""
) -> Found:
    if value is None or low is None or high is None:
        return Found(f"{planted:.3g}", "undefined", False, low, high, note or "no estimate or no interval")
    return Found(f"{planted:.3g}", f"{value:.3g}", low <= planted <= high, low, high, note)


def _likes(evidence: Evidence, truth: Truth) -> Found:
    row = evidence.table(
        "engagement",
        corpus="artbench",
        column="robust",
        quantity="rate_ratio",
        term=str(truth.value["quintile"]),
    ).row(0, named=True)
    note = f"n={row['n']}"
    weights = set(evidence.lake.scan("embeddings").select("weights_sha256").collect().to_series())
    if weights - {truth.value["clip"]}:
        # The quintiles of other weights are not those that the likes were planted by.
        note += "; embedded with other CLIP weights than the plan's: regenerate it"
    return _inside(float(truth.value["ratio"]), row["estimate"], row["low"], row["high"], note)


def _share(planted: float, scores: pl.Series) -> Found:
    from statsmodels.stats.proportion import proportion_confint

    known = scores.drop_nulls()
    flagged = int((known >= 0.5).sum())
    low, high = proportion_confint(flagged, len(known), method="wilson")
    return _inside(planted, flagged / len(known), float(low), float(high), f"n={len(known)}")


def _sensitive(evidence: Evidence, truth: Truth) -> Found:
    kept = evidence.table("dataset").select("image_id")
    # A picture that is posted again in a later month is scored there again.
    scores = evidence.table("nsfw_scores").join(kept, on="image_id", how="semi").unique("image_id")
    return _share(float(truth.value), scores["nsfw_score"])


def _sensitive_laion(evidence: Evidence, truth: Truth) -> Found:
    scores = evidence.table("reference_embeddings", corpus="laion")["nsfw_score"]
    if scores.null_count() == len(scores):
        raise NotThere("table reference_embeddings has no nsfw_score for laion")
    return _share(float(truth.value), scores)


def _annotators(evidence: Evidence, truth: Truth) -> Found:
    row = evidence.table("annotation_concordance", measure="annotators_adjusted_rand", scope="all").row(
        0, named=True
    )
    scenes = evidence.world.scenes()
    shown = evidence.table("annotation_tasks")["image_id"].to_list()
    themes = [scenes[image_id].theme for image_id in shown if image_id in scenes]
    planted = annotators.expected_agreement(themes, float(truth.value))
    return _inside(planted, row["value"], row["low"], row["high"], "adjusted Rand index of two annotators")


# ---------------------------------------------------------------- orders and directions


def _trend(evidence: Evidence, truth: Truth) -> Found:
    theme, planted = truth.value["theme"], truth.value["trend"]
    cluster, purity, cover = _cluster_of(evidence, theme)
    row = evidence.table("cluster_trends", cluster=cluster).row(0, named=True)
    low, high = row["slope_low"], row["slope_high"]
    if low is None or high is None:
        return Found(planted, str(row["trend"]), False, low, high, f"cluster {cluster} has no slope")
    agrees = {"rising": low > 0, "falling": high < 0, "steady": True}[planted]
    note = f"cluster {cluster}: {cover:.0%} of the theme, {purity:.0%} of the cluster; log odds a month"
    found = f"{row['trend']} ({row['slope']:+.2f})"
    claimed = planted if planted == "steady" else f"{planted} ({truth.value['slope']:+.2f})"
    return Found(claimed, found, agrees and row["trend"] == planted, low, high, note)


def _cluster_of(evidence: Evidence, theme: str) -> tuple[int, float, float]:
    """Return the cluster that a theme's pictures make out, its purity, and its share of the theme."""
    scenes = evidence.world.scenes()
    known = evidence.table("clusters").filter(pl.col("image_id").is_in(list(scenes)))
    named = known.with_columns(
        theme=pl.col("image_id").map_elements(lambda one: scenes[one].theme, return_dtype=pl.String)
    )
    counted = named.group_by("cluster").agg(
        both=(pl.col("theme") == theme).sum(), pictures=pl.len().cast(pl.Int64)
    )
    whole = int(counted["both"].sum())
    if not whole:
        raise NotThere(f"table clusters has no picture of {theme}")
    # F1: the most frequent cluster alone would favour large mixed ones.
    best = counted.with_columns(f=2 * pl.col("both") / (pl.col("pictures") + whole)).sort(
        ["f", "cluster"], descending=[True, False]
    )
    row = best.row(0, named=True)
    return int(row["cluster"]), row["both"] / row["pictures"], row["both"] / whole


def _above(more: Mapping[str, Any], less: Mapping[str, Any], names: tuple[str, str]) -> Found:
    """Say whether one estimate lies above another with the intervals apart."""
    claim = f"{names[0]} > {names[1]}"
    if any(row[key] is None for row in (more, less) for key in ("value", "low", "high")):
        return Found(claim, "undefined", False, note="an estimate or an interval is missing")
    found = (
        f"{more['value']:.3f} > {less['value']:.3f}"
        if more["value"] > less["value"]
        else (f"{more['value']:.3f} ≤ {less['value']:.3f}")
    )
    gap = more["low"] - less["high"], more["high"] - less["low"]
    return Found(
        claim, found, bool(more["low"] > less["high"]), *gap, note="interval of the difference, at its widest"
    )


def _variation(evidence: Evidence, truth: Truth) -> Found:
    names = (truth.value["more"], truth.value["less"])
    rows = [
        evidence.table("variation_table", metric="mean_pairwise_distance", source=name).row(0, named=True)
        for name in names
    ]
    return _above(rows[0], rows[1], names)


def _separation(evidence: Evidence, truth: Truth) -> Found:
    names = (truth.value["far"], truth.value["near"])
    rows = [
        evidence.table("divergence_matrix", measure="kl", cells=10, source_p="twigma", source_q=name).row(
            0, named=True
        )
        for name in names
    ]
    return _above(rows[0], rows[1], names)


def _prompt_length(evidence: Evidence, truth: Truth) -> Found:
    row = evidence.table("prompt_variation").row(0, named=True)
    tau, low, high = row["kendall_tau"], row["tau_low"], row["tau_high"]
    if tau is None or high is None:
        return Found("tau < 0", "undefined", False, low, high)
    return Found("tau < 0", f"tau = {tau:.2f}", high < 0, low, high)


def _texts(evidence: Evidence, truth: Truth) -> Found:
    frame = evidence.table("text_variation")
    rows = {row["source"]: row for row in frame.iter_rows(named=True) if row["low"] is not None}
    names = [*truth.value["more"], *truth.value["less"]]
    if missing := [name for name in names if name not in rows]:
        raise NotThere(f"table text_variation has no value for {', '.join(missing)}")
    least = min((rows[name] for name in truth.value["more"]), key=lambda row: row["low"])
    most = max((rows[name] for name in truth.value["less"]), key=lambda row: row["high"])
    return _above(least, most, (least["source"], most["source"]))


def _near_copies(evidence: Evidence, truth: Truth) -> Found:
    frame = evidence.table("neighbors")
    near = {(row["image_id"], row["corpus"]): row["neighbor_ids"] for row in frame.iter_rows(named=True)}
    months = dict(evidence.world.media.select("media_id", "month").iter_rows())
    there = set(frame["month"].unique())
    pairs = [pair for pair in truth.value if months[pair[0]] in there]
    found = nearest = 0
    for image_id, corpus, file in pairs:
        names = [name.rsplit("/", 1)[-1] for name in near.get((image_id, corpus), [])]
        found += file in names
        nearest += names[:1] == [file]
    return Found(str(len(pairs)), str(found), found == len(pairs), note=f"{nearest} as the very nearest")
