"""Write the parts of the documents that the code knows: `make docs`, and the figures of a lake."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from twigma_core.figures import FIGURES
from twigma_core.figures.files import smaller
from twigma_core.lake import Lake
from twigma_core.release.dictionary import data_dictionary
from twigma_dagster.notebook import run_notebook, with_outputs
from twigma_dagster.settings import markdown

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 190_000
"""Size of the largest picture of a figure in the documents."""


def write_texts() -> None:
    """Rewrite docs/tables.md and the table of settings in README.md."""
    (ROOT / "docs" / "tables.md").write_text(data_dictionary())
    readme = ROOT / "README.md"
    table = f"<!-- settings -->\n{markdown()}\n<!-- /settings -->"
    text = re.sub(r"<!-- settings -->.*<!-- /settings -->", lambda _: table, readme.read_text(), flags=re.S)
    readme.write_text(text)


def write_figures(lake: Lake, folder: Path) -> None:
    """Write the pictures of docs/figures.md from a lake: small, with their lineage inside."""
    folder.mkdir(exist_ok=True)
    for name in FIGURES:
        png = lake.read_bytes(f"figures/{name}.png")
        (folder / f"{name}.png").write_bytes(smaller(png, MOST_BYTES, keep_provenance=True))


def write_notebook(lake: str) -> None:
    """Run docs/notebook.ipynb on a lake and rewrite it with what its cells show."""
    path = ROOT / "docs" / "notebook.ipynb"
    path.write_text(with_outputs(path, run_notebook(path, {"TWIGMA_LAKE": lake})))


def main() -> None:
    """Rewrite the texts; with `--figures LAKE` or `--notebook LAKE` what is drawn from a lake instead."""
    if sys.argv[1:2] == ["--figures"] and len(sys.argv) == 3:
        write_figures(Lake(sys.argv[2]), ROOT / "docs" / "figures")
    elif sys.argv[1:2] == ["--notebook"] and len(sys.argv) == 3:
        write_notebook(sys.argv[2])
    elif len(sys.argv) == 1:
        write_texts()
    else:
        sys.exit("usage: python -m twigma_dagster.docs [--figures LAKE | --notebook LAKE]")


if __name__ == "__main__":
    main()
