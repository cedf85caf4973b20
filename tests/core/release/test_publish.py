"""Uploads of a release to a Zenodo and a hub on loopback: whole, resumable, refused where they must be."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.core.release.test_package import _write
from tests.model_hub import HUB_TOKEN, Hub
from tests.zenodo_server import TOKEN, Zenodo, serve_zenodo
from twigma_core.lake import Lake
from twigma_core.release.hub import push
from twigma_core.release.policy import PolicyError
from twigma_core.release.publish import Package, PublishError, open_package
from twigma_core.release.zenodo import Deposited, archive, deposit
from twigma_dagster import publishing

if TYPE_CHECKING:
    from tests.core.release.conftest import World

TODAY = date(2026, 5, 1)
REPO = "someone/twigma"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """Two releases, one after the other."""
    root = tmp_path_factory.mktemp("lake")
    _write(Lake(root), world, rows=50)
    _write(Lake(root), world)
    return root / "releases"


@pytest.fixture
def first(releases: Path) -> Package:
    return open_package(releases / "1.0.0")


@pytest.fixture
def second(releases: Path) -> Package:
    return open_package(releases / "1.1.0")


@pytest.fixture
def zenodo() -> Iterator[Zenodo]:
    with serve_zenodo() as server:
        yield server


def _deposit(zenodo: Zenodo, package: Package, record: str | None = None, publish: bool = True) -> Deposited:
    return deposit(package, TOKEN, TODAY, record, publish, zenodo.base)


def test_a_new_record_and_a_new_version_of_it(zenodo: Zenodo, first: Package, second: Package) -> None:
    made = _deposit(zenodo, first)
    assert made == Deposited("100", "10.5072/zenodo.100", f"{zenodo.base}/records/100", True)
    again = _deposit(zenodo, second, made.record)
    assert (again.record, again.published) == ("101", True)
    one, two = zenodo.depositions[100], zenodo.depositions[101]
    assert sorted(one["files"]) == ["CHANGELOG.md", "README.md", "twigma-1.0.0.zip"]
    assert sorted(two["files"]) == ["CHANGELOG.md", "README.md", "twigma-1.1.0.zip"]
    assert two["metadata"] == {
        "upload_type": "dataset",
        "title": "AI-generated pictures posted on X (synthetic sample)",
        "version": "1.1.0",
        "publication_date": "2026-05-01",
        "description": f"<p>{second.description}</p>",
        "creators": [{"name": "A Team"}],
        "access_right": "open",
        "license": "cc-by-4.0",
        "keywords": ["AI-generated images", "social media", "CLIP", "BLIP"],
    }
    with zipfile.ZipFile(io.BytesIO(two["files"]["twigma-1.1.0.zip"])) as packed:
        held = {name.removeprefix("twigma-1.1.0/"): packed.read(name) for name in packed.namelist()}
    assert held == {path: (second.folder / path).read_bytes() for path in second.files}
    assert "SHA256SUMS" in held
    assert archive(second) == archive(second)
    with pytest.raises(PublishError, match=r"record 101 is version 1\.1\.0 already"):
        _deposit(zenodo, second, "101")


def test_a_draft_is_gone_on_with_and_not_made_twice(zenodo: Zenodo, first: Package, second: Package) -> None:
    draft = _deposit(zenodo, first, publish=False)
    assert (draft.doi, draft.published) == ("10.5072/zenodo.100", False)
    zenodo.depositions[100]["files"]["left over"] = b"x"
    assert _deposit(zenodo, first, "100").published
    assert "left over" not in zenodo.depositions[100]["files"]
    zenodo.answers["PUT"] = [400]
    with pytest.raises(
        PublishError, match=r"PUT /api/files/bucket-101/twigma-1\.1\.0\.zip: 400 another time"
    ):
        _deposit(zenodo, second, "100")
    assert zenodo.depositions[100]["metadata"]["version"] == "1.0.0"
    assert not zenodo.depositions[101]["submitted"]
    assert _deposit(zenodo, second, "100").record == "101"
    assert len(zenodo.depositions) == 2


def test_passing_failures_are_passed_over_and_nothing_is_made_twice(
    zenodo: Zenodo, first: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    zenodo.answers = {"PUT": [503, 429, 500], "POST": [429]}
    assert _deposit(zenodo, first).published
    assert len(zenodo.depositions) == 1
    zenodo.answers = {"POST": [500]}
    with pytest.raises(PublishError, match="POST /api/deposit/depositions: 500"):
        _deposit(zenodo, first)
    zenodo.answers = {"PUT": [503] * 9}
    with pytest.raises(PublishError, match="503 after 5 attempts"):
        _deposit(zenodo, first)


def test_what_zenodo_gets_wrong_is_not_published(zenodo: Zenodo, first: Package) -> None:
    zenodo.damage = "README.md"
    with pytest.raises(PublishError, match=r"of README\.md, not md5:.* --record 100"):
        _deposit(zenodo, first)
    zenodo.damage, zenodo.bucket_base = "", "http://127.0.0.2:1"
    with pytest.raises(PublishError, match=r"not its own: http://127\.0\.0\.2:1/"):
        _deposit(zenodo, first)
    assert not any(held["submitted"] for held in zenodo.depositions.values())
    with pytest.raises(PublishError, match="404 PID does not exist"):
        _deposit(zenodo, first, "77")
    with pytest.raises(PublishError, match="401: the token is not accepted; set ZENODO_TOKEN") as refused:
        deposit(first, "wrong-token", TODAY, base=zenodo.base)
    assert "wrong-token" not in str(refused.value)
    with pytest.raises(PublishError, match="no answer"):
        deposit(first, TOKEN, TODAY, base="http://127.0.0.1:1")


# ---------------------------------------------------------------- the hub


@pytest.mark.parametrize("large", [False, True])
def test_the_hub_has_one_commit_and_one_tag_a_release(
    large: bool, hub: Hub, first: Package, second: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files go within the commit, or as large files before it; hf_xet's own way is not spoken here."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.large = (".parquet",) if large else ()
    hub.repos = {REPO: {".gitattributes": b"", "data/old.csv": b"1"}}
    made = push(first, REPO, HUB_TOKEN)
    assert made.removed == ("data/old.csv",)
    assert made.url == f"{hub.base}/datasets/{REPO}"
    stored = {path: (first.folder / path).read_bytes() for path in first.files}
    assert hub.repos[REPO] == {".gitattributes": b"", **stored}
    assert push(second, REPO, HUB_TOKEN).removed == ()
    assert hub.repos[REPO]["changes.csv"] == (second.folder / "changes.csv").read_bytes()
    assert hub.commits == [(REPO, "Release 1.0.0"), (REPO, "Release 1.1.0")]
    assert hub.tags[REPO] == ["1.0.0", "1.1.0"]
    with pytest.raises(PublishError, match=r"has version 1\.1\.0 already"):
        push(second, REPO, HUB_TOKEN)


def test_the_hub_makes_a_dataset_that_is_not_there(
    hub: Hub, first: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    push(first, "someone/another", HUB_TOKEN, private=True)
    assert hub.private == {"someone/another": True}
    assert set(hub.repos["someone/another"]) == set(first.files)


def test_a_failed_upload_to_the_hub_leaves_what_was_visible(
    hub: Hub, first: Package, second: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.large = (".parquet",)
    push(first, REPO, HUB_TOKEN)
    before = dict(hub.repos[REPO])
    hub.refuse = "/commit/"
    with pytest.raises(PublishError, match=f"the hub, {REPO}: 500"):
        push(second, REPO, HUB_TOKEN)
    assert (hub.repos[REPO], hub.tags[REPO]) == (before, ["1.0.0"])
    hub.refuse = ""
    push(second, REPO, HUB_TOKEN)
    with pytest.raises(PublishError, match=r"401 .*set HF_TOKEN") as refused:
        push(second, REPO, "hf_wrong")
    assert "hf_wrong" not in str(refused.value)
    with pytest.raises(PublishError, match="no name of a dataset"):
        push(second, "a/b/c", HUB_TOKEN)


# ---------------------------------------------------------------- what may leave the house


def test_only_a_whole_release_within_the_rules_is_opened(tmp_path: Path, world: World) -> None:
    lake = Lake(tmp_path)
    _write(lake, world)
    folder = tmp_path / "releases" / "1.0.0"
    assert open_package(folder).rows == 60
    with pytest.raises(PolicyError, match="taken back"):
        open_package(folder, [world.dataset["tweet_id"][0]])
    with pytest.raises(PublishError, match="holds no release"):
        open_package(folder.parent)
    (folder / "notes.txt").write_text("private")
    with pytest.raises(PublishError, match=r"notes\.txt is no file of the release"):
        open_package(folder)
    (folder / "notes.txt").unlink()
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card + "x")
    with pytest.raises(PublishError, match=r"README\.md is not what SHA256SUMS says"):
        open_package(folder)
    (folder / "README.md").unlink()
    with pytest.raises(PublishError, match=r"README\.md is missing"):
        open_package(folder)


def test_a_table_that_was_swapped_with_its_sums_is_refused(tmp_path: Path, world: World) -> None:
    """Whoever adds a column and mends the checksums is refused by the rules."""
    import hashlib

    _write(Lake(tmp_path), world)
    folder = tmp_path / "releases" / "1.0.0"
    path = folder / "data" / "twigma.parquet"
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    pl.read_parquet(path).with_columns(author_id=pl.lit("7")).write_parquet(path)
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(old, hashlib.sha256(path.read_bytes()).hexdigest()))
    with pytest.raises(PolicyError, match="column author_id: tells who posted"):
        open_package(folder)


# ---------------------------------------------------------------- on the command line


def _twigma(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TWIGMA_", "HF_"))}
    return subprocess.run(
        [sys.executable, "-m", "twigma_dagster.cli", "publish", *arguments],
        env={**clean, "TWIGMA_HOME": str(home), "HF_HOME": str(home / "hf"), **environment},
        capture_output=True,
        text=True,
        cwd=home,
    )


def test_the_commands_say_what_they_do_and_never_a_token(
    zenodo: Zenodo, hub: Hub, releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(releases / "1.1.0")
    here = {"TWIGMA_ZENODO": zenodo.base, "HF_ENDPOINT": hub.base, "HF_HUB_DISABLE_XET": "1"}
    tokens = {"ZENODO_TOKEN": TOKEN, "HF_TOKEN": HUB_TOKEN}
    monkeypatch.setenv("TWIGMA_ZENODO", zenodo.base)
    for name in tokens:
        monkeypatch.delenv(name, raising=False)

    def say(*arguments: str) -> str:
        run = CliRunner().invoke(publishing.app, arguments)
        return f"{run.output}{run.exception or ''}"

    dry = say("zenodo", folder, "--dry-run")
    assert "dry run: nothing was sent" in dry and "twigma-1.1.0.zip" in dry and "data/twigma.parquet" in dry
    assert f"{hub.base}/datasets/{REPO}, tag 1.1.0" in say("hub", folder, REPO, "--dry-run")
    assert "ZENODO_TOKEN is not set" in say("zenodo", folder, "--yes")
    for name, token in tokens.items():
        monkeypatch.setenv(name, token)
    assert "say --yes" in say("zenodo", folder)
    assert (zenodo.asked, hub.asked, hub.repos) == ([], [], {})
    done = [
        _twigma(tmp_path, "zenodo", folder, "--yes", **here, **tokens),
        _twigma(tmp_path, "hub", folder, REPO, "--yes", **here, **tokens),
        _twigma(tmp_path, "hub", folder, REPO, "--yes", **here, **tokens | {"HF_TOKEN": HUB_TOKEN + "x"}),
    ]
    assert [run.returncode for run in done] == [0, 0, 2], [run.stdout + run.stderr for run in done]
    assert "DOI  10.5072/zenodo.100" in done[0].stdout
    assert f"uploaded  {hub.base}/datasets/{REPO}" in done[1].stdout
    assert "401" in done[2].stdout
    assert "is version 1.1.0 already" in (again := say("zenodo", folder, "--record", "100", "--yes"))
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    said = [text.encode() for run in done for text in (run.stdout, run.stderr)]
    for token in tokens.values():
        assert not any(token.encode() in data for data in [*written, *said, again.encode()])


def test_the_package_is_what_the_release_says(second: Package) -> None:
    assert replace(second, folder=Path()) == Package(
        Path(),
        second.files,
        "1.1.0",
        "AI-generated pictures posted on X (synthetic sample)",
        "CC-BY-4.0",
        ("A Team",),
        second.description,
        60,
        "ids_strict",
    )
