"""Making the plan of the sample world from one seed: ``python -m twigma_core.sample.world``.

What belongs here: the order of the steps, the likeness to human art that decides the likes, and writing the
files. What does not: the choices themselves (``populations``, ``posts``, ``texts``).

The likeness is computed as the pipeline computes it: draw, encode, open, embed, the mean cosine of the five
nearest pictures of the art corpus. So a plan belongs to one set of CLIP weights, which ``truths.json`` names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from twigma_core.sample import populations, posts, texts
from twigma_core.sample.media import encode, scene_of
from twigma_core.sample.world import PLAN, TABLES, World

SEED = 20210101
NEAREST = 5
Row = Mapping[str, Any]
Likeness = Callable[[Sequence[Row], Sequence[Row]], np.ndarray]


def clip_likeness(pictures: Sequence[Row], art: Sequence[Row]) -> np.ndarray:
    """Return the mean cosine similarity of each picture's five nearest pictures of ``art``, (n,) float."""
    from twigma_core.images.decode import open_picture
    from twigma_core.models.clip import ClipEncoder

    encoder = ClipEncoder("sample", device="cpu")

    def embed(rows: Sequence[Row]) -> np.ndarray:
        files = (encode(scene_of(row), row.get("format", "JPEG"), row.get("setting", 90)) for row in rows)
        return encoder.encode_images(open_picture(data) for data in files)

    similarity = embed(pictures) @ embed(art).T
    return np.sort(similarity, axis=1)[:, -NEAREST:].mean(axis=1)


def quintiles(values: np.ndarray) -> np.ndarray:
    """Return the quintile of each value, 1 for the lowest fifth to 5 for the highest, (n,) int."""
    edges = np.quantile(values, [0.2, 0.4, 0.6, 0.8])
    return np.searchsorted(edges, values, side="right") + 1


def build(seed: int = SEED, likeness: Likeness = clip_likeness) -> World:
    """Return a world that depends on the seed and the likeness alone.

    Args:
        seed: of everything random.
        likeness: how alike each picture is to human art; see `clip_likeness`.
    """
    references = populations.references(seed)
    pictures = populations.posted_pictures(np.random.default_rng([seed, 4]), references)
    art = [row for row in references if row["corpus"] == "artbench"]
    for row, quintile in zip(pictures, quintiles(likeness(pictures, art)), strict=True):
        row["quintile"] = int(quintile)
    plan = posts.plan_posts(seed, pictures)
    prompts = list(dict.fromkeys(row["prompt"] for row in references if row["prompt"]))
    return World(
        users=pl.DataFrame(plan.users, infer_schema_length=None),
        posts=pl.DataFrame(plan.posts, infer_schema_length=None),
        media=pl.DataFrame(plan.media, infer_schema_length=None),
        references=pl.DataFrame(references, infer_schema_length=None),
        texts=pl.DataFrame(texts.text_sources(seed, prompts)),
    )


def write(world: World, folder: Path) -> None:
    """Write a world's tables, one Parquet file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        frame: pl.DataFrame = getattr(world, name)
        frame.write_parquet(folder / f"{name}.parquet", compression="zstd", compression_level=19)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the plan and the truths planted in it."""
    from twigma_core.models.weights import sample_weights, sha256_of
    from twigma_core.sample.truths import plant
    from twigma_core.sample.truths import write as write_truths

    parser = argparse.ArgumentParser(prog="python -m twigma_core.sample.world", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=PLAN, help="folder of the plan")
    chosen = parser.parse_args(arguments)
    world = build(chosen.seed)
    write(world, chosen.out)
    clip = sha256_of(sample_weights("clip") / "open_clip_model.safetensors")
    write_truths(plant(world, clip), chosen.out.parent / "truths.json")
    size = sum((chosen.out / f"{name}.parquet").stat().st_size for name in TABLES)
    counts = f"{world.posts.height} posts, {world.media.height} media, {world.references.height} references"
    sys.stdout.write(f"{counts}, {size / 1e6:.2f} MB in {chosen.out}\n")
