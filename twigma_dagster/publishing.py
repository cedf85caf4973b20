"""`twigma publish`: a finished release to Zenodo or to a hub, checked once more before it goes."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from twigma_core.collect.tombstones import Gone
from twigma_core.lake import Lake
from twigma_core.release.publish import Package, open_package, pretend
from twigma_dagster.settings import Settings, SettingsError, load_settings

app = typer.Typer(no_args_is_help=True, help="Upload a finished release; nothing else ever uploads anything.")
console = Console()

Folder = Annotated[Path, typer.Argument(help="Folder of one release, such as .twigma/lake/releases/1.0.0")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and list everything, send nothing")]
Yes = Annotated[bool, typer.Option("--yes", help="Upload without being asked")]


@app.command()
def zenodo(
    folder: Folder,
    record: Annotated[
        str | None,
        typer.Option(help="Id of a record to make a new version of, or of a draft; default is a new record"),
    ] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Upload, but leave publishing to you")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Upload a release to Zenodo, as a new record or a new version of one. Publishing cannot be undone.

    Needs ZENODO_TOKEN. TWIGMA_ZENODO=https://sandbox.zenodo.org is for trying.
    """
    from twigma_core.release.zenodo import deposit, upload_files

    settings, package = _open(folder)
    into = f"a new version of record {record}" if record else "a new record"
    _say(f"to {settings.zenodo}, {into}{', as a draft' if draft else ''}:")
    for name, data in upload_files(package).items():
        _say(f"  {len(data):>12,}  {name}")
    if _only_pretend(dry_run):
        return
    token = settings.secret(
        "zenodo_token", f"make one at {settings.zenodo} with deposit:write, deposit:actions"
    )
    _agree("Upload it?" if draft else "Upload and publish it? This cannot be undone.", yes)
    today = datetime.now(UTC).date()
    done = deposit(package, token, today, record, not draft, settings.zenodo, _say)
    _say(f"{'published' if done.published else 'draft'}  {done.url}\nDOI  {done.doi}")
    _say(f"next time  twigma publish zenodo FOLDER --record {done.record}")


@app.command()
def hub(
    folder: Folder,
    repo: Annotated[str, typer.Argument(help="Dataset on the hub, such as somebody/twigma")],
    private: Annotated[bool, typer.Option("--private", help="Make a new dataset private")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Upload a release to a dataset of the Hugging Face hub: one commit, and a tag with the version.

    Needs HF_TOKEN, with the right to write. HF_ENDPOINT is the hub's address, if it is another.
    """
    from huggingface_hub import constants

    from twigma_core.release.hub import push

    settings, package = _open(folder)
    _say(f"to {constants.ENDPOINT}/datasets/{repo}, tag {package.version}")
    if _only_pretend(dry_run):
        return
    token = settings.secret("hf_token", "make one that may write, in the hub's settings")
    _agree("Upload it?", yes)
    done = push(package, repo, token, private)
    _say(f"uploaded  {done.url}\ncommit    {done.commit}")
    if done.removed:
        _say(f"removed   {', '.join(done.removed)}: of an earlier release")


def _open(folder: Path) -> tuple[Settings, Package]:
    settings = load_settings()
    package = open_package(folder, Gone.of(Lake(settings.lake_root)).posts)
    for line in pretend(package):
        _say(line)
    return settings, package


def _only_pretend(dry_run: bool) -> bool:
    if dry_run:
        _say("dry run: nothing was sent")
    return dry_run


def _agree(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError("nobody is there to agree to the upload; say --yes")
    if not typer.confirm(question):
        raise SettingsError("nothing was uploaded")


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
