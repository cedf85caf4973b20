"""The page and the sheets that a reviewer looks at: real pictures, hostile text, nothing that runs."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from twigma_core import tables
from twigma_core.collect import hashtags, review
from twigma_core.images.shards import ShardWriter
from twigma_core.lake import Lake

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1) &lt;b&gt; {{ 7*7 }} {% raw %}",
    "\u202eright to left \U0001f3a8 \x00",
)
MONTHS = ("2022-08", "2022-09")


def fill(name: str, rows: list[Any]) -> pl.DataFrame:
    """A table of these rows, its other columns null or empty."""
    schema = tables.empty(name).schema
    return pl.DataFrame(rows, schema={key: schema[key] for key in rows[0]}).select(
        pl.col(key) if key in rows[0] else pl.lit(None, dtype).alias(key) for key, dtype in schema.items()
    )


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """Thirty posts over two months, of which all but every fifth has a picture here."""
    start = datetime(2022, 8, 25, tzinfo=UTC)
    rng = np.random.default_rng(0)
    for month in MONTHS:
        posts = [
            {
                "tweet_id": str(n),
                "month": month,
                "author_id": str(n % 7),
                "created_at": start + timedelta(days=n // 2),
                "text": HOSTILE[n % len(HOSTILE)],
                "hashtags": ["aiart", "sdxl", '"><script>'] if n % 2 else ["aiart", "sdxl"],
                "matched_hashtags": ["aiart"],
                "media_count": 1,
                "collected_at": start,
            }
            for n in range(30)
            if f"{start + timedelta(days=n // 2):%Y-%m}" == month
        ]
        ids = [str(post["tweet_id"]) for post in posts]
        writer = ShardWriter(lake, f"shards/images/{month}")
        places = []
        for tweet_id in ids:
            buffer = io.BytesIO()
            noise = Image.fromarray(rng.integers(0, 256, (300, 200, 3), dtype=np.uint8))
            noise.save(buffer, "JPEG")
            places += writer.add(f"{tweet_id}.jpg", buffer.getvalue())
        places += writer.close()
        media = [
            {key: post[key] for key in ("tweet_id", "month", "created_at")}
            | {"image_id": post["tweet_id"], "position": 0}
            for post in posts
        ]
        images = [
            {
                "image_id": place.name.removesuffix(".jpg"),
                "month": month,
                "status": "failed" if int(place.name.removesuffix(".jpg")) % 5 == 0 else "ok",
                "attempts": 1,
                "shard": place.shard,
                "offset": place.offset,
                "bytes": place.bytes,
                "fetched_at": start,
            }
            for place in places
        ]
        scores = [
            {
                "image_id": one,
                "month": month,
                "nsfw_score": 0.9 if one == "1" else 0.1,
                "model": "m",
                "weights_sha256": "w",
                "sha256": "s",
                "settings": "{}",
            }
            for one in ids
            if one != "2"
        ]
        for name, rows in (
            ("tweets", posts),
            ("tweet_media", media),
            ("images", images),
            ("nsfw_scores", scores),
        ):
            lake.write(name, fill(name, rows), month)
    return lake


class Seen(HTMLParser):
    """The elements of a page, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_first_posts_are_shown_with_their_pictures_and_cannot_run(filled: Lake) -> None:
    ranked = hashtags.candidates(filled.scan("tweets"), ["aiart"])
    found = review.lay_out(filled, ranked, ["aiart"], ["synthetic & made up"])
    seen = Seen(found.page)
    names = [tag for tag, _ in seen.tags]
    assert "script" not in names and not [a for _, attrs in seen.tags for a in attrs if a.startswith("on")]
    for text in HOSTILE:
        assert text.replace("\x00", "") in seen.text.replace("\x00", "").replace("\ufffd", "")
    links = [attrs["href"] for tag, attrs in seen.tags if tag == "a"]
    assert len(links) == 20 + 15 and all(
        str(link).startswith("https://x.com/i/web/status/") for link in links
    )
    shown = [str(attrs["src"]) for tag, attrs in seen.tags if tag == "img"]
    assert all(src.startswith("data:image/jpeg;base64,") for src in shown)
    assert len(shown) == 16 + 12, "a fifth of the posts has no picture here"
    (policy,) = [
        attrs["content"] for tag, attrs in seen.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "synthetic & made up" in seen.text and "2022-08 to 2022-09" in seen.text
    assert next(csv.reader([line for line in seen.text.splitlines() if line.startswith("sdxl,")])) == [
        *("sdxl", "co-occurrence in 2022-08 to 2022-09: 30 posts by 7 authors", "YYYY-MM-DD", "")
    ]


def test_a_contact_sheet_a_candidate_is_small_and_shows_twenty_posts(filled: Lake) -> None:
    ranked = hashtags.candidates(filled.scan("tweets"), ["aiart"])
    sheets = review.lay_out(filled, ranked, ["aiart"]).sheets
    assert list(sheets) == ranked["hashtag"].to_list()
    sheet = Image.open(io.BytesIO(sheets["sdxl"]))
    assert sheet.size == (5 * review.PIXELS, 4 * review.PIXELS)
    assert all(0 < len(data) <= review.SHEET_BYTES for data in sheets.values())

    def roughness(place: int) -> float:
        x, y = place % 5 * review.PIXELS, place // 5 * review.PIXELS
        return float(np.asarray(sheet.crop((x, y, x + review.PIXELS, y + review.PIXELS)), dtype=float).std())

    order = ranked["first_posts"][0].to_list()
    places = {tweet_id: roughness(order.index(tweet_id)) for tweet_id in ("0", "1", "2", "3")}
    assert places["0"] < 8, "no picture: grey"
    assert max(places["1"], places["2"]) < places["3"] / 2, "not safe, or without a score: blurred"


def test_a_sheet_of_noise_still_fits() -> None:
    rng = np.random.default_rng(1)
    noise = [Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)) for _ in range(25)]
    assert 0 < len(review._sheet(noise)) <= review.SHEET_BYTES
    assert len(review._sheet([])) > 0


def test_without_candidates_or_pictures_there_is_still_a_page(lake: Lake) -> None:
    found = review.lay_out(lake, tables.empty("hashtag_candidates"), ["aiart"])
    assert "There is none" in found.page and found.sheets == {}
