"""The science of TWIGMA: every function usable from a notebook, no Dagster.

>>> import twigma_core
>>> dataset = twigma_core.open(".twigma/lake").dataset()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twigma_core.opened import OpenLake

__version__ = "0.1.0"


def open(root: str | Path | None = None) -> OpenLake:
    """Open a lake for reading, from a notebook or a script.

    Args:
        root: the lake, or the home folder that it lies in; a folder or "s3://bucket/prefix". By default that
            of the settings: TWIGMA_LAKE, else the folder `lake` in TWIGMA_HOME, else in `.twigma`.

    Raises:
        FileNotFoundError: there is no lake.
    """
    from twigma_core.opened import open_lake

    return open_lake(root)
