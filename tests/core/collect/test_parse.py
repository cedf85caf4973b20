"""Pages to tables: real pages counted by another way, both spellings, and junk."""

from __future__ import annotations

import base64
import json
from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twigma_core import tables
from twigma_core.collect import parse
from twigma_core.collect.archives import read_archive
from twigma_core.collect.pages import Page
from twigma_core.collect.parse import media_id_of_url, parse_pages


def picture_url(media_id: int) -> str:
    name = base64.urlsafe_b64encode(media_id.to_bytes(8, "big") + b"\x00\x01\x02").decode().rstrip("=")
    return f"https://pbs.twimg.com/media/{name}.jpg"


def post(post_id: int, **more) -> dict:
    return {"id": str(post_id), "text": "t", "created_at": "2022-08-03T10:00:00.000Z"} | more


def problems_of(parsed: parse.Parsed) -> dict[str, int]:
    return dict(parsed.problems.group_by("what").agg(pl.col("count").sum()).iter_rows())


ACCOUNTED = parse.LEFT_OUT


def test_each_real_file_parses_and_its_counts_are_those_of_the_raw_json(shared_data):
    files = sorted((shared_data / "tweets" / "twarc_csv_v2").iterdir())
    assert len(files) == 28
    seen_posts = seen_photos = 0
    for file in files:
        # An independent reading: plain json, by line, no code of the project.
        ids: Counter[str] = Counter()
        likes: dict[str, int] = {}
        photos: set[tuple[str, str]] = set()
        for line in file.read_text(encoding="utf8").splitlines():
            try:
                reply = json.loads(line)
            except json.JSONDecodeError:
                continue
            data = reply.get("data", reply)
            for one in data if isinstance(data, list) else [data]:
                if "text" not in one:
                    continue
                ids[one["id"]] += 1
                likes[one["id"]] = one["public_metrics"]["like_count"]
                attached = one.get("attachments", {})
                keys = attached.get("media_keys", []) + [m["media_key"] for m in attached.get("media", [])]
                photos |= {(one["id"], key[2:]) for key in keys if key.startswith("3_")}
        tweets, media, problems = parse_pages(read_archive(file))
        assert set(tweets["tweet_id"]) == set(ids), file.name
        assert set(media.select("tweet_id", "image_id").iter_rows()) == photos, file.name
        assert dict(tweets.select("tweet_id", "like_count").iter_rows()) == likes, file.name
        left_out = problems.filter(pl.col("what").is_in(ACCOUNTED))["count"].sum()
        assert tweets.height + left_out == ids.total(), file.name
        assert tweets["media_count"].sum() == media.height
        seen_posts += tweets.height
        seen_photos += media.height
    assert seen_posts > 1000 and seen_photos > 30


def test_real_photos_have_the_id_that_their_name_encodes(shared_data):
    pages = shared_data / "tweets" / "snscrape_stablediffusion_2022-10-25" / "derived_api_v2_pages.jsonl"
    tweets, media, problems = parse_pages(
        read_archive(pages), month="2022-10", reviewed=["stablediffusion", "aiart"]
    )
    assert (tweets.height, media.height) == (100, 146)
    assert media["url"].null_count() == 0 and tweets["followers"].null_count() == 0
    assert not problems["what"].str.contains("file name").any()
    assert set(tweets["matched_hashtags"].list.len()) == {0, 1, 2}
    none, _, problems = parse_pages(read_archive(pages), month="2022-11")
    assert none.is_empty()
    assert problems.filter(pl.col("what") == parse.OTHER_MONTH)["count"].sum() == 100


def test_both_spellings_say_the_same():
    old = post(
        5,
        author_id="7",
        public_metrics={"like_count": 3, "reply_count": 1, "quote_count": 0, "retweet_count": 2},
        note_tweet={"text": "the long text", "entities": {"hashtags": [{"tag": "DALLE"}]}},
        entities={"hashtags": [{"tag": "AIart"}]},
        possibly_sensitive=True,
    )
    new = json.loads(
        json.dumps(old).replace("note_tweet", "note_post").replace("retweet_count", "repost_count")
    )
    users = {"users": [{"id": "7", "username": "a", "public_metrics": {"followers_count": 9}}]}
    a, b = (
        parse_pages([{"data": [one], "includes": users}], reviewed=["dalle"]).tweets for one in (old, new)
    )
    row = a.row(0, named=True)
    assert row["text"] == "the long text" and row["hashtags"] == ["aiart", "dalle"]
    assert row["matched_hashtags"] == ["dalle"] and row["retweet_count"] == 2 and row["followers"] == 9
    assert row["possibly_sensitive"] is True and row["month"] == "2022-08"
    assert a.drop("collected_at").equals(b.drop("collected_at"))


def test_photos_only_and_each_oddity_is_counted():
    photo, other = 1_551_234_567_890_123_456, 1_551_234_567_890_123_457
    keys = [f"3_{photo}", "7_12", "16_13", f"3_{other}", "3_99", "odd"]
    media = [
        {"media_key": keys[0], "type": "photo", "url": picture_url(photo), "width": 4, "height": 3},
        {"media_key": keys[1], "type": "video", "preview_image_url": "https://pbs.twimg.com/x.jpg"},
        {"media_key": keys[3], "type": "photo", "url": picture_url(photo)},
    ]
    parsed = parse_pages(
        [{"data": [post(5, attachments={"media_keys": keys})], "includes": {"media": media}}]
    )
    assert parsed.media["image_id"].to_list() == [str(photo), str(other), "99"]
    assert parsed.media["position"].to_list() == [0, 3, 4]
    assert parsed.media["url"].null_count() == 1 and parsed.tweets["media_count"].item() == 3
    assert problems_of(parsed) == {
        "not a picture (video or animated GIF)": 2,
        "picture's file name encodes another media id than its key": 1,
        "picture attached, but not described on the page": 1,
        "media key without a media id": 1,
    }
    assert media_id_of_url(picture_url(photo)) == str(photo)
    assert media_id_of_url("https://pbs.twimg.com/media/short.jpg") is None
    assert media_id_of_url("http://[") is None


def test_missing_numbers_are_null_and_missing_times_come_from_the_id():
    bare = {"id": "1585058200121851905", "text": "x"}
    parsed = parse_pages([{"data": [bare]}])
    row = parsed.tweets.row(0, named=True)
    assert [row[name] for name in ("like_count", "reply_count", "quote_count", "followers")] == [None] * 4
    assert row["created_at"].replace(microsecond=0) == datetime(2022, 10, 25, 23, 58, 18, tzinfo=UTC)
    assert problems_of(parsed) == {"created_at missing: taken from the post's id": 1}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_page_received_last_tells_the_numbers_and_no_address_is_lost(order):
    key = f"3_{2**60}"
    early, late = datetime(2023, 1, 1, tzinfo=UTC), datetime(2023, 2, 1, tzinfo=UTC)
    attached = {"attachments": {"media_keys": [key]}}
    described = {"media": [{"media_key": key, "url": picture_url(2**60)}]}
    pages = [
        Page(
            "q",
            0,
            {"data": [post(5, public_metrics={"like_count": 1}, **attached)], "includes": described},
            early,
        ),
        Page("q", 1, {"data": [post(5, public_metrics={"like_count": 8}, **attached)]}, late),
    ]
    parsed = parse_pages([pages[i] for i in order])
    assert parsed.tweets["like_count"].to_list() == [8] and parsed.tweets["collected_at"].to_list() == [late]
    assert parsed.media["url"].to_list() == [picture_url(2**60)]
    assert problems_of(parsed)[parse.REPEATED] == 1


def test_hostile_values_are_counted_not_fatal():
    page = {
        "data": [
            post(1, text="half \ud800 pair", public_metrics={"like_count": -1, "reply_count": 2**63}),
            post(2, text="=cmd() \u202e ltr 🎨"),
            {"id": 2**70, "text": "id beyond a post's", "created_at": "2022-08-03T10:00:00Z"},
            {"id": "1; drop", "text": "x"},
            {"id": "12", "text": "old id, no time"},
            {"id": "13", "text": 5, "created_at": "9999-12-31T23:59:59-12:00"},
            "nothing",
        ]
    }
    parsed = parse_pages([page, None, {"data": {"username": "u", "id": "3"}}])  # type: ignore[list-item]
    assert parsed.tweets.height == 2
    assert parsed.tweets["text"].to_list() == ["half \ufffd pair", "=cmd() \u202e ltr 🎨"]
    counted = problems_of(parsed)
    assert counted[parse.NO_ID] == counted[parse.BIG_ID] == 1
    assert counted[parse.NO_TIME] == 2
    assert counted["like_count is not a count"] == counted["reply_count is not a count"] == 1
    assert counted["corrupt page: not a JSON object"] == 1 and counted["not a post: a user"] == 1


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["3_1", "3_99", "7"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
NAMES = [
    *("created_at", "author_id", "author", "entities", "attachments", "public_metrics"),
    *("note_tweet", "lang", "possibly_sensitive"),
]
INNER = [
    *("media_keys", "media", "hashtags", "tag", "like_count", "followers_count"),
    *("url", "alt_text", "width", "media_key"),
]
LIKE_POSTS = st.fixed_dictionaries(
    {"id": st.integers(0, 2**80).map(str) | JUNK, "text": st.text() | JUNK},
    optional={
        name: JUNK | st.dictionaries(st.sampled_from(INNER), JUNK | st.lists(JUNK, max_size=3))
        for name in NAMES
    },
)
LIKE_PAGES = st.fixed_dictionaries(
    {},
    optional={
        "data": st.lists(LIKE_POSTS | JUNK, max_size=4) | JUNK,
        "includes": JUNK
        | st.dictionaries(st.sampled_from(["media", "users"]), JUNK | st.lists(JUNK, max_size=3)),
        "errors": JUNK | st.lists(st.dictionaries(st.just("title"), JUNK), max_size=2),
        "meta": JUNK,
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LIKE_PAGES | JUNK, max_size=4))
def test_junk_never_raises_and_posts_add_up(pages):
    parsed = parse_pages(pages)
    posts = sum(
        isinstance(one, dict) and "id" in one and ("text" in one or "note_tweet" in one)
        for page in pages
        if isinstance(page, dict)
        for one in (page["data"] if isinstance(page.get("data"), list) else [page.get("data"), page][:1])
    )
    left_out = parsed.problems.filter(pl.col("what").is_in(ACCOUNTED))["count"].sum()
    assert parsed.tweets.height + left_out == posts
    tables.conform("tweets", parsed.tweets)
    assert parsed.media.join(parsed.tweets, on="tweet_id", how="anti").is_empty()
