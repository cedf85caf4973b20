"""The data dictionary: every table and column in words, from the schemas in `tables`.

Nothing is described here by hand. A column without a description in its schema shows as such.
"""

from __future__ import annotations

import dataframely as dy

from twigma_core import tables
from twigma_core.release.table import SOURCES, describe_columns


def data_dictionary() -> str:
    """Return Markdown with a section for each table of the lake and a row for each of its columns."""
    parts = ["# Tables", "", f"{len(tables.SCHEMAS)} tables, in the order of the graph.", ""]
    for name, schema in tables.SCHEMAS.items():
        parts += [f"## `{name}`", "", (schema.__doc__ or "").strip(), ""]
        parts += ["| column | type | | meaning |", "|---|---|---|---|"]
        for column, spec in schema.columns().items():
            note = "key" if spec.primary_key else "may be null" if spec.nullable else ""
            parts.append(f"| `{column}` | {_type(spec)} | {note} | {_cell(spec.description)} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def release_dictionary(profile: str) -> str:
    """Return DATA_DICTIONARY.md: the columns of a release profile, with the table each one comes from."""
    parts = [
        "# Data dictionary",
        "",
        f"Columns of `data/twigma.parquet` and `data/twigma.csv`, profile `{profile}`, in order.",
        "",
        "| column | type | meaning | origin in the lake |",
        "|---|---|---|---|",
    ]
    for name, origin, text in describe_columns(profile):
        table, column = SOURCES[name]
        spec = tables.SCHEMAS[table].columns()[column]
        parts.append(f"| `{name}` | {_type(spec)} | {_cell(text)} | `{origin}` |")
    return "\n".join(parts) + "\n"


def _type(column: dy.Column) -> str:
    if isinstance(column, dy.Enum):
        return "one of: " + ", ".join(str(value) for value in column.categories)
    if isinstance(column, dy.List):
        return f"list of {_type(column.inner)}"
    if isinstance(column, dy.Datetime):
        return "time, UTC"
    names = {"String": "text", "Bool": "true or false", "Date": "date"}
    kind = type(column).__name__
    return names.get(kind, kind.lower())


def _cell(text: str | None) -> str:
    return (text or "(no description)").replace("|", "\\|").replace("\n", " ")
