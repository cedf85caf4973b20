"""What the documents say is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from twigma_core.release.dictionary import data_dictionary
from twigma_dagster.settings import markdown

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_lists_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("<!-- settings -->\n")[2].partition("<!-- /settings -->")[0]
    assert table == markdown() + "\n", "run: make docs"


def test_the_data_dictionary_is_current() -> None:
    assert (ROOT / "docs" / "tables.md").read_text() == data_dictionary(), "run: make docs"


def test_links_and_pictures_of_the_documents_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
