"""The sample world: posts, users, pictures, reference corpora and texts, as they were planned once.

``python -m twigma_core.sample.world`` writes the plan anew (see ``building``). The plan holds scenes, not
pictures: pictures are drawn when someone asks for them, and the same bytes come out each time.

What belongs here: reading the plan and handing out what it stands for. What does not: making it
(``building``), speaking HTTP (``server``), what is planted in it (``truths``).
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from twigma_core.sample.drawing import Scene
from twigma_core.sample.media import encode, media_bytes, scene_of

PLAN = Path(__file__).parent / "plan"
TABLES = ("users", "posts", "media", "references", "texts")
_CACHED = 4096


class UnknownMedium(LookupError):
    """There is no such medium in the sample world, or its picture is gone."""


@dataclass(frozen=True)
class World:
    """Everything there is in the sample world.

    Attributes:
        users: author_id, username, followers, created_at, activity, effect (on likes).
        posts: one row a post, whatever its status ("posted" or "deleted"); times are UTC.
        media: one row a media id: kind ("unique", "same_file", "same_pixels", "unavailable", "truncated",
            "html", "deleted"), source_id of a copy, near_corpus and near_file of a near-copy, quintile of
            similarity to the art corpus, and the scene.
        references: one row a reference picture with its corpus, file, title, artist, prompt and scene.
        texts: source and text.
    """

    users: pl.DataFrame
    posts: pl.DataFrame
    media: pl.DataFrame
    references: pl.DataFrame
    texts: pl.DataFrame
    _drawn: OrderedDict[str, bytes] = field(default_factory=OrderedDict, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def months(self) -> list[str]:
        """The months with posts, in order."""
        return sorted(self.posts["month"].unique().to_list())

    @cached_property
    def media_rows(self) -> dict[str, dict[str, Any]]:
        """The rows of ``media`` by media id."""
        return {row["media_id"]: row for row in self.media.iter_rows(named=True)}

    @cached_property
    def user_rows(self) -> dict[str, dict[str, Any]]:
        """The rows of ``users`` by author id."""
        return {row["author_id"]: row for row in self.users.iter_rows(named=True)}

    @cached_property
    def post_rows(self) -> list[dict[str, Any]]:
        """The rows of ``posts`` with their author's user name, newest first, as X lists them."""
        posts = self.posts.join(self.users.select("author_id", "username"), on="author_id", how="left")
        rows = list(posts.iter_rows(named=True))
        return sorted(rows, key=lambda row: int(row["tweet_id"]), reverse=True)

    def posts_of(self, month: str) -> pl.DataFrame:
        """Return the posts of a month, oldest first.

        Raises:
            KeyError: the world has no such month; the message names those it has.
        """
        if month not in self.months:
            raise KeyError(f"the sample world has no month {month!r}; it has {', '.join(self.months)}")
        return self.posts.filter(pl.col("month") == month)

    def draw_media(self, media_id: str) -> bytes:
        """Return the file behind a media id; drawn files are kept for the next asker.

        Raises:
            UnknownMedium: there is no such medium, or its picture is gone.
        """
        with self._lock:
            if media_id in self._drawn:
                return self._drawn[media_id]
        row = self.media_rows.get(media_id)
        data = media_bytes(row) if row else None
        if data is None:
            why = "its picture is gone" if row else "there is none with this id"
            raise UnknownMedium(f"medium {media_id}: {why}")
        with self._lock:
            self._drawn[media_id] = data
            while len(self._drawn) > _CACHED:
                self._drawn.popitem(last=False)
        return data

    def scenes(self) -> dict[str, Scene]:
        """Return the scene of every medium by media id (which is the pipeline's image id)."""
        return {media_id: scene_of(row) for media_id, row in self.media_rows.items()}

    def export_references(self, folder: Path) -> None:
        """Write the reference corpora and texts as a user's own folders would be.

        ``<folder>/<corpus>/pictures/*.jpg`` with ``<folder>/<corpus>/metadata.csv`` (file, title, artist,
        style, prompt, prompt_id), and ``<folder>/texts/<source>.csv`` (text). Files that are there already
        are left alone, so a second call is quick.
        """
        for (corpus,), frame in self.references.group_by("corpus", maintain_order=True):
            pictures = folder / str(corpus) / "pictures"
            pictures.mkdir(parents=True, exist_ok=True)
            missing = [row for row in frame.iter_rows(named=True) if not (pictures / row["file"]).exists()]
            with ThreadPoolExecutor(2) as pool:
                for row, data in zip(missing, pool.map(reference_bytes, missing), strict=True):
                    _put(pictures / row["file"], data)
            table = frame.select(
                "file", "title", "artist", pl.col("style_name").alias("style"), "prompt", "prompt_id"
            )
            data = table.write_csv(quote_style="necessary").encode()
            _put(folder / str(corpus) / "metadata.csv", data)
        texts = folder / "texts"
        texts.mkdir(parents=True, exist_ok=True)
        for (source,), frame in self.texts.group_by("source", maintain_order=True):
            _put(texts / f"{source}.csv", frame.select("text").write_csv().encode())


def _put(path: Path, data: bytes) -> None:
    """Write a file whole: another process may be writing it, or reading it, at the same time.

    Without the flush to disk of `storage`, ten times as fast: what is lost is drawn again.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(data)
    Path(file.name).replace(path)


def reference_bytes(row: Mapping[str, Any]) -> bytes:
    """Return the file of a reference picture; row of the plan's references."""
    return encode(scene_of(row))


def load(folder: Path = PLAN) -> World:
    """Return the world whose plan lies in ``folder``, the shipped one by default.

    Raises:
        FileNotFoundError: a file of the plan is missing; the message says how to write it.
    """
    frames = {}
    for name in TABLES:
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise FileNotFoundError(
                f"sample world: {path.name} is missing from {folder}; "
                "write the plan with: python -m twigma_core.sample.world"
            )
        frames[name] = pl.read_parquet(path)
    return World(
        users=frames["users"],
        posts=frames["posts"],
        media=frames["media"],
        references=frames["references"],
        texts=frames["texts"],
    )


if __name__ == "__main__":
    from twigma_core.sample.building import main

    main()
