"""A lake as someone meets it in a notebook: its tables as Polars or DuckDB, its vectors, its pictures.

Only reading. What belongs here: finding things by name, with errors that name what there is. Paths and
writing are the lake's (`lake`), SQL views the catalog's (`catalog`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.catalog import connect
from twigma_core.lake import Lake, MissingPartition, damage

if TYPE_CHECKING:
    import duckdb
    from PIL.Image import Image


@dataclass(frozen=True)
class OpenLake:
    """A lake that is open for reading.

    Attributes:
        lake: the lake itself.
    """

    lake: Lake

    def tables(self) -> pl.DataFrame:
        """Return the tables that there are: columns table, partitions, rows and about."""
        found = []
        for name, schema in tables.SCHEMAS.items():
            keys = self.lake.partitions(name)
            if keys or self.lake.has(name):
                with damage(name):
                    rows = self.lake.scan(name).select(pl.len()).collect().item()
                about = " ".join((schema.__doc__ or "").split())
                found.append((name, len(keys) or 1, rows, about))
        return pl.DataFrame(found, schema=["table", "partitions", "rows", "about"], orient="row")

    def scan(self, name: str, months: str | Iterable[str] | None = None) -> pl.LazyFrame:
        """Return a table as a lazy frame: nothing is read but what the query needs.

        Args:
            name: of the table, such as "dataset"; docs/tables.md has them all.
            months: a month such as "2022-09", or several; None is all that there is.

        Raises:
            KeyError: there is no such table.
            MissingPartition: it has not been materialized, or not for one of the months.
        """
        if name not in tables.SCHEMAS:
            near = difflib.get_close_matches(name, tables.SCHEMAS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(tables.SCHEMAS)}"
            raise KeyError(f"no table {name!r}; {hint}")
        if months is None:
            if not self.lake.has(name) and not self.lake.partitions(name):
                raise MissingPartition(f"{name} is not materialized; materialize it first")
            return self.lake.scan(name)
        wanted = [months] if isinstance(months, str) else list(months)
        there = self.lake.partitions(name)
        if missing := [month for month in wanted if month not in there]:
            raise MissingPartition(
                f"{name} has no {', '.join(missing)}; it has {', '.join(there) or 'no months'}"
            )
        return self.lake.scan(name, wanted)

    def table(self, name: str, months: str | Iterable[str] | None = None) -> pl.DataFrame:
        """Return a table as a frame; arguments and errors as `scan`.

        Raises:
            DamagedTable: a file of it cannot be read.
        """
        frame = self.scan(name, months)
        with damage(name):
            return frame.collect()

    def dataset(self, months: str | Iterable[str] | None = None) -> pl.DataFrame:
        """Return the dataset, a row a unique picture, with its cluster and place on the map.

        Columns as in table `dataset`, and `cluster`, `x`, `y`, null where there is no clustering or map yet;
        oldest first.

        Raises:
            MissingPartition: it has not been materialized, or not for one of the months.
            DamagedTable: a file of it, or of clusters or projection, cannot be read.
        """
        pictures = self.scan("dataset", months)
        for name, columns in (("clusters", ("cluster",)), ("projection", ("x", "y"))):
            beside = self.lake.scan(name).select("image_id", *columns)
            pictures = pictures.join(beside, on="image_id", how="left", maintain_order="left")
        with damage("dataset"):
            return pictures.sort("created_at", "tweet_id", "image_id").collect()

    def vectors(self, pictures: pl.DataFrame) -> np.ndarray:
        """Return the CLIP embeddings of pictures: (n, d) float32, l2-normalised, row for row.

        Args:
            pictures: rows with `image_id` and `month`, such as those of `dataset` or a part of them.

        Raises:
            KeyError: a picture has no embedding.
            MissingPartition: a month has none.
        """
        numbered = pictures.select("image_id", "month").with_row_index("row")
        parts, rows = [], []
        for (month,), part in numbered.group_by("month", maintain_order=True):
            parts.append(self.lake.read_arrays("embeddings", str(month)).take(part["image_id"]).vectors)
            rows.append(part["row"].to_numpy())
        if not parts:
            return np.zeros((0, 0), np.float32)
        found = np.empty((pictures.height, parts[0].shape[1]), np.float32)
        found[np.concatenate(rows)] = np.concatenate(parts)
        return found

    def picture(self, image_id: str) -> Image:
        """Return a picture of the dataset, opened with Pillow.

        Raises:
            KeyError: the dataset has no such picture.
        """
        from twigma_core.images.decode import open_picture

        row = self.scan("dataset").filter(pl.col("image_id") == image_id).head(1).collect()
        if row.is_empty():
            raise KeyError(f"no picture {image_id!r} in the dataset")
        data = self.lake.read_bytes(row["shard"][0], row["offset"][0], row["bytes"][0])
        return open_picture(data)

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with a view of each table, by its name."""
        return connect(self.lake)

    def sql(self, query: str) -> pl.DataFrame:
        """Return what a query over the tables gives, by DuckDB."""
        with self.duckdb() as connection:
            return connection.sql(query).pl()


def open_lake(root: str | Path | None) -> OpenLake:
    """Open a lake; see `twigma_core.open`."""
    named = root or os.environ.get("TWIGMA_LAKE") or Path(os.environ.get("TWIGMA_HOME") or ".twigma", "lake")
    lake = Lake(named)
    if not lake.list_folders("tables"):
        inside = Lake(f"{str(named).rstrip('/')}/lake")
        if not inside.list_folders("tables"):
            raise FileNotFoundError(
                f"no lake at {named}: it has no tables; build one (`twigma demo`), or name another folder"
            )
        lake = inside
    return OpenLake(lake)
