"""A lake as the paper's collection would leave it: posts, ledgers, vectors, captions, scores, references.

Here: synthetic tables and vectors of TWIGMA's shape (paper, Section 3), written as the assets upstream of
`dataset` would. Not here: what is measured on them (`paper_size`).

Vectors are a mixture as CLIP's are: a common direction, fifty subjects whose shares drift over the months, a
spectrum that falls off, and noise. Some pictures are there again: by media id, by file, by vector, or
nearly. All ledgers point into one shard of drawn pictures: a few are opened, none is compared with its hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.collect.snapshots import keep_snapshots
from twigma_core.images.shards import write_shards
from twigma_core.lake import ArrayTable, Lake
from twigma_core.sample.drawing import random_scene
from twigma_core.sample.media import encode, media_name
from twigma_core.tables import TEXT_SOURCES

PICTURES, POSTS = 805_650, 623_707
REFERENCES = {"laion": 100_000, "artbench": 60_000, "diffusiondb": 100_000}
MONTHS = tuple(f"{2021 + i // 12}-{1 + i % 12:02d}" for i in range(27))
GROWTH = 1.1
"""Pictures of a month over those of the month before."""
AGAIN = {"same media id": 0.02, "same file": 0.02, "same embedding": 0.005, "near": 0.02}
"""Share of a month's posted pictures that were there before, by what is the same."""
GONE = 0.01
"""Share of the pictures that could not be had."""
TEXTS = 5_000
_SUBJECTS, _RANK, _POOL, _SHOWN = 50, 64, 500, 40
_FIRST_ID = 1_400_000_000_000_000_000
_TAGS = [["aiart"], ["midjourney", "aiart"], ["stablediffusion"], ["aiart", "digitalart", "art"], ["dalle2"]]
_NOUNS = "woman face castle forest robot city cat dragon flower ocean mountain car painting street planet"
_MAKER = {"model": "synthetic", "weights_sha256": "0" * 64, "settings": "synthetic"}


@dataclass(frozen=True)
class Mixture:
    """Where vectors are drawn from.

    Attributes:
        dim: their width.
        centres: (50, d) common direction and subject.
        spread: (64, d) the directions in which pictures of a subject differ, by how much.
    """

    dim: int
    centres: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, dim: int) -> Mixture:
        """Return the mixture of this width, always the same."""
        rng = np.random.default_rng(0)
        directions = rng.normal(size=(1 + _SUBJECTS + _RANK, dim))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        falling = np.arange(1, _RANK + 1) ** -0.5
        falling *= 0.35 / np.linalg.norm(falling)
        centres = 0.7 * directions[0] + 0.5 * directions[1 : 1 + _SUBJECTS]
        spread = directions[1 + _SUBJECTS :] * falling[:, None]
        return cls(dim, centres.astype(np.float32), spread.astype(np.float32))

    def draw(self, rng: np.random.Generator, subjects: np.ndarray) -> np.ndarray:
        """Return unit vectors (n, d) float32 of pictures of these subjects."""
        x = rng.standard_normal((len(subjects), _RANK), dtype=np.float32) @ self.spread
        x += self.centres[subjects]
        x += rng.standard_normal((len(subjects), self.dim), dtype=np.float32) * np.float32(
            0.15 / np.sqrt(self.dim)
        )
        return _unit(x)


def _unit(x: np.ndarray) -> np.ndarray:
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


@dataclass
class _Pictures:
    """Pictures, row by row: what makes two of them the same, and what is seen."""

    ids: np.ndarray
    files: np.ndarray
    subjects: np.ndarray
    vectors: np.ndarray

    def take(self, rows: np.ndarray) -> _Pictures:
        return _Pictures(self.ids[rows], self.files[rows], self.subjects[rows], self.vectors[rows])

    def and_(self, other: _Pictures) -> _Pictures:
        return _Pictures(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in ("ids", "files", "subjects", "vectors")
            )
        )


def lay_out(
    lake: Lake,
    pictures: int = PICTURES,
    months: tuple[str, ...] = MONTHS,
    references: float = 1.0,
    dim: int = 768,
    seed: int = 0,
) -> int:
    """Fill an empty lake; return how many pictures were posted.

    Args:
        lake: where to.
        pictures: posted in all months together; with posts in the paper's proportion.
        months: which; each has a tenth more pictures than the one before.
        references: share of the paper's numbers of reference pictures and texts.
        dim: width of the vectors.
        seed: of all that is drawn.
    """
    mixture, rng = Mixture.of(dim), np.random.default_rng(seed)
    shown = _shard(lake)
    weights = GROWTH ** np.arange(len(months))
    counts = np.maximum(4, np.round(pictures * weights / weights.sum())).astype(int)
    drift = rng.normal(size=_SUBJECTS)
    pool: _Pictures | None = None
    first = 0
    for place, (month, count) in enumerate(zip(months, counts, strict=True)):
        share = np.exp(drift * (place / max(1, len(months) - 1) - 0.5))
        posted = _pictures(rng, mixture, pool, first, int(count), share / share.sum())
        _write_month(lake, month, posted, rng, first, shown)
        kept = posted.take(rng.choice(count, min(_POOL, int(count)), replace=False))
        pool = pool.and_(kept) if pool else kept
        first += int(count)
    _write_references(lake, mixture, rng, references, shown)
    _write_texts(lake, mixture, rng, references)
    return int(counts.sum())


def _pictures(
    rng: np.random.Generator,
    mixture: Mixture,
    pool: _Pictures | None,
    first: int,
    count: int,
    share: np.ndarray,
) -> _Pictures:
    """Draw a month's posted pictures; some are those of the pool again."""
    number = first + np.arange(count)
    subjects = rng.choice(_SUBJECTS, size=count, p=share)
    new = _Pictures(_FIRST_ID + number * 977, number.copy(), subjects, mixture.draw(rng, subjects))
    if pool is None:
        return new
    kind = np.searchsorted(np.cumsum(list(AGAIN.values())), rng.random(count), side="right")
    source = pool.take(rng.integers(len(pool.ids), size=count))
    # A media id is posted again once a month at most: a second choice of it stays new.
    again = np.zeros(count, bool)
    again[np.unique(source.ids, return_index=True)[1]] = True
    by_id, by_file, by_vector, near = (kind == place for place in range(len(AGAIN)))
    by_id &= again
    new.ids[by_id] = source.ids[by_id]
    same = by_id | by_file
    new.files[same] = source.files[same]
    seen = same | by_vector
    new.subjects[seen], new.vectors[seen] = source.subjects[seen], source.vectors[seen]
    # Near pictures are looked for within a month.
    like = rng.choice(np.flatnonzero(~near), size=int(near.sum()))
    noise = rng.standard_normal((len(like), mixture.dim), dtype=np.float32)
    new.subjects[near] = new.subjects[like]
    new.vectors[near] = _unit(new.vectors[like] + noise * np.float32(0.1 / np.sqrt(mixture.dim)))
    return new


def _write_month(
    lake: Lake, month: str, posted: _Pictures, rng: np.random.Generator, first: int, shown: pl.DataFrame
) -> None:
    count = len(posted.ids)
    posts = max(1, round(count * POSTS / PICTURES))
    of_post = np.arange(count) * posts // count
    begins = np.searchsorted(of_post, np.arange(posts))
    start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    moments = np.sort(rng.integers(0, 28 * 86400, size=posts))
    post_ids = [str(_FIRST_ID + (first + place) * 991) for place in range(posts)]
    frame = _posts(month, post_ids, start, moments, np.bincount(of_post, minlength=posts), rng)
    lake.write("tweets", frame, month)
    lake.write("snapshots", keep_snapshots(tables.conform("tweets", frame), None, None), month)
    lake.write("raw_tweets", _pages(month, posts, start), month)
    days = frame.group_by(day=pl.col("created_at").dt.date()).len("collected").sort("day")
    lake.write(
        "tweet_counts",
        days.with_columns(
            month=pl.lit(month),
            query=pl.lit("#aiart"),
            counted="collected",
            duplicates=0,
            shared=0,
            unavailable=0,
            unexplained=0,
            tolerance=0.02,
        ),
        month,
    )
    ids = [str(one) for one in posted.ids.tolist()]
    urls = [f"https://pbs.twimg.com/media/{media_name(one)}.jpg" for one in ids]
    media = pl.DataFrame(
        {
            "tweet_id": np.array(post_ids, dtype=object)[of_post].tolist(),
            "image_id": ids,
            "month": month,
            "position": np.arange(count) - begins[of_post],
            "created_at": frame["created_at"].gather(of_post),
            "url": urls,
            "width": 128,
            "height": 128,
            "alt_text": pl.Series([None] * count, dtype=pl.String),
        }
    )
    lake.write("tweet_media", media, month)
    gone = (rng.random(count) < GONE) & (posted.files >= first)
    ledger = pl.DataFrame(
        {
            "image_id": ids,
            "month": month,
            "url": urls,
            "status": np.where(gone, "unavailable", "ok").tolist(),
            "reason": ["HTTP 404" if lost else None for lost in gone.tolist()],
            "http_status": np.where(gone, 404, 200),
            "attempts": 1,
            "sha256": [f"{one:064x}" for one in posted.files.tolist()],
            "pixel_sha256": [f"{one:064x}" for one in posted.files.tolist()],
            "format": "JPEG",
            "width": 128,
            "height": 128,
            "fetched_at": start,
        }
    ).with_columns(shown[rng.integers(shown.height, size=count)])
    held = pl.col("status") == "ok"
    had = ("sha256", "pixel_sha256", "format", "width", "height", "shard", "offset", "bytes")
    ledger = ledger.with_columns(pl.when(held).then(pl.col(name)).otherwise(None).alias(name) for name in had)
    rows = np.flatnonzero(~gone)
    lake.write("images", ledger, month)
    made = (
        ledger[rows]
        .select("image_id", "month", "sha256")
        .with_columns(pl.lit(v).alias(k) for k, v in _MAKER.items())
    )
    lake.write("embeddings", ArrayTable(made, {"vectors": posted.vectors[rows]}), month)
    subjects = posted.subjects[rows]
    lake.write("captions", made.with_columns(caption=pl.Series(_captions(rng, subjects))), month)
    scores = rng.beta(1 + subjects % 3, 6).astype(np.float32)
    lake.write("nsfw_scores", made.with_columns(nsfw_score=scores), month)


def _posts(
    month: str,
    ids: list[str],
    start: datetime,
    moments: np.ndarray,
    media: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Return table tweets: few authors post much, few posts are liked much."""
    count = len(ids)
    author = np.minimum(rng.zipf(1.3, size=count), 2_000 + count)
    tags = [_TAGS[place] for place in rng.integers(len(_TAGS), size=count)]
    likes = pl.Series(rng.lognormal(2, 1.8, size=count).astype(np.int64))
    return pl.DataFrame(
        {
            "tweet_id": ids,
            "month": month,
            "author_id": [str(one) for one in author.tolist()],
            "created_at": pl.Series(moments * 1_000_000).cast(pl.Duration("us")) + start,
            "text": [f"number {place} of {month} #{' #'.join(some)}" for place, some in enumerate(tags)],
            "lang": "en",
            "hashtags": tags,
            "matched_hashtags": tags,
            "possibly_sensitive": rng.random(count) < 0.1,
            "like_count": likes.set(pl.Series(rng.random(count) < 0.02), None),
            "reply_count": likes // 10,
            "quote_count": likes // 50,
            "retweet_count": likes // 5,
            "followers": np.random.default_rng(1)
            .lognormal(6, 2, size=3_000 + count)[author]
            .astype(np.int64),
            "media_count": media,
            "collected_at": datetime(2023, 5, 1, tzinfo=UTC),
        }
    )


def _pages(month: str, posts: int, start: datetime) -> pl.DataFrame:
    sizes = [min(500, posts - begun) for begun in range(0, posts, 500)]
    return pl.DataFrame(
        {
            "month": month,
            "query": "#aiart",
            "page": np.arange(len(sizes)),
            "source": "archive",
            "path": "pages",
            "posts": sizes,
            "bytes": 1,
            "sha256": "0" * 64,
            "next_token": pl.Series([None] * len(sizes), dtype=pl.String),
            "newest_id": pl.Series([None] * len(sizes), dtype=pl.String),
            "oldest_id": pl.Series([None] * len(sizes), dtype=pl.String),
            "fetched_at": start,
            "status": "ok",
            "reason": pl.Series([None] * len(sizes), dtype=pl.String),
        }
    )


def _captions(rng: np.random.Generator, subjects: np.ndarray) -> list[str]:
    nouns = _NOUNS.split()
    other, ground = rng.integers(len(nouns), size=(2, len(subjects)))
    return [
        f"a painting of a {nouns[s % len(nouns)]} with a {nouns[a]} on a {nouns[b]} background"
        for s, a, b in zip(subjects.tolist(), other.tolist(), ground.tolist(), strict=True)
    ]


def _shard(lake: Lake) -> pl.DataFrame:
    """Store some drawn pictures; return where they lie: shard, offset, bytes."""
    drawn = [(f"{place}.jpg", encode(random_scene(np.random.default_rng(place)))) for place in range(_SHOWN)]
    places = write_shards(lake, "shards/images/drawn", drawn)
    return pl.DataFrame(
        {
            "shard": [one.shard for one in places],
            "offset": [one.offset for one in places],
            "bytes": [one.bytes for one in places],
        }
    )


def _write_references(
    lake: Lake, mixture: Mixture, rng: np.random.Generator, scale: float, shown: pl.DataFrame
) -> None:
    for place, (corpus, paper) in enumerate(REFERENCES.items()):
        count = max(60, round(paper * scale))
        subjects = (rng.integers(_SUBJECTS, size=count) * (place + 1)) % _SUBJECTS
        number = np.arange(count)
        group = [str(one) for one in (number // 50 if corpus == "artbench" else number // 4).tolist()]
        named: dict[str, list[str] | None] = dict.fromkeys(("artist", "prompt", "prompt_id"))
        if corpus == "artbench":
            named["artist"] = [f"painter {one}" for one in group]
        if corpus == "diffusiondb":
            named["prompt_id"] = group
            named["prompt"] = [f"a prompt of {'many ' * (int(one) % 30)}words" for one in group]
        columns = {
            name: pl.Series(values or [None] * count, dtype=pl.String) for name, values in named.items()
        }
        images = pl.DataFrame(
            {
                "image_id": [f"{corpus}{one}" for one in number.tolist()],
                "corpus": corpus,
                "status": "ok",
                "reason": pl.Series([None] * count, dtype=pl.String),
                "title": [f"picture {one}" for one in number.tolist()],
                "style": pl.Series([None] * count, dtype=pl.String),
                "sha256": [f"{one + (place + 1) * 10**9:064x}" for one in number.tolist()],
                "format": "JPEG",
                "width": 128,
                "height": 128,
                **columns,
            }
        ).with_columns(shown[rng.integers(shown.height, size=count)], pixel_sha256="sha256")
        lake.write("reference_images", images, corpus)
        made = images.select("image_id", "corpus", "sha256", "artist", "prompt_id").with_columns(
            nsfw_score=pl.Series(rng.beta(1, 8, size=count).astype(np.float32)),
            **{name: pl.lit(value) for name, value in _MAKER.items()},
        )
        lake.write("reference_embeddings", ArrayTable(made, {"vectors": mixture.draw(rng, subjects)}), corpus)


def _write_texts(lake: Lake, mixture: Mixture, rng: np.random.Generator, scale: float) -> None:
    count = max(60, round(TEXTS * scale))
    for source in TEXT_SOURCES:
        words = rng.integers(3, 40, size=count)
        texts = pl.DataFrame(
            {
                "text_id": [str(one) for one in range(count)],
                "source": source,
                "text": [" ".join(["word"] * one) for one in words.tolist()],
                "words": words,
            }
        )
        lake.write("texts", texts, source)
        made = texts.select("text_id", "source", "words").with_columns(
            sha256=pl.format("{}", pl.col("text_id").str.zfill(64)),
            **{k: pl.lit(v) for k, v in _MAKER.items()},
        )
        subjects = rng.integers(_SUBJECTS, size=count)
        lake.write("text_embeddings", ArrayTable(made, {"vectors": mixture.draw(rng, subjects)}), source)


def laid_out() -> Iterator[str]:
    """Yield the tables that `lay_out` writes."""
    yield from ("tweets", "tweet_media", "snapshots", "raw_tweets", "tweet_counts", "images")
    yield from ("embeddings", "captions", "nsfw_scores")
    yield from ("reference_images", "reference_embeddings", "texts", "text_embeddings")
