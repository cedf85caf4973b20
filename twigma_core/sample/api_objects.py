"""The sample world's posts as X's API v2 writes them: posts, media and users, with the fields asked for.

What belongs here: rows of the plan to JSON objects. What does not: choosing the posts of a page (``server``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twigma_core.sample.drawing import describe
from twigma_core.sample.media import SIDE, media_url, scene_of

Json = dict[str, Any]

_HASHTAG = re.compile(r"#(\w+)")
_LINK = re.compile(r"https://t\.co/\w+")
_METRICS = {
    "retweet_count": "retweet_count",
    "reply_count": "reply_count",
    "like_count": "like_count",
    "quote_count": "quote_count",
    "bookmark_count": "bookmark_count",
    "impression_count": "impression_count",
}
DEFAULTS = {
    "tweet": {"id", "text", "edit_history_tweet_ids"},
    "user": {"id", "name", "username"},
    "media": {"media_key", "type"},
}


@dataclass(frozen=True)
class Asked:
    """What a request wants to see: field names by kind of object, and expansions."""

    tweet: frozenset[str] = frozenset()
    user: frozenset[str] = frozenset()
    media: frozenset[str] = frozenset()
    expansions: frozenset[str] = frozenset()

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Asked:
        """Read the parameters of a request."""

        def names(key: str) -> frozenset[str]:
            return frozenset(name for name in query.get(key, "").split(",") if name)

        return cls(names("tweet.fields"), names("user.fields"), names("media.fields"), names("expansions"))


def timestamp(when: datetime) -> str:
    """Return a UTC time as X writes it, such as 2021-01-03T12:00:00.000Z."""
    return f"{when:%Y-%m-%dT%H:%M:%S}.000Z"


def media_key(media_id: str) -> str:
    """Return the key of a photo."""
    return f"3_{media_id}"


def _keep(value: Json, kind: str, asked: Collection[str]) -> Json:
    wanted = DEFAULTS[kind] | set(asked)
    return {key: item for key, item in value.items() if key in wanted}


def post_object(post: Mapping[str, Any], media: Mapping[str, Mapping[str, Any]], asked: Asked) -> Json:
    """Return a post with the fields asked for.

    Args:
        post: row of the plan's posts.
        media: rows of the plan's media by media id.
        asked: fields and expansions of the request.
    """
    text = str(post["text"])
    tags = [{"start": m.start(), "end": m.end(), "tag": m.group(1)} for m in _HASHTAG.finditer(text)]
    entities: Json = {"hashtags": tags} if tags else {}
    link = _LINK.search(text)
    if link and post["media_ids"]:
        entities["urls"] = [
            {
                "start": link.start(),
                "end": link.end(),
                "url": link.group(),
                "expanded_url": f"https://twitter.com/{post['username']}/status/{post['tweet_id']}/photo/1",
                "display_url": f"pic.twitter.com/{link.group()[-10:]}",
                "media_key": media_key(media_id),
            }
            for media_id in post["media_ids"]
            if media_id in media
        ]
    value: Json = {
        "id": post["tweet_id"],
        "edit_history_tweet_ids": [post["tweet_id"]],
        "text": text,
        "author_id": post["author_id"],
        "created_at": timestamp(post["created_at"]),
        "lang": post["lang"],
        "possibly_sensitive": post["possibly_sensitive"],
    }
    if entities:
        value["entities"] = entities
    if post["media_ids"]:
        value["attachments"] = {"media_keys": [media_key(media_id) for media_id in post["media_ids"]]}
    if post["retweet_of"]:
        value["referenced_tweets"] = [{"type": "retweeted", "id": post["retweet_of"]}]
    if post["like_count"] is not None:
        value["public_metrics"] = {key: post[column] for key, column in _METRICS.items()}
    fields = set(asked.tweet)
    # X shows what an expansion follows, whether the field was asked for or not.
    if "author_id" in asked.expansions:
        fields.add("author_id")
    if "attachments.media_keys" in asked.expansions:
        fields.add("attachments")
    return _keep(value, "tweet", fields)


def not_found(kind: str, value: str) -> Json:
    """Return X's error for a post ("tweet") or account ("user") that is gone or never was."""
    detail = f"Could not find {kind} with ids: [{value}]."
    return _problem("Not Found Error", detail, kind, value, "resource-not-found")


def not_authorized(value: str) -> Json:
    """Return X's error for a post of a protected or suspended account: it does not say which."""
    detail = f"Sorry, you are not authorized to see the Tweet with ids: [{value}]."
    problem = _problem("Authorization Error", detail, "tweet", value, "not-authorized-for-resource")
    return problem | {"section": "data"}


def suspended(value: str) -> Json:
    """Return X's error for a suspended account."""
    return _problem("Forbidden", f"User has been suspended: [{value}].", "user", value, "resource-not-found")


def _problem(title: str, detail: str, kind: str, value: str, problem: str) -> Json:
    return {
        "value": value,
        "detail": detail,
        "title": title,
        "resource_type": kind,
        "parameter": "ids",
        "resource_id": value,
        "type": f"https://api.twitter.com/2/problems/{problem}",
    }


def media_object(row: Mapping[str, Any], asked: Asked) -> Json:
    """Return a photo with the fields asked for; row of the plan's media."""
    value: Json = {
        "media_key": media_key(row["media_id"]),
        "type": "photo",
        "url": media_url(row),
        "width": SIDE,
        "height": SIDE,
    }
    if row["alt"]:
        value["alt_text"] = describe(scene_of(row), 2)
    return _keep(value, "media", asked.media)


def user_object(user: Mapping[str, Any], asked: Asked) -> Json:
    """Return a user with the fields asked for; row of the plan's users."""
    value: Json = {
        "id": user["author_id"],
        "name": user["username"].replace("_", " ").title(),
        "username": user["username"],
        "created_at": timestamp(user["created_at"]),
        "protected": False,
        "verified": False,
        "public_metrics": {
            "followers_count": user["followers"],
            "following_count": user["followers"] // 7 + 30,
            "tweet_count": user["followers"] // 3 + 200,
            "listed_count": user["followers"] // 100,
        },
    }
    return _keep(value, "user", asked.user)


def includes(
    posts: Iterable[Mapping[str, Any]],
    users: Mapping[str, Mapping[str, Any]],
    media: Mapping[str, Mapping[str, Any]],
    asked: Asked,
) -> Json:
    """Return the objects that a page's posts refer to, each once, in the order of first mention."""
    rows = list(posts)
    value: Json = {}
    if "attachments.media_keys" in asked.expansions:
        ids = dict.fromkeys(media_id for post in rows for media_id in post["media_ids"] if media_id in media)
        if ids:
            value["media"] = [media_object(media[media_id], asked) for media_id in ids]
    if "author_id" in asked.expansions:
        authors = dict.fromkeys(post["author_id"] for post in rows)
        if authors:
            value["users"] = [user_object(users[author], asked) for author in authors]
    return value
