"""The whole graph on real posts, pictures and texts (the pairing of posts and pictures is invented)."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.spatial.distance import pdist

from tests.dagster.conftest import Built, run_twigma
from tests.dagster.real_world import arrange, media_server
from tests.dagster.test_deletions import found, pictures_in_shards, say
from tests.drills.counts import FULL
from twigma_core.analysis.groups import PER_GROUP
from twigma_core.analysis.variation_tables import CONDITIONS
from twigma_core.collect.tombstones import Gone
from twigma_core.figures import FIGURES
from twigma_core.figures.files import read_provenance
from twigma_core.lake import ArrayTable, Lake
from twigma_core.purge import traces
from twigma_core.release.package import last_release, read_release_table
from twigma_core.tables import SCHEMAS
from twigma_dagster import automation, headless
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import FROZEN, Batch
from twigma_dagster.partitions import MONTHS, PARTITIONS
from twigma_dagster.settings import Settings

FIRST = "2021-01"


@pytest.fixture(scope="session")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The shared data, built by `twigma build` from an archive."""
    home = tmp_path_factory.mktemp("real")
    references = arrange(shared_data, home / "references")
    with media_server(shared_data) as address:
        variables = {
            "TWIGMA_SOURCE": "archive",
            "TWIGMA_ARCHIVE": str(shared_data / "tweets"),
            "TWIGMA_MEDIA_BASE": address,
            "TWIGMA_REFERENCES": str(references),
            "TWIGMA_REFERENCE_LIMIT": "1500",
            "TWIGMA_CLIP_MODEL": "sample",
            "TWIGMA_BLIP_MODEL": "sample",
        }
        done = run_twigma(home, "build", **variables)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-3000:]
    return Built(home, Lake(home / "lake"), done.stdout, variables)


def posts_in(shared: Path) -> dict[str, str]:
    """Return id and month of every post in the archive, read without any code of the project."""
    found: dict[str, str] = {}
    for file in sorted((shared / "tweets").rglob("*.json*")):
        for line in file.read_text(errors="replace").splitlines():
            try:
                body = json.loads(line)
            except ValueError:
                continue
            if not isinstance(body, dict):
                continue
            data = body.get("data", body)
            for post in data if isinstance(data, list) else [data]:
                if isinstance(post, dict) and "text" in post and "created_at" in post and "id" in post:
                    found[str(post["id"])] = post["created_at"][:7]
    return found


def test_all_is_built(real: Built) -> None:
    missing = [name for name in SCHEMAS if not (real.lake.has(name) or real.lake.partitions(name))]
    assert missing == []
    for name in FIGURES:
        assert read_provenance(real.lake.read_bytes(f"figures/{name}.svg")).asset == name
    assert "failed" not in real.output


def test_every_post_is_accounted_for(real: Built, shared_data: Path) -> None:
    expected = posts_in(shared_data)
    within = {post for post, month in expected.items() if month >= FIRST}
    ours = set(real.lake.scan("tweets").select("tweet_id").collect()["tweet_id"])
    assert len(within) > 1000
    assert ours == within
    before = sorted({month for month in expected.values() if month < FIRST})
    assert before
    assert f"left out: posts of {', '.join(before)}" in real.output


def test_every_picture_is_accounted_for(real: Built) -> None:
    posted = real.lake.scan("tweet_media").collect()
    kept, dropped = real.lake.scan("dataset").collect(), real.lake.scan("drops").collect()
    assert posted.height == kept.height + dropped.height > 150
    reasons = dict(dropped.group_by("reason").len().iter_rows())
    assert reasons["unavailable"] > 0, "the server knows no picture for every 40th name"
    assert reasons["same file"] > 0, "fewer pictures than posts: some are served twice"
    ledger = real.lake.scan("images").collect()
    assert set(posted["image_id"]) == set(ledger["image_id"])
    for corpus in ("laion", "artbench", "diffusiondb"):
        rows = real.lake.read("reference_images", corpus)
        without = rows.filter(pl.col("reason").is_null() & (pl.col("status") != "ok"))
        assert without.is_empty(), "what did not open says why"


def test_broken_lines_and_unread_files_are_reported(real: Built) -> None:
    corrupt = real.lake.scan("raw_tweets").filter(status="corrupt").collect()
    assert corrupt.height > 0
    assert corrupt["query"].str.contains("streaming_output_with_error").any()
    assert "empty.json" in real.output
    assert "not read" in real.output, "files of other kinds are named"


def test_the_archive_is_told_file_by_file(real: Built, shared_data: Path) -> None:
    files = [path for path in (shared_data / "tweets").rglob("*") if path.is_file()]
    told = real.lake.read("archive_files")
    assert told.height == len(files)
    assert told["posts"].sum() > 1500
    assert real.lake.read("release_2023").is_empty()
    assert real.lake.read("release_2023_comparison").is_empty()


def test_the_invented_pairing_is_said(real: Built) -> None:
    assert "not from X" in real.lake.read_bytes("report/index.html").decode()
    assert "not from X" in real.lake.read_bytes("releases/1.0.0/README.md").decode()
    verdicts = real.lake.read("paper_comparison")["verdict"].unique().to_list()
    assert "reproduced" not in verdicts or "not comparable" in verdicts


def test_distances_within_prompts_and_artists_beside_random_pairs(real: Built) -> None:
    table = real.lake.read("variation_table").filter(metric="mean_pairwise_distance")
    rows = {row["source"]: row for row in table.iter_rows(named=True)}
    pairs = [("artbench", "artbench_same_artist"), ("diffusiondb", "diffusiondb_same_prompt")]
    for whole, within in pairs:
        for source in (whole, within):
            row = rows[source]
            assert row["n"] > 100
            assert 0 < row["low"] < row["value"] < row["high"] < 2
        print(
            f"{within}: {rows[within]['value']:.3f} [{rows[within]['low']:.3f}, {rows[within]['high']:.3f}]"
            f" beside {rows[whole]['value']:.3f} for random pairs of {whole} (a model trained on drawings)"
        )
    stored = real.lake.read_arrays("reference_embeddings", "diffusiondb")
    frame = stored.table.with_row_index().group_by("prompt_id").agg("index").drop_nulls()
    groups = [rows for rows in frame["index"].to_list() if len(rows) > 1]
    direct = [
        np.linalg.norm(stored.vectors[a].astype(float) - stored.vectors[b].astype(float))
        for rows in groups
        for i, a in enumerate(rows)
        for b in rows[i + 1 :]
    ]
    within_prompt = rows["diffusiondb_same_prompt"]
    assert within_prompt["low"] - 0.05 < float(np.mean(direct)) < within_prompt["high"] + 0.05


def test_the_ratio_of_same_to_different_is_reported_as_it_comes_out(real: Built) -> None:
    """Same artist beside other artists, same prompt beside other prompts: the ratio of plain means."""
    table = real.lake.read("variation_table").filter(metric="within_across_ratio")
    for source, (corpus, column) in CONDITIONS.items():
        row = table.filter(source=source).row(0, named=True)
        stored = real.lake.read_arrays("reference_embeddings", corpus)
        names = stored.table[column].to_list()
        sizes = Counter(name for name in names if name)
        kept = [i for i, name in enumerate(names) if name and 2 <= sizes[name] <= PER_GROUP]
        x, group = stored.vectors[kept].astype(float), np.array([names[i] for i in kept])
        pairs, same = pdist(x), pdist(np.unique(group, return_inverse=True)[1][:, None]) == 0
        ratio = pairs[same].mean() / pairs[~same].mean()
        print(f"{source}: {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] of other {column}s")
        assert row["low"] < row["value"] < row["high"]
        assert row["value"] == pytest.approx(ratio, rel=0.05), "groups above the limit are cut to it"


def test_texts_are_real(real: Built) -> None:
    counts = dict(
        pl.concat([real.lake.read("texts", key) for key in real.lake.partitions("texts")])
        .group_by("source")
        .len()
        .iter_rows()
    )
    assert min(counts.values()) > 50
    assert real.lake.read("text_variation")["value"].is_not_null().all()


# ---------------------------------------------------------------- by schedule, and 5 % taken back

NEW = "2022-10"
BY_POST = ("tweets", "tweet_media", "snapshots")
BY_PICTURE = ("images", "embeddings", "captions", "nsfw_scores", "fingerprints")
KEPT = ("dataset", "clusters", "projection", "neighbors")


class Clock:
    """The platform with its schedules and sensor evaluated as Dagster does, and their runs executed here."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.definitions, self.instance = build_defs(settings), instance
        resources = self.definitions.resources or {}
        self.resources = {name: one for name, one in resources.items() if name != "lake_io"}

    def tick(self, schedule: dg.ScheduleDefinition, when: str) -> list[dg.RunRequest]:
        """Return what a schedule asks for at a time."""
        with dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=datetime.fromisoformat(when).replace(tzinfo=UTC),
            resources=self.resources,
            repository_def=self.definitions.get_repository_def(),
        ) as context:
            return list(schedule.evaluate_tick(context).run_requests or [])

    def run(self, job: str, asked: dg.RunRequest) -> None:
        """Execute a run of a job as it was asked for."""
        done = self.definitions.resolve_job_def(job).execute_in_process(
            run_config={**headless.QUIET, **asked.run_config},
            instance=self.instance,
            partition_key=asked.partition_key,
            raise_on_error=False,
        )
        assert headless.failures(done, asked.partition_key) == []

    def keep_current(self) -> list[tuple[str, str | None]]:
        """Do what the sensor asks for until it asks for nothing; return what was materialized, in order."""
        made: list[tuple[str, str | None]] = []
        asked: set[str | None] = set()
        job = self.definitions.resolve_implicit_global_asset_job_def()
        while True:
            context = dg.build_sensor_context(
                instance=self.instance, definitions=self.definitions, resources=self.resources
            )
            found = [one for one in automation.keep_current(context) if isinstance(one, dg.RunRequest)]  # type: ignore[union-attr]
            if not found:
                return made
            assert not asked & {one.run_key for one in found}, "it would never end"
            for one in found:
                asked.add(one.run_key)
                names = tuple(key.path[-1] for key in one.asset_selection or [])
                outcome = headless.Outcome()
                headless.run(job, self.instance, Batch(names, one.partition_key), outcome, lambda _: None)
                assert outcome.failed == []
                made += [(name, one.partition_key) for name in names]


@pytest.mark.skipif(not FULL, reason="2.5 minutes, with `make drills`")
def test_a_month_by_schedule_then_five_percent_taken_back_then_a_release(
    real: Built, shared_data: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(real.home, home, ignore=shutil.ignore_patterns("dagster"), symlinks=True)
    lake = Lake(home / "lake")
    monthly = [name for name, cut in PARTITIONS.items() if cut == MONTHS]
    for name in monthly:
        lake.remove(f"tables/{name}/{NEW}.parquet")
    for folder in (f"pages/{NEW}", f"shards/images/{NEW}"):
        shutil.rmtree(str(lake.path(folder)))
    with media_server(shared_data) as address, dg.DagsterInstance.local_temp() as instance:
        variables = {name.removeprefix("TWIGMA_").lower(): value for name, value in real.environment.items()}
        clock = Clock(Settings(**variables | {"home": home, "media_base": address}), instance)  # type: ignore[arg-type]
        (asked,) = clock.tick(automation.month_schedule, "2022-11-03T04:00")
        assert asked.partition_key == NEW
        clock.run("month", asked)
        assert clock.tick(automation.month_schedule, "2022-11-03T04:01") == [], "it is here"
        for name in monthly:
            versions = [one.provenance(name, NEW).data_version for one in (lake, real.lake)]
            assert versions[0] == versions[1], f"{name}: the schedule's month is that of `twigma build`"
        assert clock.keep_current() == [], "and so nothing else is out of date"

        before = {name: lake.scan(name).collect() for name in (*BY_POST, *BY_PICTURE, *KEPT, "drops")}
        vectors = lake.read_all_arrays("embeddings")
        models = {name: lake.provenance(name).run_id for name in FROZEN}
        tweets, media, images = (before[name] for name in ("tweets", "tweet_media", "images"))
        said = set(random.Random(6).sample(sorted(tweets["tweet_id"]), round(0.05 * tweets.height)))
        gone = said | repeating(shared_data, said)
        pictures = set(media.filter(pl.col("tweet_id").is_in(gone))["image_id"])
        pictures -= set(media.filter(~pl.col("tweet_id").is_in(gone))["image_id"])
        files = set(images.filter(pl.col("image_id").is_in(pictures))["sha256"].drop_nulls())
        files -= set(images.filter(~pl.col("image_id").is_in(pictures))["sha256"])
        assert len(gone) > 50 and len(pictures) > 5 and files & pictures_in_shards(lake)
        assert {name.partition("/")[0] for name in found(lake, gone | pictures)} >= {
            *("pages", "tables", "shards", "figures", "report", "releases", "review", "outbox"),
        }, "they are everywhere before"
        say(lake, dict.fromkeys(said, "deleted"))
        (asked,) = clock.tick(automation.deletions_schedule, "2022-11-04T02:00")
        clock.run("deletions", asked)
        made = clock.keep_current()

    last = last_release(lake)
    assert last and found(lake, gone | pictures) == {f"{last.folder}/changes.csv"}, "which says what to drop"
    assert not files & pictures_in_shards(lake) and traces(lake, Gone.of(lake)) == []
    assert not {name for name, _ in made} & {*FROZEN, "reference_embeddings", "text_embeddings"}
    assert {name: lake.provenance(name).run_id for name in FROZEN} == models, "labels last"
    unchanged(lake, before, vectors, gone, pictures)


def repeating(shared: Path, said: set[str]) -> set[str]:
    """Return the posts that repost or edit one of these, read without any code of the project."""
    found = set()
    for file in sorted((shared / "tweets").rglob("*.json*")):
        for line in file.read_text(errors="replace").splitlines():
            try:
                data = json.loads(line)["data"]
            except (ValueError, KeyError, TypeError):
                continue
            for post in data if isinstance(data, list) else [data]:
                references = post.get("referenced_tweets", [])
                reposted = {one["id"] for one in references if one["type"] == "retweeted"}
                if said & {*reposted, *post.get("edit_history_tweet_ids", [])}:
                    found.add(str(post["id"]))
    return found


def unchanged(
    lake: Lake, before: dict[str, pl.DataFrame], vectors: ArrayTable, gone: set[str], pictures: set[str]
) -> None:
    """Check that all else is as it was, in every table and the release."""
    now = {name: lake.scan(name).collect() for name in before}
    for names, key, away in ((BY_POST, "tweet_id", gone), (BY_PICTURE, "image_id", pictures)):
        for name in names:
            same(now[name], before[name].filter(~pl.col(key).is_in(away)))
    left = lake.read_all_arrays("embeddings")
    assert np.array_equal(left.vectors, vectors.take(left.table["image_id"]).vectors)
    staying = before["dataset"].filter(~pl.col("tweet_id").is_in(gone))["image_id"]
    heirs = before["drops"].filter(pl.col("survivor_tweet_id").is_in(gone))["image_id"]
    last = last_release(lake)
    assert last
    released = read_release_table(lake, last.version)
    assert set(staying) <= set(released["image_id"]) <= {*staying, *heirs}, "or a copy takes its place"
    assert not set(released["id"]) & gone and released.height < before["dataset"].height
    for name in KEPT:
        assert set(now[name]["image_id"]) == set(released["image_id"]), name
        same(*(frame[name].filter(pl.col("image_id").is_in(staying.implode())) for frame in (now, before)))


def same(one: pl.DataFrame, other: pl.DataFrame) -> None:
    """Check that two frames hold the same rows; where in a shard a picture lies may differ."""
    moved = ("shard", "offset", "fetched_at")
    columns = [name for name in one.columns if name not in moved]
    assert_frame_equal(one.select(columns), other.select(columns), check_row_order=False)
