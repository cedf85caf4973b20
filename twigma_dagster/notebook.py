"""A notebook's code run in order in a fresh interpreter, with what its cells show.

For docs/notebook.ipynb, which a test runs and `python -m twigma_dagster.docs --notebook` rewrites. Its cells
are plain Python: no magics. What a cell shows is what it prints, its last expression, and matplotlib's
figures.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class CellError(RuntimeError):
    """A cell failed; the message has its number and Python's words."""


def run_notebook(path: Path, environment: Mapping[str, str]) -> list[list[dict[str, Any]]]:
    """Run the code cells of a notebook; return the outputs of each, as the notebook format has them.

    Raises:
        CellError: a cell failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "twigma_dagster.notebook", str(path.resolve())],
        capture_output=True,
        text=True,
        env={**os.environ, **environment, "MPLBACKEND": "agg"},
    )
    if done.returncode:
        raise CellError(f"{path.name}: {done.stderr.strip()[-3000:]}")
    outputs: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return outputs


def with_outputs(path: Path, outputs: list[list[dict[str, Any]]]) -> str:
    """Return the notebook as JSON with these outputs of its code cells."""
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, shown) in enumerate(zip(code, outputs, strict=True), 1):
        cell |= {"execution_count": number, "outputs": shown}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _run(path: str) -> list[list[dict[str, Any]]]:
    """Run all code cells in this process, one after the other in one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in json.loads(Path(path).read_text())["cells"] if cell["cell_type"] == "code"]
    found = []
    for number, cell in enumerate(cells, 1):
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                value = _cell("".join(cell["source"]), f"cell {number}", names)
        except Exception as error:
            raise CellError(f"cell {number}: {type(error).__name__}: {error}") from error
        shown: list[dict[str, Any]] = []
        if printed.getvalue():
            shown.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
        shown += [_display({"image/png": data}) for data in _figures()]
        if value is not None:
            shown.append(_display({"text/plain": _lines(repr(value))}))
        found.append(shown)
    return found


def _cell(source: str, name: str, names: dict[str, Any]) -> Any:
    """Run a cell and return the value of its last line, if that is an expression."""
    tree = ast.parse(source, name)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, name, "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), names)
    return eval(compile(ast.Expression(last.value), name, "eval"), names)


def _figures() -> list[str]:
    if "matplotlib.pyplot" not in sys.modules:
        return []
    from matplotlib import pyplot

    drawn = []
    for number in pyplot.get_fignums():
        file = io.BytesIO()
        pyplot.figure(number).savefig(
            file, format="png", dpi=72, bbox_inches="tight", metadata={"Software": ""}
        )
        drawn.append(base64.b64encode(file.getvalue()).decode())
    pyplot.close("all")
    return drawn


def _display(data: dict[str, Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_run(sys.argv[1])))
