"""Likes against similarity to human pictures (paper, Section 4.1, Figure 2d and equation 1).

Here: quintiles of similarity, mean likes by quintile, the regression as one calls it, and table `engagement`,
which holds each number in several columns: *paper*, as in the paper (rows are pictures, independent,
model-based), *robust* (the same estimates, clustered by author), and for sensitivity *posts* (one row a post)
and *negative_binomial*. Not here: the similarities (`neighbors`) and the fit itself (`likes_model`).

Likes belong to posts, a post may hold several pictures, and an author posts many times: taking pictures as
independent makes the paper's intervals several times too short.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.likes_model import QUINTILES, RESULT, Family, fit_likes, groups_of

COLUMNS = ("paper", "robust", "posts", "negative_binomial")
_IN_WORDS = {
    "posts": "with one row a post",
    "negative_binomial": "by the negative binomial model",
}


def with_quintiles(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that have likes, with column `quintile`: 1 least, 5 most similar to human pictures.

    Equal similarities share a quintile. A `quintile` that is there already is kept.

    Args:
        frame: columns like_count and similarity or quintile.

    Raises:
        ValueError: a column is missing, likes are negative, or a similarity is null or not finite.
    """
    _need(frame, ("like_count",))
    known = frame.filter(pl.col("like_count").is_not_null())
    if (known["like_count"] < 0).any():
        raise ValueError("likes: like_count is negative in some rows; leave it null where X gave none")
    if "quintile" in frame.columns:
        return known
    _need(frame, ("similarity",))
    bad = known.height - int(known["similarity"].cast(pl.Float64).is_finite().fill_null(False).sum())
    if bad:
        raise ValueError(
            f"likes: {bad} of {known.height} rows have no finite similarity; materialize neighbors again"
        )
    rank = pl.col("similarity").rank("average")
    return known.with_columns(quintile=(rank * 5 / pl.len()).ceil().clip(1, 5).cast(pl.Int64))


def by_post(frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row a post: its likes and author, and the mean similarity of its pictures.

    Args:
        frame: one row a picture: tweet_id, author_id, like_count, followers, similarity. A picture whose
            post is not known is a post of its own.

    Raises:
        ValueError: a column is missing.
    """
    columns = ("author_id", "like_count", "followers")
    _need(frame, ("tweet_id", "similarity", *columns))
    alone = pl.concat_str(pl.lit("row:"), pl.int_range(pl.len()).cast(pl.String))
    return (
        frame.with_columns(post=pl.coalesce("tweet_id", alone))
        .group_by("post", maintain_order=True)
        .agg(pl.col("tweet_id", *columns).drop_nulls().first(), pl.col("similarity").mean())
    )


def likes_by_quintile(frame: pl.DataFrame, robust: bool = False) -> pl.DataFrame:
    """Return the mean likes of each quintile of similarity with a 95 % interval (paper, Figure 2d, right).

    Args:
        frame: one row a picture: like_count, similarity (or quintile), and author_id if `robust`. Rows
            without likes are left out.
        robust: False, rows are independent, normal interval, as in the paper. True, clustered by author:
            the linearised variance of a ratio with Student's t at (authors − 1) degrees of freedom.

    Returns:
        Columns quantity ("mean_likes"), term (the quintile), estimate, low, high, p_value (null), n, groups
        (authors; null where rows are independent), note. The estimate of an empty quintile is null, as is
        the interval of fewer than two rows or authors; the note says so.

    Raises:
        ValueError: see `with_quintiles`.
    """
    known = with_quintiles(frame)
    rows: list[dict[str, Any]] = []
    for quintile in QUINTILES:
        part = known.filter(pl.col("quintile") == quintile)
        likes = part["like_count"].to_numpy().astype(np.float64)
        groups = groups_of(part) if robust else np.arange(len(likes))
        row = {"quantity": "mean_likes", "term": str(quintile), "n": len(likes)}
        rows.append(row | _mean(likes, groups, robust))
    return pl.DataFrame(rows, schema=RESULT)


def _mean(values: np.ndarray, groups: np.ndarray, robust: bool) -> dict[str, Any]:
    """Return the mean with the 95 % interval of independent or grouped rows."""
    from scipy import stats

    count = len(np.unique(groups))
    found: dict[str, Any] = {"groups": count if robust else None}
    if not len(values):
        return found | {"note": "no row has it"}
    mean = float(values.mean())
    found["estimate"] = mean
    if count < 2:
        return found | {"note": f"one {'author' if robust else 'row'} gives no interval"}
    if robust:
        totals = np.bincount(groups, weights=values - mean)
        error = float(np.sqrt(np.square(totals).sum() * count / (count - 1))) / len(values)
        half = float(stats.t.ppf(0.975, count - 1)) * error
    else:
        half = float(stats.norm.ppf(0.975) * values.std(ddof=1) / np.sqrt(len(values)))
    return found | {"low": mean - half, "high": mean + half}


def fit_likes_model(frame: pl.DataFrame, robust: bool = False, family: Family = "poisson") -> pl.DataFrame:
    """Fit equation (1) of the paper and return its ratios with 95 % intervals.

    log E(likes) = α + β₁·1(500–5,000 followers) + β₂·1(> 5,000) + Σᵢ₌₁⁴ γᵢ·1(quintile i), against quintile 5
    (most similar) and fewer than 500 followers. Accounts whose followers are unknown are a band of their own,
    so that no row is lost.

    Args:
        frame: one row a picture: like_count, followers, similarity (or quintile), and author_id if `robust`.
            Rows without likes are left out.
        robust: False, model-based intervals, as in the paper. True, standard errors clustered by author
            (Liang and Zeger, 1986), Student's t at (authors − 1) degrees of freedom.
        family: "poisson", as in the paper, or "negative_binomial", with variance = mean + alpha · mean²
            and alpha by maximum likelihood.

    Returns:
        Columns quantity, term, estimate, low, high, p_value, n, groups (authors; null unless `robust`), note:
        `rate_ratio` exp(γᵢ) for quintiles 1-4, `followers_ratio` exp(β) for each band but the first,
        `dispersion` (Pearson χ²/df; 1 if the family's variance is right), and `alpha` of the negative
        binomial. What the data cannot tell is null, and the note says why: a term without rows or likes, or
        not separable from another; everything where quintile 5 has no likes; intervals if there are no more
        authors than terms.

    Raises:
        ValueError: see `with_quintiles`.
    """
    _need(frame, ("followers",))
    return fit_likes(with_quintiles(frame), robust, family)


def engagement_table(dataset: pl.DataFrame, neighbors: pl.DataFrame) -> pl.DataFrame:
    """Return table `engagement`: every column for each corpus of `neighbors` (Figure 2d, equation 1).

    Rows without likes are counted in `without_likes` and left out of the estimates; quintiles are taken over
    the others. Data that do not allow an estimate give rows with nulls and a note.

    Args:
        dataset: table `dataset`: image_id, tweet_id, author_id, like_count, followers.
        neighbors: table `neighbors`: image_id, corpus, similarity.
    """
    joined = _joined(dataset, neighbors)
    parts = []
    for corpus in joined["corpus"].unique().sort():
        pictures = joined.filter(pl.col("corpus") == corpus)
        posts = by_post(pictures)
        ranked, of_posts = with_quintiles(pictures), with_quintiles(posts)
        found = {
            "paper": [likes_by_quintile(ranked), fit_likes_model(ranked)],
            "robust": [likes_by_quintile(ranked, robust=True), fit_likes_model(ranked, robust=True)],
            "posts": [likes_by_quintile(of_posts, robust=True), fit_likes_model(of_posts, robust=True)],
            "negative_binomial": [fit_likes_model(ranked, robust=True, family="negative_binomial")],
        }
        without = dict.fromkeys(COLUMNS, pictures.height - ranked.height)
        without["posts"] = posts.height - of_posts.height
        parts += [
            pl.concat(frames).with_columns(
                corpus=pl.lit(corpus),
                column=pl.lit(column),
                without_likes=pl.lit(without[column], pl.Int64),
            )
            for column, frames in found.items()
        ]
    if not parts:
        return tables.empty("engagement")
    order = list(tables.SCHEMAS["engagement"].columns())
    return tables.conform("engagement", pl.concat(parts).select(order))


def _joined(dataset: pl.DataFrame, neighbors: pl.DataFrame) -> pl.DataFrame:
    columns = ["image_id", "tweet_id", "author_id", "like_count", "followers"]
    near = neighbors.select("image_id", "corpus", "similarity")
    return near.join(dataset.select(columns), on="image_id", how="inner")


# ---------------------------------------------------------------- in words


def side_by_side(table: pl.DataFrame) -> pl.DataFrame:
    """Return table `engagement` with one row a number and its columns beside one another, as text.

    Columns corpus, quantity, term, and each of `COLUMNS`, such as "1.19 [1.18, 1.19]"; "–" for none.
    """
    rows = table.with_columns(pl.col("column", "quantity").cast(pl.String)).to_dicts()
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        key = (row["corpus"], row["quantity"], row["term"])
        found.setdefault(key, dict.fromkeys(COLUMNS, "–"))[row["column"]] = _number(row)
    schema = dict.fromkeys(("corpus", "quantity", "term", *COLUMNS), pl.String)
    return pl.DataFrame([(*key, *texts.values()) for key, texts in found.items()], schema, orient="row")


def _number(row: dict[str, Any]) -> str:
    if row["estimate"] is None:
        return "–"
    text = f"{row['estimate']:.3g}"
    return text if row["low"] is None else f"{text} [{row['low']:.3g}, {row['high']:.3g}]"


def left_out(dataset: pl.DataFrame, neighbors: pl.DataFrame) -> str:
    """Say how many pictures and posts count, and how many do not for want of likes or of neighbours."""
    whole = dataset.select("image_id", "tweet_id", "month", "like_count")
    near = whole.join(neighbors.select("image_id").unique(), on="image_id", how="semi")
    without = near.filter(pl.col("like_count").is_null())
    text = (
        f"{near.height - without.height:,} of {_many(whole.height, 'picture')} count. Left out: "
        f"{_many(without.height, 'picture')} of {_many(without['tweet_id'].n_unique(), 'post')} "
        "without likes data"
    )
    far = whole.height - near.height
    text += f"; {_many(far, 'picture')} without neighbours yet" if far else ""
    silent = (
        near.group_by("month").agg(pl.col("like_count").is_null().all()).filter("like_count").sort("month")
    )
    if silent.height:
        text += f". No likes at all in {', '.join(silent['month'])}"
    return text + "."


def explain(table: pl.DataFrame) -> str:
    """Say in a plain sentence for each corpus what the other columns change, quintile 1 against 5."""
    sentences = []
    for corpus in table["corpus"].unique().sort():
        ratios = table.filter(corpus=corpus, quantity="rate_ratio", term="1").to_dicts()
        found = {row["column"]: row for row in ratios if row["low"] is not None}
        if not {"paper", "robust"} <= set(found):
            sentences.append(
                f"{corpus}: the likes at hand do not allow the comparison of quintiles 1 and 5"
                " in both columns (no likes, one quintile, or too few authors)."
            )
            continue
        paper, robust = found["paper"], found["robust"]
        wider = (robust["high"] - robust["low"]) / max(paper["high"] - paper["low"], 1e-12)
        excluded = {name: not row["low"] <= 1 <= row["high"] for name, row in found.items()}
        verdict = {
            (True, True): "both exclude no difference",
            (True, False): "so that the difference is no longer beyond chance",
            (False, True): "only the robust one excludes no difference",
            (False, False): "neither excludes no difference",
        }[excluded["paper"], excluded["robust"]]
        sentences.append(
            f"{corpus}: the pictures least similar to human ones get {_percent(robust['estimate'])} likes "
            f"compared with the most similar, {_interval(paper)} as in the paper and {_interval(robust)} "
            f"when an author's pictures count as one group: {wider:.1f} times as wide; {verdict}."
            + "".join(
                f" It is {_percent(found[column]['estimate'])} {_interval(found[column])} {words}."
                for column, words in _IN_WORDS.items()
                if column in found
            )
            + _dispersion_in_words(table.filter(corpus=corpus, column="paper", quantity="dispersion"))
        )
    return " ".join(sentences) or "No picture has both likes and neighbours."


def _dispersion_in_words(row: pl.DataFrame) -> str:
    if not row.height or row["estimate"][0] is None:
        return ""
    return f" Likes vary {row['estimate'][0]:.3g} times as much as the Poisson model allows."


def _interval(row: dict[str, Any]) -> str:
    return f"[{_percent(row['low'])}, {_percent(row['high'])}]"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def _many(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _need(frame: pl.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(
            f"likes: the frame lacks {', '.join(missing)}; join tables dataset and neighbors by image_id"
        )
