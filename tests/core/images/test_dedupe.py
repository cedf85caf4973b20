"""Duplicates: the first posting wins, survivors are kept pictures, and close vectors equal brute force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twigma_core.images.dedupe import IDENTICAL, ORDER, identical_vectors, near_duplicates, unique_images

DAY = datetime(2021, 1, 1, tzinfo=UTC)


def posted(rows: list[tuple[str, str, int, str | None, str | None]]) -> pl.DataFrame:
    """Return postings from (tweet, image, hour, file hash, pixel hash)."""
    return pl.DataFrame(
        [
            {
                "tweet_id": tweet,
                "image_id": image,
                "month": f"2021-{1 + hour // 24:02}",
                "created_at": DAY + timedelta(hours=hour),
                "position": 0,
                "sha256": sha,
                "pixel_sha256": pixel,
            }
            for tweet, image, hour, sha, pixel in rows
        ],
        schema_overrides={"sha256": pl.String, "pixel_sha256": pl.String},
    )


def marks(frame: pl.DataFrame) -> dict[tuple[str, str], tuple[str | None, str, str]]:
    return {
        (row["tweet_id"], row["image_id"]): (row["reason"], row["survivor_id"], row["survivor_tweet_id"])
        for row in frame.iter_rows(named=True)
    }


def test_each_reason_with_its_survivor_through_a_chain() -> None:
    frame = posted(
        [
            ("t1", "a", 1, "f1", "p1"),
            ("t2", "b", 2, "f2", "p1"),  # other file, same pixels
            ("t3", "c", 3, "f2", "p1"),  # the file of b, which is dropped itself
            ("t4", "c", 4, "f2", "p1"),  # the media id of c again
            ("t5", "d", 5, "f5", "p5"),  # embedding of a
            ("t6", "e", 6, "f5", "p5"),  # the file of d
            ("t7", "f", 7, None, None),
            ("t8", "g", 8, None, None),  # unknown hashes are no duplicates
            ("t0", "a", 30, "f1", "p1"),  # a later month
        ]
    ).sample(fraction=1, shuffle=True, seed=3)
    eye = np.eye(6)
    x = np.stack([eye[0], eye[0], eye[0], eye[0] + 1e-5 * eye[5], eye[0] + 1e-5 * eye[5], eye[2], eye[3]])
    found = unique_images(frame, (["a", "b", "c", "d", "e", "f", "g"], x))
    assert marks(found) == {
        ("t1", "a"): (None, "a", "t1"),
        ("t2", "b"): ("same pixels", "a", "t1"),
        ("t3", "c"): ("same file", "a", "t1"),
        ("t4", "c"): ("same media id", "a", "t1"),
        ("t5", "d"): ("same embedding", "a", "t1"),
        ("t6", "e"): ("same file", "a", "t1"),
        ("t7", "f"): (None, "f", "t7"),
        ("t8", "g"): (None, "g", "t8"),
        ("t0", "a"): ("same media id", "a", "t1"),
    }
    assert found["keep"].to_list() == found["reason"].is_null().to_list()


rows = st.lists(
    st.tuples(
        st.integers(0, 10).map("t{}".format),
        st.integers(0, 12).map("i{}".format),
        st.integers(0, 70),
        st.none() | st.integers(0, 5).map("f{}".format),
        st.none() | st.integers(0, 5).map("p{}".format),
    ),
    max_size=30,
    unique_by=lambda row: row[:2],
)


@given(rows, st.integers(0, 69))
def test_survivors_are_kept_come_first_and_new_months_change_nothing(
    postings: list[tuple[str, str, int, str | None, str | None]], cut: int
) -> None:
    if not postings:
        return
    frame = posted(postings)
    found = unique_images(frame)
    kept = found.filter("keep")
    assert kept["image_id"].is_unique().all()
    for column in ("sha256", "pixel_sha256"):
        assert kept[column].drop_nulls().is_unique().all()
    order = {key: n for n, key in enumerate(found.select("tweet_id", "image_id").iter_rows())}
    for key, (reason, survivor, tweet) in marks(found).items():
        assert (tweet, survivor) in set(kept.select("tweet_id", "image_id").iter_rows())
        assert order[(tweet, survivor)] < order[key] if reason else (tweet, survivor) == key
    month = f"2021-{1 + cut // 24:02}"
    before = unique_images(frame.filter(pl.col("month") <= month))
    assert marks(before) == {key: value for key, value in marks(found).items() if key in marks(before)}


@pytest.mark.parametrize("column", ORDER[1:-1])
def test_the_order_is_time_then_post_then_position(column: str) -> None:
    frame = posted([("t1", "a", 1, "f", "p"), ("t1", "b", 1, "f", "p")])
    change = {"created_at": DAY, "tweet_id": "t0", "position": -1}[column]
    frame = frame.with_columns(
        pl.when(pl.col("image_id") == "b").then(pl.lit(change)).otherwise(column).alias(column)
    )
    assert unique_images(frame).filter("keep")["image_id"].to_list() == ["b"]


def test_a_later_month_cannot_take_a_picture_from_an_older_one_whatever_its_clock_says() -> None:
    frame = posted([("t1", "a", 1, "f", "p"), ("t2", "b", 30, "f", "p")])
    frame = frame.with_columns(created_at=pl.lit(DAY) - pl.duration(hours=pl.col("created_at").dt.day()))
    assert frame["created_at"].is_sorted(descending=True)
    assert unique_images(frame).filter("keep")["image_id"].to_list() == ["a"]


def brute_force(ids: list[str], x: np.ndarray, threshold: float) -> dict[str, str]:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    near = unit @ unit.T >= threshold - 1e-12
    group = list(range(len(ids)))
    for _ in ids:
        for i in range(len(ids)):
            group[i] = min(group[j] for j in range(len(ids)) if near[i, j])
        near = near @ near
    return {ids[i]: ids[group[i]] for i in range(len(ids)) if group.count(group[i]) > 1}


@given(
    st.integers(0, 10**6),
    st.integers(2, 30),
    st.sampled_from([1, 2, 5, 40]),
    st.sampled_from([np.float32, np.float64]),
)
def test_identical_vectors_equal_brute_force(seed: int, n: int, d: int, dtype: type) -> None:
    """Clumps whose members differ by about the threshold, so that chains and near misses occur."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, d))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = rng.choice([0.0, 3e-4, 1e-3, 2e-3], n)[:, None] * rng.standard_normal((n, d)) / np.sqrt(d)
    x = ((centres[rng.integers(0, 4, n)] + noise) * rng.uniform(0.5, 2, (n, 1))).astype(dtype)
    ids = [f"i{k}" for k in range(n)]
    found = identical_vectors(ids, x, seed=seed)
    assert dict(found.iter_rows()) == brute_force(ids, x.astype(np.float64), IDENTICAL)


def test_many_copies_and_many_rows_are_quick_and_small() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 64), dtype=np.float32) + 2  # in a cone, as CLIP's embeddings are
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[5_000:15_000] = x[0]  # a blank picture posted ten thousand times: 50 million pairs
    x[17_000] = x[16_000] + np.float32(1e-5)
    found = identical_vectors([str(n) for n in range(len(x))], x)
    assert found.height == 10_001 + 2
    assert dict(found.iter_rows())["17000"] == "16000"
    assert found.filter(pl.col("group") == "0").height == 10_001


def test_bad_vectors_are_named() -> None:
    with pytest.raises(ValueError, match="embedding of b is zero"):
        identical_vectors(["a", "b"], np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(ValueError, match="not finite"):
        identical_vectors(["a", "b"], np.array([[1.0, 0], [np.nan, 0]]))
    with pytest.raises(ValueError, match="1 ids for 2 rows"):
        identical_vectors(["a"], np.eye(2))
    assert identical_vectors([], np.empty((0, 4))).height == 0


def test_near_duplicates_are_counted_and_the_closest_listed() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 16)).astype(np.float32)
    x[100:130] = x[:30] + np.float32(0.05) * rng.standard_normal((30, 16)).astype(np.float32)
    ids = [f"i{k}" for k in range(300)]
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    cosine = np.triu(unit @ unit.T, k=1)
    found = near_duplicates(ids, x, threshold=0.98, keep=7, block=64)
    assert found.count == (cosine >= 0.98).sum() >= 25
    i, j = np.unravel_index(cosine.argmax(), cosine.shape)
    assert found.pairs.row(0)[:2] == (ids[i], ids[j]) and found.pairs.height == 7


def test_a_picture_whose_vector_is_given_for_two_months_takes_no_other_along() -> None:
    frame = posted(
        [
            ("t1", "a", 1, "f1", "p1"),
            ("t2", "b", 2, "f2", "p2"),
            ("t3", "a", 800, "f1", "p1"),
            ("t4", "c", 801, "f3", "p3"),
        ]
    )
    eye = np.eye(3)
    found = unique_images(frame, (["a", "b", "a", "c"], np.stack([eye[0], eye[1], eye[0], eye[2]])))
    assert found.height == frame.height
    assert {key: reason for key, (reason, _, _) in marks(found).items() if reason} == {
        ("t3", "a"): "same media id"
    }
