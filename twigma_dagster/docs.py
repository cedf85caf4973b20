"""Write the parts of the documents that the code knows: `make docs`."""

from __future__ import annotations

import re
from pathlib import Path

from twigma_core.release.dictionary import data_dictionary
from twigma_dagster.settings import markdown

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Rewrite docs/tables.md and the table of settings in README.md."""
    (ROOT / "docs" / "tables.md").write_text(data_dictionary())
    readme = ROOT / "README.md"
    table = f"<!-- settings -->\n{markdown()}\n<!-- /settings -->"
    text = re.sub(r"<!-- settings -->.*<!-- /settings -->", lambda _: table, readme.read_text(), flags=re.S)
    readme.write_text(text)


if __name__ == "__main__":
    main()
