"""CLIP: pictures and texts to unit vectors of one space (paper, section 3: ViT-L/14).

What belongs here: loading a CLIP through open_clip and encoding with it. What does not: what is done with the
embeddings (``twigma_core.analysis``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twigma_core.models import pipeline, runtime, weights
from twigma_core.models.pipeline import Meter

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

DEFAULT = "ViT-L-14"
DEFAULT_TAG = "openai"
ON_CPU, ON_GPU = 16, 256
"""Rows of a batch. Each is filled up, so that a large one is dear where a few late pictures are embedded."""

_CONFIG = "open_clip_config.json"
_WEIGHTS = "open_clip_model.safetensors"
_PRECISION = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_log = logging.getLogger(__name__)


class ClipEncoder:
    """A CLIP that turns pictures and texts into l2-normalised float32 rows.

    Every batch has the same shape (the last is filled up with zeros), so on one machine a picture's row has
    the same bits whatever its neighbours, its place and the number of pictures.

    Args:
        name: ``sample`` (the small model that ships with the project); a folder that open_clip wrote (with
            ``open_clip_config.json`` and ``open_clip_model.safetensors``); or one of open_clip's
            architectures, such as ``ViT-L-14``.
        pretrained: for an architecture, open_clip's tag (``openai`` where None) or a safetensors file. A file
            does not say which activation its model was trained with: OpenAI's own weights as a bare file
            need the architecture's ``-quickgelu`` variant; by tag the right one is chosen.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` and ``cuda`` are all GPUs, to which
            batches go in turn.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: float16 on a GPU, float32 on a CPU. The
            half formats move the rows by about 1e-3 and 1e-2.
        batch_size: pictures or texts at a time; None is 16 on a CPU, 256 on a GPU. Rows made with different
            sizes may differ in the last bits.
        folder: the weights folder, see ``weights``.

    Attributes:
        name: name of the model, for the tables.
        weights_sha256: sha256 of the weights file.
        settings: device, dtype and batch size: what else decides a row's bits.
        placement: the same in parts.
        dim: width of a row.
        preprocess: from a PIL picture to the model's (3, h, w) tensor, as open_clip does it.

    Raises:
        WeightsNotFound: where the weights are neither here nor to be had; the message names the cure.
        WeightsMismatch: where they are not what they should be.
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
        dtype: str = "auto",
        batch_size: int | None = None,
        folder: str | Path | None = None,
    ) -> None:
        import torch

        self.placement = runtime.place(device, dtype, batch_size, ON_CPU, ON_GPU)
        self.settings = str(self.placement)
        root = weights.weights_folder(folder)
        if (local := _folder_of(name, root)) is not None:
            loaded = _load_folder(local, self.placement)
            self.name = "sample-clip" if name == weights.SAMPLE else local.name
            self.weights_sha256 = weights.sha256_of(local / _WEIGHTS)
        else:
            loaded, self.name, self.weights_sha256 = _load_architecture(
                name.replace("/", "-"), pretrained or DEFAULT_TAG, self.placement, root
            )
        model, self.preprocess, self._tokenizer = loaded
        self._threads = runtime.threads_for(model)
        self._models = pipeline.replicas(model.eval(), self.placement.devices)
        self._launcher = pipeline.Launcher(self.placement.devices)
        # open_clip's transform: steps on the picture, one that makes a tensor of it, one that normalises it.
        # The last two make a number of each of 256 levels in each channel, so that a table says what.
        *self._picture_steps, to_tensor, normalize = self.preprocess.transforms
        ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
        levels = normalize(to_tensor(Image.fromarray(ramp)))[:, 0]
        self._table = levels.numpy()
        self._levels = {device: levels.to(device) for device in self.placement.devices}
        self._dtype = getattr(torch, self.placement.dtype)
        self.dim = int(self.encode_texts([""]).shape[1])

    def encode_images(self, images: Iterable[Image.Image]) -> NDArray[np.float32]:
        """Embed pictures; any iterable, of which a few batches are held at a time.

        Returns:
            (n, dim) float32, each row of length 1; (0, dim) for no pictures.

        Raises:
            ValueError: where a picture is None.
        """
        return self._joined(self.stream(enumerate(images), pipeline.given_picture))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; what exceeds the model's context is cut.

        Returns:
            (n, dim) float32, each row of length 1; (0, dim) for no texts.
        """
        return self._joined(self.stream_texts(texts))

    def stream(
        self, items: Iterable[T], open_item: Callable[[T], Image.Image], meter: Meter | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Embed what ``open_item`` makes pictures of, a batch at a time, in order.

        Opening, resizing and the forward pass overlap: the first two are done in threads, ahead of the model.

        Args:
            items: such as places of pictures; taken as they are needed.
            open_item: opens one as a picture; called in threads.
            meter: counts pictures and seconds.

        Yields:
            (k, dim) float32, each row of length 1; k is the batch size, less in the last batch.
        """
        import torch

        def prepare(item: T) -> NDArray[Any]:
            pixels = self.pixels(open_item(item))
            return pixels if self.placement.on_gpu else self.normalized(pixels)

        def encode(x: torch.Tensor, device: str) -> torch.Tensor:
            if self.placement.on_gpu:  # which is sent the bytes: a quarter of what they are normalised to
                levels = self._levels[device]
                x = torch.stack([levels[c][x[..., c].long()] for c in range(3)], dim=1)
            return self._models[device].encode_image(x.to(self._dtype))

        return self._run(items, prepare, encode, runtime.workers(self.placement, self._threads), meter)

    def stream_texts(self, texts: Iterable[str], meter: Meter | None = None) -> Iterator[NDArray[np.float32]]:
        """Embed texts, a batch at a time, in order; see ``stream``."""

        def prepare(text: str) -> NDArray[np.int64]:
            return self._tokenizer([text])[0].numpy()

        def encode(tokens: torch.Tensor, device: str) -> torch.Tensor:
            return self._models[device].encode_text(tokens)

        # One thread: some tokenizers allow no more.
        return self._run(texts, prepare, encode, 1, meter)

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """The picture as the model sees it before it is normalised, (h, w, 3)."""
        image = image if image.mode == "RGB" else image.convert("RGB")
        for step in self._picture_steps:
            image = step(image)
        return np.asarray(image)

    def normalized(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels as the model takes them, (3, h, w) float32: bit for bit what ``preprocess`` makes."""
        return np.stack([level.take(pixels[..., c]) for c, level in enumerate(self._table)])

    def _run(
        self,
        items: Iterable[T],
        prepare: Callable[[T], NDArray[Any]],
        encode: Callable[[torch.Tensor, str], torch.Tensor],
        workers: int,
        meter: Meter | None,
    ) -> Iterator[NDArray[np.float32]]:
        import torch
        from torch.nn import functional

        meter = meter or Meter()
        meter.devices = len(self.placement.devices)
        size = self.placement.batch_size

        def launch(batch: list[NDArray[Any]]) -> Callable[[], NDArray[np.float32]]:
            rows = pipeline.padded(torch.from_numpy(np.stack(batch)), size)

            def compute(device: str) -> torch.Tensor:
                with runtime.exact(self._threads):
                    return functional.normalize(
                        encode(pipeline.to_device(rows, device), device).float(), dim=-1
                    )

            wait = self._launcher.launch(compute, meter)
            return lambda: wait()[: len(batch)].numpy()

        return pipeline.run(items, prepare, launch, size, workers, meter, self._launcher.in_flight)

    def _joined(self, batches: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        rows = list(batches)
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)


def published(architecture: str, tag: str) -> weights.Model | None:
    """The model that open_clip knows by this architecture and tag; None where it knows none.

    Raises:
        WeightsNotFound: it is published as a pickle only.
    """
    import open_clip

    config = open_clip.get_pretrained_cfg(architecture, tag)
    if not config:
        return None
    repository, _, file = str(config.get("hf_hub") or "").rpartition("/")
    file = file or _WEIGHTS
    for pickled in (".bin", ".pth"):
        file = file.removesuffix(pickled) + ".safetensors" if file.endswith(pickled) else file
    if not repository or not file.endswith(".safetensors"):
        raise weights.WeightsNotFound(
            f"CLIP {architecture}/{tag} is published as a pickle only, which could run code when it is read; "
            "convert it to safetensors and give the file's path"
        )
    return weights.Model(f"{architecture}/{tag}", "clip", file, repository=repository)


def _folder_of(name: str, root: Path) -> Path | None:
    """The local-dir folder that the name stands for, or None for an architecture."""
    if name == weights.SAMPLE:
        return weights.sample_weights("clip")
    name = name.removeprefix("local-dir:")
    found = weights.local(name, root)
    if found is not None and (found / _CONFIG).is_file():
        if not (found / _WEIGHTS).is_file():
            raise weights.WeightsNotFound(
                f"CLIP {found.name!r}: the folder has no weights; put {_WEIGHTS} into {found}"
            )
        return found
    if "/" in name and not is_architecture(name):
        raise weights.WeightsNotFound(
            f"CLIP {name!r}: no folder with {_CONFIG} there; put one with that file, {_WEIGHTS} and the "
            f"tokenizer there or into {root}, or choose the shipped model, {weights.SAMPLE!r}"
        )
    return None


def is_architecture(name: str) -> bool:
    """Say whether open_clip knows an architecture of that name."""
    import open_clip

    return name.replace("/", "-") in open_clip.list_models()


def _load_folder(folder: Path, place: runtime.Placement) -> tuple[Any, Any, Any]:
    import open_clip

    spec = f"local-dir:{folder}"
    with runtime.quiet():
        model, _, preprocess = open_clip.create_model_and_transforms(
            spec, device=place.devices[0], precision=_PRECISION[place.dtype]
        )
        return model, preprocess, open_clip.get_tokenizer(spec)


def _load_architecture(
    name: str, pretrained: str, place: runtime.Placement, root: Path
) -> tuple[tuple[Any, Any, Any], str, str]:
    """Build one of open_clip's architectures with the weights of a tag or a file."""
    import open_clip

    if not is_architecture(name):
        raise ValueError(
            f"CLIP {name!r} is neither {weights.SAMPLE!r}, nor a folder with {_CONFIG}, nor an architecture "
            f"of open_clip; open_clip.list_models() lists those, e.g. {DEFAULT!r}"
        )
    if (model := published(name, pretrained)) is not None:
        found, label = weights.obtain(model, root), model.name
    else:
        found, label = _given_file(name, pretrained, root)
    config = open_clip.get_pretrained_cfg(name, pretrained)
    with runtime.quiet():
        built, _, preprocess = open_clip.create_model_and_transforms(
            name,
            pretrained=str(found.file),
            device=place.devices[0],
            precision=_PRECISION[place.dtype],
            # open_clip only warns where a tag's activation is not the architecture's, and its embeddings are
            # wrong then: OpenAI's own weights need QuickGELU, which the plain names do not switch on.
            force_quick_gelu=bool(config.get("quick_gelu")),
            # A file brings no preprocessing with it, so the tag's own is handed over.
            image_mean=config.get("mean"),
            image_std=config.get("std"),
            image_interpolation=config.get("interpolation"),
            image_resize_mode=config.get("resize_mode"),
        )
        return (built, preprocess, open_clip.get_tokenizer(name)), label, found.sha256


def _given_file(name: str, pretrained: str, root: Path) -> tuple[weights.Found, str]:
    """A weights file that the caller names, and the model's name for the tables."""
    import open_clip

    file = weights.local(pretrained, root)
    if file is None or not file.is_file():
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise weights.WeightsNotFound(
            f"CLIP {name}/{pretrained}: {pretrained!r} is neither a tag of {name} "
            f"({', '.join(tags) or 'it has none'}) nor a weights file on this machine"
        )
    if file.suffix != ".safetensors":
        raise weights.WeightsNotFound(
            f"CLIP {name}: {file} is a pickle, which could run code when read; give a safetensors file, "
            f"or the tag of the published weights instead (`twigma models` says which are here)"
        )
    if open_clip.get_pretrained_cfg(name, DEFAULT_TAG).get("quick_gelu"):
        _log.warning("%s is taken for weights of plain %s; OpenAI's own need %s-quickgelu", file, name, name)
    return weights.Found(file, weights.sha256_of(file)), f"{name}/{file.name}"
