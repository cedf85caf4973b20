"""The lake as SQL: one DuckDB view a table, by the table's name.

`write_catalog` leaves `twigma.duckdb` in the root of a local lake; `connect` gives the same views in memory
and works for a remote lake too. Only views are here, never data: a view reads the Parquet files each time
it is queried, so a month that is materialized later is in it at once.

Paths. DuckDB resolves a relative path against the working directory of whoever opens the file, not against
the file. The views therefore hold absolute paths, and `twigma.duckdb` can be opened from anywhere; after
the lake itself is moved, write the catalog again. A table without any file has an empty view with the
table's columns and types; it fills when the catalog is next written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from twigma_core import tables
from twigma_core.lake import WHOLE, Lake

if TYPE_CHECKING:
    import duckdb

FILE = "twigma.duckdb"


def write_catalog(lake: Lake) -> Path:
    """Write `<root>/twigma.duckdb` anew and return its absolute path.

    The old file is replaced in one step: who has it open keeps reading the old one, and a process that is
    killed leaves it as it was.

    Raises:
        ValueError: the lake is not local; `connect` gives the same views there.
    """
    import duckdb

    if not lake.local:
        raise ValueError(
            f"{FILE}: a DuckDB file cannot be written to {lake.root}; "
            "use twigma_core.catalog.connect(lake) for the same views in memory"
        )
    with tempfile.TemporaryDirectory(prefix="twigma-catalog-") as scratch:
        built = Path(scratch) / FILE
        with duckdb.connect(str(built)) as connection:
            _create_views(connection, lake)
        lake.write_bytes(FILE, built.read_bytes())
    return _absolute(lake) / FILE


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB connection with a view for every table; times are shown in UTC.

    A remote lake is read through its own fsspec file system, with the credentials that the lake has.

    Example:
        >>> connect(Lake("data")).sql("select month, count(*) from dataset group by month").pl()
    """
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    if not lake.local:
        connection.register_filesystem(lake.root.fs)
    _create_views(connection, lake)
    return connection


def _absolute(lake: Lake) -> Path:
    return Path(str(lake.root)).resolve()


def _create_views(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    with tempfile.TemporaryDirectory(prefix="twigma-catalog-") as scratch:
        for name, schema in sorted(tables.SCHEMAS.items()):
            source = _source(lake, name)
            query = (
                f"SELECT * FROM read_parquet({_text(source)})"
                if source
                else _empty_query(connection, name, Path(scratch))
            )
            statements = [
                f"CREATE VIEW {_name(name)} AS {query}",
                f"COMMENT ON VIEW {_name(name)} IS {_text((schema.__doc__ or '').strip())}",
            ]
            statements += [
                f"COMMENT ON COLUMN {_name(name)}.{_name(column)} IS {_text(spec.description or '')}"
                for column, spec in schema.columns().items()
            ]
            connection.execute("; ".join(statements))


def _source(lake: Lake, name: str) -> str | None:
    """Return the glob of a table's files, or None where it has none."""
    whole = lake.has(name)
    if not whole and not lake.partitions(name):
        return None
    folder = str(_absolute(lake) / "tables" / name) if lake.local else str(lake.path("tables", name))
    # A root such as "/data/[2023]" is a name, not a pattern: a bracketed character stands for itself.
    plain = "".join(f"[{character}]" if character in "[*?" else character for character in folder)
    return f"{plain}/{WHOLE if whole else '*'}.parquet"


def _empty_query(connection: duckdb.DuckDBPyConnection, name: str, scratch: Path) -> str:
    """Return a query without rows whose types are those that DuckDB gives the table's Parquet files."""
    path = scratch / f"{name}.parquet"
    tables.empty(name).write_parquet(path)
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({_text(str(path))})").fetchall()
    columns = ", ".join(f"CAST(NULL AS {row[1]}) AS {_name(row[0])}" for row in described)
    return f"SELECT {columns} WHERE false"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
