"""The picture table: every posted picture is in it or among the drops, exactly once."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twigma_core import tables
from twigma_core.dataset import build_dataset

MONTHS = ("2021-01", "2021-02", "2021-03")
START = {month: datetime(2021, n + 1, 1, tzinfo=UTC) for n, month in enumerate(MONTHS)}


def world(
    postings: list[tuple[int, int, int]], failures: dict[tuple[int, int], str]
) -> dict[str, pl.DataFrame]:
    """Return all tables for postings (month, tweet, image); images 0-2 share a file, 3-4 pixels only."""
    tweets: dict[str, dict[str, Any]] = {}
    media, images = [], {}
    for month_number, tweet, image in postings:
        month = MONTHS[month_number]
        tweet_id, image_id = f"{month_number}{tweet:03}", f"{900 + image}"
        created = START[month] + timedelta(hours=tweet)
        tweets.setdefault(
            tweet_id,
            {
                "tweet_id": tweet_id,
                "month": month,
                "author_id": "1",
                "created_at": created,
                "text": f"post {tweet_id}",
                "lang": None,
                "hashtags": ["aiart"],
                "matched_hashtags": ["aiart"],
                "possibly_sensitive": None,
                "like_count": tweet,
                "reply_count": 0,
                "quote_count": 0,
                "retweet_count": 0,
                "followers": None,
                "media_count": 1,
                "collected_at": created,
            },
        )
        media.append(
            {
                "tweet_id": tweet_id,
                "image_id": image_id,
                "month": month,
                "position": image % 4,
                "created_at": created,
                "url": f"https://pbs.twimg.com/media/n{image}.jpg",
                "width": None,
                "height": None,
                "alt_text": None,
            }
        )
        status = failures.get((month_number, image), "ok")
        ok = status == "ok"
        images[(month, image_id)] = {
            "image_id": image_id,
            "month": month,
            "url": None,
            "status": status,
            "reason": None if ok else "why",
            "http_status": None,
            "attempts": 1,
            "sha256": f"f{max(image, 2)}" if ok else None,
            "pixel_sha256": f"p{ {0: 2, 1: 2, 4: 3}.get(image, image) }" if ok else None,
            "bytes": 10 if ok else None,
            "format": "JPEG" if ok else None,
            "width": 4 if ok else None,
            "height": 4 if ok else None,
            "shard": "s.tar" if ok else None,
            "offset": 512 if ok else None,
            "fetched_at": created,
        }
    frames = {"tweets": list(tweets.values()), "tweet_media": media, "images": list(images.values())}
    return {name: _by_month(name, rows) for name, rows in frames.items()}


def _by_month(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return the partitions of a table as one frame; a key is unique within each of them."""
    whole = pl.DataFrame(rows, schema=tables.empty(name).schema)
    return pl.concat([tables.conform(name, whole.filter(pl.col("month") == month)) for month in MONTHS])


def build(tables_: dict[str, pl.DataFrame], month: str, **changes: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    ours = tables_["images"].filter((pl.col("month") == month) & (pl.col("status") == "ok"))
    arguments: dict[str, Any] = {
        "tweets": tables_["tweets"].filter(pl.col("month") == month),
        "media": tables_["tweet_media"],
        "images": tables_["images"],
        "lookalikes": None,
        "captions": ours.select("image_id", caption=pl.lit("a cat")),
        "scores": ours.select("image_id", nsfw_score=pl.lit(0.5)),
    }
    return build_dataset(month, **(arguments | changes))


postings = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 8)), max_size=40, unique=True
)
failures = st.dictionaries(
    st.tuples(st.integers(0, 2), st.integers(0, 8)),
    st.sampled_from(["unavailable", "refused", "undecodable", "failed"]),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(postings, failures)
def test_every_posted_picture_is_kept_or_dropped_once(
    rows: list[tuple[int, int, int]], failed: dict[tuple[int, int], str]
) -> None:
    frames = world(rows, failed)
    every_dataset, every_kept = [], set()
    for month in MONTHS:
        dataset, drops = build(frames, month)
        kept = list(dataset.select("tweet_id", "image_id").iter_rows())
        dropped = list(drops.select("tweet_id", "image_id").iter_rows())
        ours = frames["tweet_media"].filter(pl.col("month") == month)
        assert sorted(kept + dropped) == sorted(ours.select("tweet_id", "image_id").iter_rows())
        assert dataset["created_at"].is_sorted()
        every_dataset.append(dataset)
        every_kept |= set(kept)
        for row in drops.iter_rows(named=True):
            survivor = (row["survivor_tweet_id"], row["survivor_id"])
            assert (
                survivor in every_kept if str(row["reason"]).startswith("same") else survivor == (None, None)
            )
    whole = pl.concat(every_dataset)
    assert whole["image_id"].is_unique().all() and whole["sha256"].is_unique().all()
    had = frames["images"].filter(pl.col("status") == "ok")
    assert set(whole["sha256"]) <= set(had["sha256"])
    # What shares neither file nor pixels with another picture and could be had is in the dataset.
    assert set(had["image_id"]) & {f"{900 + n}" for n in (5, 6, 7, 8)} <= set(whole["image_id"])


def test_reasons_survivors_and_columns() -> None:
    frames = world(
        [(0, 1, 0), (0, 2, 1), (0, 3, 3), (0, 4, 4), (0, 5, 8), (0, 6, 6), (1, 1, 0), (1, 2, 6), (1, 3, 2)],
        {(0, 8): "unavailable", (1, 0): "failed", (0, 6): "failed"},
    )
    first, dropped = build(frames, "2021-01")
    assert first["image_id"].to_list() == ["900", "903"]
    assert [row[1:2] + row[3:] for row in dropped.rows()] == [
        ("901", "same file", "900", "0001"),
        ("904", "same pixels", "903", "0003"),
        ("908", "unavailable", None, None),
        ("906", "failed", None, None),
    ]
    row = first.row(0, named=True)
    assert (row["text"], row["image_name"], row["caption"], row["like_count"]) == (
        "post 0001",
        "n0.jpg",
        "a cat",
        1,
    )
    assert row["nsfw_score"] == 0.5
    second, dropped = build(frames, "2021-02", scores=None)
    assert second.select("image_id", "nsfw_score").rows() == [("906", None)]  # failed before, had now
    assert [row[1:2] + row[3:] for row in dropped.rows()] == [
        ("900", "same media id", "900", "0001"),  # gone by now, but shown before
        ("902", "same file", "900", "0001"),
    ]


def test_pairs_with_earlier_months_find_older_pictures() -> None:
    frames = world([(0, 1, 5), (1, 1, 6), (1, 2, 7), (1, 3, 8)], {})
    pairs = pl.DataFrame(
        [("906", "2021-02", "905", "2021-01", 1.0, True), ("908", "2021-02", "907", "2021-02", 1.0, True)],
        schema=tables.empty("lookalikes").schema,
        orient="row",
    )
    dataset, drops = build(frames, "2021-02", lookalikes=pairs)
    assert dataset["image_id"].to_list() == ["907"]
    assert drops.select("image_id", "reason", "survivor_id").rows() == [
        ("906", "same embedding", "905"),
        ("908", "same embedding", "907"),
    ]
    near = pairs.with_columns(cosine=pl.lit(0.99), identical=pl.lit(False))
    dataset, _ = build(frames, "2021-02", lookalikes=near)
    assert dataset["image_id"].to_list() == ["906", "907", "908"], "near ones are kept"


def test_a_media_id_is_believed_only_where_the_file_name_agrees() -> None:
    """A post that gives the id of an earlier picture, or of its own, to the address of another."""
    frames = world([(0, 1, 5), (1, 1, 5), (1, 2, 6), (1, 3, 7)], {})
    name = base64.urlsafe_b64encode((907).to_bytes(8, "big") + b"abc").decode().rstrip("=")
    url = f"https://pbs.twimg.com/media/{name}.jpg"
    lies = pl.col("month") == "2021-02"
    frames["tweet_media"] = frames["tweet_media"].with_columns(
        url=pl.when(lies).then(pl.lit(url)).otherwise("url")
    )
    dataset, drops = build(frames, "2021-02")
    assert dataset.select("image_id", "image_name").rows() == [("907", f"{name}.jpg")]
    assert drops.select("image_id", "reason", "survivor_id").rows() == [
        ("905", "refused", None),
        ("906", "refused", None),
    ]


def test_a_month_without_pictures_gives_empty_tables() -> None:
    dataset, drops = build(world([(0, 1, 1)], {}), "2021-02")
    assert dataset.height == drops.height == 0
    assert dataset.schema == tables.empty("dataset").schema and drops.schema == tables.empty("drops").schema


def test_what_is_missing_is_named() -> None:
    frames = world([(0, 1, 1), (0, 2, 5)], {})
    with pytest.raises(ValueError, match=r"dataset/2021-01: 2 posted pictures have no row in images, .*901"):
        build(frames, "2021-01", images=frames["images"].clear())
    with pytest.raises(ValueError, match=r"a post that is not in tweets.* tweets/2021-01"):
        build(frames, "2021-01", tweets=frames["tweets"].clear())
    with pytest.raises(ValueError, match=r"2 posted pictures have no caption"):
        build(frames, "2021-01", captions=tables.empty("captions"))
