"""ArtBench: paintings with artist and style (paper, Section 2).

What belongs here: its layout, `<style>/<artist>_<title>.jpg`, which also says what a metadata file leaves
out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from twigma_core.references.folder import read_folder
from twigma_core.references.rows import ReferenceRow


def read_artbench(folder: Path) -> Iterator[ReferenceRow]:
    """Yield the pictures of a folder with artist, title and style.

    A metadata CSV (`labels.csv` or another, see `folder.METADATA_FILES`) comes first. Where it gives a
    picture no style, the name of the subfolder is its style; where it gives neither artist nor title, a
    file called `<artist>_<title>` gives both.

    Raises:
        CorpusError: the metadata file cannot be read.
    """
    for row in read_folder(folder):
        if row.path is None:
            yield row
            continue
        path = PurePosixPath(row.image_id)
        inside = path.parent.name if path.parent.name not in ("pictures", "images") else ""
        style = row.style or inside or None
        artist, title = row.artist, row.title
        if artist is None and title is None and inside:
            name, separator, rest = path.stem.partition("_")
            if separator and name and rest:
                artist, title = name, rest
        yield replace(row, style=style, artist=artist, title=title)
