"""LAION: photographs and other pictures of the web with their captions (paper, Section 2).

What belongs here: the layouts in which such pictures come: a folder with a captions file, img2dataset's
folder of files (`000000012.jpg`, `.txt`), and LAION's own Parquet rows (URL, TEXT).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from twigma_core.parquet import read_columns, refusing
from twigma_core.references.folder import METADATA_FILES, find_metadata, read_folder
from twigma_core.references.rows import CorpusError, ReferenceRow, list_pictures, loose_tables

_LONGEST_CAPTION = 10_000


def read_laion(folder: Path) -> Iterator[ReferenceRow]:
    """Yield the pictures of a folder, `title` being the caption.

    The captions come from the first of: a metadata CSV (`metadata.csv`, `labels.csv`, `prompts.csv`, else
    the first `captions*.csv`); Parquet files with URL and TEXT, joined to files by img2dataset's `key`
    or by the URL's file name; a `.txt` file beside each picture.

    Raises:
        CorpusError: a metadata file cannot be read.
    """
    captions = sorted(path.name for path in folder.iterdir() if path.match("[cC]aptions*.csv"))
    names = (*METADATA_FILES, *captions)
    parquet = loose_tables(folder)
    if find_metadata(folder, names) is None and parquet:
        yield from _read_parquet_rows(folder, parquet)
        return
    for row in read_folder(folder, names=names):
        yield row if row.title or row.path is None else replace(row, title=_sidecar(row.path))


def _read_parquet_rows(folder: Path, files: list[Path]) -> Iterator[ReferenceRow]:
    pictures = list_pictures(folder)
    by_stem = {PurePosixPath(relative).stem: relative for relative in reversed(pictures)}
    by_name = {PurePosixPath(relative).name: relative for relative in reversed(pictures)}
    rows: dict[str, ReferenceRow] = {
        relative: ReferenceRow(relative, path, title=_sidecar(path)) for relative, path in pictures.items()
    }
    for file in files:
        for url, text, key in _url_rows(file):
            relative = by_stem.get(key) if key else by_name.get(_file_name(url))
            if relative:
                rows[relative] = replace(rows[relative], title=text or rows[relative].title)
                continue
            image_id = f"url:{hashlib.sha256(str(url).encode()).hexdigest()[:24]}"
            reason = f"{file.name} names it, but there is no file; download it with img2dataset"
            rows.setdefault(image_id, ReferenceRow(image_id, None, title=text, reason=reason))
    for image_id in sorted(rows):
        yield rows[image_id]


def _url_rows(file: Path) -> Iterator[tuple[str | None, str | None, str | None]]:
    """Yield (URL, text, img2dataset's key) of a Parquet file."""

    def choose(columns: list[str]) -> dict[str, str | None]:
        lower = {name.lower(): name for name in columns}
        if "url" not in lower:
            raise CorpusError(
                f"reference_images/laion: {file} has no column URL; it has {', '.join(columns)}"
            )
        return {
            "url": lower["url"],
            "text": lower.get("text") or lower.get("caption"),
            "key": lower.get("key"),
        }

    with refusing(CorpusError, f"reference_images/laion: {file}", "mend or remove it"):
        chosen = read_columns(file, choose)
    yield from chosen.iter_rows()


def _file_name(url: str | None) -> str:
    try:
        return PurePosixPath(urlsplit(url or "").path).name
    except ValueError:
        return ""


def _sidecar(picture: Path) -> str | None:
    """Return the caption in the `.txt` file beside a picture, if there is one."""
    try:
        with picture.with_suffix(".txt").open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_CAPTION).strip() or None
    except OSError:
        return None
