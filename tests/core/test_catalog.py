"""The DuckDB views of a lake: complete, typed, commented, and readable from anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest

from twigma_core import tables
from twigma_core.catalog import connect, write_catalog
from twigma_core.lake import Lake


def _captions(month: str, ids: list[str]) -> pl.DataFrame:
    fixed = {"month": month, "caption": "a castle", "model": "m", "weights_sha256": "0"}
    fixed |= {"sha256": "0", "settings": ""}
    return pl.DataFrame({"image_id": ids}).with_columns(
        **{key: pl.lit(value) for key, value in fixed.items()}
    )


def _all_captions(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    return connection.execute("SELECT month, image_id FROM captions ORDER BY 1, 2").fetchall()


def test_every_table_is_a_view_with_its_columns_and_comments(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write("captions", _captions("2021-01", ["1"]), "2021-01")
    with duckdb.connect(str(write_catalog(lake)), read_only=True) as connection:
        views = dict(
            connection.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall()
        )
        assert set(views) == set(tables.SCHEMAS)
        for name, schema in tables.SCHEMAS.items():
            assert views[name] == (schema.__doc__ or "").strip()
            columns = connection.execute(
                "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = ? "
                "ORDER BY column_index",
                [name],
            ).fetchall()
            assert columns == [(key, spec.description) for key, spec in schema.columns().items()]


def test_an_empty_view_has_the_types_of_the_files_to_come(tmp_path: Path) -> None:
    present = Lake(tmp_path / "present")
    for name in tables.SCHEMAS:
        present.write(name, tables.empty(name))
    before, after = connect(Lake(tmp_path / "missing")), connect(present)
    for name in tables.SCHEMAS:
        described = [c.execute(f'DESCRIBE SELECT * FROM "{name}"').fetchall() for c in (before, after)]
        assert described[0] == described[1], name
        assert before.execute(f'SELECT count(*) FROM "{name}"').fetchone() == (0,)


def test_opened_from_anywhere_and_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative root with quotes and glob characters, opened in another process in another folder."""
    monkeypatch.chdir(tmp_path)
    lake = Lake("it's a [lake]*")
    lake.write("captions", _captions("2021-01", ["1"]), "2021-01")
    path = write_catalog(lake)
    lake.write("captions", _captions("2021-02", ["2"]), "2021-02")
    code = f"import duckdb; print(duckdb.connect({str(path)!r}, True).execute({_COUNT!r}).fetchone()[0])"
    answer = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["2"]


_COUNT = "SELECT count(*) FROM captions"


def test_a_whole_table_is_read_alone(tmp_path: Path) -> None:
    """Partitions left from a table's former shape are not mixed into its `all` file, as in `Lake.scan`."""
    lake = Lake(tmp_path)
    lake.write("captions", _captions("2021-01", ["old"]), "2021-01")
    lake.write("captions", _captions("2021-01", ["new"]))
    assert _all_captions(connect(lake)) == [("2021-01", "new")]


def test_replaced_at_once_and_nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path)
    path = write_catalog(lake)
    reader = duckdb.connect(str(path), read_only=True)
    lake.write("captions", _captions("2021-01", ["1"]), "2021-01")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_catalog(lake)
    assert path.read_bytes() == before
    write_catalog(lake)
    assert _all_captions(reader) == []
    reader.close()
    with duckdb.connect(str(path), read_only=True) as connection:
        assert _all_captions(connection) == [("2021-01", "1")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tables", "twigma.duckdb"]


def test_a_remote_lake_is_queried_in_memory() -> None:
    lake = Lake("memory://catalog-test")
    lake.write("captions", _captions("2021-01", ["1", "2"]), "2021-01")
    assert _all_captions(connect(lake)) == [("2021-01", "1"), ("2021-01", "2")]
    with pytest.raises(ValueError, match=r"use twigma_core\.catalog\.connect"):
        write_catalog(lake)
