"""What is planted in the sample world, and the file that says so: ``truths.json``.

What belongs here: reading the planted values off a plan, once, when it is made; the file; its reader. What
does not: planting them (``populations``, ``posts``, ``texts``), and looking for them in a lake (``verify``).

A truth's value is a number, a number by month, or a claim such as an order. Those by month are summed over
the months that a lake holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from twigma_core.sample import annotators, posts, texts
from twigma_core.sample.drawing import theme_of
from twigma_core.sample.populations import STEADY_THEMES, THEME_SLOPES
from twigma_core.sample.world import World

TRUTHS = Path(__file__).parent / "truths.json"
CANDIDATE = "aiartcommunity"


@dataclass(frozen=True)
class Truth:
    """One planted truth.

    Attributes:
        name: how code refers to it.
        description: what was planted, for a person.
        value: the planted value or claim.
        recovered_from: table of the lake that must show it.
        how: when it counts as recovered.
    """

    name: str
    description: str
    value: Any
    recovered_from: str
    how: str


def collected(world: World) -> pl.DataFrame:
    """Return the posts that a complete collection holds: with pictures, no retweets, not deleted."""
    return world.posts.filter(
        (pl.col("status") == "posted") & (pl.col("media_ids").list.len() > 0) & (pl.col("retweet_of") == "")
    )


def posted_pictures(world: World) -> pl.DataFrame:
    """Return one row a picture of a collected post, in the order of posting, with its medium's plan.

    Column `first` says whether this is the first post of that media id; `kind`, `quintile`, `sensitive` and
    the rest are the medium's.
    """
    rows = (
        collected(world)
        .select("tweet_id", "month", "created_at", "author_id", "like_count", media_id="media_ids")
        .explode("media_id")
        .with_columns(number=pl.col("tweet_id").cast(pl.Int64))
        .sort("created_at", "number", maintain_order=True)
        .drop("number")
    )
    return rows.with_columns(first=pl.col("media_id").is_first_distinct()).join(
        world.media.drop("month"), on="media_id", how="left", maintain_order="left"
    )


def _by_month(frame: pl.DataFrame) -> dict[str, int]:
    counts = frame.group_by("month").len().sort("month")
    return dict(zip(counts["month"].to_list(), counts["len"].to_list(), strict=True))


def plant(world: World, clip_sha256: str) -> list[Truth]:
    """Return every truth planted in a world.

    Args:
        world: the plan.
        clip_sha256: sha256 of the CLIP weights that the quintiles of likes rest on.
    """
    rows = posted_pictures(world)
    first = rows.filter("first")
    unique = first.filter(pl.col("kind") == "unique")
    return [
        *_counts(world, rows, first, unique),
        *_themes(unique),
        *_likes(unique, clip_sha256),
        *_orders(),
        *_shares(world, unique),
    ]


def _counts(world: World, rows: pl.DataFrame, first: pl.DataFrame, unique: pl.DataFrame) -> Iterable[Truth]:
    equal = "the number is the same"
    reviewed = [tag.lower() for tag in posts.REVIEWED_TAGS]
    several = collected(world).filter(
        pl.col("hashtags")
        .list.eval(pl.element().str.to_lowercase())
        .list.set_intersection(reviewed)
        .list.len()
        > 1
    )
    deleted = world.posts.filter(pl.col("status") == "deleted")
    spoiled = first.filter(pl.col("kind").is_in(["truncated", "html"]))
    yield Truth("posts", "Posts with pictures", _by_month(collected(world)), "tweets", equal)
    yield Truth(
        "posts_with_several_hashtags",
        "Posts under several reviewed hashtags, each collected once",
        _by_month(several),
        "tweets",
        equal,
    )
    yield Truth(
        "deleted_posts",
        "Posts deleted by now, which only the counts endpoint still counts",
        _by_month(deleted),
        "tweet_counts",
        "counted less collected",
    )
    yield Truth("unique_pictures", "Different pictures", _by_month(unique), "dataset", equal)
    for name, text, frame, reason in (
        ("same_media_id", "Pictures posted again under their media id", rows.filter(~pl.col("first")), None),
        ("same_file", "Copies: the same file under another media id", None, "same_file"),
        ("same_pixels", "Copies: the same pixels in another file", None, "same_pixels"),
        ("unavailable", "Pictures that are gone", None, "unavailable"),
        ("undecodable", "Spoiled pictures: cut short, or a page of HTML", spoiled, None),
    ):
        found = first.filter(pl.col("kind") == reason) if frame is None else frame
        yield Truth(name, text, _by_month(found), "drops", f"as many drops for {name.replace('_', ' ')}")
    yield Truth(
        "without_likes",
        "Pictures of posts that came without public metrics",
        _by_month(unique.filter(pl.col("like_count").is_null())),
        "dataset",
        "as many pictures have no likes",
    )


def _themes(unique: pl.DataFrame) -> Iterable[Truth]:
    from twigma_core.analysis.themes import trend

    named = unique.with_columns(theme=pl.col("subject").map_elements(theme_of, return_dtype=pl.String))
    totals = named.group_by("month").len().sort("month")["len"].to_list()
    months = named["month"].unique().sort().to_list()
    for theme in (*THEME_SLOPES, *STEADY_THEMES):
        counts = _by_month(named.filter(pl.col("theme") == theme))
        shares = [counts.get(month, 0) / total for month, total in zip(months, totals, strict=True)]
        slope = trend(shares, totals).slope or 0.0
        planted = THEME_SLOPES.get(theme, 0.0)
        direction = "rising" if planted > 0 else "falling" if planted < 0 else "steady"
        yield Truth(
            f"trend_{theme.replace(' ', '_')}",
            f"Share of {theme}, by month: {direction}",
            {"theme": theme, "trend": direction, "slope": round(slope, 4)},
            "cluster_trends",
            "the cluster that holds the theme has this trend, and so does its slope's interval",
        )


def _likes(unique: pl.DataFrame, clip_sha256: str) -> Iterable[Truth]:
    for quintile in (1, 2, 3, 4):
        yield Truth(
            f"likes_quintile_{quintile}",
            f"Likes in quintile {quintile} of likeness to art, against quintile 5",
            {"ratio": posts.RATIOS[quintile] / posts.RATIOS[5], "quintile": quintile, "clip": clip_sha256},
            "engagement",
            "the ratio lies in the robust interval",
        )


def _orders() -> Iterable[Truth]:
    for more, less in (
        ("laion", "twigma"),
        ("laion", "artbench"),
        ("laion", "diffusiondb"),
        ("artbench", "artbench_same_artist"),
        ("diffusiondb", "diffusiondb_same_prompt"),
    ):
        yield Truth(
            f"variation_{more}_{less}",
            f"{_plain(more)} are more variable than {_plain(less)}",
            {"more": more, "less": less},
            "variation_table",
            "mean pairwise distances in this order, their intervals apart",
        )
    for corpus in ("artbench", "laion"):
        yield Truth(
            f"separation_{corpus}",
            f"Posted pictures are farther from {_plain(corpus)} than from generated ones",
            {"far": corpus, "near": "diffusiondb"},
            "divergence_matrix",
            "Kullback-Leibler divergences over 10 cells in this order, their intervals apart",
        )
    yield Truth(
        "prompt_length",
        "Longer prompts give less variable pictures",
        "negative",
        "prompt_variation",
        "Kendall's tau is negative, its interval too",
    )
    yield Truth(
        "text_variation",
        "Captions, prompts and tweets are more variable than haiku and the book",
        {"more": list(texts.VARIABLE), "less": list(texts.NARROW)},
        "text_variation",
        "each of the first above each of the others, their intervals apart",
    )


def _plain(source: str) -> str:
    return {
        "laion": "natural pictures",
        "twigma": "posted pictures",
        "artbench": "paintings",
        "diffusiondb": "generated pictures",
        "artbench_same_artist": "those of one artist",
        "diffusiondb_same_prompt": "those of one prompt",
    }[source]


def _shares(world: World, unique: pl.DataFrame) -> Iterable[Truth]:
    near = unique.filter(pl.col("near_file") != "").select("media_id", "near_corpus", "near_file")
    yield Truth(
        "near_copies",
        "Near-copies of human pictures",
        [list(row) for row in near.iter_rows()],
        "neighbors",
        "each has the picture it copies among its five nearest",
    )
    yield Truth(
        "sensitive_share",
        "Share of sensitive pictures among the posted ones",
        round(float(unique["sensitive"].cast(pl.Float64).sum()) / unique.height, 4),
        "nsfw_scores",
        "it lies in the interval of the share with a score of 0.5 or more",
    )
    laion = world.references.filter(pl.col("corpus") == "laion")
    yield Truth(
        "sensitive_share_laion",
        "Share of sensitive pictures among the natural ones",
        round(float(laion["sensitive"].cast(pl.Float64).sum()) / laion.height, 4),
        "reference_embeddings",
        "it lies in the interval of the share with a score of 0.5 or more",
    )
    tagged = collected(world).filter(pl.col("hashtags").list.contains(CANDIDATE))
    by_month = _by_month(tagged)
    yield Truth(
        "hashtag_candidate",
        f"#{CANDIDATE} spreads: posts in the last month over those in the first",
        {"hashtag": CANDIDATE, "by_month": by_month},
        "hashtag_candidates",
        "the growth is the same",
    )
    yield Truth(
        "annotators",
        "Annotators put a picture into the group of its theme with this probability",
        annotators.ACCURACY,
        "annotation_concordance",
        "the agreement that follows from it lies in the interval",
    )


def write(truths: Iterable[Truth], path: Path = TRUTHS) -> None:
    """Write truths as JSON."""
    path.write_text(json.dumps([asdict(truth) for truth in truths], indent=1) + "\n")


def load_truths(path: Path = TRUTHS) -> dict[str, Truth]:
    """Return the shipped truths by name.

    Raises:
        FileNotFoundError: the file is missing; the message says how to write it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"sample world: {path.name} is missing; write it with: python -m twigma_core.sample.world"
        )
    return {fields["name"]: Truth(**fields) for fields in json.loads(path.read_text())}
