"""What a reader of a corpus hands to the importer: one row a picture, and the errors that name the cure.

What belongs here: the row and the checks shared by all readers. What does not: any corpus's layout.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SETTING = "TWIGMA_REFERENCES"
PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl"}
)
"""Files that are listed as pictures; those of formats that we do not open are reported, not passed over."""


class CorpusError(ValueError):
    """A reference corpus that cannot be read; the message names it, the cause and the cure."""


@dataclass(frozen=True)
class ReferenceRow:
    """One picture of a reference corpus, not yet opened.

    Half surrogate pairs, which JSON and file names allow and UTF-8 does not, are written out as `\\ud83c`.

    Attributes:
        image_id: its id within the corpus: the path relative to the corpus's folder.
        path: its file, or the shard that holds it; None where there is none, and `reason` says why.
        title: title or caption.
        artist: artist.
        style: style, genre or class.
        prompt: prompt that it was generated from.
        prompt_id: same for all pictures of one prompt; by default derived from the prompt.
        reason: why there is no file.
        refused: the metadata's file name was refused rather than not found.
        offset: first byte of the picture within `path`.
        length: its number of bytes; None is up to the end.
    """

    image_id: str
    path: Path | None
    title: str | None = None
    artist: str | None = None
    style: str | None = None
    prompt: str | None = None
    prompt_id: str | None = None
    reason: str | None = None
    refused: bool = False
    offset: int = 0
    length: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, str):
                object.__setattr__(self, name, _utf8(value).decode())


def prompt_key(prompt: str | None) -> str | None:
    """Return an id that all pictures of one prompt share: a hash of the prompt without outer blanks."""
    text = (prompt or "").strip()
    return hashlib.sha256(_utf8(text)).hexdigest()[:16] if text else None


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def require_folder(corpus: str, folder: str | Path) -> Path:
    """Return `folder` as a path.

    Raises:
        CorpusError: it does not exist or is not a folder.
    """
    path = Path(folder)
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise CorpusError(
            f"reference_images/{corpus}: folder {path} {what}; "
            f"set {SETTING} to a folder that holds one folder a corpus, {corpus} among them"
        )
    return path


def require_rows(corpus: str, folder: Path, rows: Iterable[ReferenceRow]) -> list[ReferenceRow]:
    """Return `rows` as a list.

    Raises:
        CorpusError: there is none.
    """
    found = list(rows)
    if not found:
        raise CorpusError(
            f"reference_images/{corpus}: folder {folder} holds no pictures "
            f"({', '.join(sorted(PICTURE_SUFFIXES))}), no shards and no metadata; "
            f"put the corpus there or change {SETTING}"
        )
    return found


def list_pictures(folder: Path) -> dict[str, Path]:
    """Return the picture files below a folder by relative path, sorted; hidden ones are passed over."""
    found: dict[str, Path] = {}
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if Path(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                path = Path(root, name)
                found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def loose_tables(folder: Path) -> list[Path]:
    """Return the Parquet files below a folder but for those of shards, which stand beside a tar."""
    return [path for path in sorted(folder.rglob("*.parquet")) if not path.with_suffix(".tar").exists()]


def safe_relative(name: str) -> str | None:
    """Return a metadata file's name for a picture as a relative path, or None if it leads elsewhere."""
    text = name.strip().replace("\\", "/")
    path = PurePosixPath(text)
    # "." has no parts, and is no file.
    if not path.parts or "\0" in text or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return None
    return path.as_posix()
