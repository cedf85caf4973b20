"""CLIP: pictures and texts to unit vectors of one space (paper, section 3: ViT-L/14).

What belongs here: loading a CLIP through open_clip and encoding with it. What does not: what is done with the
embeddings (``twigma_core.analysis``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twigma_core.models import runtime, weights

Precision = Literal["fp32", "fp16", "bf16"]

DEFAULT = "ViT-L-14"
DEFAULT_TAG = "openai"
_CONFIG = "open_clip_config.json"
_FOLDER_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ClipEncoder:
    """A CLIP that turns pictures and texts into l2-normalised float32 rows.

    Every batch has the same shape (the last is filled up with zeros), so on one machine a picture's row has
    the same bits whatever its neighbours, its place and the number of pictures.

    Args:
        name: ``sample`` (the small model that ships with the project); a folder that open_clip wrote (with
            ``open_clip_config.json``); or one of open_clip's architectures, such as ``ViT-L-14``.
        pretrained: for an architecture, open_clip's tag (``openai`` where None) or a weights file.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        precision: ``fp32``; ``fp16`` and ``bf16`` are faster on a GPU and move the rows by about 1e-3.
        batch_size: pictures or texts at a time. Rows made with different sizes may differ in the last bits.

    Attributes:
        name: name of the model, for the tables.
        weights_sha256: sha256 of the weights file.
        dim: width of a row.
        preprocess: from a PIL picture to the model's (3, h, w) tensor.
        device: where it runs.
        batch_size: rows of every batch.

    Raises:
        WeightsNotFound: where the weights are neither here nor to be had; the message names the cure.
        ValueError: for a name that is neither a folder nor an architecture.

    Example:
        >>> encoder = ClipEncoder("sample", device="cpu")
        >>> encoder.encode_texts(["a photo of a cute cat"]).shape
        (1, 96)
    """

    def __init__(
        self,
        name: str = DEFAULT,
        pretrained: str | None = None,
        device: str = "auto",
        precision: Precision = "fp32",
        batch_size: int = 32,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
        self.device = runtime.choose_device(device)
        self.batch_size = batch_size
        with runtime.quiet():
            if (folder := _folder_of(name, pretrained)) is not None:
                loaded = _load_folder(folder, self.device, precision)
                self.name, file = (
                    ("sample-clip" if name == weights.SAMPLE else folder.name),
                    _weights_in(folder),
                )
            else:
                loaded, self.name, file = _load_architecture(
                    name, pretrained or DEFAULT_TAG, self.device, precision
                )
        self._model, self.preprocess, self._tokenizer = loaded
        self._model.eval()
        self._threads = runtime.threads_for(self._model)
        self.weights_sha256 = weights.sha256_of(file)
        self._dtype = next(self._model.parameters()).dtype
        self.dim = int(self.encode_texts([""]).shape[1])

    def encode_images(self, images: Iterable[Image.Image]) -> NDArray[np.float32]:
        """Embed pictures; any iterable, of which one batch is held at a time.

        Returns:
            (n, dim) float32, each row of length 1; (0, dim) for no pictures.

        Raises:
            ValueError: where a picture is None.
        """
        import torch

        rows: list[NDArray[np.float32]] = []
        for batch in runtime.in_batches(enumerate(images), self.batch_size):
            x = torch.stack([self.preprocess(runtime.checked_picture(image, k)) for k, image in batch])
            rows.append(self._encode(self._model.encode_image, x.to(self._dtype)))
        return self._joined(rows)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; what exceeds the model's context is cut.

        Returns:
            (n, dim) float32, each row of length 1; (0, dim) for no texts.
        """
        rows: list[NDArray[np.float32]] = []
        for batch in runtime.in_batches(texts, self.batch_size):
            rows.append(self._encode(self._model.encode_text, self._tokenizer(batch)))
        return self._joined(rows)

    def _encode(self, encode: Any, x: Any) -> NDArray[np.float32]:
        from torch.nn import functional

        n = x.shape[0]
        with runtime.exact(self._threads):
            out = encode(runtime.padded(x, self.batch_size).to(self.device))
            unit = functional.normalize(out.float(), dim=-1)
        return unit[:n].cpu().numpy()

    def _joined(self, rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)


def _folder_of(name: str, pretrained: str | None) -> Path | None:
    """The local-dir folder that the name stands for, or None for an architecture."""
    if name == weights.SAMPLE:
        return weights.sample_weights("clip")
    name = name.removeprefix("local-dir:")
    tagged = f"{name}/{pretrained or DEFAULT_TAG}"
    for found in (weights.local_weights(name), weights.local_weights(tagged)):
        if found is not None and (found / _CONFIG).is_file():
            return found
    if "/" in name and not _is_architecture(name):
        raise weights.WeightsNotFound(
            f"CLIP {name!r}: no folder with {_CONFIG} there; "
            + weights.cure(name, f"a folder with {_CONFIG}, the weights and the tokenizer")
        )
    return None


def _is_architecture(name: str) -> bool:
    import open_clip

    return name.replace("/", "-") in open_clip.list_models()


def _weights_in(folder: Path) -> Path:
    for file in _FOLDER_FILES:
        if (folder / file).is_file():
            return folder / file
    raise weights.WeightsNotFound(
        f"CLIP {folder.name!r}: the folder has no weights; put one of {', '.join(_FOLDER_FILES)} "
        f"into {folder}"
    )


def _load_folder(folder: Path, device: str, precision: Precision) -> tuple[Any, Any, Any]:
    import open_clip

    _weights_in(folder)
    spec = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(spec, device=device, precision=precision)
    return model, preprocess, open_clip.get_tokenizer(spec)


def _load_architecture(
    name: str, pretrained: str, device: str, precision: Precision
) -> tuple[tuple[Any, Any, Any], str, Path]:
    """Build one of open_clip's architectures with the weights of a tag or a file."""
    import open_clip

    if not _is_architecture(name):
        raise ValueError(
            f"CLIP {name!r} is neither {weights.SAMPLE!r}, nor a folder with {_CONFIG}, nor an architecture "
            f"of open_clip; open_clip.list_models() lists those, e.g. {DEFAULT!r}"
        )
    label = f"{name}/{pretrained}"
    config = open_clip.get_pretrained_cfg(name, pretrained)
    file = weights.local_weights(pretrained) or weights.local_weights(label)
    if file is not None and file.is_file():
        pin = weights.pin_of(weights.sha256_of(file))
        label = pin.name if pin else f"{name}/{file.name}"
        quick_gelu = bool(config.get("quick_gelu")) or bool(pin and pin.quick_gelu)
    elif config:
        try:
            file = Path(open_clip.download_pretrained(config))
        except Exception as error:
            raise weights.WeightsNotFound(
                f"CLIP {label}: its weights are not on this machine and the hub did not give them "
                f"({type(error).__name__}); " + weights.cure(label, "the weights file")
            ) from error
        quick_gelu = bool(config.get("quick_gelu"))
    else:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise weights.WeightsNotFound(
            f"CLIP {label}: {pretrained!r} is neither a tag of {name} ({', '.join(tags) or 'it has none'}) "
            "nor a weights file on this machine"
        )
    # open_clip only warns where a tag's activation is not the architecture's, and its embeddings are wrong
    # then: OpenAI's own weights need QuickGELU, which the plain architecture names do not switch on.
    model, _, preprocess = open_clip.create_model_and_transforms(
        name,
        pretrained=str(file),
        device=device,
        precision=precision,
        force_quick_gelu=quick_gelu,
        # A file brings no preprocessing with it, so the tag's own is handed over.
        image_mean=config.get("mean"),
        image_std=config.get("std"),
        image_interpolation=config.get("interpolation"),
        image_resize_mode=config.get("resize_mode"),
    )
    return (model, preprocess, open_clip.get_tokenizer(name)), label, file
