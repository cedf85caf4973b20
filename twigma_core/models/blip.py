"""BLIP: a caption for each picture (paper, section 5: captions of the pictures).

What belongs here: loading a captioner and running it. What does not: what is done with captions
(``twigma_core.analysis.themes``).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from twigma_core.models import runtime, weights

DEFAULT = "Salesforce/blip-image-captioning-large"
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_FOLDER = "its folder (config.json, model.safetensors, tokenizer and preprocessor files)"


class Captioner:
    """A BLIP that captions pictures: greedy, so the same picture always has the same caption.

    Every batch has the same shape, as for ``ClipEncoder``.

    Args:
        name: ``sample`` (the small model that ships with the project), a folder that ``save_pretrained``
            wrote, or a name on the model hub.
        device: ``auto``, ``cpu``, ``cuda``, ...
        batch_size: pictures at a time.
        max_new_tokens: the longest caption, in tokens.
        revision: of a hub name.

    Attributes:
        name: name of the model, for the tables.
        weights_sha256: sha256 of the weights file.
        device: where it runs.
        batch_size: pictures of every batch.

    Raises:
        WeightsNotFound: where the weights are neither here nor to be had; the message names the cure.
    """

    def __init__(
        self,
        name: str = DEFAULT,
        device: str = "auto",
        batch_size: int = 64,
        max_new_tokens: int = 40,
        revision: str | None = None,
    ) -> None:
        import torch

        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
        self.device = runtime.choose_device(device)
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        with runtime.quiet():
            from transformers import BlipForConditionalGeneration, BlipProcessor

            folder, self.name = _folder_of(name, revision)
            self.weights_sha256 = weights.sha256_of(_weights_in(folder))
            self._processor: Any = BlipProcessor.from_pretrained(folder)
            model: Any = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self._model = model.to(self.device).eval()
        self._threads = runtime.threads_for(model)

    def caption(self, images: Iterable[Image.Image]) -> list[str]:
        """Caption pictures; any iterable, of which one batch is held at a time.

        Returns:
            One caption a picture, in order.

        Raises:
            ValueError: where a picture is None.
        """
        captions: list[str] = []
        for batch in runtime.in_batches(enumerate(images), self.batch_size):
            pictures = [runtime.checked_picture(image, k) for k, image in batch]
            with runtime.exact(self._threads):
                pixels = self._processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
                tokens = self._model.generate(
                    pixel_values=runtime.padded(pixels, self.batch_size).to(self.device),
                    max_new_tokens=self.max_new_tokens,
                    num_beams=1,
                    do_sample=False,
                )
            words = self._processor.batch_decode(tokens[: len(batch)], skip_special_tokens=True)
            captions.extend(text.strip() for text in words)
        return captions


def _folder_of(name: str, revision: str | None) -> tuple[Path, str]:
    """The folder with the model's files, and the model's name for the tables."""
    if name == weights.SAMPLE:
        return weights.sample_weights("blip"), "sample-blip"
    if (found := weights.local_weights(name)) is not None:
        return found, found.name
    from huggingface_hub import snapshot_download

    try:
        # One format of the weights only: the repositories hold the same numbers several times over.
        path = snapshot_download(
            name, revision=revision, allow_patterns=["*.json", "*.txt", "model*.safetensors"]
        )
        if not any((Path(path) / file).is_file() for file in _WEIGHT_FILES):
            path = snapshot_download(
                name, revision=revision, allow_patterns=["*.json", "*.txt", "pytorch_model.bin"]
            )
    except Exception as error:
        raise weights.WeightsNotFound(
            f"BLIP {name!r}: its weights are not on this machine and the hub did not give them "
            f"({type(error).__name__}); " + weights.cure(name, _FOLDER)
        ) from error
    return Path(path), f"{name}@{revision}" if revision else name


def _weights_in(folder: Path) -> Path:
    for file in _WEIGHT_FILES:
        if (folder / file).is_file():
            return folder / file
    raise weights.WeightsNotFound(
        f"BLIP {folder.name!r}: {folder} holds none of {', '.join(_WEIGHT_FILES)}; it must be a folder that "
        "save_pretrained wrote"
    )
