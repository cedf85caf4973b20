"""The sample world through the whole graph: every planted truth is found, and missed once it is scrambled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.dagster.conftest import ROOT, Built
from twigma_core.analysis import prompts
from twigma_core.analysis.engagement import engagement_table
from twigma_core.analysis.summary import EmbeddingSummary, add_up
from twigma_core.analysis.themes import cluster_trends
from twigma_core.analysis.variation_tables import groups_of, variation_table
from twigma_core.figures import FIGURES
from twigma_core.figures.files import read_provenance
from twigma_core.lake import Lake
from twigma_core.sample.truths import load_truths
from twigma_core.sample.verify import verify
from twigma_core.sample.world import load
from twigma_core.tables import CORPORA, SCHEMAS, TEXT_SOURCES
from twigma_dagster.notebook import run_notebook
from twigma_dagster.partitions import MONTHS, PARTITIONS

MONTHS_OF_SAMPLE = list(load().months)


def test_every_planted_truth_is_recovered(sample: Built) -> None:
    findings = verify(sample.lake)
    missed = findings.filter(~pl.col("recovered"))
    assert missed.is_empty(), missed.to_dicts()
    assert findings.height > 25


def likes(lake: Lake, rng: np.random.Generator) -> None:
    """Permute the likes over the pictures."""
    dataset = lake.scan("dataset").collect()
    mixed = dataset.with_columns(like_count=dataset["like_count"].shuffle(seed=int(rng.integers(1 << 30))))
    lake.write("engagement", engagement_table(mixed, lake.scan("neighbors").collect()))


def months(lake: Lake, rng: np.random.Generator) -> None:
    """Permute the months over the pictures."""
    clusters = lake.scan("clusters").collect()
    mixed = clusters.with_columns(month=clusters["month"].shuffle(seed=int(rng.integers(1 << 30))))
    lake.write("cluster_trends", cluster_trends(mixed, 10))


def groups(lake: Lake, rng: np.random.Generator) -> None:
    """Permute artists and prompts over the reference pictures."""
    stored = {corpus: lake.read_arrays("reference_embeddings", corpus) for corpus in CORPORA}
    mixed = {
        corpus: type(value)(
            value.table.with_columns(pl.col("artist", "prompt_id").shuffle(seed=int(rng.integers(1 << 30)))),
            value.arrays,
        )
        for corpus, value in stored.items()
    }
    sources = {
        corpus: EmbeddingSummary.from_arrays(dict(lake.read_arrays("reference_summaries", corpus).arrays))
        for corpus in CORPORA
    }
    parts = [
        EmbeddingSummary.from_arrays(dict(lake.read_arrays("summaries", m).arrays)) for m in MONTHS_OF_SAMPLE
    ]
    sources["twigma"] = add_up(parts)
    lake.write("variation_table", variation_table(sources, groups_of(mixed)))


def words(lake: Lake, rng: np.random.Generator) -> None:
    """Permute the prompts over the groups of pictures."""
    images = lake.scan("reference_images").collect()
    of_prompt = images.drop_nulls("prompt_id").unique("prompt_id", maintain_order=True).sort("prompt_id")
    texts = of_prompt["prompt"].shuffle(seed=int(rng.integers(1 << 30)))
    mapping = dict(zip(of_prompt["prompt_id"], texts, strict=True))
    mixed = images.with_columns(prompt=pl.col("prompt_id").replace_strict(mapping, default=None))
    stored = {corpus: lake.read_arrays("reference_embeddings", corpus) for corpus in CORPORA}
    lake.write("prompt_variation", prompts.prompt_variation(mixed, stored))


@pytest.mark.parametrize(
    ("scramble", "lost"),
    [
        (likes, ["likes_quintile_1", "likes_quintile_2"]),
        (months, ["trend_people", "trend_landscapes"]),
        (
            groups,
            ["variation_artbench_artbench_same_artist", "variation_diffusiondb_diffusiondb_same_prompt"],
        ),
        (words, ["prompt_length"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_scrambled_effect_is_not_found(
    sample: Built,
    tmp_path: Path,
    scramble: Callable[[Lake, np.random.Generator], None],
    lost: list[str],
) -> None:
    shutil.copytree(sample.home / "lake" / "tables", tmp_path / "tables")
    lake = Lake(tmp_path)
    scramble(lake, np.random.default_rng(1))
    recovered = dict(verify(lake).select("finding", "recovered").iter_rows())
    truths = load_truths()
    assert {name: recovered[truths[name].description] for name in lost} == dict.fromkeys(lost, False)


def test_every_partition_of_every_table_is_there(sample: Built) -> None:
    for name in SCHEMAS:
        if name not in PARTITIONS:
            assert sample.lake.has(name), name
        elif PARTITIONS[name] == MONTHS:
            assert sample.lake.partitions(name) == MONTHS_OF_SAMPLE, name
        else:
            wanted = CORPORA if name.startswith("reference") else TEXT_SOURCES
            assert sample.lake.partitions(name) == sorted(wanted), name


@pytest.mark.parametrize("name", list(FIGURES))
def test_a_figure_carries_its_lineage_and_its_table(sample: Built, name: str) -> None:
    svg, png = (sample.lake.read_bytes(f"figures/{name}.{kind}") for kind in ("svg", "png"))
    made = read_provenance(svg)
    assert made == read_provenance(png)
    assert made.asset == name
    assert {up.asset for up in made.upstream} >= set(FIGURES[name].TABLES)
    for up in made.upstream:
        assert sample.lake.provenance(up.asset, up.partition).data_version == up.data_version
        if PARTITIONS.get(up.asset) == MONTHS:
            assert {u.partition for u in made.upstream if u.asset == up.asset} == set(MONTHS_OF_SAMPLE)
    assert sample.lake.read_bytes(f"figures/{name}.csv").count(b"\n") > 1


def test_a_figure_names_the_models_it_rests_on(sample: Built) -> None:
    made = read_provenance(sample.lake.read_bytes("figures/figure_4c.svg"))
    assert {"sample-clip", "sample-blip"} <= set(made.models)
    assert all(len(sha) == 64 for sha in made.models.values())


def test_the_second_run_has_nothing_to_do(sample: Built) -> None:
    done = sample.twigma("demo")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "0 steps ran" in done.stdout


def test_one_command_prints_a_files_lineage(sample: Built) -> None:
    figure = sample.twigma("lineage", str(sample.home / "lake" / "figures" / "figure_2c.png"))
    assert "asset         figure_2c" in figure.stdout
    assert "divergence_matrix/all" in figure.stdout
    table = sample.twigma("lineage", str(sample.home / "lake" / "tables" / "dataset" / "2021-03.parquet"))
    assert "asset         dataset/2021-03" in table.stdout
    assert "images/2021-01" in table.stdout, "earlier months were read for duplicates"


def test_sql_by_name(sample: Built) -> None:
    import duckdb

    done = sample.twigma("sql", "select count(*) as pictures from dataset")
    rows = sample.lake.scan("dataset").select(pl.len()).collect().item()
    assert str(rows) in done.stdout.replace(",", "")
    with duckdb.connect(str(sample.home / "lake" / "twigma.duckdb"), read_only=True) as connection:
        views = {row[0] for row in connection.execute("select view_name from duckdb_views()").fetchall()}
        assert set(SCHEMAS) <= views
        assert connection.execute("select count(*) from dataset").fetchone() == (rows,)


def test_report_and_release(sample: Built) -> None:
    page = sample.lake.read_bytes("report/index.html").decode()
    assert "synthetic" in page
    assert [name for name in FIGURES if name not in page] == []
    release = sample.lake.read("release")
    assert {"data/twigma.parquet", "data/twigma.csv", "README.md", "croissant.json", "SHA256SUMS"} <= set(
        release["path"]
    )
    table = pl.read_parquet(sample.lake.read_bytes("releases/1.0.0/data/twigma.parquet"))
    assert table.height == sample.lake.scan("dataset").select(pl.len()).collect().item()
    assert "text" not in table.columns
    assert "like_count" not in table.columns


def test_the_notebook_runs_and_shows_what_it_shows_in_the_documents(sample: Built) -> None:
    path = ROOT / "docs" / "notebook.ipynb"
    shown = run_notebook(path, {"TWIGMA_LAKE": str(sample.home / "lake")})
    written = [cell["outputs"] for cell in json.loads(path.read_text())["cells"] if "outputs" in cell]

    def kinds(cells: list[list[dict[str, Any]]]) -> list[list[str]]:
        return [[kind for one in cell for kind in one.get("data", ["text"])] for cell in cells]

    assert kinds(shown) == kinds(written), "run: python -m twigma_dagster.docs --notebook LAKE"
    assert sum(kind == "image/png" for cell in kinds(shown) for kind in cell) == 2
