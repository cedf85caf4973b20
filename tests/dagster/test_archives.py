"""Archives, the 2023 release and hydration as Dagster and the command line run them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from tests.core.collect.fake_x import FakeX, serve
from tests.dagster.conftest import ROOT, environment_of, run_twigma
from tests.dagster.small_world import media_name, page
from twigma_core.collect.archives import read_archive
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.replies import folder_of
from twigma_core.lake import Lake
from twigma_core.release.table import COLUMNS
from twigma_core.sample.world import load
from twigma_dagster import headless
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import Batch, is_current
from twigma_dagster.resources import posts_of
from twigma_dagster.settings import Settings

WHOLE = ("hashtags", "archive_files", "release_2023")
MONTHLY = ("raw_tweets", "tweets", "tweet_media", "tweet_counts")
TOKEN = "AAAAcanary%2BtokenZZZZ"


def materialize(settings: Settings, instance: dg.DagsterInstance, *batches: Batch) -> headless.Outcome:
    """Run assets as someone does who presses Materialize."""
    outcome = headless.Outcome()
    job = build_defs(settings).resolve_implicit_global_asset_job_def()
    for batch in batches:
        headless.run(job, instance, batch, outcome, lambda _: None)
    return outcome


def shown(instance: dg.DagsterInstance, asset: str) -> dict[str, object]:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event and event.asset_materialization
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An archive of two months in one file, with a broken line and a file of another kind."""
    archive = tmp_path / "archive"
    archive.mkdir()
    pages = [page("2021-01", {1: b"", 2: b""}), page("2021-02", {3: b""})]
    lines = [json.dumps(one) for one in pages]
    (archive / "posts.jsonl").write_text("\n".join([lines[0], '{"data": [{"id', lines[1]]) + "\n")
    (archive / "notes.txt").write_text("not an archive")
    return Settings(home=tmp_path / "home", source="archive", archive=str(archive))


def test_an_archive_is_materialized_month_by_month_and_told_file_by_file(settings: Settings) -> None:
    lake = Lake(settings.lake_root)
    with dg.DagsterInstance.ephemeral() as instance:
        batches = [Batch(MONTHLY, month) for month in ("2021-01", "2021-02")]
        assert materialize(settings, instance, Batch(WHOLE, None), *batches).failed == []
        facts = shown(instance, "archive_files")
    assert facts["posts"] == 3
    assert "posts.jsonl:2: not JSON" in str(facts["broken or not read"])
    assert "notes.txt" in str(facts["broken or not read"])
    assert lake.read("archive_files")["posts"].to_list() == [0, 3]
    assert [lake.read("tweets", month).height for month in ("2021-01", "2021-02")] == [2, 1]
    assert lake.read("raw_tweets", "2021-02")["status"].to_list() == ["corrupt", "ok"]
    assert lake.read("release_2023").is_empty()
    assert {up.asset for up in lake.provenance("raw_tweets", "2021-01").upstream} == {
        *("archive_files", "hashtags")
    }


def test_a_file_added_later_is_found_and_only_what_it_changes_is_new(settings: Settings) -> None:
    lake, posts = Lake(settings.lake_root), posts_of(settings)
    months = ("2021-01", "2021-02")
    with dg.DagsterInstance.ephemeral() as instance:
        batches = [Batch(MONTHLY, month) for month in months]
        materialize(settings, instance, Batch(WHOLE, None), *batches)
        before = {month: lake.provenance("tweets", month).data_version for month in months}
        assert is_current(lake, "archive_files", None, posts)
        assert all(is_current(lake, "raw_tweets", month, posts) for month in months)

        added = json.dumps(page("2021-02", {9: b""}))
        (Path(settings.archive) / "more.jsonl").write_text(added + "\n")
        assert not is_current(lake, "archive_files", None, posts)
        materialize(settings, instance, Batch(("archive_files",), None))
        assert not any(is_current(lake, "raw_tweets", month, posts) for month in months)
        assert materialize(settings, instance, *batches).failed == []
    after = {month: lake.provenance("tweets", month).data_version for month in months}
    assert after["2021-01"] == before["2021-01"] and after["2021-02"] != before["2021-02"]
    assert lake.read("tweets", "2021-02").height == 2


def release_of(path: Path, rows: int) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS["paper_compat"])
        for n in range(1, rows + 1):
            derived = [f"caption {n}", n % 10 + 1, "False", 0.25, 1.5, -2.5]
            name = f"{media_name(n)}.jpg"
            writer.writerow([10**18 + n, name, f"2021-0{1 + n % 2}-05T10:00:00Z", n, 0, 0, *derived])
        writer.writerow([10**18, "holiday.jpg", "2021-01-05T10:00:00Z", 1, 0, 0, *derived])
    return path


def test_the_2023_release_alone_gives_its_months_and_its_columns(tmp_path: Path) -> None:
    path = release_of(tmp_path / "release.csv", 9)
    settings = Settings(home=tmp_path / "home", source="archive", archive=str(path))
    lake = Lake(settings.lake_root)
    with dg.DagsterInstance.ephemeral() as instance:
        batches = [Batch(MONTHLY, month) for month in ("2021-01", "2021-02")]
        assert materialize(settings, instance, Batch(WHOLE, None), *batches).failed == []
        assert shown(instance, "release_2023")["rows: image_name holds no media id"] == 1
    theirs = lake.read("release_2023")
    assert theirs["caption"].to_list() == [f"caption {n}" for n in range(1, 10)]
    media = pl.concat([lake.read("tweet_media", month) for month in ("2021-01", "2021-02")])
    assert set(media["image_id"]) == set(theirs["image_id"]) == {str(n) for n in range(1, 10)}
    assert set(media["url"]) == {f"https://pbs.twimg.com/media/{media_name(n)}.jpg" for n in range(1, 10)}


def test_the_2023_release_beside_posts_of_another_source(settings: Settings, tmp_path: Path) -> None:
    path = release_of(tmp_path / "release.csv", 3)
    both = settings.model_copy(update={"release_2023": str(path)})
    with dg.DagsterInstance.ephemeral() as instance:
        batches = (Batch(WHOLE, None), Batch(MONTHLY, "2021-01"))
        assert materialize(both, instance, *batches).failed == []
    lake = Lake(both.lake_root)
    assert lake.read("release_2023").height == 3
    assert lake.read("archive_files")["file"].to_list() == ["notes.txt", "posts.jsonl", "release.csv"]
    assert lake.read("tweets", "2021-01").height == 2, "its rows are no posts here"


@pytest.mark.parametrize("name", ["TWIGMA_ARCHIVE", "TWIGMA_RELEASE_2023"])
def test_a_file_that_is_not_there_is_named_with_its_setting(tmp_path: Path, name: str) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("")
    variables = {"TWIGMA_SOURCE": "archive", "TWIGMA_ARCHIVE": str(there), name: str(tmp_path / "none")}
    done = run_twigma(tmp_path, "build", **variables)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr
    assert f"none does not exist; set {name}" in done.stdout


# ---------------------------------------------------------------- hydrate


def test_hydrate_says_the_price_first_and_spends_nothing_unasked(tmp_path: Path) -> None:
    with serve(FakeX()) as fake:
        ids = tmp_path / "ids.txt"
        ids.write_text("\n".join([*(str(post["id"]) for post in fake.posts), "77", "x", "77"]))
        variables = {"X_BEARER_TOKEN": TOKEN, "TWIGMA_X_API": fake.url}
        asked = run_twigma(tmp_path, "hydrate", str(ids), **variables)
        assert asked.returncode == 2 and not fake.requests
        assert "48 ids; 1 rows repeat one; 1 are no ids" in asked.stdout
        assert "1 calls, at least" in asked.stdout and "at most $0.24" in asked.stdout
        assert "nobody is there to agree to spend $0.24; say --yes" in asked.stdout

        done = run_twigma(tmp_path, "hydrate", str(ids), "--yes", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        again = run_twigma(tmp_path, "hydrate", str(ids), **variables)
        assert again.returncode == 0 and "0 to ask for" in again.stdout
        assert len(fake.requests) == 1
    assert TOKEN not in done.stdout + done.stderr + again.stdout
    top = tmp_path / "lake" / "hydrated" / "x" / "ids"
    found = pl.read_csv(top / "outcomes.csv", infer_schema=False)
    assert found.equals(pl.read_parquet(top / "outcomes.parquet").with_columns(found["answered_at"]))
    assert Counter(found["status"]) == Counter(found=47, deleted=1, refused=1)
    for line in ("found", "deleted", "refused", "in all"):
        assert line in done.stdout
    assert f"TWIGMA_ARCHIVE={top / 'replies'}" in done.stdout


def test_a_killed_hydrate_goes_on_and_buys_at_most_the_call_under_way_again(tmp_path: Path) -> None:
    with serve(FakeX(posts=950)) as fake:
        ids = tmp_path / "ids.txt"
        ids.write_text("\n".join(str(post["id"]) for post in fake.posts))
        command = [sys.executable, "-m", "twigma_dagster.cli", "hydrate", str(ids), "--yes"]
        environment = environment_of(tmp_path) | {"X_BEARER_TOKEN": TOKEN, "TWIGMA_X_API": fake.url}
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        while len(fake.requests) < 4:
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        before = len(fake.requests)
        assert before < 10
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        asked = Counter(one for _, params in fake.requests for one in params["ids"].split(","))
    assert set(asked) == {str(post["id"]) for post in fake.posts}
    assert sum(number - 1 for number in asked.values()) in (0, 100)


def test_what_was_hydrated_builds(tmp_path: Path) -> None:
    """From ids alone, through the sample's server, to tables of posts that equal the planted ones."""
    month = "2021-03"
    rows = [row for row in load().post_rows if row["month"] == month]
    (tmp_path / "ids.csv").write_text("tweet_id\n" + "\n".join(row["tweet_id"] for row in rows))
    done = run_twigma(tmp_path, "hydrate", str(tmp_path / "ids.csv"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the sample world's server, which costs nothing" in done.stdout
    replies = str(Lake(tmp_path / "lake").path(folder_of("ids", "sample")))
    settings = Settings(home=tmp_path, source="archive", archive=replies)
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = materialize(settings, instance, Batch(WHOLE, None), Batch(MONTHLY, month))
    assert outcome.failed == []
    tweets = Lake(settings.lake_root).read("tweets", month)
    planted = {row["tweet_id"]: row["like_count"] for row in rows if row["status"] == "posted"}
    assert dict(tweets.select("tweet_id", "like_count").iter_rows()) == planted
    assert parse_pages(read_archive(replies)).tweets.height == len(planted)
