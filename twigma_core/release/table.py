"""The table that is published, in two profiles, as Parquet and as CSV.

`ids_strict` (the default) holds ids and what is derived from the picture: X's rules allow sharing ids, not
content. `paper_compat` holds the 12 columns of the 2023 release of TWIGMA (zenodo.org/records/8031785) in
its order and is opt-in, since it repeats counts of likes. Neither holds text or authors.

Here columns are chosen and written; the files around them are in `package`.
"""

from __future__ import annotations

import io
from typing import Literal, get_args

import polars as pl
import polars.selectors as cs

from twigma_core import tables

Profile = Literal["ids_strict", "paper_compat"]
PROFILES: tuple[str, ...] = get_args(Profile)

SOURCES: dict[str, tuple[str, str]] = {
    "id": ("dataset", "tweet_id"),
    "image_id": ("dataset", "image_id"),
    "image_name": ("dataset", "image_name"),
    "month": ("dataset", "month"),
    "created_at": ("dataset", "created_at"),
    "like_count": ("dataset", "like_count"),
    "quote_count": ("dataset", "quote_count"),
    "reply_count": ("dataset", "reply_count"),
    "all_captions": ("dataset", "caption"),
    "label_10_cluster": ("clusters", "cluster"),
    "possibly_sensitive": ("dataset", "possibly_sensitive"),
    "nsfw_score": ("dataset", "nsfw_score"),
    "UMAP_dim_1": ("projection", "x"),
    "UMAP_dim_2": ("projection", "y"),
}
"""Each released column with the table and column of the lake that it is."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "ids_strict": (
        "id",
        "image_id",
        "month",
        "all_captions",
        "label_10_cluster",
        "nsfw_score",
        "UMAP_dim_1",
        "UMAP_dim_2",
    ),
    "paper_compat": (
        "id",
        "image_name",
        "created_at",
        "like_count",
        "quote_count",
        "reply_count",
        "all_captions",
        "label_10_cluster",
        "possibly_sensitive",
        "nsfw_score",
        "UMAP_dim_1",
        "UMAP_dim_2",
    ),
}
"""The columns of each profile, in order."""

FORMULA_STARTS = "=+-@\t\r"
"""First characters that make a spreadsheet take a text for a formula."""


def join_features(dataset: pl.DataFrame, clusters: pl.DataFrame, projection: pl.DataFrame) -> pl.DataFrame:
    """Return `dataset` with `label_10_cluster`, `UMAP_dim_1` and `UMAP_dim_2` from the other two tables.

    Every picture of the dataset stays; one without a cluster or a place on the map has nulls there.

    Raises:
        polars.exceptions.ComputeError: a picture is twice in `clusters` or `projection`.
    """
    labels = clusters.select("image_id", label_10_cluster="cluster")
    places = projection.select("image_id", UMAP_dim_1="x", UMAP_dim_2="y")
    return dataset.join(labels, on="image_id", how="left", validate="1:1", maintain_order="left").join(
        places, on="image_id", how="left", validate="1:1", maintain_order="left"
    )


def release_table(dataset: pl.DataFrame, profile: str = "ids_strict") -> pl.DataFrame:
    """Return the released table: the columns of `profile`, one row a picture, in order of time and id.

    Args:
        dataset: what `join_features` returns.
        profile: "ids_strict" or "paper_compat".

    Ids are text in both, so that no reader turns them into floats. Scores are from 0 to 1, map coordinates
    without unit, `created_at` is UTC.

    Raises:
        ValueError: there is no such profile.
        polars.exceptions.ColumnNotFoundError: a column that the profile needs is missing.
    """
    if profile not in COLUMNS:
        raise ValueError(f"release: no profile named {profile!r}; choose {' or '.join(PROFILES)}")
    renamed = {column: name for name, (table, column) in SOURCES.items() if table == "dataset"}
    ordered = dataset.sort("created_at", "tweet_id", "image_id")
    table = ordered.rename({column: name for column, name in renamed.items() if column in ordered.columns})
    return table.select(COLUMNS[profile])


def describe_columns(profile: str) -> list[tuple[str, str, str]]:
    """Return name, origin ("table.column") and description of each column of a profile."""
    origins = [(name, *SOURCES[name]) for name in COLUMNS[profile]]
    return [
        (name, f"{table}.{column}", tables.SCHEMAS[table].columns()[column].description or "")
        for name, table, column in origins
    ]


def neutralise_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with an apostrophe before each text that a spreadsheet would take for a formula.

    Such a text begins with one of ``= + - @``, a tab or a carriage return (OWASP, "CSV Injection").
    """
    texts = [pl.col(name) for name in frame.select(cs.string()).columns]
    return frame.with_columns(
        pl.when(text.str.slice(0, 1).is_in(list(FORMULA_STARTS))).then("'" + text).otherwise(text).name.keep()
        for text in texts
    )


def to_csv(table: pl.DataFrame) -> bytes:
    """Return `table` as UTF-8 CSV with a header, formulas neutralised, times in ISO 8601; null is empty."""
    buffer = io.BytesIO()
    neutralise_formulas(table).write_csv(buffer, datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return buffer.getvalue()


def to_parquet(table: pl.DataFrame, metadata: dict[str, str] | None = None) -> bytes:
    """Return `table` as Parquet, with `metadata` in the file's key-value metadata."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd", metadata=metadata or {})
    return buffer.getvalue()
