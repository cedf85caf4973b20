"""API pages to tables: posts, their pictures, and a count of everything that did not become a row.

Pages may spell X's fields either way (`fields`) and may hold anything at all: what is not usable is
counted in `problems`, with the page and the reason, and never raises. Only photos become rows of
`tweet_media`; a picture that X lists without its address is a row too, so that it stays accounted for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import polars as pl

from twigma_core import tables
from twigma_core.collect import fields
from twigma_core.collect.fields import media_id_of_url
from twigma_core.collect.pages import Page

_MEDIA_KEY = re.compile(r"([0-9]{1,3})_([0-9]{1,20})")
_FLOAT = re.compile(r"[0-9]+(\.[0-9]*([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)")
_DIGITS = re.compile(r"[0-9]+")
_PHOTO = "3"
PROBLEMS_SCHEMA = {"where": pl.String, "what": pl.String, "count": pl.Int64}

# What `problems` says of posts that are on a page and yet no row of their own: with these, counts add up.
REPEATED = "post on an earlier page"
OTHER_MONTH = "post of another month"
NO_ID = "post without a usable id"
FLOAT_ID = "post whose id is a float: its last digits are lost"
BIG_ID = "post whose id is beyond 2**63"
NO_TIME = "post without a usable time"
IMPOSSIBLE_TIME = "post of a time before the first post ever or in the future"
LEFT_OUT = (REPEATED, OTHER_MONTH, NO_ID, FLOAT_ID, BIG_ID, NO_TIME, IMPOSSIBLE_TIME)

OTHER_KEY = "picture's file name encodes another media id than its key"


class Parsed(NamedTuple):
    """What pages hold.

    Attributes:
        tweets: table `tweets`, one row a post, sorted by time and id.
        media: table `tweet_media`, one row a picture of a post, in the same order.
        problems: columns where, what, count: each thing that was left out, repaired or suspect.
    """

    tweets: pl.DataFrame
    media: pl.DataFrame
    problems: pl.DataFrame


@dataclass
class _Harvest:
    month: str | None
    reviewed: frozenset[str]
    tweets: dict[str, dict[str, Any]] = field(default_factory=dict)
    media: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, where: str, holder: dict[str, Any]) -> None:
        """Count what was noted when a page or post was made of another format."""
        for what, number in fields.noted(holder).items():
            self.problems[where, what] += number


def parse_pages(
    pages: Iterable[Page | dict[str, Any]], month: str | None = None, reviewed: Sequence[str] = ()
) -> Parsed:
    """Turn API pages into tables; `tweets, media, *_ = parse_pages(pages)` unpacks.

    A post on several pages is one row: the page received last tells its numbers. Each post on a page is
    either a row or counted in `problems` as one of `LEFT_OUT`.

    Args:
        pages: pages of a `PageStore` or an archive, or replies of X's API as they are.
        month: keep only posts of this month, such as "2021-01".
        reviewed: hashtags that `matched_hashtags` is told against, lower case.

    Returns:
        The tables and the problems. Metrics that X did not give are null, never 0.
    """
    harvest = _Harvest(month, frozenset(reviewed))
    started = datetime.now(UTC)
    for number, item in enumerate(pages):
        if isinstance(item, Page):
            where, body, received = item.where, item.body, item.fetched_at
        else:
            where, body = f"page {number}", item if isinstance(item, dict) else None
            received = retrieved_at(body or {}) or started
        if body is None:
            reason = item.reason if isinstance(item, Page) and item.reason else "not a JSON object"
            harvest.problems[where, f"corrupt page: {reason}"] += 1
            continue
        _read_page(body, where, received, harvest)
    return _tables(harvest)


def retrieved_at(body: dict[str, Any]) -> datetime | None:
    """Return when twarc, or `hydrate`, says that it received a reply; None where neither does."""
    notes = (fields.mapping(body.get(name)) for name in ("__twarc", fields.NOTES))
    return next((when for note in notes if (when := fields.moment(note.get("retrieved_at")))), None)


def _read_page(body: dict[str, Any], where: str, received: datetime, harvest: _Harvest) -> None:
    includes = fields.mapping(body.get("includes"))
    users = {str(user.get("id")): user for user in map(fields.mapping, fields.items(includes.get("users")))}
    media = {
        str(one.get("media_key")): one for one in map(fields.mapping, fields.items(includes.get("media")))
    }
    for error in map(fields.mapping, fields.items(body.get("errors"))):
        title = fields.text(error.get("title")) or "no title"
        harvest.problems[where, f"X reports: {title[:80]}"] += 1
    if not fields.is_post(body):
        harvest.note(where, body)
    for value in fields.data(body):
        if fields.is_post(value):
            _read_post(value, users, media, where, received, harvest)
        else:
            harvest.problems[where, f"not a post: {fields.kind(value)}"] += 1


def _why_no_id(value: Any) -> str:
    if isinstance(value, float) or (isinstance(value, str) and _FLOAT.fullmatch(value)):
        return FLOAT_ID
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return BIG_ID if whole or (isinstance(value, str) and _DIGITS.fullmatch(value)) else NO_ID


def _read_post(
    post: dict[str, Any],
    users: dict[str, dict[str, Any]],
    included: dict[str, dict[str, Any]],
    where: str,
    received: datetime,
    harvest: _Harvest,
) -> None:
    problems = harvest.problems
    harvest.note(where, post)
    tweet_id, created_at = fields.identifier(post.get("id")), fields.post_time(post, received)
    if tweet_id is None:
        problems[where, _why_no_id(post.get("id"))] += 1
        return
    stated = fields.moment(post.get("created_at"))
    if created_at is None:
        problems[where, IMPOSSIBLE_TIME if stated else NO_TIME] += 1
        return
    if fields.stated_time(post, received) is None:
        how = "impossible" if stated else "missing"
        problems[where, f"created_at {how}: taken from the post's id"] += 1
    month = fields.month_of(created_at)
    if harvest.month and month != harvest.month:
        problems[where, OTHER_MONTH] += 1
        return
    known = harvest.tweets.get(tweet_id)
    if known:
        problems[where, REPEATED] += 1
    _read_media(post, tweet_id, created_at, included, where, harvest, newer=_newer(known, received))
    if not _newer(known, received):
        return
    author_id = fields.identifier(post.get("author_id"))
    author = fields.mapping(post.get("author")) or users.get(author_id or "", {})
    metrics = fields.mapping(post.get("public_metrics"))
    note = fields.mapping(fields.first(post, "note_tweet", "note_post"))
    hashtags = _hashtags(post, note)
    sensitive = post.get("possibly_sensitive")

    def metric(source: dict[str, Any], *names: str) -> int | None:
        value = fields.first(source, *names)
        number = fields.count(value)
        if value is not None and number is None:
            problems[where, f"{names[0]} is not a count"] += 1
        return number

    harvest.tweets[tweet_id] = {
        "tweet_id": tweet_id,
        "month": month,
        "author_id": author_id,
        "created_at": created_at,
        "text": _text(fields.first(note, "text") or post.get("text"), "text", where, problems) or "",
        "lang": _text(post.get("lang"), "lang", where, problems),
        "hashtags": hashtags,
        "matched_hashtags": [tag for tag in hashtags if tag in harvest.reviewed],
        "possibly_sensitive": sensitive if isinstance(sensitive, bool) else None,
        "like_count": metric(metrics, "like_count"),
        "reply_count": metric(metrics, "reply_count"),
        "quote_count": metric(metrics, "quote_count"),
        "retweet_count": metric(metrics, "retweet_count", "repost_count"),
        "followers": metric(fields.mapping(author.get("public_metrics")), "followers_count"),
        "collected_at": received,
    }


def _newer(known: dict[str, Any] | None, received: datetime) -> bool:
    return known is None or received >= known["collected_at"]


def _text(value: Any, name: str, where: str, problems: Counter[tuple[str, str]]) -> str | None:
    clean = fields.text(value)
    if value is not None and clean is None:
        problems[where, f"{name} is not text"] += 1
    elif clean != value:
        problems[where, f"{name} had half surrogate pairs: replaced"] += 1
    return clean


def _hashtags(post: dict[str, Any], note: dict[str, Any]) -> list[str]:
    """Return the hashtags of a post and of its long text, lower case, once each, in order."""
    found: dict[str, None] = {}
    for holder in (post, note):
        for tag in fields.items(fields.mapping(holder.get("entities")).get("hashtags")):
            name = fields.text(fields.mapping(tag).get("tag"))
            if name:
                found[name.lower()] = None
    return list(found)


def _read_media(
    post: dict[str, Any],
    tweet_id: str,
    created_at: datetime,
    included: dict[str, dict[str, Any]],
    where: str,
    harvest: _Harvest,
    newer: bool,
) -> None:
    attachments = fields.mapping(post.get("attachments"))
    # twarc's flattened posts carry the media objects themselves.
    own = {
        str(one.get("media_key")): one for one in map(fields.mapping, fields.items(attachments.get("media")))
    }
    keys = dict.fromkeys([str(key) for key in fields.items(attachments.get("media_keys"))] + list(own))
    problems, rows = harvest.problems, harvest.media.setdefault(tweet_id, {})
    for position, key in enumerate(keys):
        match = _MEDIA_KEY.fullmatch(key)
        if not match or fields.identifier(match.group(2)) is None:
            problems[where, "media key without a media id"] += 1
            continue
        if match.group(1) != _PHOTO:
            problems[where, "not a picture (video or animated GIF)"] += 1
            continue
        described = own.get(key) or included.get(key)
        if described is None:
            problems[where, "picture attached, but not described on the page"] += 1
            described = {}
        image_id = match.group(2)
        url = _text(described.get("url"), "url", where, problems)
        if described and not url:
            problems[where, "picture without an address"] += 1
        if url:
            _check_name(url, image_id, where, problems)
        row = {
            "tweet_id": tweet_id,
            "image_id": image_id,
            "month": fields.month_of(created_at),
            "position": position,
            "created_at": created_at,
            "url": url,
            "width": fields.count(described.get("width")),
            "height": fields.count(described.get("height")),
            "alt_text": _text(described.get("alt_text"), "alt_text", where, problems),
        }
        before = rows.get(image_id)
        # A later page that fails to describe a picture does not take away its address.
        if before is None or (newer and (url or not before["url"])) or (url and not before["url"]):
            rows[image_id] = row


def _check_name(url: str, image_id: str, where: str, problems: Counter[tuple[str, str]]) -> None:
    encoded = media_id_of_url(url)
    if encoded is None:
        problems[where, "picture's file name encodes no media id"] += 1
    elif encoded != image_id:
        problems[where, OTHER_KEY] += 1


def _tables(harvest: _Harvest) -> Parsed:
    tweets, media = [], []
    for row in sorted(harvest.tweets.values(), key=lambda row: (row["created_at"], int(row["tweet_id"]))):
        pictures = sorted(harvest.media[row["tweet_id"]].values(), key=lambda one: one["position"])
        # The time and month are the post's, whichever page described the picture.
        stamp = {"created_at": row["created_at"], "month": row["month"]}
        media += [picture | stamp for picture in pictures]
        tweets.append(row | {"media_count": len(pictures)})
    problems = [(where, what, count) for (where, what), count in sorted(harvest.problems.items())]
    return Parsed(
        tables.conform("tweets", pl.DataFrame(tweets, schema=tables.empty("tweets").schema)),
        tables.conform("tweet_media", pl.DataFrame(media, schema=tables.empty("tweet_media").schema)),
        pl.DataFrame(problems, schema=PROBLEMS_SCHEMA, orient="row"),
    )
