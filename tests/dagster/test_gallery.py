"""The gallery under `twigma serve`, in a real browser, and `twigma search`, on the built sample."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import polars as pl
import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.dagster.conftest import ROOT, Built, environment_of
from tests.dagster.test_ui import BROWSER_FLAGS
from twigma_core.figures.pictures import BLUR_FROM
from twigma_core.gallery.app import PAGE
from twigma_core.gallery.search import find
from twigma_core.lake import Lake
from twigma_core.models.clip import ClipEncoder

TEXT = "a castle"


@pytest.fixture(scope="module")
def gallery(sample: Built) -> Iterator[str]:
    """`twigma serve` on the sample; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "twigma_dagster.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment_of(sample.home))
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None, "the gallery did not come up"
                time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def get(address: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as reply:
            return reply.status, reply.read(), _lower(reply.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), _lower(error.headers)


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def veiled(sample: Built) -> dict[str, Any]:
    """Return the row of a picture that is shown blurred, of the last month."""
    rows = sample.lake.read("dataset", sample.lake.partitions("dataset")[-1]).sort("image_id")
    return rows.filter(pl.col("nsfw_score") >= BLUR_FROM).row(0, named=True)


def opened(browser_path: str, address: str, width: int = 1200) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(BROWSER_FLAGS))
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(address)
        yield page
        browser.close()


@pytest.fixture
def page(browser_path: str, gallery: str) -> Iterator[Page]:
    yield from opened(browser_path, gallery)


@pytest.fixture
def phone(browser_path: str, gallery: str) -> Iterator[Page]:
    yield from opened(browser_path, gallery, width=360)


def test_search_is_the_product_of_all_vectors(sample: Built) -> None:
    encoder = ClipEncoder("sample")
    found = find(sample.lake, encoder, TEXT, k=30)
    rows = sample.lake.scan("dataset").select("image_id", "month").collect()
    all_of_them = sample.lake.read_all_arrays("embeddings").take(rows["image_id"]).vectors
    cosines = all_of_them.astype(np.float64) @ encoder.encode_texts([TEXT])[0].astype(np.float64)
    order = np.argsort(-cosines, kind="stable")[:30]
    assert np.allclose(found["similarity"], cosines[order], atol=1e-6)
    assert set(found["image_id"]) == set(rows["image_id"][order.tolist()])
    captions = sample.lake.scan("dataset").select("caption").collect()
    shares = [
        frame.filter(pl.col("caption").str.contains("castle")).height / frame.height
        for frame in (found, captions)
    ]
    assert shares[0] > 3 * shares[1]
    one = find(sample.lake, encoder, TEXT, ["2021-02"], k=5)
    assert set(one["month"]) == {"2021-02"} and one["rank"].to_list() == [1, 2, 3, 4, 5]


def test_search_refuses_vectors_of_another_model(sample: Built, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    month = "2021-01"
    stored = sample.lake.read_arrays("embeddings", month)
    strange = stored.table.with_columns(weights_sha256=pl.lit("0" * 64))
    lake.write("embeddings", type(stored)(strange, stored.arrays), month)
    lake.write("dataset", sample.lake.read("dataset", month), month)
    with pytest.raises(ValueError, match="made by other weights"):
        find(lake, ClipEncoder("sample"), TEXT)


def test_search_from_the_command_line(sample: Built) -> None:
    done = sample.twigma("search", TEXT, "--month", "2021-03", "-k", "3")
    assert done.returncode == 0, done.stderr
    best = find(sample.lake, ClipEncoder("sample"), TEXT, ["2021-03"], 3)
    assert all(image_id in done.stdout for image_id in best["image_id"])
    refused = sample.twigma("search", " ")
    assert refused.returncode != 0 and "the text is empty" in refused.stdout + refused.stderr


def test_a_blurred_picture_is_blurred_before_it_leaves(gallery: str, sample: Built) -> None:
    row = veiled(sample)
    address = f"{gallery}/thumbnail/{row['month']}/{row['image_id']}"
    blurred, whole = (np.asarray(Image.open(io.BytesIO(get(a)[1]))) for a in (address, f"{address}?open=1"))
    edges = [float(np.abs(np.diff(one.astype(int), axis=1)).mean()) for one in (blurred, whole)]
    assert edges[0] < edges[1] / 2
    assert max(whole.shape[:2]) <= 256, "thumbnails only"
    assert get(address)[2]["cache-control"] == "no-store"


def test_what_is_not_there_and_who_may_not_ask(gallery: str) -> None:
    assert get(f"{gallery}/thumbnail/2021-01/1")[0] == 404
    assert get(f"{gallery}/thumbnail/..%2F..%2Fetc/passwd")[0] == 404
    assert get(gallery, Host="evil.example")[0] == 400, "a name elsewhere that points here"
    status, page, headers = get(f"{gallery}/?{urlencode({'month': '2030-01'})}")
    assert status == 400 and b"dataset/2030-01 is not materialized" in page
    _, page, _ = get(f"{gallery}/?{urlencode({'q': '<script>alert(1)</script>'})}")
    assert b"<script>alert" not in page and b"&lt;script&gt;" in page
    assert "default-src 'none'" in headers["content-security-policy"]


def test_by_month_and_cluster_and_words_and_all_at_once(page: Page, gallery: str, sample: Built) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    dataset, clusters = (sample.lake.scan(name).collect() for name in ("dataset", "clusters"))
    page.get_by_role("heading", name=f"{dataset.height:,} pictures", exact=True).wait_for()
    newest = dataset.sort("month", "image_id", descending=True)
    assert shown(page) == addresses(newest.head(PAGE)), "all of them, the newest first"

    label, count = clusters.filter(month="2021-02")["cluster"].value_counts(sort=True).row(0)
    of_label = clusters.filter(cluster=label).sort("distance", "image_id")
    page.get_by_label("Cluster").select_option(str(label))
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_role("heading", name=f"{of_label.height} pictures in cluster {label}").wait_for()
    page.get_by_role("link", name="Next").click()
    page.get_by_text("Page 2 of").wait_for()
    assert shown(page) == addresses(of_label.slice(PAGE, PAGE)), "the most typical first, of every month"

    page.get_by_label("Month").select_option("2021-02")
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_role("heading", name=f"{count} pictures of 2021-02 in cluster {label}").wait_for()
    if folder := os.environ.get("DOCS_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{folder}/gallery.png")
    page.get_by_role("searchbox").fill(TEXT)
    page.get_by_role("searchbox").press("Enter")
    page.get_by_role("heading", name=f"nearest to “{TEXT}” in 2021-02 in cluster {label}").wait_for()
    of_month = find(sample.lake, ClipEncoder("sample"), TEXT, ["2021-02"], dataset.height)
    within = of_month.join(of_label.select("image_id"), on="image_id", how="semi", maintain_order="left")
    assert shown(page) == addresses(within.head(PAGE)) and 0 < within.height < of_month.height
    assert all(url.startswith(gallery) for url in asked)


def shown(page: Page) -> list[str]:
    """Return the pictures of a page, in order."""
    return [str(image.get_attribute("src")) for image in page.locator("figure img").all()]


def addresses(rows: pl.DataFrame) -> list[str]:
    return [f"/thumbnail/{row['month']}/{row['image_id']}" for row in rows.iter_rows(named=True)]


def test_a_keyboard_shows_a_blurred_picture(page: Page, gallery: str, sample: Built) -> None:
    row = veiled(sample)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{gallery}/?month={row['month']}")
    while not (link := page.get_by_role("button", name=f"Show picture {row['image_id']}")).count():
        page.get_by_role("link", name="Next").click()
    picture = page.locator(f"img[src$='{row['image_id']}']")
    assert str(picture.get_attribute("alt")) == f"Blurred: {row['caption']}"
    link.focus()
    page.keyboard.press("Space")
    shown = page.locator(f"img[src$='{row['image_id']}?open=1']")
    shown.wait_for()
    assert shown.get_attribute("alt") == row["caption"]
    assert shown.evaluate("image => image === document.activeElement"), "the focus is not lost"
    assert complaints == [], "nothing that the page's policy forbids"


def test_it_is_readable_on_a_phone(phone: Page) -> None:
    phone.locator("figure").first.wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    columns = {round(box["x"]) for one in phone.locator("figure").all() if (box := one.bounding_box())}
    assert len(columns) == 2
