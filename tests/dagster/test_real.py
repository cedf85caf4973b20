"""The whole graph on real posts, pictures and texts (the pairing of posts and pictures is invented)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import pdist

from tests.dagster.conftest import Built, run_twigma
from tests.dagster.real_world import arrange, media_server
from twigma_core.analysis.groups import PER_GROUP
from twigma_core.analysis.variation_tables import CONDITIONS
from twigma_core.figures import FIGURES
from twigma_core.figures.files import read_provenance
from twigma_core.lake import Lake
from twigma_core.tables import SCHEMAS

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
