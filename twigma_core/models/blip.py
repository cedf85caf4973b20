"""BLIP: a caption for each picture (paper, section 5: captions of the pictures).

What belongs here: loading a captioner and running it. What does not: what is done with captions
(``twigma_core.analysis.themes``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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

DEFAULT = "Salesforce/blip-image-captioning-large"
ON_CPU, ON_GPU = 32, 128
"""Pictures of a batch."""

_WEIGHTS = "model.safetensors"


class Captioner:
    """A BLIP that captions pictures: greedy, so the same picture always has the same caption.

    Every batch has the same shape, as for ``ClipEncoder``.

    Args:
        name: ``sample`` (the small model that ships with the project), a folder that ``save_pretrained``
            wrote, or a name on the model hub.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: float16 on a GPU, float32 on a CPU.
        batch_size: pictures at a time; None is 16 on a CPU, 128 on a GPU.
        max_new_tokens: the longest caption, in tokens.
        revision: of a hub name.
        folder: the weights folder, see ``weights``.

    Attributes:
        name: name of the model, for the tables.
        weights_sha256: sha256 of the weights file.
        settings: device, dtype, batch size and longest caption: what else decides a caption.
        placement: the first three in parts.

    Raises:
        WeightsNotFound: where the weights are neither here nor to be had; the message names the cure.
        WeightsMismatch: where they are not what they should be.
    """

    def __init__(
        self,
        name: str = DEFAULT,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | None = None,
        max_new_tokens: int = 40,
        revision: str | None = None,
        folder: str | Path | None = None,
    ) -> None:
        import torch

        self.placement = runtime.place(device, dtype, batch_size, ON_CPU, ON_GPU)
        self.settings = f"{self.placement}, {max_new_tokens} tokens"
        self.max_new_tokens = max_new_tokens
        home, self.name, self.weights_sha256 = _folder_of(name, revision, weights.weights_folder(folder))
        self._dtype = getattr(torch, self.placement.dtype)
        with runtime.quiet():
            from transformers import BlipForConditionalGeneration, BlipProcessor

            # Pillow resizes as the authors' code did; torchvision's own resizing is up to 1/255 off.
            self._processor: Any = BlipProcessor.from_pretrained(home, backend="pil")
            model: Any = BlipForConditionalGeneration.from_pretrained(
                home, dtype=self._dtype, use_safetensors=True
            )
        self._threads = runtime.threads_for(model)
        self._models = pipeline.replicas(model.eval(), self.placement.devices)
        self._launcher = pipeline.Launcher(self.placement.devices)

    def caption(self, images: Iterable[Image.Image]) -> list[str]:
        """Caption pictures; any iterable, of which a few batches are held at a time.

        Returns:
            One caption a picture, in order.

        Raises:
            ValueError: where a picture is None.
        """
        batches = self.stream(enumerate(images), pipeline.given_picture)
        return [caption for batch in batches for caption in batch]

    def stream(
        self, items: Iterable[T], open_item: Callable[[T], Image.Image], meter: Meter | None = None
    ) -> Iterator[list[str]]:
        """Caption what ``open_item`` makes pictures of, a batch at a time, in order.

        Args:
            items: such as places of pictures; taken as they are needed.
            open_item: opens one as a picture; called in threads, ahead of the model.
            meter: counts pictures and seconds.
        """
        import torch

        meter = meter or Meter()
        meter.devices = len(self.placement.devices)
        size = self.placement.batch_size

        def prepare(item: T) -> NDArray[np.float32]:
            picture = open_item(item).convert("RGB")
            return self._processor.image_processor(images=picture, return_tensors="np")["pixel_values"][0]

        def launch(batch: list[NDArray[np.float32]]) -> Callable[[], list[str]]:
            pixels = pipeline.padded(torch.from_numpy(np.stack(batch)), size)

            def compute(device: str) -> torch.Tensor:
                with runtime.exact(self._threads):
                    return self._models[device].generate(
                        pixel_values=pipeline.to_device(pixels, device).to(self._dtype),
                        max_new_tokens=self.max_new_tokens,
                        num_beams=1,
                        do_sample=False,
                    )

            wait = self._launcher.launch(compute, meter)
            return lambda: self._words(wait()[: len(batch)])

        threads = runtime.workers(self.placement, self._threads)
        return pipeline.run(items, prepare, launch, size, threads, meter, self._launcher.in_flight)

    def _words(self, tokens: torch.Tensor) -> list[str]:
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]


def published(name: str, revision: str | None = None) -> weights.Model:
    """The model of a hub name."""
    return weights.Model(
        f"{name}@{revision}" if revision else name,
        "blip",
        _WEIGHTS,
        others=("config.json", "preprocessor_config.json", "tokenizer.json"),
        optional=("tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "generation_config.json"),
        repository=name,
        revision=revision,
    )


def _folder_of(name: str, revision: str | None, root: Path) -> tuple[Path, str, str]:
    """The folder with the model's files, the model's name for the tables, and its weights' sha256."""
    local = weights.sample_weights("blip") if name == weights.SAMPLE else weights.local(name, root)
    if local is None or local == root / published(name, revision).place:
        model = published(name, revision)
        found = weights.obtain(model, root)
        return found.folder, model.name, found.sha256
    if not (local / _WEIGHTS).is_file():
        raise weights.WeightsNotFound(
            f"BLIP {local.name!r}: {local} holds no {_WEIGHTS}; give a folder that save_pretrained wrote"
        )
    label = "sample-blip" if name == weights.SAMPLE else local.name
    return local, label, weights.sha256_of(local / _WEIGHTS)
