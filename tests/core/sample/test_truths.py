"""The truths say what the plan holds, verification finds them in tables, and misses them once scrambled.

The tables here are made from the plan itself, by the very functions of ``twigma_core.analysis``, with
vectors that stand for each picture's theme and quintile in place of CLIP's: quick, and every effect known.
The test of the whole graph runs the same verification on what the pipeline made.
"""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twigma_core import tables
from twigma_core.analysis.concordance import concordance
from twigma_core.analysis.engagement import engagement_table
from twigma_core.analysis.themes import cluster_trends
from twigma_core.collect.hashtags import candidates
from twigma_core.lake import ArrayTable, Lake
from twigma_core.models.weights import sample_weights, sha256_of
from twigma_core.sample import annotators, posts, truths
from twigma_core.sample.drawing import THEMES, theme_of
from twigma_core.sample.verify import verify
from twigma_core.sample.world import World

REVIEWED = list(posts.REVIEWED_TAGS)
MODEL = {"model": "drawn", "weights_sha256": "0"}


def fill(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Add a table's other columns, null or, where they may not be, a plain value."""
    plain: dict[Any, Any] = {pl.String: "", pl.Int64: 0, pl.Float64: 0.0, pl.Float32: 0.0, pl.Boolean: False}
    schema = tables.empty(name).schema
    specs = tables.SCHEMAS[name].columns()
    missing = []
    for column, dtype in schema.items():
        if column not in frame.columns:
            value = None if specs[column].nullable else plain.get(type(dtype), plain.get(dtype))
            if isinstance(dtype, pl.Datetime) and value is None:
                value = datetime(2021, 1, 1, tzinfo=UTC)
            if isinstance(dtype, pl.List) and not specs[column].nullable:
                value = []
            missing.append(pl.lit(value, dtype=dtype).alias(column))
    return frame.with_columns(missing).select(schema.names())


def write_months(lake: Lake, name: str, frame: pl.DataFrame) -> None:
    for (month,), part in frame.group_by("month", maintain_order=True):
        lake.write(name, fill(name, part), str(month))


def tables_of(world: World) -> dict[str, pl.DataFrame]:
    """Return the tables as a perfect pipeline would make them from the posts."""
    rows = truths.posted_pictures(world)
    first = rows.filter("first")
    users = world.users.select("author_id", "followers")
    lower = pl.col("hashtags").list.eval(pl.element().str.to_lowercase())
    tweets = (
        truths.collected(world)
        .with_columns(hashtags=lower)
        .with_columns(matched_hashtags=pl.col("hashtags").list.set_intersection(REVIEWED))
    )
    dataset = (
        first.filter(pl.col("kind") == "unique")
        .rename({"media_id": "image_id"})
        .join(users, on="author_id", how="left")
        .with_columns(width=pl.lit(128), height=pl.lit(128))
    )
    reasons = {
        "same_file": "same file",
        "same_pixels": "same pixels",
        "unavailable": "unavailable",
        "truncated": "undecodable",
        "html": "undecodable",
    }
    spoiled = first.filter(pl.col("kind") != "unique").with_columns(
        reason=pl.col("kind").replace_strict(reasons)
    )
    again = rows.filter(~pl.col("first")).with_columns(reason=pl.lit("same media id"))
    drops = pl.concat([spoiled, again]).rename({"media_id": "image_id"})
    counted = (
        world.posts.filter(pl.col("media_ids").list.len() > 0, pl.col("retweet_of") == "")
        .group_by("month")
        .agg(counted=pl.len(), collected=(pl.col("status") == "posted").sum())
        .with_columns(query=pl.lit("q"), day=pl.lit(date(2021, 1, 1)))
    )
    rng = np.random.default_rng(1)
    similar = dataset["quintile"].to_numpy() + rng.uniform(0, 0.9, dataset.height)
    near = []
    for corpus in ("artbench", "laion"):
        hit = pl.when(pl.col("near_corpus") == corpus).then(pl.lit("pictures/") + pl.col("near_file"))
        near.append(
            dataset.select(
                "image_id",
                "month",
                corpus=pl.lit(corpus),
                similarity=pl.Series(similar if corpus == "artbench" else rng.permutation(similar)),
                neighbor_ids=pl.concat_list(pl.lit("pictures/other.jpg"), hit.otherwise(pl.lit("x"))),
            )
        )
    themes = [theme_of(subject) for subject in dataset["subject"]]
    names = list(THEMES)
    labels = [names.index(theme) + 1 if rng.random() < 0.85 else int(rng.integers(1, 11)) for theme in themes]
    clusters = dataset.select("image_id", "month", cluster=pl.Series(labels))
    score = pl.when(pl.col("sensitive")).then(0.98).otherwise(0.01).cast(pl.Float32)
    return {
        "tweets": tweets,
        "dataset": dataset,
        "drops": drops,
        "tweet_counts": counted,
        "neighbors": pl.concat(near),
        "clusters": clusters,
        "nsfw_scores": dataset.select("image_id", "month", nsfw_score=score),
    }


def interval(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def write_engagement(lake: Lake, made: dict[str, pl.DataFrame]) -> None:
    write_months(lake, "dataset", made["dataset"])
    lake.write("engagement", engagement_table(lake.scan("dataset").collect(), made["neighbors"]))


def write_all(lake: Lake, world: World, made: dict[str, pl.DataFrame]) -> None:
    """Write the monthly tables, and compute from them what the analysis computes."""
    for name, frame in made.items():
        write_months(lake, name, frame)
    clusters = made["clusters"]
    write_engagement(lake, made)
    lake.write("cluster_trends", cluster_trends(clusters))
    lake.write("hashtag_candidates", candidates(lake.scan("tweets").collect(), REVIEWED))
    distances = {"laion": 1.3, "twigma": 1.2, "artbench": 1.1, "diffusiondb": 1.15}
    distances |= {"artbench_same_artist": 0.9, "diffusiondb_same_prompt": 0.6}
    table = [{"source": s, "metric": "mean_pairwise_distance", **interval(v)} for s, v in distances.items()]
    lake.write("variation_table", fill("variation_table", pl.DataFrame(table)))
    far = {"laion": 0.9, "artbench": 1.5, "diffusiondb": 0.2}
    matrix = [
        {"source_p": "twigma", "source_q": s, "measure": "kl", "cells": 10, **interval(v)}
        for s, v in far.items()
    ]
    lake.write("divergence_matrix", fill("divergence_matrix", pl.DataFrame(matrix)))
    prompt = {"prompt_id": "p", "kendall_tau": -0.7, "tau_low": -0.8, "tau_high": -0.6}
    lake.write("prompt_variation", fill("prompt_variation", pl.DataFrame([prompt])))
    texts = {"captions": 1.3, "prompts": 1.3, "tweets": 1.2, "news": 1.1, "haiku": 0.7, "book": 0.8}
    found = [{"source": s, **interval(v)} for s, v in texts.items()]
    lake.write("text_variation", fill("text_variation", pl.DataFrame(found)))
    laion = world.references.filter(pl.col("corpus") == "laion")
    scored = laion.select(
        image_id="file",
        corpus="corpus",
        nsfw_score=pl.when("sensitive").then(0.9).otherwise(0.1).cast(pl.Float32),
    )
    vectors = {"vectors": np.ones((laion.height, 2), np.float32)}
    lake.write("reference_embeddings", ArrayTable(fill("reference_embeddings", scored), vectors), "laion")
    tasks = (
        clusters.sample(100, seed=3)
        .with_row_index("task", offset=1)
        .select("task", "image_id", "month", "cluster", seed=pl.lit(0))
    )
    lake.write("annotation_tasks", tasks)
    sheet = annotators.fill_sheet(tasks, world.scenes()).with_columns(pl.col("keywords").str.split(";"))
    words = pl.DataFrame({"cluster": list(range(1, 11)), "word": [names[0] for names in THEMES.values()]})
    lake.write("annotation_concordance", concordance(tasks, sheet, words, draws=60))


@pytest.fixture(scope="module")
def made(built: World) -> dict[str, pl.DataFrame]:
    return tables_of(built)


@pytest.fixture(scope="module")
def planted(built: World) -> dict[str, truths.Truth]:
    return {truth.name: truth for truth in truths.plant(built, "0")}


@pytest.fixture(scope="module")
def whole(built: World, made: dict[str, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that holds every table."""
    root = tmp_path_factory.mktemp("whole")
    write_all(Lake(root), built, made)
    return root


@pytest.fixture
def full(whole: Path, tmp_path: Path) -> Lake:
    """A copy of it, to be scrambled."""
    return Lake(shutil.copytree(whole, tmp_path / "copy"))


def outcome(lake: Lake, world: World, planted: dict[str, truths.Truth]) -> dict[str, dict[str, Any]]:
    found = verify(lake, world, planted)
    assert found.height == len(planted)
    return dict(zip(planted, found.to_dicts(), strict=True))


def test_the_shipped_truths_are_those_of_the_shipped_plan_and_weights(world: World) -> None:
    clip = sha256_of(sample_weights("clip") / "open_clip_model.safetensors")
    known = truths.load_truths()
    anew = {truth.name: truth for truth in truths.plant(world, clip)}
    assert known == anew, "regenerate: python -m twigma_core.sample.world"


def test_the_truths_count_what_the_plan_was_told_to_plant(planted: dict[str, truths.Truth]) -> None:
    def total(name: str) -> int:
        return sum(planted[name].value.values())

    assert total("same_file") == posts.SAME_FILE
    assert total("same_pixels") == posts.SAME_PIXELS
    assert total("same_media_id") == posts.REPOSTS
    assert total("unavailable") == posts.UNAVAILABLE
    assert total("undecodable") == posts.TRUNCATED + posts.HTML
    assert total("deleted_posts") == 6 * posts.DELETED_PER_MONTH
    assert total("unique_pictures") == 1635
    assert len(planted["near_copies"].value) == 12
    assert planted["sensitive_share"].value == pytest.approx(0.12, abs=0.005)
    slopes = {name: truth.value["slope"] for name, truth in planted.items() if name.startswith("trend_")}
    assert slopes["trend_people"] > 0.3 and slopes["trend_abstract"] < -0.3
    assert abs(slopes["trend_animals"]) < 0.01 and abs(slopes["trend_space"]) < 0.01


def test_likes_are_drawn_about_the_planted_ratios() -> None:
    # A world of its own with many more posts: the ratios of its means are the planted ones.
    writer = posts.PostWriter(5)
    user = {"followers": 1000, "effect": 1.0}
    likes = {q: np.mean([writer._metrics(user, q)["like_count"] for _ in range(4000)]) for q in posts.RATIOS}
    for quintile, ratio in posts.RATIOS.items():
        assert likes[quintile] / likes[5] == pytest.approx(ratio, rel=0.04)


def test_every_truth_is_found_in_the_tables_of_a_perfect_pipeline(
    full: Lake, built: World, planted: dict[str, truths.Truth]
) -> None:
    found = outcome(full, built, planted)
    assert {name: row["note"] for name, row in found.items() if not row["recovered"]} == {}


def test_an_empty_lake_shows_nothing_and_says_which_table_is_missing(
    lake: Lake, built: World, planted: dict[str, truths.Truth]
) -> None:
    found = outcome(lake, built, planted)
    assert not any(row["recovered"] for row in found.values())
    for name, truth in planted.items():
        needs = (truth.recovered_from, "dataset", "clusters")
        assert any(f"table {table} has no rows" in found[name]["note"] for table in needs), name


def shuffled(frame: pl.DataFrame, column: str, seed: int = 2) -> pl.DataFrame:
    order = np.random.default_rng(seed).permutation(frame.height)
    return frame.with_columns(frame[column].gather(order))


def test_shuffled_likes_lose_the_rate_ratios(
    full: Lake, built: World, made: dict[str, pl.DataFrame], planted: dict[str, truths.Truth]
) -> None:
    write_engagement(full, made | {"dataset": shuffled(made["dataset"], "like_count")})
    found = outcome(full, built, planted)
    for quintile in (1, 2, 3):
        assert not found[f"likes_quintile_{quintile}"]["recovered"]
    assert found["trend_people"]["recovered"]


def test_shuffled_months_lose_the_trends(
    full: Lake, built: World, made: dict[str, pl.DataFrame], planted: dict[str, truths.Truth]
) -> None:
    scrambled = shuffled(made["clusters"], "month")
    write_months(full, "clusters", scrambled)
    full.write("cluster_trends", cluster_trends(scrambled))
    found = outcome(full, built, planted)
    for theme in ("people", "fantasy", "landscapes", "abstract"):
        assert not found[f"trend_{theme}"]["recovered"]


def test_a_lost_row_is_seen_in_the_counts(
    full: Lake, built: World, made: dict[str, pl.DataFrame], planted: dict[str, truths.Truth]
) -> None:
    for name in ("dataset", "drops", "tweets"):
        write_months(full, name, made[name][1:])
    found = outcome(full, built, planted)
    assert not found["unique_pictures"]["recovered"]
    assert not found["posts"]["recovered"]
    reasons = ("same_file", "same_pixels", "same_media_id", "unavailable", "undecodable")
    assert sum(not found[reason]["recovered"] for reason in reasons) == 1


def test_another_survivor_of_a_copy_is_seen(
    full: Lake, built: World, made: dict[str, pl.DataFrame], planted: dict[str, truths.Truth]
) -> None:
    copy = built.media.filter(pl.col("kind") == "same_file").row(0, named=True)
    image_id = pl.col("image_id").replace(copy["source_id"], copy["media_id"])
    write_months(full, "dataset", made["dataset"].with_columns(image_id=image_id))
    row = outcome(full, built, planted)["unique_pictures"]
    assert not row["recovered"] and "first posting" in row["note"]


def test_blunted_tables_lose_their_truths(
    full: Lake, built: World, made: dict[str, pl.DataFrame], planted: dict[str, truths.Truth]
) -> None:
    safe = made["nsfw_scores"].with_columns(nsfw_score=pl.lit(0.1, pl.Float32))
    write_months(full, "nsfw_scores", safe)
    write_months(full, "neighbors", made["neighbors"].with_columns(neighbor_ids=pl.lit(["x"])))
    for name in ("variation_table", "divergence_matrix", "text_variation"):
        full.write(name, full.read(name).with_columns(value=1.0, low=pl.lit(0.9), high=pl.lit(1.1)))
    full.write("prompt_variation", full.read("prompt_variation").with_columns(tau_high=pl.lit(0.1)))
    random = full.read("annotation_concordance").with_columns(value=0.0, low=pl.lit(-0.1), high=pl.lit(0.1))
    full.write("annotation_concordance", random)
    found = outcome(full, built, planted)
    lost = {"sensitive_share", "near_copies", "prompt_length", "text_variation", "annotators"}
    lost |= {name for name in planted if name.startswith(("variation_", "separation_"))}
    assert {name for name in lost if found[name]["recovered"]} == set()


def test_part_of_the_months_is_compared_with_that_part(
    lake: Lake, built: World, made: dict[str, pl.DataFrame], planted: dict[str, truths.Truth]
) -> None:
    for name in ("tweets", "dataset", "drops", "tweet_counts"):
        write_months(lake, name, made[name].filter(pl.col("month") <= "2021-02"))
    found = outcome(lake, built, planted)
    counts = ("posts", "unique_pictures", "same_media_id", "unavailable", "deleted_posts", "without_likes")
    for name in counts:
        assert found[name]["recovered"], name
        assert "4 of 6 months" in found[name]["note"]
