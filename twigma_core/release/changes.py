"""What a release changes against the one before it: counts for people, a list of ids for programs."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

KEYS = ("id", "image_id", "image_name")
"""Columns that name a picture; those that both releases have are compared."""
HEAD = "# Changelog\n"


@dataclass(frozen=True)
class Changes:
    """The difference between two releases.

    Attributes:
        before: version of the earlier one; None for the first.
        listed: a row a picture: its ids, `change` (added, removed or changed) and, of a changed one, the
            columns with another value, separated by blanks.
        columns: of each column, in how many pictures its value is another.
        gained, lost: columns that only the later or only the earlier one has.
    """

    before: str | None
    listed: pl.DataFrame
    columns: dict[str, int] = field(default_factory=dict)
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def count(self, change: str) -> int:
        """Return how many pictures were added, removed or changed."""
        return self.listed.filter(pl.col("change") == change).height


def compare_releases(before: pl.DataFrame, after: pl.DataFrame, version: str) -> Changes:
    """Return what `after` changes against `before`, the table of release `version`.

    A picture is the same if post and picture have the same ids; if the two are of different profiles, the
    posts' ids alone are compared, of several pictures of a post in their order.
    """
    keys = [key for key in KEYS if key in before.columns and key in after.columns]
    nth = pl.int_range(pl.len()).over(keys).alias("_nth")
    values = [name for name in after.columns if name in before.columns and name not in keys]
    both = after.select(*keys, *values, nth, _after=True).join(
        before.select(*keys, *(pl.col(name).alias(f"_{name}") for name in values), nth, _before=True),
        on=[*keys, "_nth"],
        how="full",
        coalesce=True,
        nulls_equal=True,
        maintain_order="left_right",
    )
    here, there = pl.col("_after").is_not_null(), pl.col("_before").is_not_null()
    differs = {name: here & there & pl.col(name).ne_missing(pl.col(f"_{name}")) for name in values}
    named = [pl.when(differs[name]).then(pl.lit(name)) for name in values]
    listed = both.select(
        *keys,
        change=pl.when(~there)
        .then(pl.lit("added"))
        .when(~here)
        .then(pl.lit("removed"))
        .otherwise(pl.lit("changed")),
        columns=pl.concat_str(named, separator=" ", ignore_nulls=True) if named else pl.lit(""),
    ).filter((pl.col("change") != "changed") | (pl.col("columns") != ""))
    counts = {name: both.select(different.sum()).item() for name, different in differs.items()}
    gained = tuple(name for name in after.columns if name not in before.columns)
    lost = tuple(name for name in before.columns if name not in after.columns)
    return Changes(version, listed, {name: n for name, n in counts.items() if n}, gained, lost)


def next_version(before: str, changes: Changes, same_profile: bool) -> str:
    """Return the version after `before`: major for another profile, minor for new pictures, else patch."""
    major, minor, patch = map(int, before.split("."))
    if not same_profile:
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if changes.count("added") else f"{major}.{minor}.{patch + 1}"


def changelog(version: str, rows: int, changes: Changes, masked: int, earlier: str = "") -> str:
    """Return CHANGELOG.md, the newest release first.

    Args:
        version: of the new release.
        rows: its pictures.
        changes: against the last one.
        masked: captions in which a name or link was masked.
        earlier: CHANGELOG.md of the last one.
    """
    lines = [HEAD, f"## {version}\n"]
    if changes.before is None:
        lines.append(f"The first release: {rows:,} pictures.")
    else:
        added, removed, changed = (changes.count(name) for name in ("added", "removed", "changed"))
        by = ", ".join(f"{name} {n:,}" for name, n in changes.columns.items())
        lines.append(
            f"{rows:,} pictures. Against {changes.before}: {added:,} added, {removed:,} removed, "
            f"{changed:,} changed{f' ({by})' if by else ''}. `changes.csv` lists their ids."
        )
        if changes.gained or changes.lost:
            came, went = (", ".join(names) or "none" for names in (changes.gained, changes.lost))
            lines.append(f"\nColumns that are new: {came}; that are gone: {went}.")
        if removed:
            lines.append("\nWho holds an earlier release must drop what was removed.")
    if masked:
        lines.append(f"\nIn {masked:,} captions a user name or link was masked.")
    old = earlier.removeprefix(HEAD).strip()
    return "\n".join(lines) + "\n" + (f"\n{old}\n" if old else "")
