"""A year in simulated time: posts come by month and some go, likes settle, X fails once, pictures change.

The platform's own parts do the work, as a deployment has them: the schedules' rules say which months to
collect, the sensor's rule (`automation.due`) what to build, Dagster runs it, the sample server is X.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from tests.dagster.living_world import Living, living
from twigma_core.collect import x_api
from twigma_core.collect.tombstones import Gone
from twigma_core.figures import FIGURES
from twigma_core.figures.files import read_provenance
from twigma_core.lake import Lake
from twigma_core.purge import released, traces
from twigma_core.release.package import last_release, read_release_table
from twigma_core.sample.world import World, load
from twigma_core.tables import SCHEMAS
from twigma_dagster import headless
from twigma_dagster.automation import due, missed, months_before, unsettled
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import Batch
from twigma_dagster.partitions import MONTHS, PARTITIONS

YEAR = [f"2021-{number:02d}" for number in range(1, 13)]
EMPTY, OUTAGE, DRIFT = "2021-04", "2021-07", "2021-11"
A_MONTH = 8
SETTLE_DAYS = 20.0
COLLECTED = ("raw_tweets", "tweets", "tweet_media", "snapshots", "tweet_counts", "images")
ASSETS = {
    *("hashtags", "archive_files", "tombstones", *COLLECTED, "embeddings", "captions", "nsfw_scores"),
    *("fingerprints", "lookalikes", "dataset", "drops", "reference_images", "reference_embeddings"),
    *("codebook", "summaries", "cluster_model", "clusters", "cluster_trends"),
    *("projection_model", "projection", "release"),
}
"""What is kept up month by month; the rest of the graph is brought up to date once, at the year's end."""
EPOCH = datetime(2010, 11, 4, 1, 42, 54, 657000, tzinfo=UTC)


def year_of_posts() -> World:
    """Return a world of twelve months of a few posts with a picture each; one month has none."""
    whole = load()
    unique = whole.media.filter(pl.col("kind") == "unique").unique("media_id", maintain_order=True)
    usual = iter(unique.filter(pl.col("style") == "poster").iter_rows(named=True))
    other = iter(unique.filter(pl.col("style") == "pixel").iter_rows(named=True))
    pattern = whole.posts.filter(pl.col("retweet_of") == "").row(0, named=True)
    posts, media = [], []
    for month in YEAR:
        for number in range(0 if month == EMPTY else A_MONTH):
            when = datetime.fromisoformat(f"{month}-{2 + 3 * number:02d}T12:00:00+00:00")
            picture = next(other if month == DRIFT else usual)
            media.append({**picture, "month": month})
            posts.append(
                {
                    **pattern,
                    "tweet_id": str(round((when - EPOCH).total_seconds() * 1000) << 22),
                    "month": month,
                    "author_id": whole.users["author_id"][number],
                    "created_at": when,
                    "text": f"{month} number {number} #aiart",
                    "hashtags": ["aiart"],
                    "media_ids": [picture["media_id"]],
                    "like_count": 1000 + number,
                }
            )
    return World(
        whole.users,
        pl.DataFrame(posts, schema=whole.posts.schema),
        pl.DataFrame(media, schema=whole.media.schema),
        whole.references,
        whole.texts,
    )


class Platform:
    """Some assets of the graph, as a deployment runs them."""

    def __init__(self, here: Living, instance: dg.DagsterInstance, assets: set[str]) -> None:
        whole = build_defs(here.settings)
        chosen = [one for one in whole.assets or [] if {key.path[-1] for key in one.keys} <= assets]  # type: ignore[union-attr]
        checks = [
            one
            for one in whole.asset_checks or []
            if {key.asset_key.path[-1] for key in one.check_keys} <= assets
        ]
        self.definitions = dg.Definitions(assets=chosen, asset_checks=checks, resources=whole.resources)
        self.here, self.instance, self.lake = here, instance, here.lake
        self.failed_checks: list[str] = []

    @cached_property
    def job(self) -> dg.JobDefinition:
        """The job that holds every asset."""
        return self.definitions.resolve_implicit_global_asset_job_def()

    def run(self, *assets: str, month: str | None = None, **config: object) -> list[str]:
        """Run assets; return what failed."""
        outcome = headless.Outcome()
        headless.run(self.job, self.instance, Batch(assets, month), outcome, lambda _: None, config=config)  # type: ignore[arg-type]
        return outcome.failed

    def keep_up(self) -> list[tuple[str, str | None]]:
        """Do what the sensor asks for until it asks for nothing; return what was materialized, in order."""
        done: list[tuple[str, str | None]] = []
        resources = self.definitions.resources or {}
        while found := due(
            self.definitions.resolve_asset_graph(), self.lake, resources["models"], resources["posts"]
        ):
            for batch in found:
                assert self.run(*batch.assets, month=batch.partition) == []
                done += [(name, batch.partition) for name in batch.assets]
            assert len(done) < 500, "it would never end"
        return done

    def drifted(self, month: str) -> bool:
        """Say whether the drift check of a month failed when it last ran."""
        key = dg.AssetCheckKey(dg.AssetKey("clusters"), "no_drift")
        for record in self.instance.event_log_storage.get_asset_check_execution_history(key, limit=200):
            if record.partition == month and record.event:
                return not record.event.dagster_event.asset_check_evaluation_data.passed  # type: ignore[union-attr]
        raise AssertionError(f"{month} was not checked")


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    defaults = x_api.XClient.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "backoff_s", 0.01)
    monkeypatch.setitem(defaults, "max_wait_s", 0.2)
    with (
        living(tmp_path, year_of_posts(), settle_days=SETTLE_DAYS) as here,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        here.settings = here.settings.model_copy(update={"clusters": 2, "likes": "settled"})
        yield Platform(here, instance, ASSETS)


def likes(post: dict[str, object], when: datetime) -> int:
    age = (when - post["created_at"]) / timedelta(days=SETTLE_DAYS)  # type: ignore[operator]
    return round(post["like_count"] * (1 - math.exp(-age)))  # type: ignore[operator]


def test_a_year(platform: Platform) -> None:
    here, lake = platform.here, platform.lake
    posts = {row["tweet_id"]: row for row in here.world.post_rows}
    collected_at: dict[str, datetime] = {}
    refreshed_at: dict[str, datetime] = {}
    assert platform.keep_up(), "what needs no post"
    for number, month in enumerate(YEAR):
        tick = datetime(2021 + (number == 11), (number + 1) % 12 + 1, 3, 4, tzinfo=UTC)
        here.now[0] = tick
        assert months_before(tick, 1) == month
        if month == OUTAGE:
            here.running.faults[:] = [503] * 500
            failed = platform.run(*COLLECTED, month=month)
            assert "gave up after" in failed[0] and not lake.has("raw_tweets", month)
            here.running.faults.clear()
            assert platform.keep_up() == [], "nothing is built on what did not come"
            continue
        for key in [*missed(lake, tick), month]:
            assert platform.run(*COLLECTED, month=key) == [], key
            collected_at[key] = tick
        built = platform.keep_up()
        late = {OUTAGE} if month == "2021-08" else set()
        assert {key for _, key in built} <= {month, None, *late}, "nothing older is computed again"
        assert ("clusters", month) in built and ("cluster_trends", None) in built
        assert len(built) == len(set(built)), "and nothing twice"

        for key in unsettled(lake, tick):
            assert platform.run("snapshots", month=key, snapshots={"refresh": True}) == []
            refreshed_at[key] = tick
        if month in ("2021-05", "2021-10"):  # two of a hundred
            chosen = next(one for one in posts if posts[one]["month"] == YEAR[number - 2])
            here.gone[chosen] = "deleted"
        assert platform.run("tombstones", tombstones={"x": True}) == []
        cleaned = platform.keep_up()
        assert {key for _, key in cleaned} <= {None, *YEAR[: number + 1]}
        if month in ("2021-05", "2021-10"):
            assert ("snapshots", YEAR[number - 2]) in cleaned, "kept anew without asking X"
        if month == "2021-09":  # the first fit saw eight pictures: fit on purpose, once there are more
            assert platform.run("cluster_model") == []
            platform.keep_up()
        if month == DRIFT:
            assert platform.drifted(month) and not platform.drifted("2021-10"), "other pictures came"
            old = lake.read("cluster_model")["version"][0]
            assert platform.run("cluster_model") == [], "a person decides"
            platform.keep_up()
            model = lake.read("cluster_model")
            assert set(model["previous_version"]) == {old} and model["previous_cluster"].is_not_null().any()
            assert {lake.read("clusters", key)["version"].unique().to_list()[0] for key in YEAR[:3]} == {
                model["version"][0]
            }

    assert platform.keep_up() == [] and traces(lake, Gone.of(lake)) == []
    staying = {one: row for one, row in posts.items() if one not in here.gone}
    assert len(here.gone) == 2 and set(lake.read("tombstones")["id"]) == set(here.gone)
    for month in YEAR:
        mine = {one: row for one, row in staying.items() if row["month"] == month}
        tweets = {row["tweet_id"]: row for row in lake.read("tweets", month).iter_rows(named=True)}
        pictures = {row["media_ids"][0] for row in mine.values()}
        assert set(tweets) == set(mine), month
        for name in (
            "images",
            "embeddings",
            "captions",
            "nsfw_scores",
            "dataset",
            "clusters",
            "fingerprints",
        ):
            assert set(lake.read(name, month)["image_id"]) == pictures, (name, month)
        assert lake.read("summaries", month)["count"][0] == len(mine)
        assert (lake.read("drops", month).height, lake.read("lookalikes", month).height) == (0, 0)
        taken = lake.read("snapshots", month)
        assert taken["snapshot"].n_unique() == (0 if not mine else 1 + (month in refreshed_at)), month
        settled = dict(lake.read("dataset", month).select("tweet_id", "like_count").iter_rows())
        for one, row in mine.items():
            assert tweets[one]["like_count"] == likes(row, collected_at[month])
            assert settled[one] == likes(row, refreshed_at.get(month, collected_at[month])), month
    assert set(YEAR) - set(refreshed_at) == {"2021-12"}, "its likes have not settled yet"
    trends = lake.read("cluster_trends")
    assert trends["pictures"].sum() == len(staying)
    all_of_it = Platform(here, platform.instance, {*SCHEMAS, *FIGURES, "report", "catalog"})
    the_rest = {name for name, _ in all_of_it.keep_up()}
    assert not the_rest & ASSETS, "what was kept up needed nothing"
    the_end(lake, staying, set(here.gone))
    searches = [query for name, query in here.running.asked if name.startswith("search")]
    assert len(searches) == len(set(searches)), "no page was bought twice"


def the_end(lake: Lake, staying: dict[str, dict[str, Any]], gone: set[str]) -> None:
    """Check what sums the year up: whole-dataset tables, figures, report and release."""
    pictures = {one for row in staying.values() for one in row["media_ids"]}
    by_month = Counter(row["month"] for row in staying.values())
    assert [name for name in SCHEMAS if not (lake.has(name) or lake.partitions(name))] == []
    monthly = {name: lake.partitions(name) for name, cut in PARTITIONS.items() if cut == MONTHS}
    assert [name for name, keys in monthly.items() if keys != YEAR] == []
    for name in ("projection", "neighbors"):
        assert set(lake.scan(name).collect()["image_id"]) == pictures, name
    sizes = lake.read("variation_table").filter(source="twigma", metric="mean_pairwise_distance")["n"]
    assert sizes.to_list() == [len(pictures)], "the sum of the year's summaries"

    def drawn(name: str) -> pl.DataFrame:
        return pl.read_csv(lake.read_bytes(f"figures/{name}.csv"), schema_overrides={"image_id": pl.String})

    for name in FIGURES:
        assert read_provenance(lake.read_bytes(f"figures/{name}.svg")).asset == name
    posted = drawn("figure_1b").filter(pl.col("posts") > 0).select("month", "posts", "pictures")
    assert posted.rows() == [(month, by_month[month], by_month[month]) for month in sorted(by_month)]
    shares = drawn("figure_4b").group_by("month").agg(pl.sum("pictures"))
    assert dict(shares.filter(pl.col("pictures") > 0).iter_rows()) == by_month
    assert set(drawn("figure_4a")["image_id"]) == pictures
    page = lake.read_bytes("report/index.html").decode()
    assert [name for name in [*FIGURES, *by_month] if name not in page] == []
    assert [one for one in gone if one in page] == []

    last = last_release(lake)
    assert last and set(read_release_table(lake, last.version)["id"]) == set(staying)
    assert read_release_table(lake, last.version).height == len(pictures)
    assert released(lake, Gone.of(lake)) == [], "no older release here holds what is gone"
    assert traces(lake, Gone.of(lake)) == []
