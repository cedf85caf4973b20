"""Bringing weights over a network into the weights folder, whole and checked or not at all.

What belongs here: the model hub, and LAION's own files of the NSFW heads. What does not: where weights lie
and what they must be (``weights``).

Of a repository only safetensors and JSON files are taken. LAION publishes its heads as Keras archives;
their tensors are cut out of the known bytes, so that no Keras and no pickle is needed.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twigma_core.models.weights import Model, remember, sha256_of

LAION = "https://raw.githubusercontent.com/LAION-AI/CLIP-based-NSFW-Detector/main"
_LARGEST_ARCHIVE = 64 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FetchError(RuntimeError):
    """Weights that could not be fetched, or that are not what they should be; the message says why."""


@dataclass(frozen=True)
class _Archive:
    """LAION's archive of a head: its hash, and the widths of the layers in the order they are stored."""

    name: str
    sha256: str
    widths: tuple[int, ...]


_ARCHIVES = {
    "nsfw_vit_l_14": _Archive(
        "clip_autokeras_binary_nsfw",
        "905520bb0336accc73ee282c605d926aef90cf14248889d44b9cee50eef71f8a",
        (768, 64, 512, 256, 1),
    ),
    "nsfw_vit_b_32": _Archive(
        "clip_autokeras_nsfw_b32",
        "78715ab9d64485167e8c9ade3b8e6761a17a16c24d114bd47431ac1dab46462b",
        (512, 32, 32, 1),
    ),
}


def fetch(model: Model, root: Path, log: Callable[[str], object] = lambda _: None) -> Path:
    """Bring a model's files into the weights folder; return its weights file.

    Args:
        model: which; see ``weights``.
        root: the weights folder.
        log: told what is fetched.

    Raises:
        FetchError: no network, no such model there, or other bytes than those that are published or pinned.
    """
    root.mkdir(parents=True, exist_ok=True)
    if model.repository:
        return _from_hub(model, root, log)
    if model.name in _ARCHIVES:
        return _from_laion(model, root, log)
    raise FetchError(f"{model.name} is published nowhere that this project knows")


def _from_hub(model: Model, root: Path, log: Callable[[str], object]) -> Path:
    """From the model hub, through its own library, which goes on where a connection broke."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise FetchError("HF_HUB_OFFLINE is set, so the model hub is not asked")
    folder, hashes = root / model.place, {}
    try:
        # The weights come last: a folder that has them is complete.
        for name in (*model.optional, *model.others, model.weights):
            try:
                stated = get_hf_file_metadata(hf_hub_url(model.repository, name, revision=model.revision))
            except EntryNotFoundError:
                if name in model.optional:
                    continue
                raise
            log(f"{model.name}: {name}, {(stated.size or 0) / 1e6:,.1f} MB")
            file = Path(
                hf_hub_download(model.repository, name, revision=stated.commit_hash, local_dir=folder)
            )
            # The hub tells the sha256 of large files; its library compares no more than their size.
            told = stated.etag if stated.etag and _SHA256.fullmatch(stated.etag) else None
            wanted = (model.sha256 if name == model.weights else None) or told
            if wanted and sha256_of(file) != wanted:
                wrong = sha256_of(file)
                file.unlink()
                raise FetchError(f"{name} came with sha256 {wrong}, not {wanted}, and was thrown away")
            hashes[f"{model.place}/{name}"] = sha256_of(file)
    except FetchError:
        raise
    except Exception as error:  # the library raises whatever its HTTP client does
        reason = str(error).strip().partition("\n")[0][:200]
        raise FetchError(
            f"the model hub did not give {model.repository}: {type(error).__name__}: {reason}"
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    remember(root, hashes)
    return folder / model.weights


def _from_laion(model: Model, root: Path, log: Callable[[str], object]) -> Path:
    """One of LAION's archives, checked by its hash, and the head that is in it, checked by its own."""
    archive = _ARCHIVES[model.name]
    url = f"{LAION}/{archive.name}.zip"
    log(f"{model.name}: {url}")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data = answer.read(_LARGEST_ARCHIVE)
    except (OSError, ValueError) as error:
        raise FetchError(f"{url} could not be had: {error}") from error
    if (came := hashlib.sha256(data).hexdigest()) != archive.sha256:
        raise FetchError(f"{url} came with sha256 {came}, not {archive.sha256}, and was thrown away")
    head = _head(data, archive)
    if hashlib.sha256(head).hexdigest() != model.sha256:
        raise FetchError(f"the head in {url} is not the one that is pinned as {model.name}")
    file, temporary = root / model.weights, root / f".{model.weights}.part"
    temporary.write_bytes(head)
    temporary.replace(file)
    return file


def _head(data: bytes, archive: _Archive) -> bytes:
    """The safetensors file of an archive's head.

    Its variables follow one another as little-endian float32: mean and variance of the inputs, the count of
    the rows that they come from, then each layer's kernel (in, out) and bias.
    """
    from safetensors.numpy import save

    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        variables = io.BytesIO(opened.read(f"{archive.name}/variables/variables.data-00000-of-00001"))

    def following(*shape: int) -> np.ndarray:
        return np.frombuffer(variables.read(4 * int(np.prod(shape))), "<f4").reshape(shape)

    width, *others = archive.widths
    tensors = {"norm.mean": following(width), "norm.variance": following(width)}
    variables.seek(8, io.SEEK_CUR)
    for layer, out in enumerate(others, start=1):
        tensors[f"linear_{layer}.weight"] = np.ascontiguousarray(following(width, out).T)
        tensors[f"linear_{layer}.bias"] = following(out)
        width = out
    return save(tensors)
