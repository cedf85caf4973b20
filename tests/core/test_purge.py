"""Deletions in the files of a lake that no graph makes anew: the map's sample, returned sheets."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.collect.tombstones import Gone
from twigma_core.images.shards import read_picture, write_shards
from twigma_core.lake import ArrayTable, Lake
from twigma_core.purge import purge, traces

POST, OTHER = "1500000000000000001", "1500000000000000002"
PICTURE, KEPT = "1354143047324299264", "1354143047324299265"


def lake_with_a_post_that_goes(root: Path) -> tuple[Lake, Gone]:
    lake = Lake(root)
    stone = {
        "kind": "post",
        "id": POST,
        "status": "deleted",
        "source": "a",
        "month": "2022-03",
        "image_ids": [PICTURE],
        "noted_at": None,
    }
    frame = pl.DataFrame([stone]).with_columns(noted_at=pl.lit("2022-04-01").str.to_datetime(time_zone="UTC"))
    lake.write("tombstones", tables.conform("tombstones", frame))
    return lake, Gone.of(lake)


def test_a_picture_leaves_the_maps_sample_and_the_others_keep_their_places(tmp_path: Path) -> None:
    lake, gone = lake_with_a_post_that_goes(tmp_path)
    ids = [KEPT, PICTURE, "laion1"]
    table = pl.DataFrame(
        {
            "source": ["twigma", "twigma", "laion"],
            "image_id": ids,
            "x": [0.0, 1, 2],
            "y": [0.0, 1, 2],
            "version": "v",
        }
    )
    arrays = {
        "vectors": np.arange(9, dtype=np.float32).reshape(3, 3),
        "coordinates": np.array([[0, 0], [1, 1], [2, 2]], dtype=np.float32),
        "pca_components": np.eye(3, dtype=np.float32),
    }
    lake.write("projection_model", ArrayTable(table, arrays))
    assert traces(lake, gone)
    purge(lake, gone)
    left = lake.read_arrays("projection_model")
    assert left.table["image_id"].to_list() == [KEPT, "laion1"] and left.table["x"].to_list() == [0, 2]
    assert left.vectors.tolist() == [[0, 1, 2], [6, 7, 8]]
    assert left.arrays["coordinates"].tolist() == [[0, 0], [2, 2]]
    assert left.arrays["pca_components"].shape == (3, 3), "as long as the table, but not of its rows"
    assert traces(lake, gone) == []


def test_returned_sheets_lose_the_picture_and_nothing_else(tmp_path: Path) -> None:
    lake, gone = lake_with_a_post_that_goes(tmp_path)
    sheet = f"annotator,image_id,keywords\nann,{PICTURE},cat\nann,{KEPT},dog\n"
    export = [{"data": {"image_id": one, "image": "data:..."}} for one in (PICTURE, KEPT)]
    lake.write_bytes("inbox/annotations/ann.csv", sheet.encode())
    lake.write_bytes("inbox/annotations/bob.json", json.dumps(export).encode())
    purge(lake, gone)
    assert lake.read_bytes("inbox/annotations/ann.csv").decode().splitlines()[1:] == [f"ann,{KEPT},dog"]
    assert json.loads(lake.read_bytes("inbox/annotations/bob.json")) == export[1:]
    assert traces(lake, gone) == []


def test_what_still_names_it_is_told_by_file(tmp_path: Path) -> None:
    lake, gone = lake_with_a_post_that_goes(tmp_path)
    lake.write_bytes("notes/anything.txt", f"see {POST}".encode())
    purge(lake, gone)
    assert traces(lake, gone) == [f"notes/anything.txt names {POST}"]


def test_what_shows_pictures_without_naming_them_goes_when_one_has_gone(tmp_path: Path) -> None:
    lake, gone = lake_with_a_post_that_goes(tmp_path)
    places = write_shards(
        lake, "shards/images/2022-03", [(f"{one}.jpg", one.encode()) for one in (PICTURE, KEPT)]
    )
    ledger = pl.DataFrame(
        {
            "image_id": [PICTURE, KEPT],
            "month": "2022-03",
            "status": "ok",
            "format": "JPEG",
            "sha256": [hashlib.sha256(one.encode()).hexdigest() for one in (PICTURE, KEPT)],
            "bytes": [place.bytes for place in places],
            "shard": [place.shard for place in places],
            "offset": [place.offset for place in places],
        }
    )
    columns = {name: pl.lit(None) for name in tables.empty("images").columns if name not in ledger.columns}
    now = pl.lit(datetime(2022, 4, 1, tzinfo=UTC))
    whole = ledger.with_columns(**{**columns, "attempts": pl.lit(1), "fetched_at": now})
    lake.write("images", tables.conform("images", whole), "2022-03")
    for file in ("figures/figure_4c.png", "figures/figure_2d.png", "report/index.html"):
        lake.write_bytes(file, b"a picture")
    done = purge(lake, gone)
    assert done.counts["pictures"] == 1 and done.months == {"2022-03"}
    assert lake.list_files("figures") == ["figures/figure_2d.png"] and lake.list_files("report") == []
    left = lake.read("images", "2022-03").row(0, named=True)
    assert read_picture(lake, left["shard"], left["offset"], left["bytes"]) == KEPT.encode()
    assert lake.list_files("shards/images/2022-03") == [left["shard"]]
    assert PICTURE.encode() not in lake.read_bytes(left["shard"])
    assert traces(lake, gone) == []
    assert purge(lake, gone).counts.total() == 0


def test_a_picture_that_another_post_shows_too_stays(tmp_path: Path) -> None:
    lake, gone = lake_with_a_post_that_goes(tmp_path)
    media = pl.DataFrame({"tweet_id": [POST, OTHER], "image_id": PICTURE, "month": "2022-03", "position": 0})
    columns = {
        name: pl.lit(None) for name in tables.empty("tweet_media").columns if name not in media.columns
    }
    whole = media.with_columns(**{**columns, "created_at": pl.lit(datetime(2022, 3, 5, tzinfo=UTC))})
    lake.write("tweet_media", tables.conform("tweet_media", whole), "2022-03")
    sheet = f"annotator,image_id,keywords\nann,{PICTURE},cat\n".encode()
    lake.write_bytes("inbox/annotations/ann.csv", sheet)
    lake.write_bytes("outbox/annotations/sheet.csv", sheet)
    assert purge(lake, gone).counts == {"rows": 1}
    assert lake.read("tweet_media", "2022-03")["tweet_id"].to_list() == [OTHER]
    assert (
        lake.read_bytes("inbox/annotations/ann.csv")
        == lake.read_bytes("outbox/annotations/sheet.csv")
        == sheet
    )
    assert traces(lake, gone) == []
