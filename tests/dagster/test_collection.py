"""Collecting from X as Dagster runs it: the budget, what is shown, carried on and kept secret."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import dagster as dg
import pytest
import zstandard
from rich.console import Console
from typer.testing import CliRunner

from tests.core.collect.fake_x import FakeX, serve
from twigma_core.collect import hashtags, x_api
from twigma_core.lake import Lake
from twigma_dagster import headless
from twigma_dagster.cli import app
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import Batch, is_current
from twigma_dagster.settings import Settings

MONTH = "2022-08"
TABLES = ("raw_tweets", "tweets", "tweet_media", "tweet_counts")
CANARY = "AAAAcanary%2BtokenZZZZ"
UNQUOTED = "AAAAcanary+tokenZZZZ"


@pytest.fixture
def fake_x(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeX]:
    """X with a month of 47 posts, and room for ten on a page."""
    monkeypatch.setitem(x_api.TIERS, "all", replace(x_api.ALL, page_size=10))
    defaults = x_api.XClient.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "pace_s", 0.0)
    monkeypatch.setitem(defaults, "backoff_s", 0.01)
    monkeypatch.setenv("X_BEARER_TOKEN", CANARY)
    with serve(FakeX()) as world:
        yield world


def settings_of(fake_x: FakeX, home: Path, **changes: object) -> Settings:
    return Settings(home=home, source="x", x_api=fake_x.url).model_copy(update=changes)


@cache
def job_of(settings: Settings) -> dg.JobDefinition:
    return build_defs(settings).resolve_implicit_global_asset_job_def()


def collect(
    settings: Settings, instance: dg.DagsterInstance, *tables: str, said: list[str] | None = None
) -> headless.Outcome:
    """Run these tables of the month; `said` is what the steps logged."""
    outcome, heard = headless.Outcome(), [] if said is None else said
    job = job_of(settings)
    if not Lake(settings.lake_root).has("hashtags"):
        headless.run(job, instance, Batch(("hashtags",), None), outcome, lambda _: None)
    headless.run(job, instance, Batch(tables or TABLES, MONTH), outcome, lambda _: None, heard.append)
    return outcome


def shown(instance: dg.DagsterInstance, asset: str = "raw_tweets") -> dict[str, object]:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event and event.asset_materialization
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_the_budget_stops_a_month_and_a_higher_one_carries_it_on(fake_x: FakeX, tmp_path: Path) -> None:
    lake = Lake(settings_of(fake_x, tmp_path).lake_root)
    with dg.DagsterInstance.ephemeral() as instance:
        said: list[str] = []
        outcome = collect(settings_of(fake_x, tmp_path, budget=0.14), instance, said=said)
        assert "X counts 47 posts, 0 are here; about 47 to buy on 5 pages: $0.24" in said[0]
        assert "page 1 with 10 posts is on disk; 20 of about 47 posts, $0.10 so far" in said[2]
        assert len(outcome.failed) == 1
        assert "raw_tweets/2022-08: the budget of $0.14 stops it before page 2" in outcome.failed[0]
        assert "raise TWIGMA_BUDGET (in the Launchpad: posts.budget)" in outcome.failed[0]
        assert lake.read("raw_tweets", MONTH)["posts"].to_list() == [10, 10], "what there is, is the table"
        assert not lake.has("tweets", MONTH), "nothing is built on part of a month"
        facts = shown(instance)
        assert facts["posts"] == 20 and facts["dollars this month"] == 0.11
        assert facts["posts that X counts"] == 47 and "the budget of $0.14" in str(facts["stopped"])
        assert not is_current(lake, "raw_tweets", MONTH), "so that the next build goes on"

        assert (
            collect(settings_of(fake_x, tmp_path, budget=0.14), instance, "tweets", "tweet_media").failed
            == []
        )
        assert lake.read("tweets", MONTH).height == 20, "on purpose, part of a month can be used"

        assert collect(settings_of(fake_x, tmp_path, budget=1.0), instance).failed == []
        facts = shown(instance)
    assert fake_x.searches == [None, "t10", "t20", "t30", "t40"] and fake_x.counts == 1
    assert facts["resumed at page"] == 2 and facts["pages bought by this run"] == 3
    assert facts["dollars this month"] == facts["dollars in all"] == 0.245 and "stopped" not in facts
    assert lake.read("tweets", MONTH).height == 47 and is_current(lake, "raw_tweets", MONTH)
    counts = lake.read("tweet_counts", MONTH)
    assert counts["counted"].sum() == counts["collected"].sum() == 47


def test_the_launchpad_chooses_the_search_and_the_budget_of_one_run(fake_x: FakeX, tmp_path: Path) -> None:
    settings = settings_of(fake_x, tmp_path)
    job = job_of(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        collect(settings, instance, "raw_tweets")
        fake_x.requests.clear()
        config = {"resources": {"posts": {"config": {"x_search": "recent", "budget": 0.0}}}}
        result = job.execute_in_process(
            run_config=config,
            instance=instance,
            partition_key="2022-09",
            asset_selection=[dg.AssetKey("raw_tweets")],
            raise_on_error=False,
        )
        failure = headless.failures(result, "2022-09")
        assert "recent search reaches back to" in failure[0] and "set TWIGMA_X_SEARCH=all" in failure[0]
        assert fake_x.requests == []
        result = job.execute_in_process(
            run_config={"resources": {"posts": {"config": {"budget": 0.3}}}},
            instance=instance,
            partition_key="2022-09",
            asset_selection=[dg.AssetKey("raw_tweets")],
            raise_on_error=False,
        )
    assert "budget of $0.30 stops it before page 0" in headless.failures(result, "2022-09")[0]
    assert fake_x.counts == 1, "address, source and prices are those of the settings all the same"


def test_an_edit_of_the_list_is_picked_up_and_buys_the_new_hashtag_alone(
    fake_x: FakeX, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(fake_x, tmp_path / "home")
    lake = Lake(settings.lake_root)
    with dg.DagsterInstance.ephemeral() as instance:
        assert collect(settings, instance, "raw_tweets").failed == []
        assert is_current(lake, "hashtags", None)
        longer = tmp_path / "hashtags.csv"
        longer.write_text(hashtags.REVIEWED.read_text() + "sdxl,co-occurrence,2026-11-24,\n")
        monkeypatch.setattr(hashtags, "REVIEWED", longer)
        assert not is_current(lake, "hashtags", None)
        asked = len(fake_x.requests)
        job = job_of(settings)
        headless.run(job, instance, Batch(("hashtags",), None), headless.Outcome(), lambda _: None)
        assert not is_current(lake, "raw_tweets", MONTH)
        assert collect(settings, instance, "raw_tweets").failed == []
    queries = {params["query"].partition(")")[0] for _, params in fake_x.requests[asked:]}
    assert queries == {"(#sdxl"}


def test_no_secret_reaches_a_log_a_file_or_the_event_store(
    fake_x: FakeX, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "python_logs: {python_log_level: DEBUG, managed_python_loggers: [root, tweepy, urllib3]}\n"
    )
    told = f"do not send Bearer {CANARY} or {UNQUOTED}"
    settings = settings_of(fake_x, tmp_path)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        fake_x.fail(503, body={"detail": told})
        fake_x.fail(429, {"x-rate-limit-reset": "1600000000"}, {"title": told})
        fake_x.fail(403, body={"title": told, "errors": [{"message": told}]})
        refused = collect(settings, instance, "raw_tweets")
        fake_x.fail(402, body={"title": told, "detail": told})
        unpaid = collect(settings, instance, "raw_tweets")
        whole = collect(settings, instance, "raw_tweets")
    assert "X refused (403 Forbidden do not send Bearer [redacted]" in refused.failed[0]
    assert "X asks for payment" in unpaid.failed[0]
    assert whole.failed == []

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    seen = "".join(capfd.readouterr())
    for path in written:
        data = path.read_bytes()
        if path.suffix == ".zst":
            data = zstandard.ZstdDecompressor().decompress(data)
        elif data.startswith(b"SQLite format 3"):
            with sqlite3.connect(path) as database:
                data += "\n".join(database.iterdump()).encode()
        assert CANARY.encode() not in data and UNQUOTED.encode() not in data, path
        seen += data.decode(errors="replace")
    assert CANARY not in seen and UNQUOTED not in seen
    assert "Making API request" in seen and "Bearer [redacted]" in seen, "tweepy's own log was recorded"
    assert "raw_tweets" in seen and len(written) > 20


def test_the_command_says_what_months_cost_before_they_are_bought(
    fake_x: FakeX, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twigma_dagster.cli.console", Console(width=160))  # its width is that of its import

    def twigma(*arguments: str, **variables: str) -> str:
        # Set by the test and so put back after it: the command sets the home folders itself.
        settings = {
            "TWIGMA_HOME": str(tmp_path),
            "DAGSTER_HOME": str(tmp_path),
            "COLUMNS": "160",
            **variables,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(app, arguments, catch_exceptions=False).output

    of_x = {"TWIGMA_SOURCE": "x", "TWIGMA_X_API": fake_x.url, "TWIGMA_BUDGET": "0.1"}
    said = twigma("estimate", "2022-07", "2022-08", **of_x)
    assert "Asking X for counts: up to $0.020" in said
    assert "47 posts on 6 pages: $0.24" in said
    assert "$0.020 for 2 requests for counts, which are kept" in said
    assert "$0.080 of the budget is left, which will end it before that: raise TWIGMA_BUDGET" in said
    assert fake_x.searches == [] and fake_x.counts == 2
    again = twigma("estimate", "2022-07", "2022-08", **of_x)
    assert "$0.00 for 0 requests for counts" in again and fake_x.counts == 2
    recent = twigma("estimate", "2022-08", **of_x, TWIGMA_X_SEARCH="recent")
    assert "recent search reaches back to" in recent and fake_x.counts == 2
    shown = twigma("settings")
    assert "(set)" in shown and CANARY not in shown + said
    archive = twigma("estimate", "2022-07", TWIGMA_SOURCE="archive", TWIGMA_ARCHIVE=str(tmp_path))
    assert "An archive costs nothing" in archive
