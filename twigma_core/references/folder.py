"""Any folder of pictures with a metadata file beside them, as the user keeps it.

What belongs here: joining files and metadata rows. What does not: layouts of particular corpora
(`laion`, `artbench`, `diffusiondb`), and opening pictures (`importer`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from twigma_core.parquet import read_columns, refusing
from twigma_core.references.rows import (
    CorpusError,
    ReferenceRow,
    list_pictures,
    prompt_key,
    safe_relative,
)

log = logging.getLogger(__name__)

METADATA_FILES = ("metadata.csv", "labels.csv", "prompts.csv", "captions.csv")
COLUMNS: dict[str, tuple[str, ...]] = {
    "file": ("file", "file_name", "filename", "image", "image_name", "image_id", "path", "name"),
    "title": ("title", "caption", "captions", "text", "caption_clean"),
    "artist": ("artist", "artist_name", "painter"),
    "style": ("style", "genre", "label_name", "class", "movement"),
    "prompt": ("prompt", "p"),
    "prompt_id": ("prompt_id",),
}
"""Names that a metadata file may give to each field, in any case; the first that is there counts."""

Fields = Mapping[str, str | None]


def read_folder(
    folder: str | Path, metadata: str | Path | None = None, names: Sequence[str] = METADATA_FILES
) -> Iterator[ReferenceRow]:
    """Yield the pictures of a folder and its subfolders, with their metadata.

    Args:
        folder: where the pictures are.
        metadata: CSV with a column for the file, relative to `folder`, and any of title, artist, style,
            prompt and prompt_id (`COLUMNS`); by default the first of `names` that exists, else the only CSV.
        names: names of metadata files to look for, in any case.

    Yields:
        One row a picture, sorted by image_id. A file that only the metadata name has a reason and no
        path; a picture without a metadata row has no fields. Of several rows for one file the first that
        gives a field counts.

    Raises:
        CorpusError: the metadata cannot be read or has no column for the file.
    """
    folder = Path(folder)
    path = find_metadata(folder, names) if metadata is None else Path(metadata)
    table = [] if path is None else list(read_metadata(path))
    yield from join_files(list_pictures(folder), table, "" if path is None else path.name)


def find_metadata(folder: Path, names: Sequence[str] = METADATA_FILES) -> Path | None:
    """Return the first metadata file of `names` in a folder, in any case, else the only CSV, or None.

    Raises:
        CorpusError: there are several CSV files, and none has such a name.
    """
    present = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True) if path.is_file()}
    named = next((present[name.lower()] for name in names if name.lower() in present), None)
    tables = sorted(name for name in present if name.endswith(".csv") and not name.startswith("."))
    if named is None and len(tables) > 1:
        raise CorpusError(
            f"folder {folder} has several tables ({', '.join(tables)}); call that of the pictures {names[0]}"
        )
    return named or (present[tables[0]] if tables else None)


def read_metadata(path: Path) -> Iterator[Fields]:
    """Yield the rows of a metadata CSV or Parquet file with the keys of `COLUMNS`; blanks are None.

    Raises:
        CorpusError: it cannot be parsed, or no column is known for the file.
    """
    with refusing(CorpusError, f"metadata file {path}", "mend or remove it"):
        if path.suffix.lower() == ".parquet":
            chosen = read_columns(path, lambda names: _fields_of(path, names))
        else:
            try:
                frame = pl.read_csv(
                    path, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True
                )
            except pl.exceptions.NoDataError:
                return
            found = _fields_of(path, frame.columns)
            chosen = frame.select(pl.col(source).alias(key) for key, source in found.items())
    yield from chosen.iter_rows(named=True)


def _fields_of(path: Path, columns: Sequence[str]) -> dict[str, str]:
    found = match_columns(columns)
    if "file" not in found:
        raise CorpusError(
            f"metadata file {path} has no column for the file; it has {', '.join(columns)}, "
            f"and one of {', '.join(COLUMNS['file'])} is needed"
        )
    return found


def match_columns(columns: Sequence[str]) -> dict[str, str]:
    """Return which column of a metadata file holds which field of `COLUMNS`."""
    lower = {name.strip().lower().lstrip("\ufeff"): name for name in reversed(columns)}
    found: dict[str, str] = {}
    for key, aliases in COLUMNS.items():
        for alias in aliases:
            if alias in lower and lower[alias] not in found.values():
                found[key] = lower[alias]
                break
    return found


def join_files(
    files: Mapping[str, Path], table: Iterable[Fields], source: str = "metadata"
) -> Iterator[ReferenceRow]:
    """Yield one row a file or metadata entry, sorted by image_id.

    Args:
        files: paths by relative name.
        table: metadata with the keys of `COLUMNS`.
        source: name of the metadata file, for the reasons.
    """
    # A metadata file often gives bare names for files that lie in a subfolder.
    by_name: dict[str, str] = {}
    for relative in files:
        name = PurePosixPath(relative).name
        by_name[name] = "" if name in by_name else relative
    merged: dict[str, dict[str, str | None]] = {relative: {} for relative in files}
    reasons: dict[str, tuple[str, bool]] = {}
    repeats = 0
    for number, row in enumerate(table):
        name = row.get("file") or ""
        relative = safe_relative(name) or ""
        if relative not in files:
            relative = by_name.get(relative, "") or relative
        if not relative:
            relative = f"refused:row {number}"
            reasons[relative] = (f"{source} names a file outside of the folder, or none", True)
        elif relative not in files:
            reasons[relative] = (f"{source} names it, but there is no such file", False)
        fields = merged.setdefault(relative, {})
        repeats += bool(fields)
        for key in COLUMNS:
            value = (row.get(key) or "").strip()
            if value and not fields.get(key):
                fields[key] = value
    if repeats:
        log.info("%s: %d further rows for files that have one already; the first counts", source, repeats)
    for relative in sorted(merged):
        fields = merged[relative]
        reason, refused = reasons.get(relative, (None, False))
        yield ReferenceRow(
            image_id=relative,
            path=files.get(relative),
            title=fields.get("title"),
            artist=fields.get("artist"),
            style=fields.get("style"),
            prompt=fields.get("prompt"),
            prompt_id=fields.get("prompt_id") or prompt_key(fields.get("prompt")),
            reason=reason,
            refused=refused,
        )
