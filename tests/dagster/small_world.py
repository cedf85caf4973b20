"""A handful of posts as an archive, their pictures on a loopback server, and small reference corpora."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import numpy as np
from rich.console import Console

from tests.dagster.real_world import serve
from twigma_core.lake import Lake
from twigma_core.sample.drawing import random_scene
from twigma_core.sample.media import encode
from twigma_core.tables import TEXT_SOURCES
from twigma_dagster import headless
from twigma_dagster.definitions import build_defs
from twigma_dagster.settings import Settings


def drawn(seed: int) -> bytes:
    """Return a picture of its own as JPEG bytes."""
    return encode(random_scene(np.random.default_rng(seed)))


def media_name(number: int) -> str:
    """Return a media name that encodes media id `number`, as X's names do."""
    return base64.urlsafe_b64encode(number.to_bytes(8, "big") + b"\0").decode().rstrip("=")


def page(month: str, pictures: Mapping[int, bytes]) -> dict[str, object]:
    """Return a page of X's API with one post a picture, of one author, on the first days of a month."""
    posts, media = [], []
    for place, number in enumerate(pictures):
        key = f"3_{number}"
        posts.append(
            {
                "id": str(10**18 + number),
                "text": f"a drawn picture #aiart https://t.co/{number}",
                "author_id": "7",
                "created_at": f"{month}-0{1 + place % 9}T10:00:00.000Z",
                "entities": {"hashtags": [{"tag": "aiart", "start": 16, "end": 22}]},
                "attachments": {"media_keys": [key]},
                "public_metrics": dict.fromkeys(
                    ("like_count", "reply_count", "quote_count", "retweet_count"), place
                ),
            }
        )
        url = f"https://pbs.twimg.com/media/{media_name(number)}.jpg"
        media.append({"media_key": key, "type": "photo", "url": url, "width": 128, "height": 128})
    users = [{"id": "7", "username": "u", "name": "u", "public_metrics": {"followers_count": 100}}]
    return {"data": posts, "includes": {"media": media, "users": users}, "meta": {"result_count": len(posts)}}


def lay_out_references(corpora: Path, references: int) -> None:
    """Write corpora of `references` pictures each, and every text source, below a folder."""
    for place, corpus in enumerate(("laion", "artbench", "diffusiondb")):
        for number in range(references):
            target = corpora / corpus / f"{corpus}{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(drawn(1000 * (place + 1) + number))
        if references:
            rows = [
                f"{corpus}{n}.jpg,painter {n % 3},a prompt of {'many ' * (n % 4)}words"
                for n in range(references)
            ]
            (corpora / corpus / "metadata.csv").write_text("\n".join(["file,artist,prompt", *rows]) + "\n")
    (corpora / "texts").mkdir(parents=True)
    for source in TEXT_SOURCES:
        lines = [f"{source} number {n} has some words in it" for n in range(20)]
        (corpora / "texts" / f"{source}.csv").write_text("\n".join(["text", *lines]) + "\n")


@contextmanager
def world(
    folder: Path, months: Mapping[str, Mapping[int, bytes]], references: int = 12
) -> Iterator[tuple[Settings, Lake]]:
    """Lay out an archive, a media server and corpora of `references` pictures; give settings and lake.

    With no reference at all there is no corpus folder.
    """
    archive, corpora = folder / "archive", folder / "references"
    archive.mkdir(parents=True)
    for month, pictures in months.items():
        (archive / f"{month}.jsonl").write_text(json.dumps(page(month, pictures)) + "\n")
    lay_out_references(corpora, references)
    answers = {media_name(number): data for pictures in months.values() for number, data in pictures.items()}
    with serve(lambda name: answers.get(name, b"")) as url:
        made = Settings(
            home=folder / "home",
            source="archive",
            archive=str(archive),
            media_base=url,
            references=str(corpora),
            clip_model="sample",
            blip_model="sample",
        )
        yield made, Lake(made.lake_root)


def build(settings: Settings, months: list[str], only: Collection[str] = ()) -> headless.Outcome:
    """Build the whole graph, or some assets, for these months in this process, in an instance of its own."""
    with dg.DagsterInstance.ephemeral() as instance:
        return headless.build(
            build_defs(settings), instance, Lake(settings.lake_root), months, Console(quiet=True), only=only
        )
