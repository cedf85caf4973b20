"""Vectors, captions and scores: only what is new goes through the model, and nothing tells that it did."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twigma_core import features, incremental
from twigma_core.images.shards import write_shards
from twigma_core.incremental import Effort, Work
from twigma_core.lake import ArrayTable, Lake
from twigma_core.models.blip import Captioner
from twigma_core.models.clip import ClipEncoder
from twigma_core.models.nsfw import NsfwScorer
from twigma_core.sample.drawing import random_scene
from twigma_core.sample.media import encode

MONTH = "2021-03"
PICTURES = 45
LATE = 3


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [encode(random_scene(np.random.default_rng(seed))) for seed in range(PICTURES)]


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return ClipEncoder("sample", device="cpu")


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner("sample", device="cpu")


def ledger(lake: Lake, files: list[bytes], shard_bytes: int = 40_000) -> pl.DataFrame:
    """Store pictures and return what of table `images` and `reference_images` is read of them."""
    places = write_shards(
        lake, f"shards/images/{MONTH}", [(f"{n}.jpg", f) for n, f in enumerate(files)], shard_bytes
    )
    return pl.DataFrame(
        {
            "image_id": [f"p{n:03}" for n in range(len(files))],
            "status": "ok",
            "sha256": [hashlib.sha256(file).hexdigest() for file in files],
            "shard": [place.shard for place in places],
            "offset": [place.offset for place in places],
            "bytes": [place.bytes for place in places],
            "artist": None,
            "prompt_id": None,
        },
        schema_overrides={"artist": pl.String, "prompt_id": pl.String},
    )


class Counted:
    """Counts forward passes of a tower of the real model."""

    def __init__(self, tower: Any) -> None:
        self.passes = 0
        self._hook = tower.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.passes += 1

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def embedded(lake: Lake, files: list[bytes], encoder: ClipEncoder, **how: Any) -> tuple[ArrayTable, Effort]:
    work = Work(lake, "embeddings", MONTH, **how)
    made, effort = features.embed_pictures(work, ledger(lake, files), encoder)
    lake.write("embeddings", made, MONTH)
    work.finish()
    return made, effort


def test_three_late_pictures_cost_three_forward_passes(tmp_path: Path, files: list[bytes]) -> None:
    one_by_one = ClipEncoder("sample", device="cpu", batch_size=1)
    lake = Lake(tmp_path / "lake")
    tower = one_by_one._models["cpu"].visual
    with Counted(tower) as first:
        embedded(lake, files[:-LATE], one_by_one)
    assert first.passes == PICTURES - LATE
    with Counted(tower) as second:
        made, effort = embedded(lake, files, one_by_one)
    assert second.passes == LATE
    assert (effort.computed, effort.reused, effort.resumed) == (LATE, PICTURES - LATE, 0)
    whole, _ = embedded(Lake(tmp_path / "other"), files, one_by_one)
    np.testing.assert_array_equal(made.vectors, whole.vectors)
    assert made.table.equals(whole.table)
    with Counted(tower) as third:
        embedded(lake, files, one_by_one)
    assert third.passes == 0


def test_late_pictures_change_no_bit_of_any_table(
    tmp_path: Path, files: list[bytes], encoder: ClipEncoder, captioner: Captioner
) -> None:
    """Embeddings, captions, scores, and a corpus, built twice: late and all at once."""
    scorer = NsfwScorer("sample")
    texts = pl.DataFrame(
        {
            "text_id": [f"t{n:02}" for n in range(30)],
            "source": "haiku",
            "text": [f"a cat {n}" for n in range(30)],
        }
    ).with_columns(words=pl.lit(3, pl.Int64))

    def build(lake: Lake, count: int, some_texts: int) -> dict[str, tuple[Any, Effort]]:
        images = ledger(lake, files[:count])
        made: dict[str, tuple[Any, Effort]] = {}

        def keep(name: str, partition: str, call: Callable[[Work], tuple[Any, Effort]]) -> Any:
            work = Work(lake, name, partition)
            made[name] = call(work)
            lake.write(name, made[name][0], partition)
            work.finish()
            return made[name][0]

        vectors = keep("embeddings", MONTH, lambda work: features.embed_pictures(work, images, encoder))
        keep("captions", MONTH, lambda work: features.caption_pictures(work, images, captioner))
        keep("nsfw_scores", MONTH, lambda work: features.score_pictures(work, vectors, scorer))
        keep(
            "reference_embeddings",
            "laion",
            lambda work: features.embed_references(work, images, encoder, scorer),
        )
        keep(
            "text_embeddings",
            "haiku",
            lambda work: features.embed_texts(work, texts.head(some_texts), encoder),
        )
        return made

    lake = Lake(tmp_path / "late")
    build(lake, PICTURES - LATE, 28)
    late = build(lake, PICTURES, 30)
    whole = build(Lake(tmp_path / "whole"), PICTURES, 30)
    assert {name: effort.computed for name, (_, effort) in late.items()} == {
        "embeddings": LATE,
        "captions": LATE,
        "nsfw_scores": LATE,
        "reference_embeddings": LATE,
        "text_embeddings": 2,
    }
    assert {name: effort.reused for name, (_, effort) in whole.items()} == dict.fromkeys(late, 0)
    for name, (value, _) in late.items():
        other = whole[name][0]
        if isinstance(value, ArrayTable):
            np.testing.assert_array_equal(value.vectors, other.vectors, err_msg=name)
            value, other = value.table, other.table
        assert value.equals(other), name


def test_what_changed_is_computed_again(tmp_path: Path, files: list[bytes], encoder: ClipEncoder) -> None:
    lake = Lake(tmp_path)
    embedded(lake, files, encoder)
    changed = [*files[:10], encode(random_scene(np.random.default_rng(999))), *files[11:]]
    made, effort = embedded(lake, changed, encoder)
    assert effort.computed == 1
    np.testing.assert_array_equal(
        made.vectors[10],
        encoder.encode_images([features.open_stored(("x", _sha(changed[10]), changed[10]))])[0],
    )
    other_settings = ClipEncoder("sample", device="cpu", batch_size=8)
    assert embedded(lake, changed, other_settings)[1].computed == PICTURES
    assert embedded(lake, changed, other_settings)[1].computed == 0
    assert embedded(lake, changed, other_settings, reuse=False)[1].computed == PICTURES
    lake.write(
        "embeddings",
        ArrayTable(
            lake.read("embeddings", MONTH).with_columns(weights_sha256=pl.lit("another")),
            {"vectors": made.vectors},
        ),
        MONTH,
    )
    assert embedded(lake, changed, other_settings)[1].computed == PICTURES


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_scores_follow_the_vectors(tmp_path: Path, files: list[bytes], encoder: ClipEncoder) -> None:
    """Vectors made anew by other settings are scored anew, though the pictures and the head are the same."""
    lake, scorer = Lake(tmp_path), NsfwScorer("sample")
    for name, computed in (
        (encoder, PICTURES),
        (encoder, 0),
        (ClipEncoder("sample", batch_size=8), PICTURES),
    ):
        vectors, _ = embedded(lake, files, name)
        work = Work(lake, "nsfw_scores", MONTH)
        scores, effort = features.score_pictures(work, vectors, scorer)
        lake.write("nsfw_scores", scores, MONTH)
        assert effort.computed == computed


def test_equal_files_are_computed_once(tmp_path: Path, files: list[bytes], encoder: ClipEncoder) -> None:
    work = Work(Lake(tmp_path), "embeddings", MONTH)
    made, effort = features.embed_pictures(
        work, ledger(work.lake, [*files[:5], *files[:5], files[0]]), encoder
    )
    assert effort.meter.rows == 5
    np.testing.assert_array_equal(made.vectors, made.vectors[[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]])


def test_what_is_stored_and_damaged_does_not_stand_in_the_way(
    tmp_path: Path, files: list[bytes], encoder: ClipEncoder
) -> None:
    lake = Lake(tmp_path)
    embedded(lake, files, encoder)
    vectors = next(file for file in lake.list_files("tables/embeddings") if file.endswith(".npy"))
    lake.remove(vectors)
    told: list[str] = []
    assert embedded(lake, files, encoder, log=told.append)[1].computed == PICTURES
    assert "nothing is taken over from what is stored: FileNotFoundError" in told[0]


def test_a_picture_that_is_not_what_its_ledger_says_is_named(
    tmp_path: Path, files: list[bytes], encoder: ClipEncoder
) -> None:
    work = Work(Lake(tmp_path), "embeddings", MONTH)
    images = ledger(work.lake, files[:4]).with_columns(
        sha256=pl.when(pl.col("image_id") == "p002").then(pl.lit("0" * 64)).otherwise("sha256")
    )
    with pytest.raises(LookupError, match="picture p002: its stored bytes have another sha256"):
        features.embed_pictures(work, images, encoder)
    with pytest.raises(LookupError, match="materialize the pictures again"):
        features.embed_pictures(work, images.with_columns(shard=pl.lit("shards/gone.tar")), encoder)


def test_progress_says_speed_device_and_time_left(
    tmp_path: Path, files: list[bytes], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incremental, "EVERY_S", 0.0)
    told: list[str] = []
    _, effort = embedded(Lake(tmp_path), files, encoder, log=told.append)
    first, *during, last = told
    assert first.startswith(f"embeddings/{MONTH}: 45 rows: 0 taken over, 0 resumed, 45 to compute on ")
    assert first.endswith("cores (cpu float32 batch 16)")
    assert len(during) == 2
    assert all(" of 45, " in line and "a second, forward pass" in line and " left" in line for line in during)
    assert last.startswith(f"embeddings/{MONTH}: 45 computed in 0:00:")
    shown = effort.metadata()
    assert (shown["computed"], shown["taken over"], shown["resumed"]) == (45, 0, 0)
    assert shown["per second"] > 0
    assert shown["forward pass ran"].endswith("% of the time")
    assert 0 < effort.meter.busy <= 1


KILLED = """
import os, signal, sys
import polars as pl
from twigma_core import features
from twigma_core.incremental import Work
from twigma_core.lake import Lake
from twigma_core.models.clip import ClipEncoder

encoder = ClipEncoder("sample", device="cpu", batch_size=1)
left = [int(sys.argv[3])]

def count(*_):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

encoder._models["cpu"].visual.register_forward_hook(count)
work = Work(Lake(sys.argv[1]), "embeddings", "2021-03")
features.embed_pictures(work, pl.read_parquet(sys.argv[2]), encoder)
"""


def test_a_killed_run_resumes_at_the_last_finished_shard(tmp_path: Path, files: list[bytes]) -> None:
    lake = Lake(tmp_path / "lake")
    images = ledger(lake, files)
    images.write_parquet(tmp_path / "images.parquet")
    sizes = images.group_by("shard").len().sort("shard")["len"].to_list()
    assert len(sizes) > 3
    kill_at = sizes[0] + sizes[1] + 1
    script = [sys.executable, "-c", KILLED, str(lake.root), str(tmp_path / "images.parquet"), str(kill_at)]
    assert subprocess.run(script, check=False, timeout=120).returncode == -signal.SIGKILL
    assert not lake.has("embeddings", MONTH)
    assert len(lake.list_files(f"journal/embeddings/{MONTH}")) == 2

    encoder = ClipEncoder("sample", device="cpu", batch_size=1)
    with Counted(encoder._models["cpu"].visual) as resumed:
        made, effort = embedded(lake, files, encoder)
    assert resumed.passes == effort.computed == PICTURES - sizes[0] - sizes[1]
    assert effort.resumed == sizes[0] + sizes[1]
    whole, _ = embedded(Lake(tmp_path / "whole"), files, encoder)
    np.testing.assert_array_equal(made.vectors, whole.vectors)
    assert lake.list_files(f"journal/embeddings/{MONTH}") == [], "removed once the table is written"


def test_pieces_of_another_model_and_unreadable_ones_are_not_resumed(
    tmp_path: Path, files: list[bytes], encoder: ClipEncoder
) -> None:
    lake = Lake(tmp_path)
    images = ledger(lake, files)
    work = Work(lake, "embeddings", MONTH)
    features.embed_pictures(work, images, encoder)
    pieces = lake.list_files(f"journal/embeddings/{MONTH}")
    lake.write_bytes(pieces[0], b"half a piece")
    _, again = features.embed_pictures(work, images, encoder)
    assert 0 < again.computed < PICTURES
    assert again.computed + again.resumed == PICTURES
    _, other = features.embed_pictures(work, images, ClipEncoder("sample", device="cpu", batch_size=8))
    assert other.computed == PICTURES


def test_on_s3_a_stopped_run_is_resumed_too(
    s3_lake: Lake, tmp_path: Path, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, images = files[:20], ledger(s3_lake, files[:20], 20_000)
    work, captioner = Work(s3_lake, "captions", MONTH), Captioner("sample", device="cpu", batch_size=2)
    opened: list[str] = []
    open_stored = features.open_stored

    def breaks(stored: features.Stored) -> Any:
        opened.append(stored[0])
        if len(opened) > 12:
            raise OSError("the network is gone")
        return open_stored(stored)

    monkeypatch.setattr(features, "open_stored", breaks)
    with pytest.raises(OSError, match="the network is gone"):
        features.caption_pictures(work, images, captioner)
    monkeypatch.undo()
    made, effort = features.caption_pictures(work, images, captioner)
    assert 0 < effort.resumed < 20
    assert effort.resumed + effort.computed == 20
    s3_lake.write("captions", made, MONTH)
    work.finish()
    assert s3_lake.list_files(f"journal/captions/{MONTH}") == []
    local = Lake(tmp_path)
    whole, _ = features.caption_pictures(Work(local, "captions", MONTH), ledger(local, few), captioner)
    assert made.equals(whole)
