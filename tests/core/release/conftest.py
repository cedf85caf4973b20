"""A small dataset in the tables' schemas, with hostile texts and one picture without a cluster; a report."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from twigma_core import tables
from twigma_core.provenance import Provenance, Upstream
from twigma_core.release.card import SYNTHETIC
from twigma_core.release.report import ReportFigure, build_report

HOSTILE = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://evil.example","x")',
    "javascript:alert(1)",
    "@SUM(A1)",
    "</td></table><img src=x onerror=alert(1)>",
)
ROWS = 60


@dataclass(frozen=True)
class World:
    """The three tables that a release is made from, its lineage, and the captions that mean harm."""

    dataset: pl.DataFrame
    clusters: pl.DataFrame
    projection: pl.DataFrame
    provenance: Provenance
    hostile: tuple[str, ...]


@pytest.fixture(scope="session")
def world() -> World:
    random = np.random.default_rng(7)
    ids = [str(1_500_000_000_000_000_001 + i) for i in range(ROWS)]
    start = datetime(2022, 1, 3, tzinfo=UTC)
    times = [start + timedelta(days=3 * i) for i in range(ROWS)]
    captions = [HOSTILE[i] if i < len(HOSTILE) else f"a castle number {i}" for i in range(ROWS)]
    dataset = tables.conform(
        "dataset",
        pl.DataFrame(
            {
                "image_id": [f"{key}9" for key in ids],
                "tweet_id": ids,
                "month": [f"{time:%Y-%m}" for time in times],
                "author_id": [f"author-{i % 7}" for i in range(ROWS)],
                "created_at": times,
                "text": [f"{caption} by secret text" for caption in captions],
                "hashtags": [["midjourney"]] * ROWS,
                "image_name": [f"F{i}abc.jpg" for i in range(ROWS)],
                "like_count": [None if i == 3 else i for i in range(ROWS)],
                "reply_count": [1] * ROWS,
                "quote_count": [2] * ROWS,
                "retweet_count": [3] * ROWS,
                "followers": [4] * ROWS,
                "possibly_sensitive": [i % 9 == 0 for i in range(ROWS)],
                "width": [64] * ROWS,
                "height": [64] * ROWS,
                "sha256": [f"{i:064x}" for i in range(ROWS)],
                "shard": ["shards/a.tar"] * ROWS,
                "offset": list(range(ROWS)),
                "bytes": [10] * ROWS,
                "caption": captions,
                "nsfw_score": random.random(ROWS),
            }
        ).sample(fraction=1, shuffle=True, seed=1),
    )
    pictures = dataset.select("image_id", "month")
    clusters = pictures.with_columns(
        cluster=pl.Series(random.integers(1, 11, ROWS)), distance=pl.lit(0.5), version=pl.lit("v")
    )
    projection = pictures.with_columns(
        x=pl.Series(random.normal(size=ROWS)), y=pl.Series(random.normal(size=ROWS)), version=pl.lit("v")
    )
    without = clusters["image_id"] != f"{ids[9]}9"
    upstream = tuple(Upstream("dataset", month, "ab12") for month in sorted(set(dataset["month"])))
    return World(
        dataset,
        tables.conform("clusters", clusters.filter(without)),
        tables.conform("projection", projection),
        Provenance("release", None, "run-1", "0.1.0+abc", {"clip": "00ff"}, upstream),
        HOSTILE,
    )


UI = "http://127.0.0.1:3999"
SCRIPTED = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="40"><script>alert(1)</script></svg>'


@pytest.fixture(scope="session")
def drawing() -> tuple[bytes, bytes]:
    """A drawn figure as SVG and PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5))
    axes = figure.subplots()
    axes.plot(np.arange(30), np.random.default_rng(3).normal(size=30).cumsum())
    files = io.BytesIO(), io.BytesIO()
    for file, kind in zip(files, ("svg", "png"), strict=True):
        figure.savefig(file, format=kind)
    return files[0].getvalue(), files[1].getvalue()


@pytest.fixture(scope="session")
def lake_tables(world: World) -> dict[str, pl.DataFrame]:
    """Tables in their schemas: two pictures more are posted than kept, and one page is corrupt."""
    kept = world.dataset
    dropped = kept.head(2).select("tweet_id", "image_id", "month", reason=pl.lit("same pixels"))
    dropped = dropped.with_columns(
        pl.col("image_id") + "0", survivor_id="image_id", survivor_tweet_id="tweet_id"
    )
    media = pl.concat(
        [kept.select("tweet_id", "image_id", "month"), dropped.select("tweet_id", "image_id", "month")]
    )
    months = sorted(set(kept["month"]))
    random = np.random.default_rng(5)
    trends = pl.DataFrame(
        [
            {
                "cluster": label,
                "month": month,
                "pictures": 5 + i * (label % 3),
                "total": 100,
                "share": (5 + i * (label % 3)) / 100,
                "low": 0.01,
                "high": 0.2,
                "slope": 0.1 * (label % 3),
                "slope_low": 0.05,
                "slope_high": 0.2,
                "p_value": 0.01,
                "p_holm": 0.02,
                "trend": ("steady", "rising", "falling")[label % 3],
            }
            for label in range(1, 11)
            for i, month in enumerate(months)
        ]
    )
    sources = ("twigma", *tables.CORPORA)
    matrix = pl.DataFrame(
        [
            {
                "source_p": p,
                "source_q": q,
                "measure": measure,
                "cells": cells,
                "value": 0.0 if p == q else float(random.random()),
                "low": None if p == q else 0.1,
                "high": None if p == q else 0.9,
                "n_p": 60,
                "n_q": 80,
                "smoothing": 0.5,
                "reason": None,
            }
            for measure, cells in (("kl", 500), ("frechet", None))
            for p in sources
            for q in sources
        ]
    )
    frames = {
        "dataset": kept,
        "tweet_media": media.with_columns(
            position=0,
            created_at=pl.lit(kept["created_at"][0]),
            **dict.fromkeys(("url", "alt_text"), pl.lit(None)),
        ).with_columns(width=64, height=64),
        "drops": dropped,
        "images": pl.concat([tables.empty("images"), _ledger(media)], how="diagonal_relaxed"),
        "cluster_trends": trends,
        "cluster_themes": pl.DataFrame(
            {
                "cluster": [1, 1],
                "rank": [1, 2],
                "word": ["castle", world.hostile[0]],
                "count": [9, 4],
                "share": [0.5, 0.2],
                "lift": [3.0, 2.0],
            }
        ),
        "cluster_model": pl.DataFrame(
            {
                "cluster": range(1, 11),
                "version": "v",
                "pictures": 6,
                "radius_p99": 0.9,
                "inertia": 20.0,
                "starts": 10,
                "seed": 0,
                **dict.fromkeys(("previous_version", "previous_cluster", "kept")),
            }
        ),
        "cluster_sensitivity": pl.DataFrame(
            {
                "k": [5, 10],
                "seed": [1, 1],
                "pictures": [60, 60],
                "inertia": [30.0, 20.0],
                "excess": [0.0, 0.0025],
                "silhouette": [0.1, None],
                "ari_seeds": [0.5, 0.8125],
                "ari_model": [0.4, 0.75],
                "rising": [1, 3],
                "falling": [1, 3],
                "shifting": [0.25, 0.75],
            }
        ),
        "annotation_concordance": pl.DataFrame(
            {
                "measure": ["adjusted_rand", "kept_together"],
                "scope": ["all", "cluster 3"],
                "value": [0.4375, None],
                "low": [0.375, None],
                "high": [0.5, None],
                "n": [60, 0],
            }
        ),
        "engagement": _likes(world.hostile[4]),
        "divergence_matrix": matrix,
        "divergence_robustness": matrix.with_columns(
            variant=pl.format("{}, seed 1", "measure"), seed=1, rank=1, kendall_tau=0.87, claim_holds=True
        ),
        "variation_table": pl.DataFrame(
            {
                "source": [*sources, "artbench_same_artist"],
                "metric": ["mean_pairwise_distance"] * 5,
                "value": [0.71, 0.83, 0.9, 0.66, 0.5],
                "low": [0.7] * 5,
                "high": [0.95] * 5,
                "n": [60] * 5,
                "reason": [None] * 5,
            }
        ),
    }
    return {name: tables.conform(name, frame) for name, frame in frames.items()} | {
        "raw_tweets": _pages(world)
    }


def _likes(note: str) -> pl.DataFrame:
    """A ratio in each column, wider from one to the next, and one that could not be had."""
    columns = ("paper", "robust", "posts", "negative_binomial")
    rows = [
        {
            "corpus": "laion",
            "column": column,
            "quantity": quantity,
            "term": term,
            "estimate": None if column == "negative_binomial" else 1.5,
            "low": None if quantity == "dispersion" or column == "negative_binomial" else 1.4 - 0.1 * i,
            "high": None if quantity == "dispersion" or column == "negative_binomial" else 1.6 + 0.1 * i,
            "p_value": None,
            "n": 57 - i,
            "groups": None if column == "paper" else 7,
            "without_likes": 3,
            "note": note if column == "negative_binomial" else None,
        }
        for i, column in enumerate(columns)
        for quantity, term in (("rate_ratio", "1"), ("dispersion", "all"))
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _ledger(media: pl.DataFrame) -> pl.DataFrame:
    return media.select(
        "image_id",
        "month",
        status=pl.when(pl.int_range(pl.len()) % 9 == 0).then(pl.lit("unavailable")).otherwise(pl.lit("ok")),
        attempts=pl.lit(1),
        fetched_at=pl.lit(datetime(2022, 7, 1, tzinfo=UTC)),
    )


def _pages(world: World) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "month": ["2022-01", "2022-02"],
            "query": [world.hostile[0], "#dalle"],
            "page": [0, 1],
            "status": ["corrupt", "ok"],
            "reason": [world.hostile[4], None],
        }
    )


@pytest.fixture(scope="session")
def page(world: World, drawing: tuple[bytes, bytes], lake_tables: dict[str, pl.DataFrame]) -> str:
    bad = world.hostile[0]
    figures = [
        ReportFigure(
            name,
            title,
            f"What it shows.\n\nIn words: {bad}",
            svg,
            drawing[1],
            world.dataset.select("caption", "like_count", "nsfw_score"),
            Provenance(name, None, bad, "0.1.0+abc", {"clip": "00ff"}, world.provenance.upstream, "cd34"),
        )
        for name, title, svg in (
            ("figure_2c", "Divergence between sources", drawing[0]),
            ("figure_4c", f"Clusters {bad}", SCRIPTED),
        )
    ]
    comparison = pl.DataFrame(
        {
            "number": ["rate ratio, LAION, quintile 1", "pictures"],
            "place": ["Figure 2d", "Section 3"],
            "paper": ["1.4", "over 800,000"],
            "kind": ["level", "level"],
            "paper_value": [1.4, None],
            "paper_low": [1.3, None],
            "paper_high": [1.5, None],
            "value": [1.3712, 60.0],
            "low": [1.12, None],
            "high": [1.66, None],
            "asset": ["engagement", "unknown_asset"],
            "selection": ["the row where term = 1", None],
            "verdict": ["reproduced", "not comparable"],
            "because": ["The intervals meet.", "javascript:alert(1)"],
        }
    )
    return build_report(
        figures,
        lake_tables,
        tables.conform("paper_comparison", comparison),
        lineage_of(lake_tables),
        notices=[SYNTHETIC, bad],
        ui=UI,
    )


def lineage_of(names: Iterable[str]) -> dict[str, list[Provenance]]:
    """A record of each table; the dataset has two months, of which one was made anew after it was read."""
    months = ("2022-01", "2022-02")
    models = {"blip": "77"}
    dataset = [Provenance("dataset", m, "run-1", "0.1.0+abc", models, (), f"{m} now") for m in months]
    read = tuple(Upstream("dataset", m, f"{m} {'now' if m == months[0] else 'then'}") for m in months)
    others = {*names, "engagement", "paper_comparison"} - {"dataset"}
    return {
        "dataset": dataset,
        **{name: [Provenance(name, None, "run-1", "0.1.0+abc", {}, read, "v")] for name in sorted(others)},
    }
