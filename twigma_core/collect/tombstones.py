"""Which posts and accounts must be gone, and taking them out of what X's API gave.

What belongs here: the table `tombstones` as sets to ask, and a reply without what they name. What does not:
reading what X says of deletions (`compliance`), and carrying it through the lake (`twigma_core.purge`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any

import polars as pl

from twigma_core.collect import fields
from twigma_core.lake import Lake

POST, AUTHOR = "post", "author"
LEAST_DIGITS = 9
"""An id as short as others' numbers is not looked for in running text, only where an id stands."""
_NUMBER = re.compile(rb"(?<![0-9])[0-9]{%d,19}(?![0-9])" % LEAST_DIGITS)
_NAME = re.compile(rb"[A-Za-z0-9_-]{11,}")


@dataclass(frozen=True)
class Gone:
    """What must not be here.

    Attributes:
        posts: ids of posts.
        authors: ids of accounts.
        pictures: media ids of those posts.
    """

    posts: frozenset[str] = frozenset()
    authors: frozenset[str] = frozenset()
    pictures: frozenset[str] = frozenset()

    @staticmethod
    def of_table(tombstones: pl.DataFrame) -> Gone:
        """Return what a table `tombstones` names."""
        ids = {kind: frozenset(tombstones.filter(pl.col("kind") == kind)["id"]) for kind in (POST, AUTHOR)}
        pictures = frozenset(tombstones["image_ids"].explode().drop_nulls())
        return Gone(ids[POST], ids[AUTHOR], pictures)

    @staticmethod
    def of(lake: Lake) -> Gone:
        """Return what the lake's tombstones name; nothing where there are none."""
        return Gone.of_table(lake.read("tombstones")) if lake.has("tombstones") else Gone()

    def __bool__(self) -> bool:
        return bool(self.posts or self.authors)

    @property
    def ids(self) -> frozenset[str]:
        """All ids, whatever they are of."""
        return self.posts | self.authors | self.pictures


class Finder:
    """Finds ids in bytes of any kind of text: as numbers, and media ids as X's file names encode them.

    Attributes:
        complete: no id is too short to be looked for.
    """

    def __init__(self, gone: Gone) -> None:
        self.complete = all(len(one) >= LEAST_DIGITS for one in gone.ids)
        self._ids = {one.encode(): one for one in gone.ids if len(one) >= LEAST_DIGITS}
        self._names = {name: one for one in gone.pictures for name in _names_of(one)}

    def find(self, data: bytes) -> set[str]:
        """Return the ids that occur."""
        found = {self._ids[number] for number in set(_NUMBER.findall(data)) & self._ids.keys()}
        if self._names:
            names = {name[:11] for name in _NAME.findall(data)}
            found |= {self._names[name] for name in names & self._names.keys()}
        return found


def _names_of(media_id: str) -> Iterator[bytes]:
    """Yield the possible first eleven letters of the file name that encodes a media id.

    They hold 66 bits: the id's 64, and two that are not its own.
    """
    head = int(media_id).to_bytes(8, "big")
    yield from (base64.urlsafe_b64encode(head + bytes([two << 6]))[:11] for two in range(4))


def without(body: dict[str, Any], gone: Gone) -> tuple[dict[str, Any], set[str]]:
    """Return a reply without what must be gone, and the ids of the posts that were taken out of it.

    A post goes by its own id, an id of an earlier version of it, or its author; a repost goes with what it
    repeats. Of other posts only their references to such posts, and mentions of such accounts, are taken out.
    Media go along that no post of the reply itself shows, even if one that it merely refers to does, and
    accounts that no post left on the page is of. X's count (`result_count`) stays.
    """
    if fields.is_post(body) and body.get("data") is None:
        return ({}, set(_versions(body))) if _goes(body, gone) else (_unlinked(body, gone), set())
    result, dropped = dict(body), set[str]()
    lost: list[dict[str, Any]] = []
    single = isinstance(body.get("data"), dict)
    data = []
    for value in fields.data(body):
        post = fields.mapping(value)
        is_account = "username" in post
        if (post.get("id") in gone.authors) if is_account else _goes(post, gone):
            lost.append(post)
            dropped |= set() if is_account else set(_versions(post))
        else:
            data.append(_unlinked(post, gone) if post else value)
    if "data" in body:
        result["data"] = data[0] if single and data else data
    if "includes" in body:
        result["includes"] = _includes(fields.mapping(body["includes"]), data, lost, gone)
    if "errors" in body:
        ids = gone.posts | gone.authors
        result["errors"] = [
            error
            for error in fields.items(body["errors"])
            if fields.mapping(error).get("resource_id") not in ids
            and fields.mapping(error).get("value") not in ids
        ]
    if dropped and isinstance(body.get("meta"), dict):
        left = sorted(fields.post_ids(result), key=int)
        ends = {"newest_id": left[-1], "oldest_id": left[0]} if left else {}
        kept = {key: one for key, one in body["meta"].items() if key not in ("newest_id", "oldest_id")}
        result["meta"] = kept | ends
    notes = fields.mapping(body.get(fields.NOTES))
    if "asked" in notes:
        asked = [one for one in fields.items(notes["asked"]) if one not in gone.posts | gone.authors]
        result[fields.NOTES] = notes | {"asked": asked}
    request = fields.mapping(body.get("__twarc"))  # a lookup names the ids that it asked for
    if _names(request.get("url"), gone):
        result["__twarc"] = {key: value for key, value in request.items() if key != "url"}
    return result, dropped


def _versions(post: dict[str, Any]) -> list[str]:
    history = fields.items(fields.first(post, "edit_history_tweet_ids", "edit_history_post_ids"))
    return [one for one in map(fields.identifier, [post.get("id"), *history]) if one]


def _references(post: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        fields.mapping(one)
        for one in fields.items(fields.first(post, "referenced_tweets", "referenced_posts"))
    ]


def _goes(post: dict[str, Any], gone: Gone) -> bool:
    repeated = (one.get("id") for one in _references(post) if one.get("type") in ("retweeted", "reposted"))
    return (
        any(one in gone.posts for one in _versions(post))
        or fields.identifier(post.get("author_id")) in gone.authors
        or any(one in gone.posts for one in repeated)
    )


def _unlinked(post: dict[str, Any], gone: Gone) -> dict[str, Any]:
    """Return a post without references to posts that are gone and mentions of accounts that are."""
    result = dict(post)
    for name in ("referenced_tweets", "referenced_posts"):
        if name in post:
            # twarc's flattened posts carry what they refer to within them
            referred = [fields.mapping(one) for one in fields.items(post[name])]
            result[name] = [_unlinked(one, gone) for one in referred if not _goes(one, gone)]
    if fields.identifier(post.get("in_reply_to_user_id")) in gone.authors:
        del result["in_reply_to_user_id"]
        result.pop("in_reply_to_user", None)
    if fields.identifier(post.get("conversation_id")) in gone.posts:
        del result["conversation_id"]
    entities = fields.mapping(post.get("entities"))
    if "mentions" in entities:
        entities = entities | {"mentions": _other(entities["mentions"], "id", gone.authors)}
    if "urls" in entities:  # a quotation links to what it quotes
        links = [one for one in fields.items(entities["urls"]) if not _names(one, gone)]
        entities = entities | {"urls": links}
    return result | {"entities": entities} if entities else result


def _names(value: Any, gone: Gone) -> bool:
    """Say whether an address, or one of a url's, names what must be gone."""
    return not gone.ids.isdisjoint(re.findall("[0-9]+", str(value)))


def _includes(
    includes: dict[str, Any], data: list[Any], lost: list[dict[str, Any]], gone: Gone
) -> dict[str, Any]:
    result = dict(includes)
    staying = [fields.mapping(one) for one in data]
    for name in ("tweets", "posts"):
        if name in includes:
            posts = [fields.mapping(one) for one in fields.items(includes[name])]
            lost = [*lost, *(post for post in posts if _goes(post, gone))]
            result[name] = [_unlinked(post, gone) for post in posts if not _goes(post, gone)]
            staying += result[name]
    if "users" in includes:
        away = set(_accounts(lost)) - set(_accounts(staying)) | gone.authors
        result["users"] = _other(includes["users"], "id", away)
    shown = set(_media_keys(fields.mapping(one) for one in data))
    named = {key for key in _media_keys(staying) if key.rpartition("_")[2] in gone.pictures}
    away = (named | set(_media_keys(lost))) - shown
    if "media" in includes:
        result["media"] = _other(includes["media"], "media_key", away)
    for name in ("tweets", "posts"):
        if name in result:
            result[name] = [_unattached(post, away) for post in result[name]]
    return result


def _other(values: Any, key: str, away: Set[str]) -> list[Any]:
    return [one for one in fields.items(values) if str(fields.mapping(one).get(key)) not in away]


def _unattached(post: dict[str, Any], away: Set[str]) -> dict[str, Any]:
    """Return a post without the media that are gone."""
    if away.isdisjoint(_media_keys([post])):
        return post
    kept = [key for key in _media_keys([post]) if key not in away]
    return post | {"attachments": fields.mapping(post["attachments"]) | {"media_keys": kept}}


def _media_keys(posts: Iterable[dict[str, Any]]) -> Iterator[str]:
    for post in posts:
        yield from map(str, fields.items(fields.mapping(post.get("attachments")).get("media_keys")))


def _accounts(posts: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield from (str(post.get("author_id")) for post in posts)
