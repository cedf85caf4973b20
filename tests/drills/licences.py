"""The licence of every package of requirements.lock, as its own metadata say; docs/licences.md lists them.

`python -m tests.drills.licences` writes the document anew; a test fails while it is not current, and on a
licence that is neither among `ALLOWED` nor a named exception.
"""

from __future__ import annotations

import re
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "licences.md"
ALLOWED = frozenset(
    """0BSD Apache-2.0 BSD BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python ISC LLVM-exception MIT MIT-0
    MIT-CMU MPL-2.0 PSF-2.0 Zlib""".split()
)
"""Licences under which one may use, change and pass on a package that one leaves as it is."""
EXCEPTIONS = {
    "atheris": "Apache-2.0 by its licence file; for drills only",
    "cuda-toolkit": "NVIDIA's, comes with torch's build for GPUs; an empty package that names others",
    "dataframely": "BSD-3-Clause by its licence file",
    "mlcroissant": "Apache-2.0 by its repository; the package itself says nothing",
    "psycopg2-binary": "LGPL with exceptions: a library that is used as it is",
    "umap-learn": "BSD-3-Clause by its licence file",
}
"""Packages whose metadata name no licence of `ALLOWED`, each looked at by a person."""
NVIDIA = "NVIDIA's own terms"
_SAME = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 3-Clause OR Apache-2.0": "BSD-3-Clause OR Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_KIND = ("OSI Approved", "DFSG approved", "Other/Proprietary License")  # these classifiers name no licence
ELSEWHERE = "of another system, not installed here"


def locked() -> list[str]:
    """Return the names of the packages in requirements.lock, sorted."""
    text = (ROOT / "requirements.lock").read_text()
    return sorted(set(re.findall(r"^([a-zA-Z0-9._-]+)==", text, re.MULTILINE)))


def licence(name: str) -> str:
    """Return a package's licence as its metadata say, in SPDX's words where known; "" where they do not."""
    try:
        about = cast(Message, metadata(name))
    except PackageNotFoundError:
        return ELSEWHERE
    if expression := about.get("License-Expression"):
        return str(expression)
    kinds = [line.split(" :: ")[-1] for line in about.get_all("Classifier") or [] if line[:7] == "License"]
    named = [_SAME.get(kind, kind) for kind in kinds if kind not in _KIND]
    text = (about.get("License") or "").strip()
    return " AND ".join(named) or (_SAME.get(text, text) if len(text) < 60 else "")


def allowed(name: str, words: str) -> bool:
    """Say whether a package may be used: by its licence, or as an exception."""
    parts = re.split(r" AND | OR | WITH |[()]+", words)
    fine = bool(words) and all(part.strip() in ALLOWED for part in parts if part.strip())
    return fine or words == ELSEWHERE or name in EXCEPTIONS or name.startswith("nvidia-")


def document() -> str:
    """Return docs/licences.md."""
    lines = [
        "# Licences",
        "",
        "The packages of `requirements.lock` and their licences as their own metadata state them; written by",
        "`.venv/bin/python -m tests.drills.licences`, which a test holds current. Allowed without a word:",
        f"{', '.join(sorted(ALLOWED))}.",
        "What else there is, is named with its reason; NVIDIA's libraries come with torch's and faiss's",
        "builds for GPUs, and nothing here passes them on. A package of another system was not looked at.",
        "",
        "| package | licence |",
        "|---|---|",
    ]
    for name in locked():
        said = licence(name)
        said = NVIDIA if name.startswith("nvidia-") else said
        lines.append(f"| {name} | {'; '.join(part for part in (said, EXCEPTIONS.get(name, '')) if part)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
