"""A release on disk: the table with all that goes with it, in one folder that appears as a whole.

    releases/<version>/  data/twigma.parquet  data/twigma.csv  README.md  DATA_DICTIONARY.md
                         croissant.json  provenance.json  CITATION.cff  SHA256SUMS
    releases/latest.json   names the release that was finished last

On a local lake the folder is built beside its place and then takes its name; on an object store, which has
no such step, SHA256SUMS is written last, so that a folder without it is unfinished. `latest.json` comes
after both. The same input gives the same bytes: no clock is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from dataclasses import replace
from pathlib import Path, PurePosixPath

import polars as pl

from twigma_core import tables
from twigma_core.lake import Lake
from twigma_core.provenance import Provenance
from twigma_core.release.card import Publication, citation, dataset_card
from twigma_core.release.croissant import croissant
from twigma_core.release.dictionary import release_dictionary
from twigma_core.release.table import join_features, release_table, to_csv, to_parquet

SUMS = "SHA256SUMS"
VERSION = r"\d+\.\d+\.\d+"


def write_release(
    lake: Lake,
    folder: str,
    dataset: pl.DataFrame,
    clusters: pl.DataFrame,
    projection: pl.DataFrame,
    provenance: Provenance,
    profile: str = "ids_strict",
    version: str = "1.0.0",
    publication: Publication | None = None,
) -> pl.DataFrame:
    """Write a release and return the `release` table: one row a file.

    Args:
        lake: where to write.
        folder: the release's folder, relative to the lake's root, e.g. "releases/1.0.0"; one of the same
            name is replaced.
        dataset: the whole `dataset` table.
        clusters: the whole `clusters` table.
        projection: the whole `projection` table.
        provenance: what the release was made from.
        profile: "ids_strict" or "paper_compat".
        version: MAJOR.MINOR.PATCH.
        publication: who publishes it.

    Raises:
        ValueError: the profile or the version is not one.
    """
    if not re.fullmatch(VERSION, version):
        raise ValueError(f"release: version {version!r} is not MAJOR.MINOR.PATCH; give one such as 1.0.0")
    table = release_table(join_features(dataset, clusters, projection), profile)
    files = release_files(table, profile, version, provenance, publication or Publication())
    _write_folder(lake, folder, files)
    latest = {
        "version": version,
        "profile": profile,
        "folder": PurePosixPath(folder).name,
        "rows": table.height,
        "sums_sha256": hashlib.sha256(files[SUMS]).hexdigest(),
    }
    parent = str(PurePosixPath(folder).parent)
    lake.write_bytes(f"{parent}/latest.json", (json.dumps(latest, indent=2) + "\n").encode())
    return tables.conform(
        "release",
        pl.DataFrame(
            {
                "path": list(files),
                "rows": [table.height if path.startswith("data/") else None for path in files],
                "bytes": [len(data) for data in files.values()],
                "sha256": [hashlib.sha256(data).hexdigest() for data in files.values()],
            },
            schema_overrides={"rows": pl.Int64},
        ),
    )


def release_files(
    table: pl.DataFrame, profile: str, version: str, provenance: Provenance, publication: Publication
) -> dict[str, bytes]:
    """Return each file of a release by its path in the folder, SHA256SUMS last.

    The run's id is in provenance.json only: a release made again from the same data has the same table.
    """
    lineage = replace(provenance, run_id="").to_json()
    parquet = to_parquet(table, {"twigma": lineage})
    sha256 = hashlib.sha256(parquet).hexdigest()
    texts = {
        "README.md": dataset_card(table, profile, version, publication),
        "DATA_DICTIONARY.md": release_dictionary(profile),
        "CITATION.cff": citation(version, publication),
        "croissant.json": croissant(table, sha256, len(parquet), profile, version, publication),
        "provenance.json": json.dumps(json.loads(provenance.to_json()), indent=2, sort_keys=True) + "\n",
    }
    files = {"data/twigma.parquet": parquet, "data/twigma.csv": to_csv(table)}
    files |= {path: text.encode() for path, text in texts.items()}
    sums = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    return {**files, SUMS: sums.encode()}


def _write_folder(lake: Lake, folder: str, files: dict[str, bytes]) -> None:
    if not lake.local:
        lake.remove(f"{folder}/{SUMS}")
        for path, data in files.items():
            lake.write_bytes(f"{folder}/{path}", data)
        return
    parent, name = PurePosixPath(folder).parent, PurePosixPath(folder).name
    final = Path(str(lake.path(folder)))
    new = f"{parent}/.{name}.{uuid.uuid4().hex}.tmp"
    staged = Path(str(lake.path(new)))
    old = staged.with_suffix(".old")
    try:
        for path, data in files.items():
            lake.write_bytes(f"{new}/{path}", data)
        if final.exists():
            final.rename(old)
        staged.rename(final)
    except BaseException:
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(staged, ignore_errors=True)
        raise
    for leftover in final.parent.glob(f".{name}.*"):  # of this write, and of any that was killed
        shutil.rmtree(leftover)
