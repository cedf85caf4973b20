"""Where and how the models run: the device, batches of one fixed shape, quiet libraries.

What belongs here: what every model shares at run time. What does not: finding weights (``weights``) and the
models themselves (``clip``, ``blip``, ``nsfw``).
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from PIL import Image

T = TypeVar("T")


def choose_device(device: str = "auto") -> str:
    """The torch device to run on: ``auto`` is the GPU where there is one, else the CPU.

    Raises:
        RuntimeError: where a GPU is asked for and torch sees none.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError(f"device {device!r}: torch sees no GPU here; choose device='cpu' or 'auto'")
    return device


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of ``size``; the last may be shorter. Holds one batch at a time."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def padded(rows: torch.Tensor, size: int) -> torch.Tensor:
    """The rows followed by zeros up to ``size`` rows.

    Matrix kernels choose their blocking by the shape, so a row's last bits depend on how many rows stand
    beside it. With one shape for every batch they do not, and equal pictures have equal embeddings.
    """
    import torch

    missing = size - rows.shape[0]
    return rows if missing == 0 else torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))])


def checked_picture(image: Image.Image | None, position: int) -> Image.Image:
    """The picture as RGB.

    Raises:
        ValueError: where there is none, naming its position.
    """
    if image is None:
        raise ValueError(
            f"picture {position} is None: leave out pictures that could not be decoded, so that rows and "
            "pictures stay in step"
        )
    return image if image.mode == "RGB" else image.convert("RGB")


SMALL = 20_000_000
"""Parameters below which a model runs on one thread of the CPU."""


def threads_for(model: torch.nn.Module) -> int | None:
    """The CPU threads to run a model on; None leaves it to torch.

    A small model gains next to nothing from a second thread, and loses nine tenths of its speed where another
    process wants the cores too, since the threads then wait for each other at every layer. And with one
    thread its last bits are the same on any number of cores.
    """
    return 1 if sum(p.numel() for p in model.parameters()) < SMALL else None


@contextlib.contextmanager
def exact(threads: int | None = None) -> Iterator[None]:
    """Inference without gradients and without TF32, which would round float32 convolutions on a GPU.

    Args:
        threads: of the CPU, while it lasts; torch's own number where None.
    """
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        # cudnn allows TF32 by default although matrix products do not.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars, notes and warnings that the model libraries print while they load."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    before = logging.root.manager.disable
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
