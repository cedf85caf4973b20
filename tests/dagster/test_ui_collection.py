"""Collecting by clicks: an archive and a search of X, from an empty home to tables, in a real browser."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.dagster.conftest import ROOT, environment_of
from tests.dagster.small_world import page as page_of_posts
from tests.dagster.test_ui import BROWSER_FLAGS, wait_until_up
from twigma_core.lake import Lake
from twigma_core.sample.server import running_server
from twigma_core.sample.world import load

MONTH = "2021-01"


def launch(page: Page, address: str, asset: str, month: str | None = None) -> None:
    """Press Materialize on an asset's page, for one month where it has months."""
    page.goto(f"{address}/assets/{asset}")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    if month is None:
        return
    field = page.get_by_placeholder(re.compile("^ex:"))
    confirm = page.get_by_role("button", name="Confirm")  # tweets come with tweet_media: the UI asks
    field.or_(confirm).first.wait_for()
    if confirm.is_visible():
        confirm.click()
    field.fill(f"[{month}...{month}]")
    field.press("Enter")
    dialog = page.get_by_role("dialog").last
    dialog.get_by_text("1 partition").first.wait_for()
    dialog.get_by_role("button", name=re.compile("^Launch")).click()


def finished(home: Path, number: int) -> list[dg.DagsterRun]:
    """Wait until so many runs have ended; return all."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            runs = list(instance.get_runs())
            if len(runs) == number and all(run.is_finished for run in runs):
                return runs
            time.sleep(0.5)
    raise AssertionError(f"{number} runs did not end: {[(run.run_id, run.status) for run in runs]}")


@pytest.mark.parametrize("source", ["archive", "x"])
def test_a_month_is_collected_by_clicks(source: str, tmp_path: Path, browser_path: str) -> None:
    with running_server() as sample, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        variables = {"TWIGMA_SOURCE": source}
        if source == "archive":
            archive = tmp_path / "posts.jsonl"
            archive.write_text(json.dumps(page_of_posts(MONTH, {1: b"", 2: b""})) + "\n")
            variables["TWIGMA_ARCHIVE"] = str(archive)
        else:
            variables |= {"TWIGMA_X_API": sample, "X_BEARER_TOKEN": "sample", "TWIGMA_BUDGET": "50"}
        home, log = tmp_path / "home", tmp_path / "ui.log"
        with log.open("w") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", "twigma_dagster.cli", "ui", "--port", str(port)],
                cwd=ROOT,
                env={**environment_of(home), **variables},
                stdout=written,
                stderr=written,
            )
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until_up(address, log)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=browser_path, args=list(BROWSER_FLAGS))
                page = browser.new_page(viewport={"width": 1800, "height": 1050})
                page.set_default_timeout(60_000)
                page.add_init_script("localStorage.setItem('communityNux', '1')")
                first = (("hashtags", None), ("archive_files", None))  # else the UI warns and asks
                steps = (*first, ("raw_tweets", MONTH), ("tweets", MONTH))
                for started, (asset, month) in enumerate(steps, start=1):
                    launch(page, address, asset, month)
                    runs = finished(home, started)
                    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}, asset
                page.goto(f"{address}/assets/raw_tweets?partition={MONTH}")
                page.get_by_text("dollars" if source == "x" else "archive", exact=False).first.wait_for()
                browser.close()
        finally:
            process.terminate()
            process.wait(60)
    lake = Lake(home / "lake")
    if source == "archive":
        assert lake.read("tweets", MONTH).height == 2
        return
    there = [row for row in load().post_rows if row["month"] == MONTH and row["status"] == "posted"]
    asked_for = {row["tweet_id"] for row in there if row["media_ids"] and not row["retweet_of"]}
    assert set(lake.read("tweets", MONTH)["tweet_id"]) == asked_for
