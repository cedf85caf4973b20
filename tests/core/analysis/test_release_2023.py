"""The 2023 release beside ours: against other implementations, by chance, with nothing to compare."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from twigma_core import tables
from twigma_core.analysis.release_2023 import adjusted_rand, compare

N = 400


def theirs(n: int = N, **other: object) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    columns = {
        "image_id": [str(i) for i in range(n)],
        "tweet_id": [str(10**18 + i) for i in range(n)],
        "image_name": [f"{i}.jpg" for i in range(n)],
        "url": [None] * n,
        "month": ["2022-08"] * n,
        "created_at": [datetime(2022, 8, 2, tzinfo=UTC)] * n,
        "like_count": rng.poisson(20, n),
        "quote_count": [None] * n,
        "reply_count": [None] * n,
        "caption": [f"caption {i}" for i in range(n)],
        "cluster": rng.integers(1, 11, n),
        "possibly_sensitive": rng.random(n) < 0.3,
        "nsfw_score": rng.random(n),
        "x": [0.0] * n,
        "y": [0.0] * n,
    }
    return tables.conform(
        "release_2023", pl.DataFrame(columns | other, schema=tables.empty("release_2023").schema)
    )


def ours(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a dataset and clusters that say of each picture what `frame` says."""
    dataset = frame.select(
        *("image_id", "tweet_id", "month", "like_count", "possibly_sensitive", "caption"),
        pl.col("nsfw_score").cast(pl.Float32),
    )
    return dataset, frame.select("image_id", "cluster")


def rows(result: pl.DataFrame) -> dict[str, dict[str, float]]:
    return {row["measure"]: row for row in result.iter_rows(named=True)}


def test_the_same_on_both_sides_is_found_to_be_the_same() -> None:
    frame = theirs()
    found = rows(compare(frame, *ours(frame)))
    assert found["pictures_theirs"]["value"] == found["pictures_both"]["value"] == N
    for name in ("share_found", "same_post", "same_caption", "same_sensitive", "cluster_adjusted_rand"):
        assert found[name]["value"] == 1, name
    assert found["likes_mean_difference"]["value"] == found["likes_median_difference"]["value"] == 0
    assert found["nsfw_spearman"]["value"] == pytest.approx(1)


def test_values_are_those_of_other_implementations_and_intervals_hold_them() -> None:
    rng = np.random.default_rng(2)
    frame = theirs()
    renamed = dict(zip(range(1, 11), rng.permutation(10) + 1, strict=True))
    moved = pl.Series(rng.random(N) < 0.2)
    other = frame.with_columns(
        cluster=pl.when(moved)
        .then(pl.Series(rng.integers(1, 11, N)))
        .otherwise(frame["cluster"].replace_strict(renamed, return_dtype=pl.Int64)),
        like_count=frame["like_count"] + pl.Series(rng.poisson(6, N)),
        nsfw_score=(frame["nsfw_score"] + pl.Series(rng.normal(0, 0.2, N))).clip(0, 1),
        tweet_id=pl.when(moved).then(pl.lit("5")).otherwise("tweet_id"),
    )
    found = rows(compare(frame, *ours(other)))
    assert found["cluster_adjusted_rand"]["value"] == pytest.approx(
        adjusted_rand_score(frame["cluster"], other["cluster"])
    )
    assert found["likes_mean_difference"]["value"] == pytest.approx(
        (other["like_count"] - frame["like_count"]).mean()
    )
    assert found["likes_median_difference"]["value"] == (other["like_count"] - frame["like_count"]).median()
    score = other["nsfw_score"].cast(pl.Float32)
    assert found["nsfw_spearman"]["value"] == pytest.approx(spearmanr(frame["nsfw_score"], score).statistic)
    assert found["same_post"]["value"] == pytest.approx(1 - int(moved.sum()) / N)
    assert found["likes_mean_difference"]["low"] < 6 < found["likes_mean_difference"]["high"]
    assert found["same_post"]["low"] < 0.8 < found["same_post"]["high"]
    for name, row in found.items():
        assert row["low"] is None or row["low"] <= row["value"] <= row["high"], name


def test_the_interval_of_the_rand_index_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth_table = np.full((4, 4), 1 / 40) + np.eye(4) * 6 / 40
    truth_table /= truth_table.sum()
    truth = adjusted_rand(truth_table * 10**9)
    hits = 0
    for _ in range(60):
        cells = rng.multinomial(N, truth_table.ravel()).reshape(4, 4)
        pairs = np.repeat(np.argwhere(np.ones((4, 4))), cells.ravel(), axis=0) + 1
        frame = theirs(cluster=pairs[:, 0])
        row = rows(compare(frame, *ours(frame.with_columns(cluster=pl.Series(pairs[:, 1])))))
        hits += row["cluster_adjusted_rand"]["low"] <= truth <= row["cluster_adjusted_rand"]["high"]
    assert hits >= 51, f"{hits} of 60"


def test_by_chance_the_index_is_zero() -> None:
    frame = theirs()
    shuffled = frame.with_columns(cluster=frame["cluster"].shuffle(seed=4))
    row = rows(compare(frame, *ours(shuffled)))["cluster_adjusted_rand"]
    assert abs(row["value"]) < 0.02 and row["low"] < 0 < row["high"]


def test_only_months_that_both_have_are_compared() -> None:
    frame = theirs()
    later = frame.with_columns(month=pl.lit("2023-01"), image_id="1" + pl.col("image_id"))
    found = rows(compare(pl.concat([frame, later]), *ours(frame)))
    assert found["pictures_theirs"]["value"] == N and found["share_found"]["value"] == 1
    assert found["share_found"]["low"] > 0.98


def test_without_a_release_there_are_no_rows_and_without_overlap_no_values() -> None:
    frame = theirs()
    assert compare(tables.empty("release_2023"), *ours(frame)).is_empty()
    strangers = frame.with_columns(image_id="x" + pl.col("image_id"))
    found = rows(compare(frame, *ours(strangers)))
    assert found["share_found"]["value"] == 0 and found["share_found"]["high"] < 0.02
    values = {name: row["value"] for name, row in found.items() if row["n"] == 0}
    assert values == {"pictures_both": 0.0} | {name: None for name in values if name != "pictures_both"}
    assert len(values) == 10
    one = frame.head(1)
    assert rows(compare(one, *ours(one)))["cluster_adjusted_rand"]["value"] is None
