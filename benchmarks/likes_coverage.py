"""How often the 95 % intervals on likes hold the truth: every column of table `engagement`, by simulation.

Usage: python benchmarks/likes_coverage.py [--runs 400] [--authors 150] [--seed 0]

Prints a Markdown table: for each world, the share of runs in which the interval of quintile 1 against
quintile 5 holds the true ratio, and its mean width on the log scale. Docs/methods.md quotes it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import polars as pl

from twigma_core.analysis.engagement import COLUMNS, engagement_table


@dataclass(frozen=True)
class World:
    """A way in which likes come about.

    Attributes:
        what: in words.
        ratio: true likes of quintile 1 over those of quintile 5, at equal followers.
        author_sd: deviation of the authors' levels of log likes.
        post_sd: deviation of the posts' levels.
        most_pictures: pictures of a post are 1 to this many.
        shared: part of the variance of similarity that an author's pictures share.
    """

    what: str
    ratio: float
    author_sd: float = 0.0
    post_sd: float = 0.0
    most_pictures: int = 1
    shared: float = 0.0


WORLDS = (
    World("Poisson likes, all independent", 1.2),
    World("each post has a level of its own", 1.2, post_sd=1.0),
    World("each author too", 1.2, author_sd=1.0, post_sd=1.0, shared=0.3),
    World("and posts hold 1-4 pictures; no effect", 1.0, 1.0, 1.0, 4, 0.3),
)


def simulate(world: World, authors: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return tables like `dataset` and `neighbors` of one simulated world."""
    posts_of = 1 + rng.geometric(0.15, authors)
    author = np.repeat(np.arange(authors), posts_of)
    posts = len(author)
    followers = rng.choice([100, 1_000, 20_000], authors, p=[0.5, 0.35, 0.15])[author]
    post = np.repeat(np.arange(posts), rng.integers(1, world.most_pictures + 1, posts))
    taste = rng.normal(size=authors)[author][post]
    similarity = np.sqrt(world.shared) * taste + np.sqrt(1 - world.shared) * rng.normal(size=len(post))
    quintile = np.ceil(5 * (1 + np.argsort(np.argsort(similarity))) / len(post))
    effect = np.zeros(posts)
    effect[post] = np.log(world.ratio) * (5 - quintile) / 4  # with an effect, posts hold one picture
    level = world.author_sd * rng.normal(size=authors)[author] + world.post_sd * rng.normal(size=posts)
    likes = rng.poisson(np.exp(1.0 + 0.8 * np.searchsorted([500, 5_001], followers) + effect + level))
    ids = [str(i) for i in range(len(post))]
    dataset = pl.DataFrame(
        {
            "image_id": ids,
            "tweet_id": post.astype(str),
            "author_id": author[post].astype(str),
            "like_count": likes[post],
            "followers": followers[post],
        }
    )
    return dataset, pl.DataFrame({"image_id": ids, "corpus": "laion", "similarity": similarity})


def coverage(world: World, runs: int, authors: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return, by column, the share of intervals that hold the true ratio and their mean width in logs."""
    held: dict[str, list[bool]] = {column: [] for column in COLUMNS}
    width: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for run in range(runs):
        table = engagement_table(*simulate(world, authors, np.random.default_rng([seed, run])))
        for row in table.filter(quantity="rate_ratio", term="1").iter_rows(named=True):
            held[row["column"]].append(row["low"] <= world.ratio <= row["high"])
            width[row["column"]].append(float(np.log(row["high"] / row["low"])))
    return {column: (float(np.mean(held[column])), float(np.mean(width[column]))) for column in COLUMNS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--authors", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{given.runs} runs of {given.authors} authors, seed {given.seed}\n")
    print("| likes | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    for world in WORLDS:
        found = coverage(world, given.runs, given.authors, given.seed)
        cells = [f"{100 * share:.0f} % (width {wide:.2f})" for share, wide in found.values()]
        print(f"| {world.what} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
