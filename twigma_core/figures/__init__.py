"""The figures of the paper: tables in, a matplotlib `Figure` out, nothing else.

One module a figure, each with

- `TITLE` and `ABOUT`: what the figure is and how to read it;
- `TABLES`: the tables that it reads, each with the columns, in the order of its functions' parameters;
- `table(*frames)`: the very numbers that are drawn, to be saved beside the figure;
- `draw(*frames, synthetic=False)`: the figure. `figure_4c` and `figure_4e` also take pictures.

`FIGURES` finds a module by its asset's name and imports it when it is asked for. `files.render` makes the
SVG and PNG. No figure reads the lake or a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType

_NAMES = (
    *("figure_1b", "figure_1c"),
    *("figure_2a", "figure_2b", "figure_2c", "figure_2d"),
    *("figure_3a", "figure_3b", "figure_3c", "figure_3d"),
    *("figure_4a", "figure_4b", "figure_4c", "figure_4d", "figure_4e"),
)


class _FigureModules(Mapping[str, ModuleType]):
    """The modules by name, each imported on first use."""

    def __getitem__(self, name: str) -> ModuleType:
        if name not in _NAMES:
            raise KeyError(f"no figure named {name!r}; known: {', '.join(_NAMES)}")
        return import_module(f"{__name__}.{name}")

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


FIGURES: Mapping[str, ModuleType] = _FigureModules()
"""Module of each figure by the name of its asset."""
