"""A release as its users meet it: checked, loaded, and never half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
import yaml
from huggingface_hub import DatasetCard, DatasetCardData

from tests.core.release.conftest import ROWS
from twigma_core import tables
from twigma_core.lake import Lake
from twigma_core.provenance import Provenance
from twigma_core.release.card import SYNTHETIC, Publication
from twigma_core.release.dictionary import data_dictionary
from twigma_core.release.package import Release, write_release
from twigma_core.release.table import COLUMNS, PROFILES

if TYPE_CHECKING:
    from tests.core.release.conftest import World

PUBLICATION = Publication(
    authors=("A Team",),
    url="https://example.org/twigma",
    published=date(2023, 6, 1),
    synthetic=True,
    notice="The pairing is invented.",
)


def _write(
    lake: Lake, world: World, profile: str = "ids_strict", rows: int = ROWS, version: str = ""
) -> Release:
    return write_release(
        lake,
        world.dataset.sort("created_at").head(rows),
        world.clusters,
        world.projection,
        world.provenance,
        profile,
        version,
        PUBLICATION,
    )


def _tree(folder: Path) -> dict[str, bytes]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    root = tmp_path_factory.mktemp("lake")
    _write(Lake(root), world)
    return root / "releases" / "1.0.0"


def test_files_are_what_the_table_and_the_sums_say(tmp_path: Path, world: World) -> None:
    table = _write(Lake(tmp_path), world).files
    folder = tmp_path / "releases" / "1.0.0"
    assert {row["path"]: row["bytes"] for row in table.to_dicts()} == {
        path: len(data) for path, data in _tree(folder).items()
    }
    assert dict(table.filter(pl.col("rows").is_not_null()).select("path", "rows").iter_rows()) == {
        "data/twigma.parquet": 60,
        "data/twigma.csv": 60,
    }
    answer = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout
    assert answer.stdout.count(": OK") == table.height - 1
    latest = json.loads((tmp_path / "releases" / "latest.json").read_text())
    assert (latest["folder"], latest["rows"]) == ("1.0.0", 60)


@pytest.mark.parametrize("profile", ["ids_strict", "paper_compat"])
def test_mlcroissant_validates_and_loads_the_records(profile: str, tmp_path: Path, world: World) -> None:
    import mlcroissant as mlc

    _write(Lake(tmp_path), world, profile)
    folder = tmp_path / "releases" / "1.0.0"
    dataset = mlc.Dataset(jsonld=str(folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    table = pl.read_parquet(folder / "data" / "twigma.parquet")
    records = list(dataset.records(record_set="pictures"))
    assert len(records) == table.height
    assert [record["pictures/id"].decode() for record in records] == table["id"].to_list()
    assert set(records[0]) == {f"pictures/{column}" for column in table.columns}
    written = json.loads((folder / "croissant.json").read_text())
    assert SYNTHETIC in written["description"]
    rai = {"dataBiases", "dataCollection", "dataLimitations", "personalSensitiveInformation"}
    assert rai <= {key.removeprefix("rai:") for key in written}


def test_the_card_declares_the_files_that_datasets_loads(released: Path) -> None:
    text = (released / "README.md").read_text()
    card = DatasetCard.load(released / "README.md")
    head = card.data.to_dict()
    assert head == yaml.safe_load(text.split("---\n")[1])
    assert DatasetCardData(**head).to_yaml() == card.data.to_yaml()
    (config,) = head["configs"]
    (split,) = config["data_files"]
    assert (config["config_name"], split["split"]) == ("default", "train")
    assert pl.read_parquet(released / split["path"]).height == 60
    assert head["size_categories"] == ["n<1K"]
    assert SYNTHETIC in text and "The pairing is invented." in text
    assert "| `label_10_cluster` | Label, from 1 | 1 |" in text


def test_datasets_loads_each_release_by_its_card_offline(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it asked the network"))
    expected = {"ids_strict": ROWS, "paper_compat": ROWS, "another lake": ROWS - 1}
    for name, rows in expected.items():
        profile = name if name in PROFILES else "ids_strict"
        _write(Lake(tmp_path / name), world, profile, rows)
        folder = tmp_path / name / "releases" / "1.0.0"
        table = pl.read_parquet(folder / "data" / "twigma.parquet")
        assert (table.height, tuple(table.columns)) == (rows, COLUMNS[profile])
        assert datasets.get_dataset_config_names(str(folder)) == ["default"]
        for config in (None, "default"):  # one cache: all three folders have the same name
            loaded = datasets.load_dataset(
                str(folder), config, split="train", cache_dir=str(tmp_path / "cache")
            )
            frame = pl.DataFrame(loaded.data.table)
            assert frame.schema == table.schema
            assert frame.equals(table), "row for row"
            assert loaded[3] == table.row(3, named=True), "with its nulls, as Python sees it"


def test_the_same_input_gives_the_same_bytes_and_only_the_run_differs(
    tmp_path: Path, world: World, released: Path
) -> None:
    _write(Lake(tmp_path), world)
    assert _tree(tmp_path / "releases" / "1.0.0") == _tree(released)
    other = replace(
        world,
        dataset=world.dataset.reverse(),
        clusters=world.clusters.reverse(),
        provenance=replace(world.provenance, run_id="run-2"),
    )
    _write(Lake(tmp_path / "other"), other)
    again, first = _tree(tmp_path / "other" / "releases" / "1.0.0"), _tree(released)
    assert {path for path in first if first[path] != again[path]} == {"provenance.json", "SHA256SUMS"}


def test_the_table_carries_its_lineage(released: Path, world: World) -> None:
    inside = Provenance.from_json(pl.read_parquet_metadata(released / "data" / "twigma.parquet")["twigma"])
    beside = Provenance.from_json((released / "provenance.json").read_text())
    assert beside == world.provenance
    assert (inside.models, inside.upstream) == (world.provenance.models, world.provenance.upstream)


def test_a_remote_lake_gets_the_same_files(world: World, released: Path) -> None:
    lake = Lake("memory://release-test")
    _write(lake, world)
    for path, data in _tree(released).items():
        assert lake.read_bytes(f"releases/1.0.0/{path}") == data


def test_no_pictures_and_a_bad_version(tmp_path: Path, world: World) -> None:
    assert _write(Lake(tmp_path), world, rows=0).files["rows"].sum() == 0
    with pytest.raises(ValueError, match=r"MAJOR\.MINOR\.PATCH"):
        _write(Lake(tmp_path), world, version="x")


def test_the_dictionary_names_every_column_of_every_table() -> None:
    text = data_dictionary()
    assert "(no description)" not in text
    for name, schema in tables.SCHEMAS.items():
        section = text.split(f"## `{name}`\n")[1].split("\n## ")[0]
        assert all(f"| `{column}` |" in section for column in schema.columns())


def test_the_citation_is_one_by_its_format(released: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.citation-file-format"]
    done = subprocess.run([*command, released / "CITATION.cff"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert yaml.safe_load((released / "CITATION.cff").read_text())["authors"] == [{"name": "A Team"}]
