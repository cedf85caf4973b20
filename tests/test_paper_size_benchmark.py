"""The benchmark at the paper's size, small: assets make of what is laid out what they should."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks import paper_size, paper_world
from twigma_core.lake import Lake

MONTHS = ("2021-01", "2021-02")


def test_assets_are_made_of_a_small_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake(paper_size.settings_of(tmp_path).lake_root)
    posted = paper_world.lay_out(lake, 600, MONTHS, references=0.001, dim=80)
    assert posted == lake.scan("tweet_media").select(pl.len()).collect().item() == 600
    assert set(paper_world.laid_out()) == {path.name for path in Path(str(lake.path("tables"))).iterdir()}
    costs = [
        paper_size.materialize(tmp_path, assets)
        for assets in (["fingerprints"], ["lookalikes"], ["dataset", "drops"], ["codebook"])
    ]
    assert all(cost.seconds > 0 and cost.cpu > 0 and cost.own <= cost.peak for cost in costs)
    assert [cost.partitions for cost in costs] == [2, 2, 2, 1]
    dropped = dict(lake.scan("drops").group_by(pl.col("reason").cast(pl.String)).len().collect().iter_rows())
    kept = lake.scan("dataset").select(pl.len()).collect().item()
    assert kept + sum(dropped.values()) == posted
    assert {"same media id", "same file", "same embedding", "unavailable"} <= dropped.keys()
    near = lake.scan("lookalikes").filter(~pl.col("identical")).collect()
    assert near.height and near["cosine"].is_between(0.98, 0.9999).all()
    for sizes, columns in (((600,), 4), ((600, 6000), 9), ((600, 6000, 60_000), 14)):
        paper_size.show_growth(dict.fromkeys(sizes, costs))
        rows = capsys.readouterr().out.splitlines()
        assert {row.count("|") - 1 for row in rows} == {columns}
        assert rows[4].startswith("| `dataset, drops` |")


def test_a_step_that_fails_stops_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="dataset"):
        paper_size.materialize(tmp_path, ["catalog", "cluster_model"])


def test_the_exponent_is_the_slope() -> None:
    assert paper_size.exponent([10, 100, 1000], [3, 30, 300]) == pytest.approx(1)
    assert paper_size.exponent([10, 100], [1, 100]) == pytest.approx(2)


def test_every_asset_is_laid_out_or_measured() -> None:
    definitions = paper_size.build_defs(paper_size.settings_of(Path("nowhere")))
    measured = {name for step in paper_size.steps(definitions) for name in step}
    every = {key.path[-1] for key in definitions.resolve_asset_graph().executable_asset_keys}
    assert measured | set(paper_world.laid_out()) == every
