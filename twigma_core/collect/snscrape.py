"""Posts that snscrape collected, as X's API v2 would have written them.

Two forms are known: the JSON that `snscrape --jsonl` writes, and the CSV of a pandas frame of its objects, in
which users, media and hashtags are cells with Python's `repr` of them. snscrape keeps no media ids; each is
recovered from the picture's file name, which encodes it. What cannot be recovered is noted in the post under
`NOTES`, where `parse` counts it. Nothing is ever evaluated: a cell is read as a syntax tree.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twigma_core.collect import fields
from twigma_core.collect.fields import NOTES

TEXTS = ("rawContent", "content", "renderedContent")
MAX_LITERAL = 128 * 2**10
"""Longest cell that is read as a Python value, in characters."""
_COUNTS = {
    "like_count": "likeCount",
    "reply_count": "replyCount",
    "quote_count": "quoteCount",
    "retweet_count": "retweetCount",
}
_FORMAT = re.compile(r"[a-z]{3,4}")
_VIDEO = re.compile(r"/(ext_tw_video|amplify_video)_thumb/([0-9]+)/")
_KEYS = {"ext_tw_video": "7", "amplify_video": "13"}
NOT_RECOVERED = "picture left out: its file name encodes no media id"


def is_dump(columns: Mapping[str, Any]) -> bool:
    """Say whether a JSON object or a CSV's header is snscrape's: a date, a text and an id, by its names."""
    return "id" in columns and "date" in columns and any(name in columns for name in TEXTS)


def to_post(tweet: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tweet of snscrape, JSON object or row of a CSV, as a flattened post of X's API v2.

    Args:
        tweet: values by snscrape's names; cells of a CSV are text.

    Returns:
        The post, with its author and media in it, and under `NOTES` the problems met, counted. Values that
        are not what they should be are passed on for `parse` to judge.
    """
    problems: Counter[str] = Counter()
    user = fields.mapping(_value(tweet, "user", problems))
    metrics = {name: _number(tweet.get(theirs)) for name, theirs in _COUNTS.items()}
    author = {
        "id": _text_id(user.get("id")),
        "username": user.get("username"),
        "public_metrics": {"followers_count": _number(user.get("followersCount"))},
    }
    post: dict[str, Any] = {
        "id": _text_id(tweet.get("id")),
        "text": next((tweet[name] for name in TEXTS if tweet.get(name)), ""),
        "created_at": tweet.get("date"),
        "author_id": author["id"],
        "author": author,
        "lang": tweet.get("lang") or None,
        "public_metrics": {name: number for name, number in metrics.items() if number is not None},
        "entities": {"hashtags": [{"tag": tag} for tag in fields.items(_value(tweet, "hashtags", problems))]},
    }
    media = [_medium(one, problems) for one in fields.items(_value(tweet, "media", problems))]
    if kept := [one for one in media if one]:
        post["attachments"] = {"media": kept}
    return post | {NOTES: {"read_from": "snscrape", "problems": dict(problems)}}


def _text_id(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


def _number(value: Any) -> Any:
    """Return a count as a whole number where it is one: pandas writes 12.0 once a column has a gap."""
    if value in ("", None):
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}(\.0)?", value):
        return int(value.partition(".")[0])
    return value


def _value(tweet: Mapping[str, Any], name: str, problems: Counter[str]) -> Any:
    """Return a nested value: itself where it came as JSON, read from its `repr` where it is a cell."""
    value = tweet.get(name)
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        if len(value) > MAX_LITERAL:
            raise ValueError("too long")
        return literal(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        problems[f"{name} cannot be read"] += 1
        return None


def literal(text: str) -> Any:
    """Return what Python's `repr` of plain values and of objects stands for, without evaluating it.

    An object written as `Photo(fullUrl='…')` becomes a dict of its keywords; times and names become None.

    Raises:
        ValueError, SyntaxError, MemoryError, RecursionError: it is something else.
    """
    return _of_node(ast.parse(text.strip(), mode="eval").body)


def _of_node(node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple() | ast.Set():
            return [_of_node(one) for one in node.elts]
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return {_of_node(key): _of_node(value) for key, value in pairs if isinstance(key, ast.Constant)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Call():
            return {word.arg: _of_node(word.value) for word in node.keywords if word.arg} or None
        case ast.Attribute() | ast.Name():
            return None
    raise ValueError(f"a {type(node).__name__} is no value")


def _medium(value: Any, problems: Counter[str]) -> dict[str, Any] | None:
    """Return a media object of X's API; None, counted, where its id cannot be recovered."""
    medium = fields.mapping(value)
    picture = fields.first(medium, "fullUrl", "previewUrl")
    thumbnail = fields.text(medium.get("thumbnailUrl"))
    if thumbnail:
        match = _VIDEO.search(thumbnail)
        media_id = match.group(2) if match else fields.media_id_of_url(thumbnail)
        kind = _KEYS[match.group(1)] if match else "16"
        return {"media_key": f"{kind}_{media_id or 0}", "type": "video" if match else "animated_gif"}
    media_id = fields.media_id_of_url(picture) if isinstance(picture, str) else None
    if media_id is None:
        problems[NOT_RECOVERED] += 1
        return None
    one = {"media_key": f"3_{media_id}", "type": "photo", "url": _address(picture)}
    return one | ({"alt_text": medium["altText"]} if medium.get("altText") else {})


def _address(url: str) -> str:
    """Return a picture's address without its size: `…/media/<name>?format=jpg&name=large` has one."""
    parts = urlsplit(url)
    path = PurePosixPath(parts.path)
    form = path.suffix[1:] or parse_qs(parts.query).get("format", ["jpg"])[0]
    form = form if _FORMAT.fullmatch(form) else "jpg"
    return f"{parts.scheme}://{parts.netloc}{path.with_suffix('')}.{form}"
