"""The report: complete, escaped, self-contained, and readable in a browser."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import polars as pl
import pytest
from PIL import Image

from tests.core.release.conftest import UI, lineage_of
from twigma_core import tables
from twigma_core.release import report_lineage
from twigma_core.release import report_views as views
from twigma_core.release.card import SYNTHETIC
from twigma_core.release.report import LARGEST_SVG, ReportFigure, build_report

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.core.release.conftest import World


class _Page(HTMLParser):
    """The elements of a page in order, with the headings' levels and the ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


class _Tree(HTMLParser):
    """The page as a tree."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.builder = ElementTree.TreeBuilder()
        self.builder.start("page", {})
        self.feed(html)
        self.builder.end("page")
        self.root = self.builder.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {key: value or "" for key, value in attrs})
        if tag in ("meta", "img"):
            self.builder.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        self.builder.data(data)


def test_every_section_and_number_is_there(page: str) -> None:
    parsed = _Page(page)
    for text in (
        SYNTHETIC,
        "1.371 [1.12, 1.66]",
        "same pixels",
        "castle",
        "artbench_same_artist",
        "kl, 500 cells",
        "frechet, seed 1",
    ):
        assert text.replace("'", "&#39;") in page
    assert re.search("not accounted for</dt><dd>(<a [^>]*>)?0<", page)
    assert re.search("pictures posted</dt><dd>(<a [^>]*>)?62<", page)
    assert "clip</td><td>00ff</td><td>figure_2c, figure_4c" in page
    assert "blip</td><td>77</td><td>dataset" in page
    assert 'reproduced</dt><dd><a href="#lineage-paper_comparison">1</a><' in page
    assert "Not materialized yet" not in page
    assert [attributes["id"] for attributes in parsed.all("section")] == [
        *("data", "findings", "figures", "comparison", "likes", "clusters", "quality", "made", "lineage")
    ]


def test_text_of_posts_and_models_is_never_markup(page: str, world: World) -> None:
    """The hostile texts stand on the page, escaped; nothing of them became an element."""
    parsed = _Page(page)
    assert world.hostile[0] not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert "javascript:alert(1)" in page
    assert not parsed.all("script")
    assert [element for element in parsed.elements if any(key.startswith("on") for key in element[1])] == []
    addresses = [str(attributes["href"]) for attributes in parsed.all("a")]
    assert all(address.startswith(("#", f"{UI}/assets/", f"{UI}/runs/")) for address in addresses)


def test_the_page_loads_nothing(page: str) -> None:
    parsed = _Page(page)
    loading = ("src", "srcset", "action", "formaction", "data", "poster", "background", "xlink:href")
    addresses = [str(a[key]) for _, a in parsed.elements for key in loading if key in a]
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert not parsed.all("link")
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert [a for _, a in parsed.elements if "style" in a] == []


def test_the_policy_allows_the_pages_own_style_and_no_more(page: str) -> None:
    (policy,) = [
        str(a["content"]) for a in _Page(page).all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_structure_for_readers_without_eyes_or_mouse(page: str) -> None:
    parsed = _Page(page)
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for a in parsed.all("a") if str(a["href"]).startswith("#")}
    assert targets <= set(ids)
    assert "lineage-dataset" in targets
    assert "lineage-unknown_asset" not in targets
    assert all(a.get("alt") for a in parsed.all("img"))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in parsed.elements}
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert _Page(page).all("html")[0]["lang"] == "en"
    assert all(a.get("tabindex") == "0" for a in parsed.all("div") if a.get("class") == "scroll")


def test_an_empty_lake_gives_a_page_that_says_so() -> None:
    html = build_report([], {}, tables.empty("paper_comparison"), {})
    for name in (
        "dataset",
        "divergence_matrix",
        "divergence_robustness",
        "variation_table",
        "engagement",
        "cluster_trends",
        "cluster_sensitivity",
        "annotation_concordance",
        "images",
    ):
        assert f"Not materialized yet: <code>{name}</code>" in html
    empty = {name: tables.empty(name) for name in tables.SCHEMAS}
    assert "No rows." in build_report([], empty, tables.empty("paper_comparison"), {})


def test_pictures_that_are_not_accounted_for_show(lake_tables: dict[str, pl.DataFrame]) -> None:
    fewer = lake_tables | {"drops": lake_tables["drops"].head(1)}
    html = build_report([], fewer, tables.empty("paper_comparison"), {})
    assert "not accounted for</dt><dd>1<" in html


def test_only_pages_that_could_not_be_read_are_listed(
    lake_tables: dict[str, pl.DataFrame], world: World
) -> None:
    view = views.bad_pages(lake_tables)
    assert view is not None
    assert [[cell.text for cell in row] for row in view.rows] == [
        ["2022-01", world.hostile[0], "0", world.hostile[4]]
    ]
    readable = lake_tables["raw_tweets"].filter(pl.col("status") == "ok")
    assert views.bad_pages({"raw_tweets": readable}) is None


def test_a_drawing_that_is_too_large_is_shown_as_png(world: World, drawing: tuple[bytes, bytes]) -> None:
    large = drawing[0] + b" " * LARGEST_SVG
    figure = ReportFigure("figure_2a", "Map", "", large, drawing[1], world.dataset, world.provenance)
    html = build_report([figure], {}, tables.empty("paper_comparison"), {})
    (source,) = [str(a["src"]) for a in _Page(html).all("img")]
    kind, _, data = source.partition(";base64,")
    shown, drawn = (Image.open(io.BytesIO(b)) for b in (base64.b64decode(data), drawing[1]))
    assert (kind, shown.size) == ("data:image/webp", drawn.size)
    assert len(data) < len(drawing[1])


def test_every_number_leads_to_where_it_comes_from(page: str) -> None:
    """Each cell of numbers is a link into the page's lineage."""
    cells = re.findall(r'<td class="n">(.*?)</td>', page, flags=re.DOTALL)
    assert len(cells) > 100
    bare = [text for text in cells if not text.startswith('<a href="#lineage-') and text.strip() != "–"]
    assert bare == []
    assert '<a class="value" href="#lineage-engagement">1.371 [1.12, 1.66]</a>' in page
    assert '<code>engagement</code></a><a class="ui" href="http://127.0.0.1:3999/assets/engagement"' in page
    assert re.search(r'pictures posted</dt><dd><a href="#lineage-tweet_media">62</a>', page)


def test_no_number_stands_where_nothing_leads_to_its_asset(page: str) -> None:
    """Numbers in sentences and captions, too: their row, paragraph, table or figure holds a link."""
    root = _Tree(page).root
    parents = {child: parent for parent in root.iter() for child in parent}
    blocks = {("tr", ""), ("p", ""), ("p", "quiet"), ("li", ""), ("dd", ""), ("div", "table")}
    blocks |= {("article", "figure"), ("details", "")}
    held = 0
    for element in root.findall(".//main")[0].iter():
        text = " ".join(filter(None, (element.text, *(child.tail for child in element))))
        above = [element]
        while above[-1] in parents:
            above.append(parents[above[-1]])
        section = next((e.get("id") for e in above if e.tag == "section"), None)
        if section in (None, "made", "lineage") or not re.search(r"\d", re.sub(r"2023|\b95 %", "", text)):
            continue
        around = [e for e in above if (e.tag, e.get("class") or "") in blocks]
        assert any(a.get("href", "").startswith("#lineage-") for e in around for a in e.iter("a")), text
        held += 1
    assert held > 300


def test_likes_stand_in_four_columns_with_what_they_count(
    page: str, lake_tables: dict[str, pl.DataFrame], world: World
) -> None:
    found = views.likes(lake_tables)
    assert found is not None
    assert [head.text for head in found[0].headers][3:] == [
        *("paper", "robust", "posts", "negative_binomial", "note")
    ]
    rows = {row[1].text: [cell.text for cell in row] for row in found[0].rows}
    assert rows["rate_ratio"] == [
        *("laion", "rate_ratio", "1", "1.5 [1.4, 1.6]", "1.5 [1.3, 1.7]", "1.5 [1.2, 1.8]", "–"),
        f"negative_binomial: {world.hostile[4]}",
    ]
    assert rows["pictures, or posts in column posts"][3:7] == ["57", "56", "55", "54"]
    assert rows["authors"][3:7] == ["–", "7", "7", "7"]
    assert rows["left out for want of likes"][3:7] == ["3", "3", "3", "3"]
    assert "2.0 times as wide; both exclude no difference" in page
    assert '<a href="#lineage-engagement">1.5 [1.3, 1.7]</a>' in page


def test_other_seeds_and_other_k_stand_beside_the_model(
    page: str, lake_tables: dict[str, pl.DataFrame]
) -> None:
    assert "two seeds agree to an adjusted Rand index of 0.81" in page
    assert "25 % (k = 5), 75 % (k = 10)" in page
    assert '<a href="#lineage-annotation_concordance">0.4375 [0.375, 0.5]</a>' in page
    assert '<a href="#lineage-cluster_sensitivity">0.8125</a>' in page
    found = views.stability({"cluster_sensitivity": lake_tables["cluster_sensitivity"]})
    assert found is not None and found[1] == "", "which k is in force is not known without the model"


def test_a_block_of_lineage_says_what_was_read_and_what_changed_since(page: str) -> None:
    block = page.split('id="lineage-engagement"')[1].split("</article>")[0]
    assert re.search(r'href="#lineage-dataset"[^<]*<code>dataset</code></a> 2022-01, 2022-02', block)
    assert "(made anew since: 2022-02 was 2022-02 then)" in block
    assert f'href="{UI}/runs/run-1"' in block
    assert "0.1.0+abc" in block
    dataset = page.split('id="lineage-dataset"')[1].split("</article>")[0]
    assert "2022-01 now" in dataset and "blip <code>sha256:77" in dataset
    assert len([view for view in report_lineage.lineage_views(lineage_of([])) if view.partitions]) == 3


def test_without_an_address_of_the_ui_nothing_outside_is_linked_to(
    lake_tables: dict[str, pl.DataFrame],
) -> None:
    html = build_report([], lake_tables, tables.empty("paper_comparison"), lineage_of(lake_tables))
    assert all(str(a["href"]).startswith("#") for a in _Page(html).all("a"))


def test_ids_are_never_numbers() -> None:
    view = views.table_view(pl.DataFrame({"image_id": [1_500_000_000_000_000_001], "bytes": [1500]}), "", "a")
    assert [cell.text for cell in view.rows[0]] == ["1500000000000000001", "1,500"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (1e-9, "1e-09"),
        (12345.6, "12,346"),
        (-0.5, "-0.5"),
        (float("inf"), "∞"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, text: str) -> None:
    assert views.number(value) == text


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_in_a_browser_from_disk(page: str, width: int, dark: bool, tmp_path: Path, browser_path: str) -> None:
    """No request, no script, no violation of the policy; styled; no wider than the screen."""
    from playwright.sync_api import sync_playwright

    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=[*quiet, "--disable-component-update"]
        )
        tab = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )
        requests: list[str] = []
        messages: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("dialog", lambda dialog: messages.append(dialog.message))
        tab.goto(path.as_uri())
        for details in tab.locator("summary").all():
            details.click()
        assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
        assert messages == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(20, 23, 26)" if dark else "rgb(251, 251, 250)")
        assert all(tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)")), (
            "a picture did not load"
        )
        tab.get_by_role("link", name="1.371 [1.12, 1.66]").click()
        block = tab.locator("#lineage-engagement")
        assert tab.url.endswith("#lineage-engagement") and _seen(block)
        block.get_by_role("link", name="dataset", exact=True).click()
        assert _seen(tab.locator("#lineage-dataset"))
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()


def _seen(block: Locator) -> bool:
    """Return whether a block is what the reader now looks at: at the top of the window, and marked."""
    top = block.evaluate("block => block.getBoundingClientRect().top")
    return bool(0 <= top < 100 and block.evaluate("block => block.matches(':target')"))
