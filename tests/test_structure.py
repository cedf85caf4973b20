"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = sorted((ROOT / "twigma_core").rglob("*.py"))
ASSETS = sorted((ROOT / "twigma_dagster" / "assets").glob("*.py"))
LONGEST_ASSET = 25
LONGEST_FILE = 450
ONE_LONG_SUBJECT = {"tables.py"}  # the contract: one schema after the other


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_the_core_knows_no_dagster() -> None:
    assert CORE
    guilty = [
        str(path)
        for path in CORE
        if any(n.split(".")[0] in ("dagster", "twigma_dagster") for n in imports(path))
    ]
    assert guilty == []


@pytest.mark.parametrize("path", ASSETS, ids=lambda path: path.stem)
def test_assets_are_thin(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= LONGEST_ASSET, (
                f"{path.name}:{node.name} has {lines} lines: science in the wrong house"
            )


def test_files_have_one_subject() -> None:
    code = [*CORE, *(ROOT / "twigma_dagster").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    long = {path.name: n for path in code if (n := len(path.read_text().splitlines())) > LONGEST_FILE}
    long = {name: n for name, n in long.items() if name not in ONE_LONG_SUBJECT}
    rooms = [path.name for path in code if path.stem in ("utils", "helpers", "misc", "common")]
    assert (long, rooms) == ({}, [])


def test_importing_the_core_is_quick() -> None:
    heavy = "torch", "open_clip", "transformers", "umap", "matplotlib.pyplot", "faiss", "statsmodels"
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in CORE]
    modules = [name for name in modules if not name.endswith("__main__")]
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
