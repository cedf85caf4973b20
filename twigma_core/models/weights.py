"""Model weights: what they are called, where they lie, and whether they are what they were.

What belongs here: turning the name of a model into files on this machine, checking their hashes, and saying
what to do where there are none. What does not: bringing them over a network (``fetch``) and loading them
(``clip``, ``blip``, ``nsfw``).

A name is looked up in this order: ``sample`` (the small trained models that ship with the project), a path,
the weights folder, the hub library's own cache, and last the network. The weights folder is the one that the
caller or ``TWIGMA_WEIGHTS`` names. Only safetensors and JSON are read from it: nothing is unpickled.

A file of the weights folder is checked each time it is used: against the hash pinned here where there is
one, else against the hash that it had when it was first used, which ``weights.lock.json`` beside it keeps.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SAMPLE = "sample"
"""The name of the small models that ship with the project."""

FOLDER_VARIABLE = "TWIGMA_WEIGHTS"
"""The environment variable that names the weights folder."""

LOCK = "weights.lock.json"
"""The file in the weights folder that keeps the hashes of first use."""

Kind = Literal["clip", "blip", "nsfw"]

_SAMPLE_FILES: dict[Kind, str] = {
    "clip": "open_clip_model.safetensors",
    "blip": "model.safetensors",
    "nsfw": "nsfw_head.safetensors",
}
_log = logging.getLogger(__name__)


class WeightsNotFound(FileNotFoundError):
    """Weights that are neither on this machine nor to be had; the message names the cure."""


class WeightsMismatch(ValueError):
    """A weights file whose bytes are not those that are pinned, or that were used before."""


@dataclass(frozen=True)
class Model:
    """A published model: which files it needs and where they are published.

    Attributes:
        name: the model's name, for the tables; with hyphens for slashes, its place in the weights folder.
        kind: which part it plays.
        weights: the weights file.
        others: further files that it needs (configuration, tokenizer).
        optional: files that are taken along where they are published.
        repository: of the model hub; empty where it is published elsewhere.
        revision: of the repository; None is its newest.
        sha256: of the weights file, where it is known beforehand.
    """

    name: str
    kind: Kind
    weights: str
    others: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    repository: str = ""
    revision: str | None = None
    sha256: str | None = None

    @property
    def place(self) -> str:
        """Name of its folder, or of its file without ending, in the weights folder."""
        return self.name.replace("/", "-").replace("@", "-")


NSFW_HEADS: dict[str, Model] = {
    "nsfw_vit_l_14": Model(
        "nsfw_vit_l_14",
        "nsfw",
        "nsfw_vit_l_14.safetensors",
        sha256="fbd76a2d058e0eac292492b2271e469728e7c80e2f70e21d17a87552abd9e625",
    ),
    "nsfw_vit_b_32": Model(
        "nsfw_vit_b_32",
        "nsfw",
        "nsfw_vit_b_32.safetensors",
        sha256="c9907793c39371b560bc85ad55407ac945e11f3b94b88dba8b6c5a771c64b16c",
    ),
}
"""LAION's heads (paper, reference [4]) as plain tensors; ``fetch`` makes them of LAION's own files."""


@dataclass(frozen=True)
class Found:
    """Weights on this machine.

    Attributes:
        file: the weights file.
        sha256: of that file.
    """

    file: Path
    sha256: str

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.file.parent


def weights_folder(given: str | Path | None = None) -> Path:
    """The weights folder: the given one, else that of ``TWIGMA_WEIGHTS``, else one of the user's."""
    named = given or os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "twigma" / "weights"


def obtain(model: Model, folder: str | Path | None = None) -> Found:
    """Find a model's weights on this machine, or else fetch them; check them either way.

    Args:
        model: which.
        folder: the weights folder, see ``weights_folder``.

    Raises:
        WeightsNotFound: they are not here and could not be fetched; the message names the cure.
        WeightsMismatch: they are not what they should be.
    """
    root = weights_folder(folder)
    file = find(model, root)
    if file is None:
        from twigma_core.models.fetch import FetchError, fetch

        try:
            file = fetch(model, root)
        except FetchError as error:
            raise WeightsNotFound(
                f"{model.name}: its weights are not on this machine ({error}); {cure(model, root)}"
            ) from error
    return check(model, file, root)


def find(model: Model, root: Path) -> Path | None:
    """The model's weights file on this machine with all it needs beside it, or None.

    Looked for in its folder below the weights folder, there as a single file where it needs no other, and in
    the hub library's cache.
    """
    folder = root / model.place
    if all((folder / file).is_file() for file in (model.weights, *model.others)):
        return folder / model.weights
    single = root / f"{model.place}.safetensors"
    if not model.others and single.is_file():
        return single
    return _in_hub_cache(model)


def check(model: Model, file: Path, root: Path) -> Found:
    """Compare the files with what is pinned, or with what they were at first use; remember a first use.

    Raises:
        WeightsMismatch: they differ; the message names the file and the cure.
    """
    found = Found(file, sha256_of(file))
    if model.sha256:
        _compare(file, found.sha256, model.sha256, "the project knows it by")
        return found
    known, new = read_lock(root), {}
    for path in (file, *(file.parent / other for other in model.others)):
        key, sha256 = f"{model.place}/{path.name}", sha256_of(path)
        if key in known:
            _compare(path, sha256, known[key], f"it had at its first use ({root / LOCK})")
        else:
            new[key] = sha256
    if new:
        remember(root, new)
    return found


def verify(root: Path) -> dict[str, str]:
    """Hash every file of the weights folder that has a known hash.

    Returns:
        By file, relative to the weights folder: ``ok``, ``changed`` or ``missing``.
    """
    wanted = read_lock(root)
    for head in NSFW_HEADS.values():
        if (file := find(head, root)) is not None:
            wanted[str(file.relative_to(root))] = str(head.sha256)
    states = {}
    for name, sha256 in sorted(wanted.items()):
        path = root / name
        if not path.is_file():  # a single file, locked under the folder that it stands for
            path = root / f"{Path(name).parent}.safetensors"
        states[name] = "missing" if not path.is_file() else "ok" if sha256_of(path) == sha256 else "changed"
    return states


def read_lock(root: Path) -> dict[str, str]:
    """The hashes of first use, by file relative to the weights folder."""
    path = root / LOCK
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def remember(root: Path, hashes: dict[str, str]) -> None:
    """Add hashes to the lock file; a weights folder that cannot be written to is left as it is."""
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{LOCK}"):
            text = json.dumps(read_lock(root) | hashes, indent=1, sort_keys=True)
            temporary = root / f".{LOCK}.{os.getpid()}"
            temporary.write_text(text + "\n")
            temporary.replace(root / LOCK)
    except OSError as error:
        _log.warning("%s cannot be written to (%s): the hashes of first use are not kept", root, error)


def _compare(file: Path, sha256: str, wanted: str, known: str) -> None:
    if sha256 != wanted:
        raise WeightsMismatch(
            f"{file} has sha256 {sha256}, not the {wanted} that {known}; fetch it again with "
            f"`twigma models fetch`, or, if it was changed on purpose, remove its line there or give its path"
        )


def _in_hub_cache(model: Model) -> Path | None:
    """The weights file where the hub's own library has the model in its cache, as other programs leave it."""
    if not model.repository:
        return None
    from huggingface_hub import try_to_load_from_cache

    paths = [
        try_to_load_from_cache(model.repository, file, revision=model.revision)
        for file in (*model.others, model.weights)
    ]
    return Path(paths[-1]) if paths and all(isinstance(path, str) for path in paths) else None  # type: ignore[arg-type]


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, in hexadecimal; computed once for as long as the file does not change."""
    path = Path(path).resolve()
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sample_weights(kind: Kind) -> Path:
    """The folder of a shipped model (``clip``, ``blip``), or the shipped file (``nsfw``).

    Raises:
        WeightsNotFound: where the installation lacks it.
    """
    folder = Path(__file__).parent.parent / "sample" / "weights" / kind
    file = folder / _SAMPLE_FILES[kind]
    if not file.is_file():
        raise WeightsNotFound(
            f"the sample {kind} is not in this installation: {file.name} is missing from {folder}; "
            f"reinstall, or train it again with: python -m twigma_core.sample.training.{kind} --out {folder}"
        )
    return file if kind == "nsfw" else folder


def local(name: str, root: Path) -> Path | None:
    """The file or folder of that name: a path, or one in the weights folder; None where there is neither.

    In the weights folder a slash of the name stands as a hyphen, and ``.safetensors`` may be left out.
    """
    place = name.replace("/", "-")
    for path in (Path(name).expanduser(), root / place, root / f"{place}.safetensors"):
        if path.exists():
            return path
    return None


def cure(model: Model, root: Path) -> str:
    """The sentence that says how to come by weights that are not on this machine."""
    files = ", ".join((model.weights, *model.others))
    where = f"of the hub's repository {model.repository} " if model.repository else ""
    known = f" (sha256 {model.sha256})" if model.sha256 else ""
    place = root / model.place if model.repository else root
    return (
        f"on a machine with a network run `twigma models fetch {model.name}` and copy {place}; or put "
        f"{files} {where}there{known}; or set {FOLDER_VARIABLE} to the folder that has it; or choose the "
        f"shipped model, {SAMPLE!r}"
    )
