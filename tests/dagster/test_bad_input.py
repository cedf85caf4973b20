"""Bad input: a clear message that names asset and partition, and only what depends on it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dagster.conftest import run_twigma
from tests.dagster.small_world import build, drawn, world

PICTURES = {number: drawn(number) for number in range(1, 13)}


def failed_at(lines: list[str]) -> set[str]:
    return {line.partition(":")[0] for line in lines}


def test_unknown_month(tmp_path: Path) -> None:
    done = run_twigma(tmp_path, "build", "2019-01")
    assert done.returncode == 2
    assert "2019-01" in done.stdout
    assert "months run from 2021-01" in done.stdout


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("TWIGMA_SORCE", "x", "did you mean TWIGMA_SOURCE?"),
        ("TWIGMA_SOURCE", "twitter", "TWIGMA_SOURCE"),
        ("TWIGMA_FIRST_MONTH", "2021-13", "write it as 2021-01"),
        ("TWIGMA_PORT", "high", "TWIGMA_PORT"),
        ("TWIGMA_CLUSTERS", "1", "TWIGMA_CLUSTERS"),
    ],
)
def test_wrong_setting(tmp_path: Path, name: str, value: str, cure: str) -> None:
    done = run_twigma(tmp_path, "settings" if name == "-" else "build", **{name: value})
    assert done.returncode == 2
    assert name in done.stdout
    assert cure in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_settings_are_listed_without_their_secrets(tmp_path: Path) -> None:
    done = run_twigma(tmp_path, "settings", X_BEARER_TOKEN="a-token-of-somebody", TWIGMA_SEED="7")
    lines = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert lines["X_BEARER_TOKEN"] == "(set)"
    assert "a-token-of-somebody" not in done.stdout
    assert lines["TWIGMA_SEED"] == "7"


def test_no_reference_corpus_yet(tmp_path: Path) -> None:
    with world(tmp_path, {"2021-01": PICTURES}, references=0) as (settings, lake):
        outcome = build(settings, ["2021-01"])
    assert failed_at(outcome.failed) == {
        f"reference_images/{c}" for c in ("laion", "artbench", "diffusiondb")
    }
    assert all("does not exist" in line and "TWIGMA_REFERENCES" in line for line in outcome.failed)
    assert lake.read("dataset", "2021-01").height == len(PICTURES), "the posts' side is built all the same"
    assert lake.has("cluster_themes")
    assert "codebook" in outcome.skipped
    assert "neighbors/2021-01" in outcome.skipped


def test_empty_month_and_one_picture(tmp_path: Path) -> None:
    with world(tmp_path, {"2021-01": PICTURES, "2021-02": {}, "2021-03": {99: drawn(99)}}) as (
        settings,
        lake,
    ):
        outcome = build(settings, ["2021-01", "2021-02", "2021-03"])
    assert outcome.failed == []
    assert lake.read("dataset", "2021-02").is_empty()
    assert lake.read("summaries", "2021-02")["count"].to_list() == [0]
    assert lake.read("variation_metrics", "2021-02")["value"].null_count() > 0, "undefined, not invented"
    assert lake.read("dataset", "2021-03").height == 1
    assert lake.path("report/index.html").exists()


def test_nothing_left_after_deduplication(tmp_path: Path) -> None:
    gone = dict.fromkeys(range(1, 5), b"")
    with world(tmp_path, {"2021-01": gone}) as (settings, lake):
        outcome = build(settings, ["2021-01"])
    assert lake.read("drops", "2021-01")["reason"].to_list() == ["unavailable"] * 4
    messages = {line.partition(":")[0]: line for line in outcome.failed}
    assert "0 pictures" in messages["cluster_model"]
    assert "k=10" in messages["cluster_model"]
    assert lake.read("reference_embeddings", "laion").height == 12, "references do not depend on it"


def test_fewer_pictures_than_clusters(tmp_path: Path) -> None:
    few = {number: PICTURES[number] for number in range(1, 5)}
    with world(tmp_path, {"2021-01": few}) as (settings, lake):
        outcome = build(settings, ["2021-01"])
        messages = {line.partition(":")[0]: line for line in outcome.failed}
        assert "4 pictures is smaller than k=10 clusters" in messages["cluster_model"]
        assert "clusters/2021-01" in outcome.skipped
        assert lake.has("neighbors", "2021-01"), "what does not need clusters is built"
        again = build(settings.model_copy(update={"clusters": 3}), ["2021-01"])
    assert again.failed == []
    assert lake.read("clusters", "2021-01").height == 4


def test_corrupt_page_and_pictures(tmp_path: Path) -> None:
    bad = {20: b"<html>not a picture</html>", 21: drawn(21)[:400], 22: PICTURES[1]}
    with world(tmp_path, {"2021-01": {**PICTURES, **bad}}) as (settings, lake):
        file = Path(settings.archive) / "2021-01.jsonl"
        file.write_text(file.read_text() + '{"data": [{"id": "1", "te\n')
        outcome = build(settings, ["2021-01"])
    assert outcome.failed == []
    pages = lake.read("raw_tweets", "2021-01")
    corrupt = pages.filter(status="corrupt")
    assert corrupt.height == 1
    assert "2021-01.jsonl" in corrupt["query"][0] + (corrupt["reason"][0] or "")
    drops = dict(lake.read("drops", "2021-01").select("image_id", "reason").iter_rows())
    assert drops == {"20": "undecodable", "21": "undecodable", "22": "same file"}
    ledger = {row["image_id"]: row for row in lake.read("images", "2021-01").iter_rows(named=True)}
    assert ledger["20"]["reason"]
    assert ledger["21"]["reason"]
    assert lake.read("dataset", "2021-01").height == len(PICTURES)
