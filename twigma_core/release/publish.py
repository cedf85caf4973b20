"""A finished release, checked once more before it leaves the house, wherever it then goes.

What belongs here: reading a release's folder and what it says of itself. Where it goes: `zenodo`, `hub`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from twigma_core.release.package import PARQUET, SUMS
from twigma_core.release.policy import require_policy
from twigma_core.release.table import COLUMNS


class PublishError(RuntimeError):
    """A release cannot be uploaded; the message names the file or the answer, and the cure."""


@dataclass(frozen=True)
class Package:
    """A release in a folder, whole and within the rules.

    Attributes:
        folder: where it is.
        files: paths relative to it, sorted, each as SHA256SUMS says.
        version, title, license: as its citation has them.
        authors: names of those who publish it.
        description: of the dataset, in a few sentences.
        rows: pictures.
        profile: its profile.
    """

    folder: Path
    files: tuple[str, ...]
    version: str
    title: str
    license: str
    authors: tuple[str, ...]
    description: str
    rows: int
    profile: str

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum((self.folder / path).stat().st_size for path in self.files)


def open_package(folder: str | Path, withdrawn: Collection[str] = ()) -> Package:
    """Read a release from its folder and check that it is whole, unchanged, and may go out.

    Args:
        folder: of one release, e.g. "lake/releases/1.0.0".
        withdrawn: ids of posts that were taken back since.

    Raises:
        PublishError: there is no release there, or a file is missing, changed, or none of it.
        PolicyError: X's rules forbid it.
    """
    import yaml

    folder = Path(folder)
    if not (folder / SUMS).is_file():
        raise PublishError(f"{folder} holds no release: it has no {SUMS}; name the folder of one version")
    lines = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
    sums = {path: digest for digest, path in lines}
    for path, digest in sums.items():
        file = folder / path
        if not file.is_file():
            raise PublishError(f"{folder}: {path} is missing, which {SUMS} names; write the release again")
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise PublishError(f"{folder}: {path} is not what {SUMS} says; write the release again")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if strange := sorted(there - {*sums, SUMS}):
        raise PublishError(f"{folder}: {', '.join(strange)} is no file of the release; take it away")
    table = pl.read_parquet(folder / PARQUET)
    profile = "paper_compat" if "image_name" in table.columns else "ids_strict"
    require_policy(table, profile, withdrawn)
    cited = yaml.safe_load((folder / "CITATION.cff").read_text())
    return Package(
        folder,
        tuple(sorted(there)),
        cited["version"],
        cited["title"],
        cited["license"],
        tuple(author["name"] for author in cited["authors"]),
        json.loads((folder / "croissant.json").read_text())["description"],
        table.height,
        profile,
    )


def pretend(package: Package) -> list[str]:
    """Return what a dry run says of a release: it was opened and checked, and this is what would go out."""
    return [
        f"{package.title} {package.version}, by {'; '.join(package.authors)}, {package.license}",
        f"profile {package.profile}, {len(COLUMNS[package.profile])} columns, {package.rows:,} pictures",
        *(f"  {(package.folder / path).stat().st_size:>12,}  {path}" for path in package.files),
        f"  {package.bytes:>12,}  bytes in {len(package.files)} files, each as {SUMS} says",
    ]
