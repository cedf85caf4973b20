"""A lake in a notebook: two lines to the dataset, and errors that name what there is."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from PIL import Image

import twigma_core
from tests.core.release.conftest import world  # noqa: F401  the same small dataset
from twigma_core.lake import ArrayTable, Lake, MissingPartition
from twigma_core.opened import OpenLake

if TYPE_CHECKING:
    from tests.core.release.conftest import World


def bitmap(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(
        file, "PNG", compress_level=0
    )  # of any colour the same size
    return file.getvalue()


@pytest.fixture
def home(tmp_path: Path, world: World) -> Path:  # noqa: F811
    """A home folder with a lake of the dataset, its clusters, embeddings and pictures, and no map yet."""
    lake = Lake(tmp_path / "lake")
    size = len(bitmap(0))
    dataset = world.dataset.sort("image_id").with_row_index("at")
    dataset = dataset.with_columns(offset=pl.col("at").cast(pl.Int64) * size, bytes=size).drop("at")
    lake.write_bytes("shards/a.tar", b"".join(bitmap(number) for number in range(dataset.height)))
    for (month,), part in dataset.group_by("month"):
        lake.write("dataset", part, str(month))
        ids = part["image_id"].sort(descending=True)
        fixed = {"month": str(month), "sha256": "0", "model": "m", "weights_sha256": "0", "settings": ""}
        table = ids.to_frame().with_columns(**{key: pl.lit(value) for key, value in fixed.items()})
        vectors = np.array([[int(one[-3:]), 1] for one in ids], np.float32)
        lake.write("embeddings", ArrayTable(table, {"vectors": vectors}), str(month))
    for (month,), part in world.clusters.group_by("month"):
        lake.write("clusters", part, str(month))
    return tmp_path


@pytest.fixture
def opened(home: Path) -> OpenLake:
    return twigma_core.open(home / "lake")


def test_the_dataset_in_two_lines(opened: OpenLake, world: World) -> None:  # noqa: F811
    dataset = opened.dataset()
    assert dataset.height == world.dataset.height
    assert dataset["created_at"].is_sorted()
    expected = dict(world.clusters.select("image_id", "cluster").iter_rows())
    assert dict(dataset.select("image_id", "cluster").iter_rows()) == {
        one: expected.get(one) for one in dataset["image_id"]
    }
    assert dataset["x"].null_count() == dataset.height
    month = opened.dataset("2022-02")
    assert month.equals(dataset.filter(month="2022-02")) and month.height
    assert opened.dataset(["2022-02", "2022-01"]).height > month.height


def test_the_same_with_sql(opened: OpenLake) -> None:
    counted = opened.sql("select month, count(*) as n from dataset group by month order by month")
    assert dict(counted.iter_rows()) == dict(opened.dataset().group_by("month").len().iter_rows())
    with opened.duckdb() as connection:
        assert connection.execute("select count(*) from clusters").fetchone() == (59,)


def test_vectors_come_row_for_row(opened: OpenLake) -> None:
    some = opened.dataset().sample(fraction=0.5, shuffle=True, seed=1)
    assert opened.vectors(some)[:, 0].tolist() == [int(one[-3:]) for one in some["image_id"]]
    assert opened.vectors(some.head(0)).shape[0] == 0
    with pytest.raises(KeyError, match="1 of 1 ids have no row"):
        opened.vectors(pl.DataFrame({"image_id": ["7"], "month": ["2022-01"]}))


def test_a_picture_is_that_of_the_row(opened: OpenLake, world: World) -> None:  # noqa: F811
    ids = world.dataset["image_id"].sort()
    assert opened.picture(ids[17]).getpixel((0, 0)) == (17, 0, 0)
    with pytest.raises(KeyError, match="no picture '7'"):
        opened.picture("7")


def test_what_is_not_there_is_named(opened: OpenLake, tmp_path: Path) -> None:
    assert opened.tables().select("table", "partitions").rows()[0] == ("embeddings", 6)
    with pytest.raises(KeyError, match="no table 'datasets'; did you mean dataset"):
        opened.table("datasets")
    with pytest.raises(MissingPartition, match="captions is not materialized"):
        opened.table("captions")
    with pytest.raises(MissingPartition, match="dataset has no 1999-01; it has 2022-01"):
        opened.dataset("1999-01")
    with pytest.raises(FileNotFoundError, match=r"no lake at .*nowhere"):
        twigma_core.open(tmp_path / "nowhere")


def test_the_lake_of_the_settings_is_opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (home / "lake").resolve()
    monkeypatch.delenv("TWIGMA_LAKE", raising=False)
    monkeypatch.setenv("TWIGMA_HOME", str(home))
    assert Path(str(twigma_core.open().lake.root)).resolve() == wanted
    monkeypatch.setenv("TWIGMA_LAKE", str(home / "lake"))
    monkeypatch.setenv("TWIGMA_HOME", "elsewhere")
    assert Path(str(twigma_core.open().lake.root)).resolve() == wanted
    assert Path(str(twigma_core.open(home).lake.root)).resolve() == wanted


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ("polars", "numpy", "duckdb", "upath")
    code = f"import sys, twigma_core; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
