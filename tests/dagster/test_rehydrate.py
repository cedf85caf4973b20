"""A release taken to another machine: posts and pictures come back, and what is gone is counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from tests.dagster.conftest import run_twigma
from twigma_core import tables
from twigma_core.lake import Lake
from twigma_core.provenance import Provenance
from twigma_core.release.attrition import attrition, released_pictures
from twigma_core.release.package import write_release
from twigma_core.sample.server import Running, ServerOptions, serve_in_thread
from twigma_core.sample.world import World, load

MONTH = "2021-02"
DRAWN = ("unique", "same_file", "same_pixels")


@pytest.fixture(scope="module")
def posts() -> pl.DataFrame:
    """The month's posts with pictures, a row a picture, in the first post that shows it."""
    world = load()
    drawn = world.media.filter(pl.col("kind").is_in(DRAWN))["media_id"].to_list()
    month = world.posts.filter(pl.col("month") == MONTH, pl.col("status") == "posted")
    rows = month.sort("created_at").explode("media_ids").filter(pl.col("media_ids").is_in(drawn))
    return rows.unique("media_ids", keep="first", maintain_order=True)


@pytest.fixture(scope="module")
def fates(posts: pl.DataFrame) -> dict[str, str]:
    """What has become of the pictures since the release: of about one in fifty something has."""
    alone = posts.filter(pl.len().over("author_id") == 1, pl.len().over("tweet_id") == 1)["media_ids"]
    gone = dict(zip(alone[:4], ("deleted", "suspended", "protected", "picture gone"), strict=True))
    assert 0.01 < len(gone) / posts.height < 0.03
    return dict.fromkeys(posts["media_ids"], "here") | gone


@pytest.fixture
def running(posts: pl.DataFrame, fates: dict[str, str]) -> Iterator[Running]:
    world = load()
    of = {row["media_ids"]: row for row in posts.iter_rows(named=True)}

    def named(fate: str, key: str) -> list[str]:
        return [of[image][key] for image, what in fates.items() if what == fate]

    deleted = pl.when(pl.col("tweet_id").is_in(named("deleted", "tweet_id"))).then(pl.lit("deleted"))
    lost = pl.when(pl.col("media_id").is_in(named("picture gone", "media_ids"))).then(pl.lit("unavailable"))
    changed: World = replace(
        world,
        posts=world.posts.with_columns(status=deleted.otherwise("status")),
        media=world.media.with_columns(kind=lost.otherwise("kind")),
    )
    accounts = {one: fate for fate in ("suspended", "protected") for one in named(fate, "author_id")}
    withheld = {of[next(one for one, fate in fates.items() if fate == "here")]["tweet_id"]: ("DE",)}
    with serve_in_thread(changed, ServerOptions(accounts=accounts, withheld=withheld)) as server:
        yield server


def release_of(posts: pl.DataFrame, root: Path, profile: str) -> Path:
    """Write a release of these posts as the platform does; return its folder."""
    from twigma_core.sample.media import media_name

    pictures = posts.select("tweet_id", "month", "author_id", "created_at", "text", image_id="media_ids")
    dataset = tables.conform(
        "dataset",
        pictures.with_columns(
            image_name=pl.Series([f"{media_name(one)}.jpg" for one in pictures["image_id"]]),
            hashtags=pl.lit([], pl.List(pl.String)),
            caption=pl.lit("a castle"),
            nsfw_score=0.1,
            possibly_sensitive=False,
            sha256=pl.lit(""),
            shard=pl.lit(""),
            **dict.fromkeys(("width", "height", "bytes", "offset"), pl.lit(1)),
            **{name: posts[name] for name in ("like_count", "reply_count", "quote_count", "retweet_count")},
            followers=pl.lit(1),
        ),
    )
    none = tables.empty("clusters"), tables.empty("projection")
    made = write_release(Lake(root), dataset, *none, Provenance("release"), profile)
    return root / made.folder


def test_a_release_comes_back_on_another_machine_but_for_what_is_gone(
    tmp_path: Path, posts: pl.DataFrame, fates: dict[str, str], running: Running
) -> None:
    csv = release_of(posts, tmp_path / "here", "ids_strict") / "data" / "twigma.csv"
    variables = {"X_BEARER_TOKEN": "t", "TWIGMA_X_API": running.url, "TWIGMA_MEDIA_BASE": running.url}
    there = tmp_path / "there"
    done = run_twigma(there, "hydrate", str(csv), "--accounts", "--yes", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    lake = Lake(there / "lake")
    top = there / "lake" / "hydrated" / "x" / "1.0.0"
    left = pl.read_parquet(top / "attrition.parquet")
    # A release names no authors, and without them X does not say which of the two an account is.
    hidden = dict.fromkeys(("suspended", "protected"), "not authorized")
    expected = {image: hidden.get(fate, fate) for image, fate in fates.items()}
    assert dict(left.select("image_id", "status").iter_rows()) == expected
    assert "protected and of suspended" in left.filter(status="not authorized")["reason"][0]
    assert left.filter(pl.col("status") != "here")["reason"].null_count() == 0
    assert pl.read_csv(top / "attrition.csv", infer_schema=False).height == posts.height
    here = Counter(fates.values())["here"]
    assert f"{here} of {posts.height} pictures are here ({here / posts.height:.1%})" in done.stdout
    for status in ("deleted", "protected or suspended", "withheld", "picture gone"):
        assert status in done.stdout

    back = lake.read("tweets", MONTH)
    shown = {row["media_ids"]: row for row in posts.iter_rows(named=True)}
    kept = {shown[image]["tweet_id"] for image, fate in fates.items() if fate in ("here", "picture gone")}
    assert set(back["tweet_id"]) == kept
    likes = dict(posts.select("tweet_id", "like_count").iter_rows())
    assert all(row["like_count"] == likes[row["tweet_id"]] for row in back.iter_rows(named=True))
    ledger = lake.read("images", MONTH).filter(status="ok")
    world = load()
    for row in ledger.head(5).iter_rows(named=True):
        stored = lake.read_bytes(row["shard"], row["offset"], row["bytes"])
        assert stored == world.draw_media(row["image_id"])
    assert set(ledger["image_id"]) >= {image for image, fate in fates.items() if fate == "here"}


@pytest.mark.parametrize("profile", ["ids_strict", "paper_compat"])
@pytest.mark.parametrize("part", ["", "data/twigma.csv", "data/twigma.parquet"])
def test_a_release_names_its_pictures_in_every_form(
    profile: str, part: str, tmp_path: Path, posts: pl.DataFrame
) -> None:
    found = released_pictures(release_of(posts, tmp_path, profile) / part)
    assert dict(found.select("image_id", "id").iter_rows()) == dict(
        posts.select("media_ids", "tweet_id").iter_rows()
    )


def test_a_file_of_ids_names_no_pictures(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("1344861119448057354\n")
    assert released_pictures(file).is_empty()


def test_each_picture_has_one_status() -> None:
    ids = ["1", "2", "3", "4", "5", "6", "7"]
    status = ["found", "deleted", "withheld", "found", "found", "found"]
    pictures = pl.DataFrame({"id": ids, "image_id": [f"{one}0" for one in ids]})
    outcomes = pl.DataFrame({"id": ids[:6], "status": status, "reason": [f"post {one}" for one in ids[:6]]})
    media = pl.DataFrame({"image_id": ["10", "40", "50"]})
    images = pl.DataFrame(
        {"image_id": ["10", "40"], "status": ["ok", "undecodable"], "reason": [None, "half a picture"]}
    )
    assert attrition(pictures, outcomes, media, images).rows() == [
        ("1", "10", "here", None),
        ("2", "20", "deleted", "post 2"),
        ("3", "30", "withheld", "post 3"),
        ("4", "40", "picture undecodable", "half a picture"),
        ("5", "50", "not fetched", None),
        ("6", "60", "not in the post", "post 6"),
        ("7", "70", "pending", None),
    ]
