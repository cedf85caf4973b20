"""Duplicates: the first posting wins, survivors are kept pictures, and close vectors equal brute force."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twigma_core.images.dedupe import ORDER, unique_images

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
    found = unique_images(frame, pairs("ba", "ca", "da", "cb", "de"))
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


def pairs(*names: str) -> pl.DataFrame:
    """Return identical pairs from words such as "ab"."""
    return pl.DataFrame({"image_id": [two[0] for two in names], "other_id": [two[1] for two in names]})


def test_a_pair_counts_for_those_that_stand_for_its_pictures() -> None:
    """The picture that was compared was itself dropped, for a post before it has the same file."""
    frame = posted([("t1", "z", 1, "f1", "p1"), ("t2", "a", 2, "f1", "p1"), ("t3", "b", 3, "f3", "p3")])
    found = marks(unique_images(frame, pairs("ba", "xb", "qx")))
    assert found["t2", "a"] == ("same file", "z", "t1")
    assert found["t3", "b"] == ("same embedding", "z", "t1")


@given(rows, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8))
def test_months_that_come_later_change_no_survivor(
    postings: list[tuple[str, str, int, str | None, str | None]], links: list[tuple[int, int]]
) -> None:
    """Each month is deduplicated when it comes, with the pairs known then; what it kept stays kept."""
    if not postings:
        return
    frame = posted(postings)
    identical = pl.DataFrame(
        {"image_id": [f"i{a}" for a, _ in links], "other_id": [f"i{b}" for _, b in links]},
        schema={"image_id": pl.String, "other_id": pl.String},
    )
    months = sorted(frame["month"].unique())
    first_seen = dict(frame.group_by("image_id").agg(pl.col("month").min()).iter_rows())
    kept: set[tuple[str, str]] = set()
    for month in months:
        so_far = [all(first_seen.get(one, "9") <= month for one in pair) for pair in identical.iter_rows()]
        marked = unique_images(
            frame.filter(pl.col("month") <= month), identical.filter(pl.Series(so_far, dtype=pl.Boolean))
        )
        ours = marked.filter(pl.col("month") == month)
        kept |= set(ours.filter("keep").select("tweet_id", "image_id").iter_rows())
        named = set(ours.select("survivor_tweet_id", "survivor_id").iter_rows())
        assert named <= kept, "whoever is named as survivor is kept in the dataset of its month"
