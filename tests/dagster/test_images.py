"""Pictures as Dagster runs them: one that failed is tried again alone, from the Launchpad and the shell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml

from tests.dagster.conftest import run_twigma
from tests.dagster.real_world import serve
from tests.dagster.small_world import drawn, media_name, page
from twigma_core.images.shards import iter_pictures
from twigma_core.lake import Lake
from twigma_dagster import headless
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import Batch
from twigma_dagster.settings import Settings

MONTH = "2021-01"
COLLECTED = ("raw_tweets", "tweets", "tweet_media", "images")


@dataclass
class Site:
    """A media server: the picture of each number (nothing is a 404), and what it was asked for."""

    settings: Settings
    pictures: dict[int, bytes]
    asked: list[int]

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_root)

    def statuses(self) -> dict[str, str]:
        return dict(self.lake.read("images", MONTH).select("image_id", "status").iter_rows())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    pictures = {number: drawn(number) for number in range(1, 7)}
    names = {media_name(number): number for number in pictures}
    archive = tmp_path / "archive.jsonl"
    archive.write_text(json.dumps(page(MONTH, pictures)) + "\n")
    asked: list[int] = []

    def answer(name: str) -> bytes:
        asked.append(names[name])
        return pictures.get(names[name], b"")

    with serve(answer) as url:
        settings = Settings(home=tmp_path, source="archive", archive=str(archive), media_base=url)
        yield Site(settings, pictures, asked)


def materialize(
    site: Site, instance: dg.DagsterInstance, *assets: str, config: dict[str, object] | None = None
) -> headless.Outcome:
    job = build_defs(site.settings).resolve_implicit_global_asset_job_def()
    outcome = headless.Outcome()
    if not site.lake.has("hashtags"):
        headless.run(job, instance, Batch(("hashtags",), None), outcome, lambda _: None)
    batch = Batch(assets, MONTH)
    headless.run(job, instance, batch, outcome, lambda _: None, config={"images": config} if config else None)
    return outcome


def test_one_picture_is_retried_alone_by_run_config(site: Site) -> None:
    spare = {number: site.pictures.pop(number) for number in (2, 5)}
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(site, instance, *COLLECTED).failed == []
        assert site.statuses() == dict.fromkeys("1346", "ok") | dict.fromkeys("25", "unavailable")
        site.pictures.update(spare)
        before = site.lake.read("images", MONTH)

        site.asked.clear()
        assert materialize(site, instance, "images").failed == []
        assert site.asked == [], "what is stored, and what is gone for good, is not asked for again"

        assert materialize(site, instance, "images", config={"only": ["5"]}).failed == []
        assert site.asked == [5]
        assert site.statuses() == dict.fromkeys("13456", "ok") | {"2": "unavailable"}
        after = site.lake.read("images", MONTH)
        others = pl.col("image_id") != "5"
        assert after.filter(others).equals(before.filter(others)), "every other row stands as it was"

        assert materialize(site, instance, "images", config={"every_failed": True}).failed == []
        assert site.asked == [5, 2]
        assert dict(iter_pictures(site.lake, site.lake.read("images", MONTH))) == {
            str(number): data for number, data in site.pictures.items()
        }
        wrong = materialize(site, instance, "images", config={"only": ["77"]})
        assert "no post of the month has picture 77" in wrong.failed[0]
        made = instance.get_latest_materialization_event(dg.AssetKey("images"))
        assert made and made.asset_materialization
        assert made.asset_materialization.metadata["ok"].value == 6


def test_the_asset_says_how_to_retry_in_the_launchpad(site: Site) -> None:
    definitions = build_defs(site.settings)
    description = definitions.resolve_asset_graph().get(dg.AssetKey("images")).description or ""
    assert "twigma retry" in description
    written = description.partition("`ops:")[2].partition("`")[0]
    config = yaml.safe_load("ops:" + written)
    assert config["ops"]["images"]["config"]["only"]
    dg.validate_run_config(definitions.resolve_implicit_global_asset_job_def(), config)


def test_retry_from_the_shell(site: Site) -> None:
    spare = {number: site.pictures.pop(number) for number in (2, 5)}
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(site, instance, *COLLECTED).failed == []
    site.pictures.update({2: spare[2]})
    site.asked.clear()
    variables = {
        "TWIGMA_SOURCE": "archive",
        "TWIGMA_ARCHIVE": site.settings.archive,
        "TWIGMA_MEDIA_BASE": site.settings.media_base,
    }
    done = run_twigma(site.settings.home, "retry", MONTH, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(set(site.asked)) == [2, 5]
    assert "images/2021-01: 2 of 2 in" in done.stdout
    assert "HTTP 404" in done.stdout and "1 ok, 1 unavailable" in done.stdout
    assert site.statuses() == dict.fromkeys("12346", "ok") | {"5": "unavailable"}
