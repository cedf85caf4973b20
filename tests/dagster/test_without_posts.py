"""Someone without any posts: their own pictures and reference corpora are compared all the same."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.dagster.conftest import run_twigma
from tests.dagster.small_world import build, lay_out_references
from twigma_core.analysis.summary import EmbeddingSummary, summary_row
from twigma_core.lake import ArrayTable, Lake
from twigma_dagster.graph import is_current
from twigma_dagster.settings import Settings

CORPORA = {"laion", "artbench", "diffusiondb"}
DISTANCES = (
    "reference_images",
    "reference_embeddings",
    "reference_summaries",
    "codebook",
    "divergence_matrix",
)
COMPARED = (
    *DISTANCES,
    *("texts", "text_embeddings", "variation_table", "pair_distances", "figure_2c"),
    *("dataset", "cluster_model", "engagement"),
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Corpora of 24 pictures each: a shard, folders of styles, a folder with a CSV."""
    folder = tmp_path / "references"
    lay_out_references(folder, 24)
    with tarfile.open(folder / "laion" / "00000.tar", "w") as tar:
        for number, path in enumerate(sorted((folder / "laion").glob("*.jpg"))):
            entry = tarfile.TarInfo(f"{number:09d}.jpg")
            entry.size = path.stat().st_size
            tar.addfile(entry, io.BytesIO(path.read_bytes()))
            path.unlink()
    (folder / "laion" / "metadata.csv").unlink()
    for number, path in enumerate(sorted((folder / "artbench").glob("*.jpg"))):
        style = folder / "artbench" / ("baroque", "realism")[number % 2]
        style.mkdir(exist_ok=True)
        path.rename(style / f"painter-{number % 3}_work-{number}.jpg")
    (folder / "artbench" / "metadata.csv").unlink()
    mine = folder / "diffusiondb"
    (mine / "metadata.csv").rename(mine / "my pictures.csv")
    return Settings(
        home=tmp_path / "home",
        source="none",
        references=str(folder),
        clip_model="sample",
        blip_model="sample",
        nsfw_weights="sample",
    )


def test_the_corpora_are_compared_alone(settings: Settings) -> None:
    outcome = build(settings, [], only=COMPARED)
    assert outcome.failed == []
    assert set(outcome.skipped) == {"cluster_model", "engagement"}
    lake = Lake(settings.lake_root)
    images = {corpus: lake.read("reference_images", corpus) for corpus in CORPORA}
    assert all(set(table["status"]) == {"ok"} and table.height == 24 for table in images.values())
    assert images["artbench"]["artist"].n_unique() == 3
    assert images["diffusiondb"]["prompt"].null_count() == 0
    matrix = lake.read("divergence_matrix")
    assert set(matrix["source_p"]) == set(matrix["source_q"]) == CORPORA
    kl = matrix.filter(measure="kl", source_p="laion")
    assert kl["value"].null_count() == 0 and kl.filter(source_q="artbench")["value"][0] > 0
    assert "artbench_same_artist" in set(lake.read("variation_table")["source"])
    assert lake.exists("figures/figure_2c.svg")

    assert is_current(lake, "divergence_matrix", None)
    stored = lake.read_arrays("reference_summaries", "laion")
    summary = EmbeddingSummary.from_arrays(dict(stored.arrays))
    month = ArrayTable(summary_row(summary, month="2022-01"), summary.to_arrays())
    lake.write("summaries", month, "2022-01")
    assert not is_current(lake, "divergence_matrix", None), "posts that came since are to be compared"


def test_a_corpus_that_is_not_there_is_named_and_the_others_are_compared(settings: Settings) -> None:
    shutil.rmtree(Path(settings.references) / "artbench")
    outcome = build(settings, [], only=DISTANCES)
    (line,) = outcome.failed
    assert line.startswith("reference_images/artbench: ") and "does not exist; set TWIGMA_REFERENCES" in line
    matrix = Lake(settings.lake_root).read("divergence_matrix")
    assert set(matrix["source_p"]) == {"laion", "diffusiondb"}


def test_months_without_posts_are_refused(tmp_path: Path) -> None:
    done = run_twigma(tmp_path, "build", "2022-01", TWIGMA_SOURCE="none")
    assert done.returncode == 2
    assert "say `twigma build` without months" in done.stdout
