"""Who posts what and when in the sample world, and how it is liked.

What belongs here: users, posts, the media attached to them, and the tendencies planted in them (likes by
quintile, duplicates, deleted posts, missing pictures). What does not: the scenes (``populations``), the
likeness to human art that the quintiles come from (``building``), and X's JSON (``api_objects``).
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from twigma_core.sample.drawing import DIGITAL_STYLES, random_scene, scene_to_dict
from twigma_core.sample.media import snowflake
from twigma_core.sample.populations import MONTHS
from twigma_core.sample.texts import ODD_TEXTS, post_text

Row = dict[str, Any]

USERS_BY_BAND = {"<500": 50, "500-5,000": 44, ">5,000": 26}
FOLLOWERS = {"<500": (20, 499), "500-5,000": (500, 5000), ">5,000": (5001, 80000)}
MEAN_LIKES = {"<500": 6.0, "500-5,000": 15.0, ">5,000": 40.0}
"""Expected likes of a post of quintile 5 by the author's followers."""
RATIOS: dict[int, float] = {1: 1.9, 2: 1.6, 3: 1.4, 4: 1.2, 5: 1.0}
"""Rate ratio of likes by quintile of similarity to human art, 1 the least similar."""
USER_SPREAD = 0.2
"""Standard deviation of the log of users' own effect on likes."""
SHAPE = 6.0
"""Shape of the gamma that scatters posts about their mean: variance = mean + mean² / SHAPE."""

DELETED_PER_MONTH = 2
UNAVAILABLE, TRUNCATED, HTML = 10, 3, 3
SAME_FILE, SAME_PIXELS, REPOSTS = 14, 10, 16
TEXT_ONLY_PER_MONTH, RETWEETS_PER_MONTH = 3, 2
WITHOUT_METRICS = 45
FLAGGED_SHARE = 0.6
GOLDEN, SILVER = (5**0.5 - 1) / 2, 2**0.5 - 1

REVIEWED_TAGS = {
    "aiart": 0.75,
    "generativeart": 0.25,
    "midjourney": 0.35,
    "dalle": 0.15,
    "dalle2": 0.15,
    "stablediffusion": 0.3,
}
CANDIDATE_TAGS = {
    "aiartcommunity": (0.05, 0.08),
    "aiartist": (0.12, 0.0),
    "digitalart": (0.2, 0.0),
    "nft": (0.25, -0.04),
}
"""Hashtag that is not on the reviewed list -> share of posts in the first month, change a month."""
_SPELLING = {"aiart": "AIart", "midjourney": "MidJourney", "stablediffusion": "StableDiffusion"}


@dataclass
class Plan:
    """What the builder collects: rows of users, posts and media."""

    users: list[Row] = field(default_factory=list)
    posts: list[Row] = field(default_factory=list)
    media: list[Row] = field(default_factory=list)


def band(followers: int) -> str:
    """Return the follower band of the paper's equation 1."""
    return "<500" if followers < 500 else "500-5,000" if followers <= 5000 else ">5,000"


def make_users(rng: np.random.Generator) -> list[Row]:
    """Return the users: few of them post much, few have many followers, some are liked more than others."""
    rows = []
    for name, count in USERS_BY_BAND.items():
        low, high = FOLLOWERS[name]
        for _ in range(count):
            followers = int(np.exp(rng.uniform(np.log(low), np.log(high))))
            born = datetime(int(rng.integers(2012, 2021)), int(rng.integers(1, 13)), 5, tzinfo=UTC)
            rows.append(
                {
                    "author_id": snowflake(int(born.timestamp() * 1000), int(rng.integers(2**22))),
                    "created_at": born,
                    "followers": min(max(followers, low), high),
                    "activity": float(min(np.exp(rng.normal(0, 0.9)), 4.0)),
                    "effect": float(np.exp(rng.normal(0, USER_SPREAD))),
                }
            )
    order = rng.permutation(len(rows))
    shuffled = [rows[int(place)] for place in order]
    for number, row in enumerate(shuffled):
        row["username"] = f"painter_{number:03d}"
    return shuffled


class PostWriter:
    """Adds posts to a plan; holds the generator and the ids given out so far."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 20])
        self.plan = Plan(users=make_users(np.random.default_rng([seed, 21])))
        # In the order of followers, so that evenly spread numbers take each band in proportion.
        self._authors = sorted(self.plan.users, key=lambda user: (user["followers"], user["author_id"]))
        weights = np.array([user["activity"] for user in self._authors])
        self._reach = np.cumsum(weights / weights.sum())
        self._spread: dict[tuple[Any, ...], tuple[float, int]] = {}
        self._taken: set[str] = set()
        self._odd = list(ODD_TEXTS)

    def _id(self, milliseconds: int) -> str:
        while True:
            made = snowflake(milliseconds, int(self.rng.integers(2**22)))
            if made not in self._taken:
                self._taken.add(made)
                return made

    def _even(self, step: float, *stream: Any) -> float:
        """Return the next number in [0, 1) of a stream, spread evenly (Weyl's sequence), random in its start.

        Authors, and how posts scatter about their mean, are taken from such streams within each quintile:
        independent draws would move the likes of a quintile by as much as the ratios differ, and whether the
        planted ratio lies in a 95 % interval would be luck.
        """
        start, count = self._spread.get(stream) or (float(self.rng.random()), 0)
        self._spread[stream] = (start, count + 1)
        return (start + count * step) % 1.0

    def moment(self, month: str, after: datetime | None = None) -> datetime:
        """Return a second of the month, an hour or more after ``after`` where that is in it."""
        year, number = int(month[:4]), int(month[5:])
        start = datetime(year, number, 1, tzinfo=UTC).timestamp()
        end = start + calendar.monthrange(year, number)[1] * 86400
        if after is not None:
            start = max(start, after.timestamp() + 3600)
        return datetime.fromtimestamp(int(self.rng.uniform(start, end - 1)), UTC)

    def add_media(self, picture: Mapping[str, Any], when: datetime, **changes: Any) -> Row:
        """Add a medium that is uploaded just before a post; returns its row."""
        defaults = {"source_id": "", "near_corpus": "", "near_file": "", "quintile": None, "kind": "unique"}
        row = {**defaults, **picture, **changes}
        early = int(self.rng.integers(2_000, 60_000))
        row["media_id"] = self._id(int(when.timestamp() * 1000) - early)
        row["alt"] = bool(self.rng.random() < 0.2)
        self.plan.media.append(row)
        return row

    def add_post(self, month: str, when: datetime, media: Sequence[Row], **changes: Any) -> Row:
        """Add a post of a random user with ``media`` attached; returns its row."""
        rng = self.rng
        quintile = next((row["quintile"] for row in media if row["quintile"]), None)
        place = int(np.searchsorted(self._reach, self._even(GOLDEN, "author", quintile), side="right"))
        user = self._authors[min(place, len(self._authors) - 1)]
        tweet_id = self._id(int(when.timestamp() * 1000) + int(rng.integers(1000)))
        tags = self._hashtags(MONTHS.index(month))
        lang = "ja" if rng.random() < 0.08 else "en"
        words = post_text(rng, [row["subject"] for row in media], lang)
        if self._odd and media and lang == "en" and rng.random() < 0.02:
            words = self._odd.pop()
        link = f" https://t.co/{np.base_repr(int(tweet_id), 36).lower()[-10:]}" if media else ""
        sensitive = any(row["sensitive"] for row in media)
        row = {
            "tweet_id": tweet_id,
            "month": month,
            "author_id": user["author_id"],
            "created_at": when,
            "text": f"{words} {' '.join('#' + tag for tag in tags)}{link}",
            "lang": lang,
            "hashtags": tags,
            "media_ids": [row["media_id"] for row in media],
            "status": "posted",
            "retweet_of": "",
            "possibly_sensitive": bool(rng.random() < (FLAGGED_SHARE if sensitive else 0.01)),
            "quintile": quintile,
            **self._metrics(user, quintile),
            **changes,
        }
        self.plan.posts.append(row)
        return row

    def _hashtags(self, month_index: int) -> list[str]:
        rng = self.rng
        tags = [tag for tag, share in REVIEWED_TAGS.items() if rng.random() < share]
        tags = tags or ["aiart"]
        tags += [tag for tag, (a, b) in CANDIDATE_TAGS.items() if rng.random() < a + b * month_index]
        return [_SPELLING.get(tag, tag) if rng.random() < 0.3 else tag for tag in tags]

    def _metrics(self, user: Row, quintile: int | None) -> Row:
        from scipy.stats import gamma

        rng = self.rng
        reach = band(user["followers"])
        mean = MEAN_LIKES[reach] * user["effect"] * RATIOS[quintile or 5]
        scatter = gamma.ppf(self._even(SILVER, "likes", quintile, reach), SHAPE) / SHAPE
        likes = int(rng.poisson(mean * scatter))
        return {
            "like_count": likes,
            "reply_count": int(rng.poisson(0.05 * likes + 0.2)),
            "quote_count": int(rng.poisson(0.01 * likes)),
            "retweet_count": int(rng.poisson(0.15 * likes)),
            "bookmark_count": int(rng.poisson(0.1 * likes)),
            "impression_count": int(30 * likes + 0.1 * user["followers"] + rng.integers(50)),
        }


def plan_posts(seed: int, pictures: Sequence[Mapping[str, Any]]) -> Plan:
    """Return users, posts and media of all months.

    Args:
        seed: of all randomness.
        pictures: the rows of ``populations.posted_pictures`` with the quintile (1-5) of their similarity to
            human art. Pictures of one post share a quintile, so that the likes of a post have one known
            ratio.
    """
    writer = PostWriter(seed)
    rng = writer.rng
    for month in MONTHS:
        mine = [row for row in pictures if row["month"] == month]
        for quintile in RATIOS:
            group = [row for row in mine if row["quintile"] == quintile]
            places = list(rng.permutation(len(group)))
            while places:
                size = int(rng.choice(4, p=[0.74, 0.16, 0.06, 0.04])) + 1
                taken, places = places[:size], places[size:]
                when = writer.moment(month)
                media = [writer.add_media(group[int(p)], when) for p in taken]
                writer.add_post(month, when, media)
    ordinary = len(writer.plan.posts)
    _add_copies(writer)
    _add_lost(writer)
    _add_others(writer)
    for place in rng.choice(ordinary, size=WITHOUT_METRICS, replace=False):
        post = writer.plan.posts[int(place)]
        post.update({key: None for key in post if key.endswith("_count")})
    writer.plan.posts.sort(key=lambda row: int(row["tweet_id"]))
    writer.plan.media.sort(key=lambda row: int(row["media_id"]))
    return writer.plan


def _add_copies(writer: PostWriter) -> None:
    """Post known pictures again: the same file, the same pixels in another file, the same media id."""
    rng = writer.rng
    posted = {media_id: post for post in writer.plan.posts for media_id in post["media_ids"]}
    # A copy may come in the same month, so its original must leave room for it.
    free = [
        row
        for row in writer.plan.media
        if not row["near_file"] and posted[row["media_id"]]["created_at"].day < 28
    ]
    order = [free[int(place)] for place in rng.permutation(len(free))]
    png = [row for row in order if row["format"] == "PNG"][:SAME_PIXELS]
    rest = [row for row in order if row["format"] == "JPEG"][: SAME_FILE + REPOSTS]
    plans = [(row, "same_pixels") for row in png]
    plans += [(row, "same_file") for row in rest[:SAME_FILE]]
    plans += [(row, "repost") for row in rest[SAME_FILE:]]
    for number, (row, kind) in enumerate(plans):
        first = posted[row["media_id"]]
        later = [month for month in MONTHS if month > first["month"]]
        # Half of the copies come in a later month, where there is one left.
        month = later[int(rng.integers(len(later)))] if number % 2 and later else first["month"]
        when = writer.moment(month, after=first["created_at"])
        if kind == "repost":
            writer.add_post(month, when, [row])
        else:
            changes = {"kind": kind, "month": month, "source_id": row["media_id"]}
            if kind == "same_pixels":
                changes["setting"] = 1
            writer.add_post(month, when, [writer.add_media(row, when, **changes)])


def _add_lost(writer: PostWriter) -> None:
    """Attach pictures that are gone or spoiled, half to posts that have others, half alone."""
    rng = writer.rng
    kinds = ["unavailable"] * UNAVAILABLE + ["truncated"] * TRUNCATED + ["html"] * HTML
    hosts = [post for post in writer.plan.posts if 1 <= len(post["media_ids"]) < 4]
    for number, kind in enumerate(kinds):
        month = MONTHS[number % len(MONTHS)]
        picture = {**scene_to_dict(random_scene(rng, styles=DIGITAL_STYLES)), "format": "JPEG", "setting": 90}
        if number % 2:
            here = [post for post in hosts if post["month"] == month and len(post["media_ids"]) < 4]
            host = here[int(rng.integers(len(here)))]
            lost = writer.add_media(picture, host["created_at"], kind=kind, month=month)
            host["media_ids"] = [*host["media_ids"], lost["media_id"]]
        else:
            when = writer.moment(month)
            writer.add_post(month, when, [writer.add_media(picture, when, kind=kind, month=month)])


def _add_others(writer: PostWriter) -> None:
    """Add posts that are deleted by now, posts without pictures, and retweets."""
    rng = writer.rng
    for month in MONTHS:
        for _ in range(DELETED_PER_MONTH):
            when = writer.moment(month)
            scene = scene_to_dict(random_scene(rng, styles=DIGITAL_STYLES))
            picture = {**scene, "format": "JPEG", "setting": 90, "kind": "deleted", "month": month}
            writer.add_post(month, when, [writer.add_media(picture, when)], status="deleted")
        for _ in range(TEXT_ONLY_PER_MONTH):
            writer.add_post(month, writer.moment(month), [])
        shown = [
            post
            for post in writer.plan.posts
            if post["month"] == month and post["media_ids"] and post["created_at"].day < 28
        ]
        for _ in range(RETWEETS_PER_MONTH):
            original = shown[int(rng.integers(len(shown)))]
            when = writer.moment(month, after=original["created_at"])
            writer.add_post(
                month,
                when,
                [],
                text=f"RT @someone: {original['text']}",
                hashtags=original["hashtags"],
                media_ids=original["media_ids"],
                retweet_of=original["tweet_id"],
            )
