"""Model weights: known files by their hash, and where a model's files are found.

What belongs here: turning the name of a model into files on this machine, and saying what to do where there
are none. What does not: loading them (``clip``, ``blip``, ``nsfw``).

A name is looked up in this order: ``sample`` (the small trained models that ship with the project), a path,
a file or folder of that name below the folder that ``TWIGMA_WEIGHTS`` names, and last the model hub.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SAMPLE = "sample"
"""The name of the small models that ship with the project."""

FOLDER_VARIABLE = "TWIGMA_WEIGHTS"
"""The environment variable that names a folder of weights."""

Kind = Literal["clip", "blip", "nsfw"]

_SAMPLE_FILES: dict[Kind, str] = {
    "clip": "open_clip_model.safetensors",
    "blip": "model.safetensors",
    "nsfw": "nsfw_head.safetensors",
}


class WeightsNotFound(FileNotFoundError):
    """Weights that are neither on this machine nor to be had from the hub; the message names the cure."""


@dataclass(frozen=True)
class Pin:
    """A weights file that is known by its hash.

    Attributes:
        name: the model's name.
        sha256: of the file.
        quick_gelu: whether a CLIP was trained with the sigmoid approximation of GELU. The file itself does
            not say, and with the other activation the embeddings are wrong without any error.
        source: where the file comes from.
    """

    name: str
    sha256: str
    quick_gelu: bool = False
    source: str = ""


_OPENAI = "OpenAI's CLIP release, https://github.com/openai/CLIP"
_LAION = "https://github.com/LAION-AI/CLIP-based-NSFW-Detector, as plain tensors"

PINNED: dict[str, Pin] = {
    pin.name: pin
    for pin in (
        Pin(
            "ViT-L-14/openai",
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            quick_gelu=True,
            source=_OPENAI,
        ),
        Pin(
            "ViT-L-14-336/openai",
            "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            quick_gelu=True,
            source=_OPENAI,
        ),
        Pin(
            "ViT-B-16/openai",
            "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
            quick_gelu=True,
            source=_OPENAI,
        ),
        Pin(
            "ViT-B-32/openai",
            "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            quick_gelu=True,
            source=_OPENAI,
        ),
        Pin(
            "nsfw_vit_l_14",
            "fbd76a2d058e0eac292492b2271e469728e7c80e2f70e21d17a87552abd9e625",
            source=_LAION,
        ),
        Pin(
            "nsfw_vit_b_32",
            "c9907793c39371b560bc85ad55407ac945e11f3b94b88dba8b6c5a771c64b16c",
            source=_LAION,
        ),
    )
}
"""Known files by name: OpenAI's own ``.pt`` files, and LAION's NSFW heads (paper, reference [4])."""


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, in hexadecimal; computed once for as long as the file does not change."""
    path = Path(path).resolve()
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pin_of(sha256: str) -> Pin | None:
    """The known file that has this hash, or None."""
    return next((pin for pin in PINNED.values() if pin.sha256 == sha256), None)


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


def local_weights(name: str) -> Path | None:
    """The file or folder of that name: a path, or one below the folder that ``TWIGMA_WEIGHTS`` names.

    A slash in the name may stand as a hyphen, and a file's ending may be left out: ``ViT-L-14/openai`` finds
    ``$TWIGMA_WEIGHTS/ViT-L-14-openai.pt``. None where there is nothing.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    for stem in dict.fromkeys((name, name.replace("/", "-"))):
        for ending in ("", ".safetensors", ".pt", ".bin"):
            path = Path(folder).expanduser() / f"{stem}{ending}"
            if path.exists():
                return path
    return None


def cure(name: str, what: str) -> str:
    """The sentence that says how to come by weights that are not on this machine.

    Args:
        name: the model's name.
        what: the kind of file or folder that is wanted.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    where = folder or f"a folder, and set {FOLDER_VARIABLE} to it"
    pin = PINNED.get(name)
    known = f" ({pin.source}; sha256 {pin.sha256})" if pin else ""
    return (
        f"put {what} as {name.replace('/', '-')!r} into {where}{known}; or give its path instead of the "
        f"name; or run once with access to the model hub; or choose the shipped model, {SAMPLE!r}"
    )
