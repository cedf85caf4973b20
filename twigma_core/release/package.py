"""A release on disk: the table with all that goes with it, in one folder that appears as a whole.

    releases/<version>/  data/twigma.parquet  data/twigma.csv  README.md  DATA_DICTIONARY.md  CHANGELOG.md
                         changes.csv  croissant.json  provenance.json  CITATION.cff  SHA256SUMS
    releases/latest.json   names the release that was finished last

A finished release never changes. On a local lake a folder is built beside its place and then takes its name;
on an object store, which has no such step, SHA256SUMS is written last, so that a folder without it is
unfinished. `latest.json` comes after both: a run that is killed at any moment leaves the last release as it
was, and what it left behind is replaced by the next. The same input gives the same bytes: no clock is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from twigma_core import tables
from twigma_core.lake import Lake
from twigma_core.provenance import Provenance
from twigma_core.release.card import Publication, citation, dataset_card
from twigma_core.release.changes import Changes, changelog, compare_releases, next_version
from twigma_core.release.croissant import croissant
from twigma_core.release.dictionary import release_dictionary
from twigma_core.release.policy import mask_captions, require_policy
from twigma_core.release.table import join_features, release_table, to_csv, to_parquet

RELEASES = "releases"
LATEST = f"{RELEASES}/latest.json"
SUMS = "SHA256SUMS"
PARQUET = "data/twigma.parquet"
VERSION = r"\d+\.\d+\.\d+"
FIRST = "1.0.0"


@dataclass(frozen=True)
class Release:
    """A finished release.

    Attributes:
        version: MAJOR.MINOR.PATCH.
        profile: its profile.
        files: table `release`: one row a file.
        changes: against the one before; None if nothing was written, because nothing changed.
        masked: captions in which a name or link was masked.
        removed: older releases that were removed, because they hold posts that were taken back.
    """

    version: str
    profile: str
    files: pl.DataFrame
    changes: Changes | None = None
    masked: int = 0
    removed: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its folder, relative to the lake's root."""
        return f"{RELEASES}/{self.version}"

    def summary(self) -> dict[str, str | int]:
        """Return what a person wants to know of it."""
        told: dict[str, str | int] = {"version": self.version, "profile": self.profile}
        if self.changes is None:
            return told | {"changes": "none: the last release stands"}
        told["captions masked"] = self.masked
        if self.removed:
            told["older releases removed, which held posts taken back"] = ", ".join(self.removed)
        if self.changes.before:
            told["against"] = self.changes.before
            told |= {name: self.changes.count(name) for name in ("added", "removed", "changed")}
        return told


def write_release(
    lake: Lake,
    dataset: pl.DataFrame,
    clusters: pl.DataFrame,
    projection: pl.DataFrame,
    provenance: Provenance,
    profile: str = "ids_strict",
    version: str = "",
    publication: Publication | None = None,
    withdrawn: Collection[str] = (),
) -> Release:
    """Write a release, unless the last one has the same table.

    Args:
        lake: where to write.
        dataset: the whole `dataset` table.
        clusters: the whole `clusters` table.
        projection: the whole `projection` table.
        provenance: what the release was made from.
        profile: "ids_strict" or "paper_compat".
        version: MAJOR.MINOR.PATCH; empty is the one after the last (`changes.next_version`).
        publication: who publishes it.
        withdrawn: ids of posts that were taken back: refused in the new release, and older releases that
            hold any are removed from the lake once the new one is there.

    Raises:
        ValueError: the profile or the version is not one, or that version exists with another table.
        PolicyError: X's rules forbid it; see `policy.check_policy`.
        RuntimeError: another process writes a release.
    """
    if version and not re.fullmatch(VERSION, version):
        raise ValueError(f"release: version {version!r} is not MAJOR.MINOR.PATCH; give one such as {FIRST}")
    table, masked = mask_captions(release_table(join_features(dataset, clusters, projection), profile))
    require_policy(table, profile, withdrawn, dataset.select("tweet_id", "text"))
    with lake.hold(RELEASES):
        last = last_release(lake)
        chosen, changes, earlier = version or FIRST, Changes(None, pl.DataFrame()), ""
        if last:
            before = read_release_table(lake, last.version)
            if last.profile == profile and before.equals(table) and version in ("", last.version):
                return replace(last, removed=forget(lake, withdrawn))
            changes = compare_releases(before, table, last.version)
            chosen = version or next_version(last.version, changes, last.profile == profile)
            _require_newer(chosen, last.version)
            if lake.exists(f"{last.folder}/CHANGELOG.md"):
                earlier = lake.read_bytes(f"{last.folder}/CHANGELOG.md").decode()
        log = changelog(chosen, table.height, changes, masked, earlier)
        files = release_files(table, profile, chosen, provenance, publication or Publication(), changes, log)
        _write_folder(lake, f"{RELEASES}/{chosen}", files)
        latest = {
            "version": chosen,
            "profile": profile,
            "folder": chosen,
            "rows": table.height,
            "sums_sha256": hashlib.sha256(files[SUMS]).hexdigest(),
        }
        lake.write_bytes(LATEST, (json.dumps(latest, indent=2) + "\n").encode())
        removed = forget(lake, withdrawn)
    return Release(chosen, profile, _file_table(files, table.height), changes, masked, removed)


def last_release(lake: Lake) -> Release | None:
    """Return the release that was finished last, None if there is none.

    Raises:
        ValueError: a file of it is not what SHA256SUMS says.
    """
    if not lake.exists(LATEST):
        return None
    latest = json.loads(lake.read_bytes(LATEST))
    files = read_release(lake, latest["version"])
    return Release(latest["version"], latest["profile"], _file_table(files, latest["rows"]))


def read_release(lake: Lake, version: str) -> dict[str, bytes]:
    """Return the files of a release by their path in its folder, SHA256SUMS last.

    Raises:
        ValueError: a file is missing or is not what SHA256SUMS says.
    """
    folder = f"{RELEASES}/{version}"
    files = {}
    try:
        sums = lake.read_bytes(f"{folder}/{SUMS}")
        for line in sums.decode().splitlines():
            digest, _, path = line.partition("  ")
            files[path] = lake.read_bytes(f"{folder}/{path}")
            if hashlib.sha256(files[path]).hexdigest() != digest:
                raise ValueError(
                    f"{folder}/{path} is not what {SUMS} says: it was changed after the release; "
                    "put the published file back"
                )
    except FileNotFoundError as error:
        raise ValueError(f"{folder} is not whole: {error}; put the published files back") from error
    return {**files, SUMS: sums}


def read_release_table(lake: Lake, version: str) -> pl.DataFrame:
    """Return the table of a release."""
    return pl.read_parquet(io.BytesIO(lake.read_bytes(f"{RELEASES}/{version}/{PARQUET}")))


def forget(lake: Lake, withdrawn: Collection[str]) -> tuple[str, ...]:
    """Remove releases before the last one that hold any of these posts; return their versions.

    What was published elsewhere stays there: upload the new version, whose changes.csv lists what to drop.
    """
    gone: list[str] = []
    if not withdrawn or not lake.exists(LATEST):
        return ()
    last = json.loads(lake.read_bytes(LATEST))["version"]
    for version in lake.list_folders(RELEASES):
        if version == last or not lake.exists(f"{RELEASES}/{version}/{PARQUET}"):
            continue
        if read_release_table(lake, version)["id"].is_in(list(withdrawn)).any():
            lake.remove(f"{RELEASES}/{version}/{SUMS}")  # first: from here on it is no release
            for folder in (f"{RELEASES}/{version}/data", f"{RELEASES}/{version}"):
                for file in lake.list_files(folder):
                    lake.remove(file)
            if lake.local:
                shutil.rmtree(str(lake.path(RELEASES, version)))
            gone.append(version)
    return tuple(gone)


def release_files(
    table: pl.DataFrame,
    profile: str,
    version: str,
    provenance: Provenance,
    publication: Publication,
    changes: Changes,
    log: str,
) -> dict[str, bytes]:
    """Return each file of a release by its path in the folder, SHA256SUMS last.

    The run's id is in provenance.json only: a release made again from the same data has the same table.
    """
    lineage = replace(provenance, run_id="").to_json()
    parquet = to_parquet(table, {"twigma": lineage})
    sha256 = hashlib.sha256(parquet).hexdigest()
    texts = {
        "README.md": dataset_card(table, sha256, profile, version, publication, changes.before),
        "DATA_DICTIONARY.md": release_dictionary(profile),
        "CHANGELOG.md": log,
        "CITATION.cff": citation(version, publication),
        "croissant.json": croissant(table, sha256, len(parquet), profile, version, publication),
        "provenance.json": json.dumps(json.loads(provenance.to_json()), indent=2, sort_keys=True) + "\n",
    }
    files = {PARQUET: parquet, "data/twigma.csv": to_csv(table)}
    if changes.before is not None:
        files["changes.csv"] = to_csv(changes.listed)
    files |= {path: text.encode() for path, text in texts.items()}
    sums = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    return {**files, SUMS: sums.encode()}


def _require_newer(version: str, last: str) -> None:
    if _number(version) <= _number(last):
        raise ValueError(
            f"release: {version} is not newer than {last}, the last one, and a finished release never "
            "changes; raise TWIGMA_RELEASE_VERSION, or leave it empty for the next number"
        )


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _file_table(files: dict[str, bytes], rows: int) -> pl.DataFrame:
    return tables.conform(
        "release",
        pl.DataFrame(
            {
                "path": sorted(files),
                "rows": [rows if path.startswith("data/") else None for path in sorted(files)],
                "bytes": [len(files[path]) for path in sorted(files)],
                "sha256": [hashlib.sha256(files[path]).hexdigest() for path in sorted(files)],
            },
            schema_overrides={"rows": pl.Int64},
        ),
    )


def _write_folder(lake: Lake, folder: str, files: dict[str, bytes]) -> None:
    """Write the files of a release that is not finished yet; an unfinished one of that name is replaced."""
    if not lake.local:
        lake.remove(f"{folder}/{SUMS}")
        for path, data in files.items():
            lake.write_bytes(f"{folder}/{path}", data)
        return
    final = Path(str(lake.path(folder)))
    for left in final.parent.glob(".*.tmp/"):  # of runs that were killed
        shutil.rmtree(left)
    new = f"{RELEASES}/.{final.name}.{uuid.uuid4().hex}.tmp"
    staged = Path(str(lake.path(new)))
    try:
        for path, data in files.items():
            lake.write_bytes(f"{new}/{path}", data)
        if final.exists():  # whole, but latest.json never named it
            shutil.rmtree(final)
        staged.rename(final)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
