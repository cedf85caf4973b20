"""Reading the objects of X's API v2, in either spelling of its fields, whatever they hold.

X's newer descriptions say post where the older say tweet (`note_post`, `repost_count`, `post_count`):
this is the one place that knows. Nothing here raises on a wrong type or a missing field: a reader returns
None, and the caller counts it. Building tables from the objects belongs to `parse`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

NOTES = "__twigma"
"""Where our own remarks stand in a page or post that was made of another format, as twarc's in `__twarc`."""

_ID = re.compile(r"[0-9]{1,19}")
_MEDIA_NAME = re.compile(r"[A-Za-z0-9_-]{11,}")
_TEXTS = ("text", "note_tweet", "note_post")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Ids from November 2010 on are "snowflakes": the milliseconds since this moment stand above bit 22.
_SNOWFLAKE_EPOCH = datetime(2010, 11, 4, 1, 42, 54, 657000, tzinfo=UTC)
_FIRST_SNOWFLAKE = 29_700_859_247
FIRST_POST = datetime(2006, 3, 21, tzinfo=UTC)
"""The day of the first post ever."""


def mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return a JSON array as it is, anything else as an empty one."""
    return value if isinstance(value, list) else []


def first(obj: dict[str, Any], *names: str) -> Any:
    """Return the value of the first of `names` that the object has and is not null."""
    return next((obj[name] for name in names if obj.get(name) is not None), None)


def identifier(value: Any) -> str | None:
    """Return an id as text; None for what is not a whole number of 63 bits in decimal digits.

    A float is none, even one without a fraction: from 2**53 on it stands for many ids.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 <= value < 2**63 else None
    return value if isinstance(value, str) and _ID.fullmatch(value) and int(value) < 2**63 else None


def count(value: Any) -> int | None:
    """Return a count that fits 64 bits; None for anything else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**63 else None


def text(value: Any) -> str | None:
    """Return text that UTF-8 can hold: half surrogate pairs, which JSON allows, become U+FFFD."""
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else None


def moment(value: Any) -> datetime | None:
    """Return an ISO 8601 time as UTC (a bare one is UTC already); None for anything else."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        when = datetime.fromisoformat(value)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def snowflake_time(post_id: str) -> datetime | None:
    """Return when a post id was given out, to the millisecond; None for ids before November 2010."""
    number = int(post_id)
    if number < _FIRST_SNOWFLAKE:
        return None
    return _SNOWFLAKE_EPOCH + timedelta(milliseconds=number >> 22)


def month_of(when: datetime) -> str:
    """Return the month of a UTC time as text such as "2021-01"."""
    return f"{when.year:04d}-{when.month:02d}"


def is_post(value: Any) -> bool:
    """Say whether a value is a post: an object with an id and a text (users, lists, counts have none)."""
    return isinstance(value, dict) and "id" in value and not value.keys().isdisjoint(_TEXTS)


def data(body: dict[str, Any]) -> list[Any]:
    """Return what a reply is about: its `data`, one object or many, or the reply if it is a bare post."""
    value = body.get("data")
    if isinstance(value, dict):
        return [value]
    return [body] if value is None and is_post(body) else items(value)


def posts(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the posts that a reply is about; those it merely refers to stand in its `includes`."""
    return (value for value in data(body) if is_post(value))


def kind(value: Any) -> str:
    """Name what stands where a post was expected."""
    if not isinstance(value, dict):
        return "not an object"
    if "username" in value:
        return "a user"
    if "start" in value and "end" in value:
        return "a count"
    return "an object without id and text"


def stated_time(post: dict[str, Any], received: datetime | None = None) -> datetime | None:
    """Return when a post says it was posted; None where it says nothing, or names an impossible time."""
    return possible(moment(post.get("created_at")), received)


def post_time(post: dict[str, Any], received: datetime | None = None) -> datetime | None:
    """Return when a post was posted: as stated, else by its id; None where neither tells."""
    post_id = identifier(post.get("id"))
    by_id = snowflake_time(post_id) if post_id else None
    return stated_time(post, received) or possible(by_id, received)


def possible(when: datetime | None, received: datetime | None = None) -> datetime | None:
    """Return a time if a post can be of it: after the first post ever, and not after tomorrow.

    Args:
        when: the time.
        received: when the post was received, if that is known: by a clock that was set back since, it would
            lie in the future.
    """
    today = datetime.now(UTC)
    latest = (max(today, received) if received else today) + timedelta(days=1)
    return when if when is not None and FIRST_POST <= when <= latest else None


def media_id_of_url(url: str) -> str | None:
    """Return the media id that a picture's file name encodes; None where the name encodes none.

    The name of `https://pbs.twimg.com/media/<name>.jpg` is base64 for bytes of which the first eight are
    the id, big-endian.
    """
    try:
        name = PurePosixPath(urlsplit(url).path).stem
        if not _MEDIA_NAME.fullmatch(name):
            return None
        number = int.from_bytes(base64.urlsafe_b64decode(name + "=" * (-len(name) % 4))[:8], "big")
    except ValueError:
        return None
    return identifier(number)


def post_ids(body: dict[str, Any]) -> list[str]:
    """Return the ids of a reply's posts that have a usable one."""
    found = (identifier(post.get("id")) for post in posts(body))
    return [post_id for post_id in found if post_id]


def noted(holder: dict[str, Any]) -> dict[str, int]:
    """Return what was noted, with numbers, when a page or post was made of another format."""
    notes = mapping(mapping(holder.get(NOTES)).get("problems"))
    return {str(text(what))[:120]: count(number) or 1 for what, number in notes.items()}


def next_token(body: dict[str, Any]) -> str | None:
    """Return the token of the page after this one; None on the last."""
    return text(mapping(body.get("meta")).get("next_token")) or None
