"""snscrape's dumps: cells of pandas, its own JSON, and what cannot be recovered."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path

import polars as pl
import pytest

from twigma_core.collect.archives import read_archive
from twigma_core.collect.parse import Parsed, parse_pages
from twigma_core.collect.snscrape import NOT_RECOVERED, literal, to_post

PICTURE = 1554000000000000003
NAME = base64.urlsafe_b64encode(PICTURE.to_bytes(8, "big") + b"abc").decode().rstrip("=")
PHOTO = {
    "previewUrl": f"https://pbs.twimg.com/media/{NAME}?format=png&name=small",
    "fullUrl": f"https://pbs.twimg.com/media/{NAME}?format=png&name=large",
}
VIDEO = {"thumbnailUrl": "https://pbs.twimg.com/ext_tw_video_thumb/1585055556062138368/pu/img/q.jpg"}
GIF = {"thumbnailUrl": f"https://pbs.twimg.com/tweet_video_thumb/{NAME}.jpg"}
TWEET = {
    "url": "https://twitter.com/u/status/1554000000000000001",
    "date": "2022-08-01 06:30:00+00:00",
    "rawContent": "a picture 🎨 #AIart",
    "id": 1554000000000000001,
    "user": {"username": "u", "id": 7, "followersCount": 76},
    "replyCount": 1,
    "retweetCount": 2,
    "likeCount": 3,
    "quoteCount": 0,
    "lang": "en",
    "media": [PHOTO, VIDEO, GIF],
    "hashtags": ["AIart"],
}


def read(path: Path) -> Parsed:
    return parse_pages(read_archive(path), reviewed=["aiart"])


def write_csv(path: Path, *rows: dict[str, object]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["", *rows[0]])
        writer.writeheader()
        for number, row in enumerate(rows):
            writer.writerow({"": number} | row)
    return path


def problems(parsed: Parsed) -> dict[str, int]:
    return dict(parsed.problems.group_by("what").agg(pl.col("count").sum()).iter_rows())


def test_the_real_csv_says_what_the_derived_pages_say(shared_data: Path) -> None:
    folder = shared_data / "tweets" / "snscrape_stablediffusion_2022-10-25"
    ours = read(folder / "tweets_sentiment_hashtag.csv")
    derived = read(folder / "derived_api_v2_pages.jsonl")
    assert (ours.tweets.height, ours.media.height) == (100, 146)
    assert ours.tweets.drop("collected_at").equals(derived.tweets.drop("collected_at"))
    assert ours.media.equals(derived.media)
    assert ours.tweets["followers"].null_count() == 0 and ours.media["url"].null_count() == 0
    # The derived pages leave out one animated GIF.
    assert problems(ours) == {"not a picture (video or animated GIF)": 7}
    with (folder / "tweets_sentiment_hashtag.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))  # an independent reading
    assert ours.media.height == sum(row["media"].count("'fullUrl'") for row in rows)
    assert dict(ours.tweets.select("tweet_id", "like_count").iter_rows()) == {
        row["id"]: int(row["likeCount"]) for row in rows
    }


def test_both_at_once_are_each_post_once(shared_data: Path) -> None:
    parsed = read(shared_data / "tweets" / "snscrape_stablediffusion_2022-10-25")
    assert (parsed.tweets.height, parsed.media.height) == (100, 146)
    assert problems(parsed)["post on an earlier page"] == 100


@pytest.mark.parametrize("form", ["json lines", "one document", "cells", "cells of objects"])
def test_the_forms_of_a_dump_say_the_same(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("a.csv" if "cells" in form else "a.json")
    if form == "json lines":
        path.write_text(json.dumps(TWEET | {"_type": "snscrape.modules.twitter.Tweet"}) + "\n")
    elif form == "one document":
        path.write_text(json.dumps([TWEET], indent=1))
    elif form == "cells":
        when = "datetime.datetime(2014, 4, 26, 15, 11, 59, tzinfo=datetime.timezone.utc)"
        user = repr(TWEET["user"])[:-1] + f", 'created': {when}}}"
        write_csv(path, TWEET | {"user": user, "likeCount": "3.0"})
    else:
        photo = f"Photo(previewUrl={PHOTO['previewUrl']!r}, fullUrl={PHOTO['fullUrl']!r})"
        video = f"Video(thumbnailUrl={VIDEO['thumbnailUrl']!r}, variants=[], duration=2.5)"
        gif = f"Gif(thumbnailUrl={GIF['thumbnailUrl']!r})"
        user = "User(username='u', id=7, followersCount=76, created=datetime.datetime(2014, 4, 26, 0, 0))"
        write_csv(path, TWEET | {"user": user, "media": f"[{photo}, {video}, {gif}]"})
    parsed = read(path)
    row = parsed.tweets.row(0, named=True)
    assert row["tweet_id"] == "1554000000000000001" and row["author_id"] == "7" and row["followers"] == 76
    assert (row["like_count"], row["reply_count"], row["retweet_count"], row["quote_count"]) == (3, 1, 2, 0)
    assert row["text"] == "a picture 🎨 #AIart" and row["matched_hashtags"] == ["aiart"]
    assert row["created_at"].isoformat() == "2022-08-01T06:30:00+00:00"
    assert parsed.media.select("image_id", "url", "position").row(0) == (
        str(PICTURE),
        f"https://pbs.twimg.com/media/{NAME}.png",
        0,
    )
    assert problems(parsed) == {"not a picture (video or animated GIF)": 2}


@pytest.mark.parametrize(
    ("column", "cell", "problem"),
    [
        ("media", "[{'fullUrl': 'https://pbs.twimg.com/media/short.jpg'}]", NOT_RECOVERED),
        ("media", "[{'previewUrl': None, 'fullUrl': None}]", NOT_RECOVERED),
        ("media", "[Photo(", "media cannot be read"),
        ("media", "(" * 5000, "media cannot be read"),
        ("media", "-" * 50_000 + "1", "media cannot be read"),
        ("media", "+".join("1" * 90_000), "media cannot be read"),
        ("media", "[" + "[]," * 100_000 + "]", "media cannot be read"),
        ("user", "[x for x in (1).__class__.__base__.__subclasses__()]", "user cannot be read"),
        ("hashtags", "{'a': 1}['a']", "hashtags cannot be read"),
        ("likeCount", "many", "like_count is not a count"),
        ("id", "1.554e18", "post whose id is a float: its last digits are lost"),
    ],
)
def test_what_cannot_be_recovered_is_counted(tmp_path: Path, column: str, cell: str, problem: str) -> None:
    path = write_csv(tmp_path / "a.csv", TWEET | {"media": ""}, TWEET | {"media": "", column: cell})
    parsed = read(path)
    assert problems(parsed)[problem] == 1
    assert "1554000000000000001" in parsed.tweets["tweet_id"].to_list()


def test_nothing_in_a_cell_is_ever_run(tmp_path: Path) -> None:
    door = tmp_path / "opened"
    assert literal(f"__import__('pathlib').Path({str(door)!r}).touch()") is None
    to_post(TWEET | {"user": f"User(id=open({str(door)!r}, 'w'))"})
    assert not door.exists()


def test_rows_with_other_cells_than_the_header_are_broken_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", TWEET | {"media": "", "user": ""})
    whole = path.read_text()
    path.write_text(whole + "1,2,3\n" + whole.splitlines()[1].replace("000001", "000009") + "\n")
    pages = list(read_archive(path))
    assert [page.status for page in pages] == ["ok", "corrupt", "ok"]
    assert pages[1].reason == "a.csv:3: has 3 cells, the header 13"
    assert parse_pages(pages).tweets.height == 2
