"""What the documents say is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from twigma_core.analysis import divergence
from twigma_core.analysis.engagement import COLUMNS
from twigma_core.analysis.intervals import metric_intervals
from twigma_core.analysis.summary import EmbeddingSummary
from twigma_core.figures import FIGURES
from twigma_core.figures.files import read_provenance
from twigma_core.release.dictionary import data_dictionary
from twigma_dagster.definitions import defs
from twigma_dagster.docs import MOST_BYTES
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


def test_the_methods_name_every_result_and_nothing_that_is_not_there() -> None:
    """Analysis assets and their measures stand in docs/methods.md; what stands there is in the code."""
    text = (ROOT / "docs" / "methods.md").read_text()
    named = set(re.findall(r"`([a-z]\w*)`", text))
    groups = {"themes", "comparison", "engagement", "annotation"}
    assets = {
        key.to_user_string()
        for node in defs.resolve_asset_graph().asset_nodes
        if node.group_name in groups
        for key in [node.key]
    }
    assert len(assets) > 20
    assert assets - named == set()
    parts = {name.strip("_…") for name in re.findall(r"`(\w*…|…\w*)`", text)}
    measures = {*divergence.MEASURES, *metric_intervals(EmbeddingSummary.identity(4)), *COLUMNS}
    said = named | set(re.findall(r"\*(\w+)\*", text))
    assert {m for m in measures - said if not any(m.endswith(part) for part in parts)} == set()
    code = "".join(p.read_text() for p in (ROOT / "twigma_core").rglob("*.py"))
    files = {path.name for path in (ROOT / "twigma_core").rglob("*.py")}
    plain = {re.sub(r"_\d+$", "", name) for name in named}  # kl_4 is kl over 4 cells
    assert {name for name in plain if not re.search(rf"\b{name}\b", code)} == set()
    assert set(re.findall(r"`(\w+\.py)`", text)) <= files


def test_every_figure_is_shown_beside_the_papers() -> None:
    sections = (ROOT / "docs" / "figures.md").read_text().split("\n## ")[1:]
    shown = {m[1]: part for part in sections if (m := re.search(r'src="figures/(\w+)\.png"', part))}
    assert list(shown) == list(FIGURES)
    for name, part in shown.items():
        place = name.removeprefix("figure_")
        assert part.startswith(f"Figure {place[0]}({place[1]}):")
        assert "**In the paper:**" in part and "**Here:**" in part and re.search(r'alt="[^"]{20,}"', part)
        picture = (ROOT / "docs" / "figures" / f"{name}.png").read_bytes()
        assert read_provenance(picture).asset == name
        assert len(picture) <= MOST_BYTES
    assert sum(file.stat().st_size for file in (ROOT / "docs" / "figures").iterdir()) < 1_500_000
