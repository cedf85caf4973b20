"""The lake: whole or nothing, content versions, arrays beside tables."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dataframely.exc import SchemaError, ValidationError

from twigma_core import tables
from twigma_core.lake import ArrayTable, Lake, MissingPartition, data_version, frame_version
from twigma_core.provenance import Provenance, Upstream


@pytest.fixture(params=["folder", "object store"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake of either kind."""
    if request.param == "folder":
        return Lake(tmp_path / "lake")
    lake: Lake = request.getfixturevalue("s3_lake")
    return lake


def clusters(month: str = "2021-01", ids: tuple[str, ...] = ("1", "2")) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "image_id": ids,
            "month": month,
            "cluster": [1] * len(ids),
            "distance": [0.5] * len(ids),
            "version": "v",
        }
    )


def vectors(value: float, ids: tuple[str, ...] = ("a", "b")) -> ArrayTable:
    table = pl.DataFrame(
        {
            "image_id": ids,
            "month": "2021-01",
            "sha256": "s",
            "model": "m",
            "weights_sha256": "w",
            "settings": "",
        }
    )
    return ArrayTable(table, {"vectors": np.full((len(ids), 3), value, np.float32)})


def test_a_partition_replaces_itself(lake: Lake) -> None:
    lake.write("clusters", clusters(ids=("1", "2", "3")), "2021-01")
    lake.write("clusters", clusters(ids=("9",)), "2021-01")
    assert lake.read("clusters", "2021-01")["image_id"].to_list() == ["9"]
    assert lake.partitions("clusters") == ["2021-01"]


def test_arrays_follow_their_table_and_old_ones_go(lake: Lake) -> None:
    lake.write("embeddings", vectors(1), "2021-01")
    lake.write("embeddings", vectors(2), "2021-01")
    stored = lake.read_arrays("embeddings", "2021-01")
    assert isinstance(stored.vectors, np.memmap) == lake.local
    assert (stored.vectors == 2).all()
    assert sum(name.endswith(".npy") for name in lake.list_files("tables/embeddings")) == 1


@pytest.mark.parametrize(
    ("frame", "error", "names"),
    [
        (clusters().with_columns(month=pl.lit("2021-13")), ValidationError, "month"),
        (clusters(ids=("1", "1")), ValidationError, "primary_key"),
        (clusters().drop("distance"), SchemaError, "distance"),
    ],
)
def test_a_frame_that_breaks_the_contract_is_refused(
    lake: Lake, frame: pl.DataFrame, error: type[Exception], names: str
) -> None:
    lake.write("clusters", clusters(), "2021-01")
    with pytest.raises(error, match=names):
        lake.write("clusters", frame, "2021-01")
    assert lake.read("clusters", "2021-01").height == 2, "the old partition stays"


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path)
    lake.write("clusters", clusters(), "2021-01")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        lake.write("clusters", clusters(ids=("7",)), "2021-01")
    assert lake.read("clusters", "2021-01").height == 2
    assert [path.name for path in Path(str(lake.root)).rglob("*.tmp")] == []


def test_what_is_missing_is_named(lake: Lake) -> None:
    with pytest.raises(MissingPartition, match="tweets/2021-05 is not materialized"):
        lake.read("tweets", "2021-05")
    with pytest.raises(MissingPartition, match="embeddings: no partition"):
        lake.read_all_arrays("embeddings")
    assert lake.scan("tweets").collect().is_empty()


def test_the_version_is_of_the_content() -> None:
    def row(reason: str | None, hour: int) -> pl.DataFrame:
        when = dt.datetime(2021, 1, 1, hour, tzinfo=dt.UTC)
        return tables.conform(
            "images",
            tables.empty("images")
            .clear(1)
            .with_columns(
                image_id=pl.lit("1"),
                month=pl.lit("2021-01"),
                status=pl.lit("failed", dtype=pl.Enum(tables.IMAGE_STATUSES)),
                reason=pl.lit(reason, dtype=pl.String),
                attempts=pl.lit(1, dtype=pl.Int64),
                fetched_at=pl.lit(when),
            ),
        )

    assert data_version("images", row("a", 1)) == data_version("images", row("a", 2)), "when does not count"
    assert data_version("images", row("a", 1)) != data_version("images", row("b", 1)), "what does"
    base, other = vectors(1), vectors(1.0001)
    assert data_version("embeddings", base.table, base.arrays) != data_version(
        "embeddings", other.table, other.arrays
    )


def test_the_version_is_of_the_values_however_they_lie_in_memory() -> None:
    frame = pl.DataFrame(
        {
            "text": ["a name longer than twelve bytes", None, "b", "another one that is no short string"],
            "number": [1.5, None, float("nan"), 3.0],
            "flag": [True, False, None, True],
            "list": [["x", "y"], [], None, ["z"]],
            "array": pl.Series([[1, 2], [3, 4], [5, 6], [7, 8]], dtype=pl.Array(pl.Int32, 2)),
            "struct": [{"k": 1}, {"k": None}, {"k": 2}, {"k": 3}],
            "kind": pl.Series(["ok", None, "failed", "ok"], dtype=pl.Enum(["ok", "failed"])),
            "when": pl.Series([dt.datetime(2021, 1, 1, tzinfo=dt.UTC)] * 4),
        }
    )
    expected = frame_version(frame)
    masked = frame.with_columns(
        number=pl.when(frame["number"].is_not_null()).then(frame["number"].fill_null(99.0)),
        flag=pl.when(frame["flag"].is_not_null()).then(frame["flag"].fill_null(value=True)),
    )
    in_slices = pl.concat([frame.slice(start, 1) for start in range(4)], rechunk=False)
    cut_out = pl.concat([frame.reverse(), frame, frame.reverse()]).slice(4, 4)
    there_and_back = frame.reverse().reverse()
    for other in (masked, in_slices, cut_out, there_and_back):
        assert frame_version(other) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([None, ""], ["", None]),
        ([[1], [2]], [[1, 2], []]),
        ([[1], None], [[1], []]),
        ([[None], []], [[], [None]]),
        ([True, False], [False, True]),
        ([{"k": 1}, None], [{"k": 1}, {"k": None}]),
        ([0, 1], [0.0, 1.0]),
        ([1], [1, 1]),
    ],
)
def test_other_values_have_another_version(one: list[object], other: list[object]) -> None:
    assert frame_version(pl.DataFrame({"a": one})) != frame_version(pl.DataFrame({"a": other}))
    assert frame_version(pl.DataFrame({"a": one})) != frame_version(pl.DataFrame({"b": one}))


def test_a_table_tells_its_lineage(lake: Lake) -> None:
    made = Provenance(
        "clusters", "2021-01", "run", models={"m": "s"}, upstream=(Upstream("dataset", "2021-01", "v"),)
    )
    stored = lake.write("clusters", clusters(), "2021-01", made)
    read = lake.provenance("clusters", "2021-01")
    assert read == stored.provenance
    assert read.data_version == data_version("clusters", lake.read("clusters", "2021-01"))
    assert Provenance.from_json(read.to_json()) == read
    many = tuple(Upstream("dataset", f"{year}-01", "v" * 60) for year in range(1000, 9000))
    lake.write("clusters", clusters(), "2021-01", replace(made, upstream=many))
    assert len(lake.provenance("clusters", "2021-01").upstream) == 8000, (
        "a footer longer than is read at first"
    )
    assert "dataset/2021-01  v" in read.describe()


def test_rows_are_taken_by_id() -> None:
    table = vectors(0, ("a", "b", "a"))
    table.arrays["vectors"][:, 0] = [1, 2, 3]
    taken = table.take(pl.Series(["b", "a"]))
    assert taken.vectors[:, 0].tolist() == [2, 1], "the first row of an id that occurs twice"
    with pytest.raises(KeyError, match="1 of 2 ids"):
        table.take(pl.Series(["a", "z"]))
