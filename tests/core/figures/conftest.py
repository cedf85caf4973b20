"""A small invented world in the tables' schemas, with the effects that the paper's figures show."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy.special import expit

from twigma_core.tables import TEXT_SOURCES, conform

MONTHS = [f"2021-{m:02d}" for m in range(1, 13)] + [f"2022-{m:02d}" for m in range(1, 7)]
SOURCES = ("twigma", "laion", "artbench", "diffusiondb")
NOW = datetime(2022, 1, 1, tzinfo=UTC)
WORDS = [
    "new",
    "art",
    "prompt",
    "portrait",
    "castle",
    "dragon",
    "forest",
    "neon",
    "robot",
    "city",
    "ocean",
    "dream",
    "light",
    "garden",
    "painting",
    "sketch",
    "cat",
    "moon",
    "river",
    "anime",
    "face",
    "surreal",
    "mountain",
    "abstract",
    "gold",
    "night",
    "sky",
    "future",
    "space",
    "bird",
    "ship",
    "lake",
]


def _tweets(rng: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    weights = 1 / np.arange(1, len(WORDS) + 1)
    for at, month in enumerate(MONTHS):
        for _ in range(20 + 9 * at + int(rng.integers(0, 12))):
            words = rng.choice(WORDS, size=6, p=weights / weights.sum())
            text = (
                f"My {' '.join(words)} &amp; more https://t.co/Ab{len(rows)} @someone #AIart #midjourney 生成"
            )
            rows.append({"tweet_id": str(10**15 + len(rows)), "month": month, "text": text})
    frame = pl.DataFrame(rows)
    return conform(
        "tweets",
        frame.with_columns(
            author_id=pl.lit("1"),
            created_at=pl.lit(NOW),
            lang=pl.lit("en"),
            hashtags=pl.lit(["aiart", "midjourney"]),
            matched_hashtags=pl.lit(["aiart"]),
            possibly_sensitive=pl.lit(False),
            like_count=pl.lit(3),
            reply_count=pl.lit(0),
            quote_count=pl.lit(0),
            retweet_count=pl.lit(0),
            followers=pl.lit(10),
            media_count=pl.lit(1),
            collected_at=pl.lit(NOW),
        ),
    )


def _dataset(rng: np.random.Generator, tweets: pl.DataFrame) -> pl.DataFrame:
    kept = tweets.sample(fraction=0.9, seed=3).sort("tweet_id")
    scores = np.where(
        rng.random(kept.height) < 0.12, rng.beta(8, 2, kept.height), rng.beta(1, 25, kept.height)
    )
    return conform(
        "dataset",
        kept.select(
            pl.format("{}", pl.int_range(pl.len()) + 10**12).alias("image_id"),
            *("tweet_id", "month", "author_id", "created_at", "text", "hashtags"),
            pl.lit(None, dtype=pl.String).alias("image_name"),
            *("like_count", "reply_count", "quote_count", "retweet_count", "followers", "possibly_sensitive"),
            pl.lit(128).alias("width"),
            pl.lit(128).alias("height"),
            pl.lit("0" * 64).alias("sha256"),
            pl.lit("shard.tar").alias("shard"),
            pl.lit(0).alias("offset"),
            pl.lit(1000).alias("bytes"),
            pl.lit("a castle").alias("caption"),
            pl.Series("nsfw_score", scores, dtype=pl.Float32),
        ),
    )


def _maps(rng: np.random.Generator, dataset: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    centres = {
        "twigma": [(6, 4), (7, 1), (9, 6)],
        "diffusiondb": [(6, 4), (7, 1), (5, 2)],
        "laion": [(0, 0), (-1, 3), (1, -2)],
        "artbench": [(1, 7), (3, 8)],
    }
    frames = []
    for source, places in centres.items():
        pick = rng.integers(0, len(places), 400)
        xy = np.array(places, dtype=float)[pick] + rng.normal(0, 0.7, (400, 2))
        ids = [f"{source}{i}" for i in range(400)]
        frames.append(pl.DataFrame({"source": source, "image_id": ids, "x": xy[:, 0], "y": xy[:, 1]}))
    model = conform("projection_model", pl.concat(frames).with_columns(version=pl.lit("v")))
    at = dataset["month"].replace_strict({m: i for i, m in enumerate(MONTHS)}).to_numpy()
    late = rng.random(len(at)) < at / len(MONTHS)
    xy = np.where(late[:, None], [9, 6], [6, 2]) + rng.normal(0, 0.9, (len(at), 2))
    placed = dataset.select("image_id", "month").with_columns(
        pl.Series("x", xy[:, 0]), pl.Series("y", xy[:, 1]), pl.lit("v").alias("version")
    )
    return model, conform("projection", placed)


def _comparison(rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    spread = {
        "laion": [0.85, 0.05, 0.05, 0.05],
        "artbench": [0.06, 0.84, 0.05, 0.05],
        "diffusiondb": [0.04, 0.06, 0.5, 0.4],
        "twigma": [0.03, 0.05, 0.42, 0.5],
    }
    cells = [
        {"cells": 4, "cell": c, "source": s, "pictures": round(400 * p), "version": "v"}
        for s, shares in spread.items()
        for c, p in enumerate(shares)
    ]
    cells += [
        {"cells": 10, "cell": c, "source": s, "pictures": 40, "version": "v"}
        for s in spread
        for c in range(10)
    ]
    kl = {("twigma", "diffusiondb"): 0.31, ("diffusiondb", "twigma"): 0.38}
    rows = []
    for p in SOURCES:
        for q in SOURCES:
            value = 0.0 if p == q else kl.get((p, q), 2.2 + 3.4 * float(rng.random()))
            rows.append(
                {
                    "source_p": p,
                    "source_q": q,
                    "measure": "kl",
                    "cells": 10,
                    "value": value,
                    "low": 0.9 * value,
                    "high": 1.1 * value,
                    "n_p": 400,
                    "n_q": 400,
                    "smoothing": 0.5,
                    "reason": None,
                }
            )
    rows.append({**rows[1], "measure": "js", "value": 0.2})
    return conform("codebook", pl.DataFrame(cells)), conform("divergence_matrix", pl.DataFrame(rows))


def _likes(rng: np.random.Generator, dataset: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    frames, rows = [], []
    for corpus, centre in (("laion", 0.55), ("artbench", 0.66)):
        values = np.clip(rng.normal(centre, 0.06, dataset.height), 0, 1)
        frames.append(
            dataset.select("image_id", "month").with_columns(
                pl.lit(corpus).alias("corpus"),
                pl.Series("similarity", values),
                pl.lit(["a"]).alias("neighbor_ids"),
                pl.lit([0.9], dtype=pl.List(pl.Float32)).alias("neighbor_similarities"),
            )
        )
        for column, half in (("paper", 1.2), ("robust", 2.6)):
            for quintile in range(1, 6):
                mean = 31.5 - 1.7 * quintile + float(rng.normal(0, 0.4))
                shared = {
                    "corpus": corpus,
                    "column": column,
                    "term": str(quintile),
                    "n": 310,
                    "without_likes": 57,
                }
                rows.append(
                    {
                        **shared,
                        "quantity": "mean_likes",
                        "estimate": mean,
                        "low": mean - half,
                        "high": mean + half,
                    }
                )
                if quintile < 5:
                    ratio = 1.25 - 0.05 * quintile
                    ends = {"low": ratio - 0.04 * half, "high": ratio + 0.04 * half}
                    rows.append({**shared, "quantity": "rate_ratio", "estimate": ratio, **ends})
    engagement = pl.DataFrame(rows).with_columns(
        p_value=pl.lit(0.01), groups=pl.lit(None, pl.Int64), note=pl.lit(None, pl.String)
    )
    return conform("neighbors", pl.concat(frames)), conform("engagement", engagement)


def _variation(rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    means = {
        "laion": 1.27,
        "artbench": 1.13,
        "artbench_same_artist": 0.94,
        "diffusiondb": 1.10,
        "diffusiondb_same_prompt": 0.58,
        "twigma": 1.08,
    }
    texts = dict(zip(TEXT_SOURCES, (0.98, 0.62, 0.99, 1.01, 0.87, 0.71), strict=True))
    edges = np.linspace(0, 2, 81)
    histograms = []
    for source, mean in {**means, **texts}.items():
        counts = np.histogram(np.clip(rng.normal(mean, 0.11, 4000), 0, 1.999), edges)[0]
        histograms.append(
            pl.DataFrame(
                {
                    "source": source,
                    "left": edges[:-1],
                    "right": edges[1:],
                    "pairs": counts,
                    "density": counts / (4000 * 0.025),
                }
            )
        )
    scales = {
        "mean_pairwise_distance": 1.0,
        "inverse_explained_variance": 17.0,
        "product_of_marginal_variances": 0.021,
        "quantized_entropy": 4.6,
        "quantized_entropy_corrected": 4.9,
        "quantized_entropy_equal_n": 4.2,
    }
    table = []
    for metric, scale in scales.items():
        for source, mean in means.items():
            missing = "_same_" in source and metric.startswith("quantized")
            value = None if missing else mean * scale
            low, high = (None, None) if value is None else (0.985 * value, 1.015 * value)
            table.append(
                {"source": source, "metric": metric, "value": value, "low": low, "high": high, "n": 400}
                | {"reason": None}
            )
    text = [
        {"source": s, "value": v, "low": v - 0.012, "high": v + 0.012, "n": 350, "mean_words": 17.2}
        | {"reason": None}
        for s, v in texts.items()
    ]
    words = rng.integers(2, 50, 160)
    prompts = pl.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(160)],
            "words": words,
            "pictures": 4,
            "mean_distance": 0.72 - 0.004 * words + rng.normal(0, 0.07, 160),
        }
    ).with_columns(kendall_tau=-0.34, tau_low=-0.44, tau_high=-0.24, p_value=1e-6)
    return {
        "pair_distances": conform("pair_distances", pl.concat(histograms)),
        "variation_table": conform("variation_table", pl.DataFrame(table)),
        "text_variation": conform("text_variation", pl.DataFrame(text)),
        "prompt_variation": conform("prompt_variation", prompts),
    }


def _clusters(rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    slopes = dict(zip(range(1, 11), (-0.07, 0.0, -0.09, -0.05, 0.03, 0.0, 0.0, 0.1, 0.08, 0.0), strict=True))
    trends: list[dict[str, object]] = []
    themes: list[dict[str, object]] = []
    tasks: list[dict[str, object]] = []
    notes: list[dict[str, object]] = []
    for month_at, month in enumerate(MONTHS):
        odds = np.array([np.log(0.1) + slope * (month_at - 8) for slope in slopes.values()])
        shares = expit(odds) / expit(odds).sum()
        counts = rng.multinomial(60 + 25 * month_at, shares)
        for (cluster, slope), pictures in zip(slopes.items(), counts, strict=True):
            total = int(counts.sum())
            share = pictures / total
            half = 1.96 * np.sqrt(share * (1 - share) / total)
            direction = "steady" if abs(slope) < 0.04 else "rising" if slope > 0 else "falling"
            trends.append(
                {
                    "cluster": cluster,
                    "month": month,
                    "pictures": int(pictures),
                    "total": total,
                    "share": share,
                    "low": max(0.0, share - half),
                    "high": share + half,
                    "slope": slope,
                    "slope_low": slope - 0.02,
                    "slope_high": slope + 0.02,
                    "p_value": 0.001 if direction != "steady" else 0.5,
                    "p_holm": 0.01 if direction != "steady" else 1.0,
                    "trend": direction,
                }
            )
    for cluster in slopes:
        words = rng.choice(WORDS, 10, replace=False)
        for rank, word in enumerate(words, 1):
            row = {
                "cluster": cluster,
                "rank": rank,
                "word": word,
                "count": 40 - rank,
                "share": 0.4,
                "lift": 3.0,
            }
            themes.append(row)
        for i in range(4):
            image_id = f"c{cluster}i{i}"
            tasks.append(
                {"task": len(tasks) + 1, "image_id": image_id, "month": "2021-02", "cluster": cluster}
            )
            told = [f"{words[0]}s", str(rng.choice(WORDS)), "night scene"]
            for annotator in ("one", "two"):
                row = {
                    "annotator": annotator,
                    "image_id": image_id,
                    "keywords": told,
                    "group": f"g{cluster % 4}",
                }
                notes.append(row)
    return {
        "cluster_trends": conform("cluster_trends", pl.DataFrame(trends)),
        "cluster_themes": conform("cluster_themes", pl.DataFrame(themes)),
        "annotation_tasks": conform("annotation_tasks", pl.DataFrame(tasks).with_columns(seed=pl.lit(0))),
        "annotations": conform("annotations", pl.DataFrame(notes)),
    }


def _references(rng: np.random.Generator) -> pl.DataFrame:
    scores = np.where(rng.random(900) < 0.05, rng.beta(8, 2, 900), rng.beta(1, 30, 900))
    return conform(
        "reference_embeddings",
        pl.DataFrame(
            {
                "image_id": [f"r{i}" for i in range(900)],
                "corpus": ["laion"] * 600 + ["artbench"] * 300,
                "nsfw_score": scores,
            }
        ).with_columns(
            sha256=pl.lit("0" * 64),
            artist=pl.lit(None, dtype=pl.String),
            prompt_id=pl.lit(None, dtype=pl.String),
            model=pl.lit("m"),
            weights_sha256=pl.lit("0" * 64),
            settings=pl.lit("s"),
        ),
    )


def _inspirations(dataset: pl.DataFrame) -> pl.DataFrame:
    ids = dataset["image_id"].head(30).to_list()
    rows = [
        {
            "rank": rank,
            "image_id": image_id,
            "corpus": "artbench" if rank % 3 else "laion",
            "neighbor_id": f"n{rank}",
            "similarity": 0.995 - 0.004 * rank,
            "margin": 0.01,
            "nsfw_score": {2: 0.91, 5: None}.get(rank, 0.02),
            "neighbor_nsfw_score": {3: 0.93, 7: None}.get(rank, 0.03),
        }
        for rank, image_id in enumerate(ids, 1)
    ]
    return conform("inspirations", pl.DataFrame(rows))


@pytest.fixture(scope="session")
def frames() -> dict[str, pl.DataFrame]:
    """Every table that a figure reads."""
    rng = np.random.default_rng(20230101)
    tweets = _tweets(rng)
    dataset = _dataset(rng, tweets)
    model, projection = _maps(rng, dataset)
    codebook, matrix = _comparison(rng)
    neighbors, engagement = _likes(rng, dataset)
    return {
        "tweets": tweets,
        "dataset": dataset,
        "projection_model": model,
        "projection": projection,
        "codebook": codebook,
        "divergence_matrix": matrix,
        "neighbors": neighbors,
        "engagement": engagement,
        **_variation(rng),
        **_clusters(rng),
        "reference_embeddings": _references(rng),
        "inspirations": _inspirations(dataset),
    }


def _picture(seed: int) -> Image.Image:
    """Return a picture of a few coloured bands and a disc, wider than high."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:96, 0:128]
    tone = rng.integers(40, 230, (2, 3))
    pixels = np.where(((x + 2 * y) // 24 % 2)[..., None] == 1, tone[0], tone[1])
    disc = (x - rng.integers(30, 98)) ** 2 + (y - rng.integers(30, 66)) ** 2 < 400
    pixels[disc] = rng.integers(0, 255, 3)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="session")
def extras() -> dict[str, dict[str, object]]:
    """The pictures that Figures 4(c) and 4(e) are passed beside their tables."""
    return {
        "figure_4c": {"thumbnails": {c: [_picture(10 * c + i) for i in range(5)] for c in range(1, 11)}},
        "figure_4e": {"pictures": {r: (_picture(r), _picture(100 + r)) for r in range(1, 24)}},
    }
