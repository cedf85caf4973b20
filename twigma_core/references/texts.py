"""Text sources that prompts are compared with (paper, Section 4.1 and Figure 3d).

What belongs here: finding a source's file, its text column, cutting a book into passages, and cleaning.
What does not: embedding the texts (`twigma_core.models.clip`).
"""

from __future__ import annotations

import html
import io
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.parquet import read_columns, refusing
from twigma_core.references.rows import SETTING

log = logging.getLogger(__name__)

TEXT_COLUMNS = (
    "text",
    "caption",
    "captions",
    "caption_clean",
    "prompt",
    "tweet",
    "full_text",
    "haiku",
    "highlights",
    "summary",
    "passage",
    "sentence",
    "content",
    "article",
    "description",
    "raw",
)
"""Names of the column that holds the text, in any case; the first that is there counts. A news file's
`highlights` come before its `article`: the paper compares with the summaries."""

SUFFIXES = (".csv", ".txt", ".parquet")
PASSAGE_WORDS = (20, 50)
"""A book's passages: sentences are joined until there are at least the first many words, and cut at the
second: the length of a detailed prompt, within CLIP's 77 tokens."""

_LINK = re.compile(r"(?:https?://|www\.|pic\.twitter\.com/|\bt\.co/)\S*", re.IGNORECASE)
_HASHTAG = re.compile(r"(?<![\w&])[#＃]\w+")
_GUTENBERG_START = re.compile(
    r"^\*\*\* ?START OF TH(?:IS|E) PROJECT GUTENBERG.*$", re.MULTILINE | re.IGNORECASE
)
_GUTENBERG_END = re.compile(
    r"^(?:\*\*\* ?)?END OF (?:TH(?:IS|E) )?PROJECT GUTENBERG", re.MULTILINE | re.IGNORECASE
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"'”’)])\s+")


class TextSourceError(ValueError):
    """A text source that cannot be read; the message names it, the cause and the cure."""


def read_texts(source: str, folder: str | Path, limit: int | None = 5000, seed: int = 0) -> pl.DataFrame:
    """Return a sample of a text source.

    Args:
        source: captions, haiku, prompts, tweets, news or book (`tables.TEXT_SOURCES`).
        folder: holds `<source>*.csv`, `.txt` or `.parquet`. A CSV or Parquet file has a column of
            `TEXT_COLUMNS`, or only one; a `.txt` of the book is cut into passages, any other is a text a
            line.
        limit: largest number of texts, drawn without replacement; None for all.
        seed: of the draw.

    Returns:
        Table texts, in the order of the file. Links and hashtags are removed, blanks collapsed; a text of
        which nothing remains is left out and counted in the log.

    Raises:
        TextSourceError: unknown source, no file, or no text in it.
    """
    if source not in tables.TEXT_SOURCES:
        raise TextSourceError(f"texts/{source}: no such source; known: {', '.join(tables.TEXT_SOURCES)}")
    files = _find(source, Path(folder))
    several = len(files) > 1
    ids: list[str] = []
    texts: list[str] = []
    blank = 0
    for file in files:
        for number, raw in enumerate(_read(source, file)):
            text = clean(raw)
            if not text:
                blank += 1
                continue
            ids.append(f"{file.name}:{number}" if several else str(number))
            texts.append(text)
    if blank:
        log.info("texts/%s: %d texts hold nothing but links, hashtags or blanks; left out", source, blank)
    if not texts:
        names = ", ".join(file.name for file in files)
        raise TextSourceError(f"texts/{source}: no text in {names} of {folder}; replace the file")
    frame = pl.DataFrame({"text_id": ids, "source": source, "text": texts})
    if limit is not None and frame.height > limit:
        drawn = np.sort(np.random.default_rng(seed).choice(frame.height, limit, replace=False))
        frame = frame[drawn]
    words = pl.Series("words", [len(text.split()) for text in frame["text"]], dtype=pl.Int64)
    return tables.conform("texts", frame.with_columns(words))


def clean(text: str) -> str:
    """Return a text without links and hashtags (paper, Section 4.1), HTML entities and blanks resolved."""
    text = _HASHTAG.sub(" ", _LINK.sub(" ", html.unescape(text)))
    return " ".join(text.split())


def passages(text: str, words: tuple[int, int] = PASSAGE_WORDS) -> list[str]:
    """Cut a book into passages of whole sentences, within paragraphs where these are long enough.

    Project Gutenberg's frame is left out. A sentence longer than the upper bound is cut there.
    """
    if start := _GUTENBERG_START.search(text):
        text = text[start.end() :]
    if end := _GUTENBERG_END.search(text):
        text = text[: end.start()]
    lower, upper = words
    found: list[str] = []
    current: list[str] = []
    for sentence in _SENTENCE_END.split(" ".join(text.split())):
        pieces = sentence.split()
        if current and len(current) + len(pieces) > upper:
            found.append(" ".join(current))
            current = []
        while len(pieces) > upper:
            found.append(" ".join(pieces[:upper]))
            pieces = pieces[upper:]
        current += pieces
        if len(current) >= lower:
            found.append(" ".join(current))
            current = []
    return [*found, " ".join(current)] if current else found


def _find(source: str, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise TextSourceError(
            f"texts/{source}: folder {folder} does not exist; set {SETTING} to a folder that holds texts/"
        )
    found = sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().startswith(source) and path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not found:
        raise TextSourceError(
            f"texts/{source}: no file {source}*.csv, .txt or .parquet in {folder}; put one there, "
            f"with a column {TEXT_COLUMNS[0]}"
        )
    return found


def _read(source: str, file: Path) -> Iterator[str]:
    if file.suffix.lower() == ".txt":
        text = file.read_bytes().decode("utf-8-sig", errors="replace")
        yield from passages(text) if source == "book" else text.splitlines()
        return
    with refusing(TextSourceError, f"texts/{source}: {file}", "mend or replace it"):
        values = _text_column(source, file).cast(pl.String).fill_null("")
    yield from values


def _text_column(source: str, file: Path) -> pl.Series:
    if file.suffix.lower() == ".parquet":
        chosen = read_columns(file, lambda names: {"text": names[_place_of_text(source, file, names) or 0]})
        return chosen["text"]
    data = io.BytesIO(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    try:
        frame = pl.read_csv(
            data, has_header=False, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True
        )
    except pl.exceptions.NoDataError:
        return pl.Series([], dtype=pl.String)
    place = _place_of_text(source, file, [str(name or "") for name in frame.row(0)])
    # One column under no known name has no header: its first row is a text as well.
    return frame.to_series(0) if place is None else frame.to_series(place)[1:]


def _place_of_text(source: str, file: Path, names: Sequence[str]) -> int | None:
    """Return which column holds the text; None where there is only one, under no known name."""
    lower = {name.strip().lower(): number for number, name in reversed(list(enumerate(names)))}
    chosen = next((lower[name] for name in TEXT_COLUMNS if name in lower), None)
    if chosen is None and len(names) != 1:
        raise TextSourceError(
            f"texts/{source}: {file} has no column for the text; it has {', '.join(names)}, "
            f"and one of {', '.join(TEXT_COLUMNS)} is needed"
        )
    return chosen
