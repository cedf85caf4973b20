"""Where each asset on the report comes from: its records as blocks that numbers link to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from twigma_core.provenance import Provenance, Upstream, in_words
from twigma_core.release.report_views import Cell, TableView

_SHOWN = 12  # digits of a data version that is no longer the one in the lake


@dataclass(frozen=True)
class ReadView:
    """An asset that was read: its partitions in words, and those that were made anew since."""

    asset: str
    partitions: str
    since: str = ""


@dataclass(frozen=True)
class PartitionView:
    """One partition of an asset: what it holds by its version, and what made it."""

    partition: str
    data_version: str
    run: str
    code: str
    reads: list[ReadView]


@dataclass(frozen=True)
class LineageView:
    """Where an asset comes from, partition by partition, and the models that it rests on."""

    asset: str
    partitions: list[PartitionView]
    models: list[tuple[str, str]]


@dataclass(frozen=True)
class Models:
    """Models and code versions that stand behind a page."""

    table: TableView | None
    code: list[str] = field(default_factory=list)


Lineage = Mapping[str, Sequence[Provenance]]


def lineage_views(records: Lineage) -> list[LineageView]:
    """Return a block an asset, in alphabetical order."""
    now = {(r.asset, r.partition): r.data_version for parts in records.values() for r in parts}
    views = []
    for asset, parts in sorted(records.items()):
        models = sorted({pair for record in parts for pair in record.models.items()})
        rows = [_partition(record, now) for record in sorted(parts, key=lambda r: r.partition or "")]
        views.append(LineageView(asset, rows, models))
    return views


def _partition(record: Provenance, now: Mapping[tuple[str, str | None], str]) -> PartitionView:
    by_asset: dict[str, list[Upstream]] = {}
    for up in record.upstream:
        by_asset.setdefault(up.asset, []).append(up)
    return PartitionView(
        record.partition or "all",
        record.data_version,
        record.run_id,
        record.code_version,
        [_read(asset, ups, now) for asset, ups in by_asset.items()],
    )


def _read(asset: str, ups: Sequence[Upstream], now: Mapping[tuple[str, str | None], str]) -> ReadView:
    """Return what was read of an asset; versions are told where the lake no longer holds them."""
    changed = [up for up in ups if now.get((asset, up.partition), up.data_version) != up.data_version]
    since = ", ".join(f"{up.partition or 'all'} was {up.data_version[:_SHOWN]}" for up in changed)
    return ReadView(asset, in_words(up.partition for up in ups), since)


def models(records: Lineage) -> Models:
    """Return the models and code versions of all records, each once, and the assets that rest on a model."""
    users: dict[tuple[str, str], set[str]] = {}
    code: set[str] = set()
    for asset, parts in records.items():
        for record in parts:
            code.add(record.code_version)
            for pair in record.models.items():
                users.setdefault(pair, set()).add(asset)
    rows = [[Cell(n), Cell(sha), Cell(", ".join(sorted(used)))] for (n, sha), used in sorted(users.items())]
    headers = [Cell("model"), Cell("sha256 of its weights"), Cell("assets that rest on it")]
    return Models(TableView("Models", headers, rows, len(rows)) if rows else None, sorted(code))


def merged(tables: Lineage, figures: Iterable[Provenance]) -> dict[str, Sequence[Provenance]]:
    """Return the records of tables and figures by asset."""
    return {**tables, **{made.asset: [made] for made in figures}}
