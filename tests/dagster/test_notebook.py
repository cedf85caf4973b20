"""A notebook's cells run in order, show what they show, and fail by number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twigma_dagster.notebook import CellError, run_notebook, with_outputs


def notebook(path: Path, *cells: str) -> Path:
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True), "outputs": []} for cell in cells]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "x = 9"}, *made]}))
    return path


def test_cells_share_names_and_show_their_last_value_and_prints(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", "import os\nx = 1", "print(os.environ['GIVEN'])\nx + 1", "x = 5")
    shown = run_notebook(path, {"GIVEN": "so"})
    assert shown[0] == shown[2] == []
    assert [one.get("text") or one["data"]["text/plain"] for one in shown[1]] == [["so\n"], ["2"]]
    written = json.loads(with_outputs(path, shown))["cells"]
    assert [cell.get("execution_count") for cell in written] == [None, 1, 2, 3]
    assert written[2]["outputs"] == shown[1]


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", "x = 1", "y", "x = 2")
    with pytest.raises(CellError, match=r"cell 2: NameError: name 'y' is not defined"):
        run_notebook(path, {})
