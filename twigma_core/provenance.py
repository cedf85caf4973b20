"""Where a file comes from: the record that every table and figure carries inside itself.

A record names the asset and partition, the run and code that made it, the models it rests on, and each
upstream partition with its data version, so that a file that left the lake still tells its lineage.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from twigma_core import __version__


@cache
def current_code_version() -> str:
    """Return the package's version, with the commit where the code runs from a checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{found.stdout.strip()}"


@dataclass(frozen=True)
class Upstream:
    """One partition that a value was computed from."""

    asset: str
    partition: str | None
    data_version: str


@dataclass(frozen=True)
class Provenance:
    """How a value came to be.

    Attributes:
        asset: name of the asset.
        partition: month, corpus or text source; None for a whole-dataset asset.
        run_id: Dagster's run id, or "script" outside of Dagster.
        code_version: see `current_code_version`.
        models: name of each model that the value rests on, with the sha256 of its weights.
        upstream: every partition that was read.
        data_version: hash of the content; empty until the value is written.
    """

    asset: str
    partition: str | None = None
    run_id: str = "script"
    code_version: str = field(default_factory=current_code_version)
    models: dict[str, str] = field(default_factory=dict)
    upstream: tuple[Upstream, ...] = ()
    data_version: str = ""

    def to_json(self) -> str:
        """Return the record as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Provenance:
        """Read a record that `to_json` wrote."""
        fields = json.loads(text)
        fields["upstream"] = tuple(Upstream(**up) for up in fields["upstream"])
        return cls(**fields)

    def describe(self) -> str:
        """Return the record as lines for a person."""
        place = f"{self.asset}/{self.partition}" if self.partition else self.asset
        lines = [
            f"asset         {place}",
            f"data version  {self.data_version}",
            f"run           {self.run_id}",
            f"code          {self.code_version}",
            *(f"model         {name} sha256:{sha}" for name, sha in sorted(self.models.items())),
            f"upstream      {len(self.upstream)} partitions",
        ]
        lines += [
            f"  {up.asset}/{up.partition or 'all'}  {up.data_version}"
            for up in sorted(self.upstream, key=lambda up: (up.asset, up.partition or ""))
        ]
        return "\n".join(lines)


def in_words(partitions: Iterable[str | None]) -> str:
    """Return partitions in words, such as "2021-01 … 2021-06 (6)"; nothing for a whole-dataset asset."""
    keys = sorted(key for key in partitions if key)
    return ", ".join(keys) if len(keys) < 3 else f"{keys[0]} … {keys[-1]} ({len(keys)})"
