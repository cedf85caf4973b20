"""What must be gone is gone from every file, stays gone, and what rested on it is built anew."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import zstandard

from tests.dagster.living_world import Living, living, part_of
from tests.dagster.small_world import build
from twigma_core.collect.tombstones import Gone
from twigma_core.images.shards import read_picture
from twigma_core.lake import Lake
from twigma_core.purge import purge, traces
from twigma_dagster import headless
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import Batch

MONTHS = ["2021-01", "2021-02"]
ASSETS = """hashtags archive_files tombstones raw_tweets tweets tweet_media snapshots hashtag_candidates
    images embeddings captions nsfw_scores fingerprints lookalikes dataset drops
    reference_images reference_embeddings
    codebook summaries cluster_model clusters neighbors inspirations
    annotation_tasks annotations projection_model projection release""".split()
"""All that holds single posts or pictures, and what that rests on."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    """Two months of forty posts, with the tables and sheets that hold single ones."""
    with living(tmp_path_factory.mktemp("living"), part_of(40, MONTHS)) as here:
        outcome = build(here.settings, MONTHS, ASSETS)
        assert outcome.failed == [] and outcome.skipped == []
        yield here


def words(data: bytes, name: str) -> str:
    """Return a file's words, read without any code of the project."""
    if name.endswith(".zst"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    if name.endswith(".parquet"):
        frame = pl.read_parquet(io.BytesIO(data))
        return repr(frame.to_dicts()) + repr(pl.read_parquet_metadata(io.BytesIO(data)))
    if name.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(data)) as shard:
            return repr(shard.getnames())
    return data.decode(errors="replace")


def found(lake: Lake, wanted: set[str]) -> set[str]:
    """Return the files of the lake that hold one of these texts, but for those that say what must go."""
    root = Path(str(lake.root))
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {
        name
        for name, data in files.items()
        if not name.startswith(("tables/tombstones/", "inbox/compliance/", "inbox/opt_out.csv"))
        and any(one in name or one in words(data, name) for one in wanted)
    }


def pictures_in_shards(lake: Lake) -> set[str]:
    """Return the sha256 of every picture in every shard of the posts."""
    result = set()
    for path in Path(str(lake.path("shards", "images"))).rglob("*.tar"):
        with tarfile.open(path) as shard:
            result |= {hashlib.sha256(shard.extractfile(one).read()).hexdigest() for one in shard}  # type: ignore[union-attr]
    return result


def say(lake: Lake, posts: dict[str, str], name: str = "job.ndjson") -> None:
    """Put the result of a compliance job into the inbox."""
    lines = [json.dumps({"id": one, "action": "delete", "reason": reason}) for one, reason in posts.items()]
    lake.write_bytes(f"inbox/compliance/tweets/{name}", "\n".join(lines).encode())


def materialize(
    here: Living, *assets: str, month: str | None = None, **config: object
) -> tuple[headless.Outcome, dict[str, object]]:
    """Run assets in Dagster; return what came of it and what `tombstones` shows."""
    outcome = headless.Outcome()
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_defs(here.settings).resolve_implicit_global_asset_job_def()
        headless.run(job, instance, Batch(assets, month), outcome, lambda _: None, config=config)  # type: ignore[arg-type]
        event = instance.get_latest_materialization_event(dg.AssetKey(assets[0]))
        facts = event.asset_materialization.metadata if event and event.asset_materialization else {}
    return outcome, {name: value.value for name, value in facts.items()}


def test_five_percent_of_the_posts_leave_no_trace_and_all_is_built_anew(built: Living) -> None:
    lake = built.lake
    dataset = lake.scan("dataset").collect()
    tweets = lake.scan("tweets").collect()
    chosen = random.Random(0).sample(sorted(dataset["tweet_id"].unique()), round(0.05 * tweets.height))
    author = dataset.filter(~pl.col("tweet_id").is_in(chosen))["author_id"][0]
    posts = {*chosen, *tweets.filter(pl.col("author_id") == author)["tweet_id"]}
    media = lake.scan("tweet_media").collect()
    staying = media.filter(~pl.col("tweet_id").is_in(posts))["image_id"]
    pictures = set(media.filter(pl.col("tweet_id").is_in(posts))["image_id"]) - set(staying)
    images = lake.scan("images").filter(pl.col("status") == "ok").collect()
    files = set(images.filter(pl.col("image_id").is_in(pictures))["sha256"])
    files -= set(images.filter(~pl.col("image_id").is_in(pictures))["sha256"])
    assert len(pictures) >= 4 and len(files) >= 4
    everything = {*posts, *pictures, author}
    assert {name.partition("/")[0] for name in found(lake, everything)} >= {
        *("pages", "tables", "shards", "outbox", "inbox", "review"),
    }, "they are everywhere before"
    assert files <= pictures_in_shards(lake)

    say(lake, dict.fromkeys(chosen, "deleted"))
    lake.write_bytes("inbox/opt_out.csv", f"author,why\n{author},asked by letter\n".encode())
    outcome, shown = materialize(built, "tombstones")
    assert outcome.failed == [], "its check finds no trace"
    assert {name for name in found(lake, everything) if not name.startswith("releases/1.0.0/data/")} == set()
    assert not files & pictures_in_shards(lake), "the bytes are gone"
    assert shown["status: opt out"] == 1 + len(posts - set(chosen)) and shown["inbox: posts not here"] == 0
    kept = lake.scan("images").filter(pl.col("status") == "ok").collect()
    for row in kept.iter_rows(named=True):
        data = read_picture(lake, row["shard"], row["offset"], row["bytes"])
        assert hashlib.sha256(data).hexdigest() == row["sha256"], "the index points at the moved picture"

    model = lake.provenance("cluster_model").run_id
    again = build(built.settings, MONTHS, ASSETS)
    assert again.failed == [] and again.skipped == []
    assert found(lake, everything) == {"releases/1.0.1/changes.csv"}, "which tells who holds 1.0.0"
    assert traces(lake, Gone.of(lake)) == []
    left = lake.scan("dataset").collect()
    assert not set(left["tweet_id"]) & posts and set(left["image_id"]) <= set(dataset["image_id"])
    for name in ("clusters", "neighbors"):
        assert set(lake.scan(name).collect()["image_id"]) == set(left["image_id"]), name
    assert sum(lake.read("summaries", month)["count"][0] for month in MONTHS) == left.height
    assert lake.provenance("cluster_model").run_id == model, "labels last"
    assert build(built.settings, MONTHS, ASSETS).ran == 0, "nothing more to do"


def test_a_month_collected_again_does_not_bring_it_back(built: Living) -> None:
    lake = built.lake
    gone = Gone.of(lake)
    assert gone
    here = set(lake.read("tweets", MONTHS[0])["tweet_id"])
    served = {row["tweet_id"] for row in built.world.post_rows if row["month"] == MONTHS[0]}
    assert served & gone.posts, "X gives them still"
    for folder in lake.list_folders(f"pages/{MONTHS[0]}"):
        for file in lake.list_files(f"pages/{MONTHS[0]}/{folder}"):
            lake.remove(file)
    outcome, _ = materialize(built, "raw_tweets", "tweets", "tweet_media", month=MONTHS[0])
    assert outcome.failed == []
    assert set(lake.read("tweets", MONTHS[0])["tweet_id"]) == here
    assert found(lake, set(gone.posts | gone.authors)) <= {"releases/1.0.1/changes.csv"}


def test_a_file_with_unknown_ids_duplicates_and_bad_lines_is_read_for_what_it_is_worth(built: Living) -> None:
    lake = built.lake
    post = lake.read("tweets", MONTHS[1])["tweet_id"][0]
    good = json.dumps({"id": post, "action": "delete", "reason": "scrub_geo", "created_at": "x"})
    lines = [
        good,
        good,
        json.dumps({"id": "1999999999999999999", "action": "delete", "reason": "suspended"}),
        "{not json",
        json.dumps({"id": 1.5e18, "reason": "deleted"}),
        json.dumps({"id": post + "1", "reason": "bored"}),
        "",
        "[]",
        "\x00\xff",
    ]
    lake.write_bytes("inbox/compliance/tweets/strange.ndjson", "\n".join(lines).encode("latin-1"))
    lake.write_bytes("inbox/compliance/users/empty.ndjson", b"")
    outcome, shown = materialize(built, "tombstones")
    assert outcome.failed == []
    counted = {name.removeprefix("inbox: "): n for name, n in shown.items() if name.startswith("inbox: ")}
    assert counted["bad lines"] == 5 and counted["repeated"] == 1
    assert counted["new"] == 2 and counted["posts not here"] == 1
    rows = {row["id"]: row for row in lake.read("tombstones").iter_rows(named=True)}
    assert rows[post]["status"] == "scrubbed" and rows[post]["month"] == MONTHS[1]
    assert rows["1999999999999999999"]["month"] is None
    assert post not in set(lake.read("tweets", MONTHS[1])["tweet_id"])
    outcome, shown = materialize(built, "tombstones")
    assert outcome.failed == [] and shown["inbox: new"] == 0
    assert not [name for name in shown if name.startswith("removed: ")], "a second time finds nothing to do"


@pytest.mark.parametrize("compliance", [True, False])
def test_x_is_asked_by_a_compliance_job_or_by_lookup(tmp_path: Path, compliance: bool) -> None:
    with living(tmp_path, part_of(12, ["2021-03"]), compliance=compliance) as here:
        assert materialize(here, "hashtags")[0].failed == []
        assert materialize(here, "raw_tweets", "tweets", "tweet_media", month="2021-03")[0].failed == []
        tweets = here.lake.read("tweets", "2021-03")
        here.gone[tweets["tweet_id"][0]] = "deleted"
        closed = next(one for one in tweets["author_id"] if one != tweets["author_id"][0])
        here.accounts[closed] = "suspended"
        outcome, _ = materialize(here, "tombstones", tombstones={"x": True})
        assert outcome.failed == []
        by = {row["id"]: row for row in here.lake.read("tombstones").iter_rows(named=True)}
        mine = set(tweets.filter(pl.col("author_id") == closed)["tweet_id"])
        assert set(by) == {tweets["tweet_id"][0], *mine, *([closed] if compliance else [])}
        assert by[tweets["tweet_id"][0]]["status"] == "deleted"
        assert {by[one]["status"] for one in mine} == {"suspended" if compliance else "not authorized"}
        assert set(here.lake.read("tweets", "2021-03")["tweet_id"]) == set(tweets["tweet_id"]) - set(by)
        assert found(here.lake, set(by)) == set()


def test_dagsters_history_of_it_is_forgotten_where_that_is_asked_for(tmp_path: Path) -> None:
    with living(tmp_path, part_of(6, ["2021-03"])) as here, dg.DagsterInstance.ephemeral() as instance:
        job = build_defs(here.settings).resolve_implicit_global_asset_job_def()

        def run(*assets: str, month: str | None = None, **config: object) -> None:
            outcome = headless.Outcome()
            headless.run(job, instance, Batch(assets, month), outcome, lambda _: None, config=config)  # type: ignore[arg-type]
            assert outcome.failed == []

        def history() -> str:
            logs = [repr(log) for one in instance.get_runs() for log in instance.all_logs(one.run_id)]
            return " ".join([*logs, repr(instance.get_latest_materialization_event(dg.AssetKey("tweets")))])

        run("hashtags")
        run("raw_tweets", "tweets", "tweet_media", month="2021-03")
        post = here.lake.read("tweets", "2021-03")["tweet_id"][0]
        assert post in history(), "the preview shows it"
        say(here.lake, {post: "deleted"})
        run("tombstones", tombstones={"forget_runs": True})
        run("tweets", "tweet_media", month="2021-03")
        assert [one.tags.get("dagster/partition") for one in instance.get_runs()] == ["2021-03", None]
        said = [log for one in instance.get_runs() for log in instance.all_logs(one.run_id)]
        naming = {log.run_id for log in said if post in repr(log)}
        assert naming == {instance.get_runs()[1].run_id}, "the list of what must be gone alone names it"
        assert post not in repr(instance.get_latest_materialization_event(dg.AssetKey("tweets")))


def test_a_purge_that_was_killed_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with living(tmp_path, part_of(12, ["2021-03"])) as here:
        materialize(here, "hashtags")
        materialize(here, "raw_tweets", "tweets", "tweet_media", "images", month="2021-03")
        post = here.lake.read("tweet_media", "2021-03")["tweet_id"][0]
        say(here.lake, {post: "deleted"})
        with monkeypatch.context() as patch:

            def stop(*_: object) -> None:
                raise RuntimeError("killed")

            patch.setattr("twigma_core.purge.repack", stop)
            assert "killed" in materialize(here, "tombstones")[0].failed[0]
        assert traces(here.lake, Gone.of(here.lake)), "the check tells"
        purge(here.lake, Gone.of(here.lake))
        assert traces(here.lake, Gone.of(here.lake)) == []
