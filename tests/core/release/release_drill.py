"""A process that writes a release and is killed at one of the moments in which it changes the disk."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import jinja2  # noqa: F401  all that a release imports, once for all processes that are forked from here
import mlcroissant  # noqa: F401
import polars as pl
import yaml  # noqa: F401

from twigma_core.lake import Lake
from twigma_core.provenance import Provenance
from twigma_core.release.package import write_release


def write(root: Path, inputs: list[bytes], kill_at: int = 0) -> None:
    """Write a release of serialized tables; be killed just before the n-th change of the disk, if any."""
    done = 0

    def counted(name: str) -> None:
        real = getattr(os, name)

        def change(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(os, name, change)

    for name in ("replace", "rename", "unlink", "rmdir"):
        counted(name)
    dataset, clusters, projection = (pl.DataFrame.deserialize(io.BytesIO(data)) for data in inputs)
    made = Provenance("release", None, "run-1", "0.1.0+abc")
    write_release(Lake(root), dataset, clusters, projection, made)
