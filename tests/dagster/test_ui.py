"""The Dagster UI in a real browser: the graph, previews, a figure's picture, runs and backfills by clicks.

With DOCS_SCREENSHOTS set to a folder, the pictures of the documents are written there.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from PIL import Image
from playwright.sync_api import FloatRect, Page, sync_playwright

from benchmarks.startup import draw
from tests.dagster.conftest import ROOT, Built, environment_of
from twigma_core.figures import FIGURES
from twigma_core.lake import Lake
from twigma_core.tables import SCHEMAS
from twigma_dagster.settings import Settings

GROUPS = """annotation collection comparison dataset engagement features figures images references release
    themes""".split()
BROWSER_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def served(sample: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Built]]:
    """A copy of the built sample under `twigma ui`; gives the address and the copy."""
    home = tmp_path_factory.mktemp("ui") / "home"
    shutil.copytree(sample.home, home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(home / "ui.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "twigma_dagster.cli", "ui", "--port", str(port)],
            cwd=ROOT,
            env=environment_of(home),
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(address, home / "ui.log")
        yield address, Built(home, Lake(home / "lake"), "", {})
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_until_up(address: str, log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address + "/server_info", timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the UI did not come up in {seconds} s: {log.read_text()[-3000:]}")


@pytest.fixture
def page(browser_path: str, served: tuple[str, Built]) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(BROWSER_FLAGS))
        opened = browser.new_page(viewport={"width": 1800, "height": 1050}, device_scale_factor=_sharpness())
        opened.set_default_timeout(60_000)
        opened.add_init_script("localStorage.setItem('communityNux', '1')")  # else a dialog blocks clicks
        yield opened
        browser.close()


def _sharpness() -> float:
    return 2.0 if os.environ.get("DOCS_SCREENSHOTS") else 1.0


def _keep(page: Page, name: str, clip: FloatRect | None = None) -> None:
    """Write a picture of the page, or of a part of it, for the documents, if it is asked for."""
    if folder := os.environ.get("DOCS_SCREENSHOTS"):
        page.wait_for_timeout(3000)
        taken = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
        taken.thumbnail((1800, 1800))
        taken.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            Path(folder) / name, optimize=True
        )


def _graph(page: Page) -> FloatRect:
    """Return where the graph lies on the page; its lines are made dark enough for a document to show."""
    page.add_style_tag(
        content=":root, body {--color-lineage-edge: #5b6b80 !important}"
        "[class*=zoomSliderContainer] {visibility: hidden}"
    )
    nodes = page.locator("svg[class*=AssetGraphExplorer] foreignObject").all()
    boxes = [box for node in nodes if (box := node.bounding_box())]
    left, top = min(box["x"] for box in boxes) - 12, min(box["y"] for box in boxes) - 12
    right = max(box["x"] + box["width"] for box in boxes) + 4
    bottom = max(box["y"] + box["height"] for box in boxes) + 4
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def test_the_benchmark_of_the_start_sees_the_graph_drawn(page: Page, served: tuple[str, Built]) -> None:
    address, _ = served
    assert draw(page, address) == len(GROUPS)


def test_the_whole_graph_is_shown(page: Page, served: tuple[str, Built]) -> None:
    address, _ = served
    page.goto(f"{address}/asset-groups")
    for group in GROUPS:
        page.get_by_text(group, exact=True).first.wait_for()
    page.mouse.click(1100, 1000, button="right")
    page.get_by_role("menuitem", name="Expand all groups").click()
    # Nodes outside the view are not drawn: any asset says that the groups are unfolded.
    assets = "|".join(sorted({*SCHEMAS, *FIGURES} - {*GROUPS}))
    page.locator("svg[class*=AssetGraphExplorer]").get_by_text(re.compile(f"^({assets})$")).first.wait_for()


@pytest.mark.parametrize(
    ("name", "unfolded", "shown"),
    [
        ("lineage.png", "comparison references dataset figures", "collection images features"),
        (
            "lineage_assets.png",
            " ".join(GROUPS),
            "hashtags raw_tweets tweets tweet_media captions nsfw_scores",
        ),
    ],
)
def test_all_that_a_figure_comes_from(
    page: Page, served: tuple[str, Built], name: str, unfolded: str, shown: str
) -> None:
    address, _ = served
    groups = quote(",".join(f"global@global:{group}" for group in unfolded.split()))
    selection = quote('+key:"figure_2c"')
    page.goto(f"{address}/asset-groups~{selection}/?expanded={groups}")
    graph = page.locator("svg[class*=AssetGraphExplorer]")
    for asset in (*shown.split(), "dataset", "summaries", "codebook", "divergence_matrix", "figure_2c"):
        graph.get_by_text(asset, exact=True).first.wait_for()
    assert graph.get_by_text("engagement", exact=True).count() == 0
    page.wait_for_timeout(2000)
    _keep(page, name, _graph(page))


def test_a_figure_shows_its_picture_and_what_it_came_from(page: Page, served: tuple[str, Built]) -> None:
    address, _ = served
    page.goto(f"{address}/assets/figure_2d")
    page.get_by_text("[Show Markdown]").first.click()
    picture = page.locator("img[src^='data:image/png']").first
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 300
    _keep(page, "figure_in_ui.png", {"x": 240, "y": 0, "width": 1560, "height": 750})
    page.goto(f"{address}/assets/figure_2d?view=lineage")
    page.get_by_text("engagement", exact=True).first.wait_for()


def test_a_table_shows_columns_preview_and_checks(page: Page, served: tuple[str, Built]) -> None:
    address, _ = served
    page.goto(f"{address}/assets/variation_metrics")
    page.get_by_text("product_of_marginal_variances").first.wait_for()
    page.get_by_text("Month of the post, UTC, as YYYY-MM").first.wait_for()
    page.goto(f"{address}/assets/dataset?view=checks")
    page.get_by_text("first_posting_wins").first.wait_for()


def test_a_number_of_the_report_leads_to_its_lineage_and_to_its_asset(
    page: Page, served: tuple[str, Built]
) -> None:
    address, built = served
    page.goto((built.home / "lake" / "report" / "index.html").as_uri())
    row = page.locator("table.paper tr", has_text="rate ratio, ArtBench quintile 1").first
    row.locator("a.value").click()
    block = page.locator("#lineage-engagement")
    assert page.url.endswith("#lineage-engagement")
    assert block.get_by_text(built.lake.provenance("engagement").data_version).is_visible()
    link = str(block.locator("h3 a.ui").get_attribute("href"))
    assert link == f"http://127.0.0.1:{Settings.model_fields['port'].default}/assets/engagement"
    page.goto(address + urlsplit(link).path)
    page.get_by_text("rate_ratio: exp(gamma) against quintile 5").first.wait_for()


def launch(page: Page, address: str, assets: tuple[str, ...], months: list[str]) -> None:
    """Press Materialize on the graph of these assets, and choose these months, one after the other."""
    selection = quote(" or ".join(f'key:"{name}"' for name in assets))
    groups = quote(",".join(f"global@global:{group}" for group in GROUPS))
    page.goto(f"{address}/asset-groups~{selection}/?expanded={groups}")
    graph = page.locator("svg[class*=AssetGraphExplorer]")
    for name in assets:
        graph.get_by_text(name, exact=True).first.wait_for()
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog").first
    dialog.get_by_text(f"materialize {len(assets)} assets").first.wait_for()
    dialog.get_by_placeholder(re.compile("^ex:")).fill(f"[{months[0]}...{months[-1]}]")
    dialog.get_by_placeholder(re.compile("^ex:")).press("Enter")
    dialog.get_by_text(re.compile(f"^{len(months)} partitions?$")).first.wait_for()
    dialog.get_by_role("button", name=re.compile("^Launch")).last.click()


def finished_since(built: Built, before: set[str], number: int) -> list[dg.DagsterRun]:
    """Wait until `number` new runs have ended; return all new ones."""
    with dg.DagsterInstance.from_config(str(built.home / "dagster")) as instance:
        deadline = time.monotonic() + 300
        while True:
            runs = [run for run in instance.get_runs() if run.run_id not in before]
            if len(runs) >= number and all(run.is_finished for run in runs):
                return runs
            assert time.monotonic() < deadline, [(run.tags, run.status) for run in runs]
            time.sleep(1)


def test_a_mixed_selection_of_one_month_is_one_run_with_a_process_for_its_gpu_steps(
    page: Page, served: tuple[str, Built]
) -> None:
    address, built = served
    assets, month = ("embeddings", "captions", "nsfw_scores"), "2021-02"
    before = {name: built.lake.provenance(name, month) for name in assets}
    known = all_runs(built)
    launch(page, address, assets, [month])
    (run,) = finished_since(built, known, 1)
    assert (run.tags["dagster/partition"], run.status) == (month, dg.DagsterRunStatus.SUCCESS)
    assert {key.path[-1] for key in run.asset_selection or ()} == set(assets)
    for name, old in before.items():
        new = built.lake.provenance(name, month)
        assert (new.run_id, new.data_version) == (run.run_id, old.data_version), name
    with dg.DagsterInstance.from_config(str(built.home / "dagster")) as instance:
        records = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTING)
    pids = {}
    for entry in records:
        about = entry.get_dagster_event().event_specific_data
        assert isinstance(about, EngineEventData)
        pids[entry.step_key] = about.metadata["pid"].value
    assert pids["embeddings"] == pids["captions"] != pids["nsfw_scores"]


def test_a_backfill_of_three_months_from_the_ui(page: Page, served: tuple[str, Built]) -> None:
    """With tables that read all earlier months, of which no later month may become part."""
    address, built = served
    assets = ("fingerprints", "lookalikes", "dataset", "drops", "summaries", "variation_metrics")
    months = ["2021-02", "2021-03", "2021-04"]
    before = {(name, month): built.lake.provenance(name, month) for name in assets for month in months}
    known = all_runs(built)
    launch(page, address, assets, months)
    runs = finished_since(built, known, 3)
    assert sorted((run.tags["dagster/partition"], run.status.value) for run in runs) == [
        (month, "SUCCESS") for month in months
    ]
    assert len({run.tags["dagster/backfill"] for run in runs}) == 1
    of = {run.tags["dagster/partition"]: run.run_id for run in runs}
    for (name, month), old in before.items():
        new = built.lake.provenance(name, month)
        assert (new.run_id, new.data_version) == (of[month], old.data_version), f"{name}/{month}"
        assert new.upstream == old.upstream, f"{name}/{month}"


def all_runs(built: Built) -> set[str]:
    """Return the ids of all runs so far."""
    with dg.DagsterInstance.from_config(str(built.home / "dagster")) as instance:
        return {run.run_id for run in instance.get_runs()}
