"""Where and how the models run: device, precision, threads, quiet libraries.

What belongs here: what every model shares at run time. What does not: feeding them (``pipeline``), finding
weights (``weights``) and the models themselves (``clip``, ``blip``, ``nsfw``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch


Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs, and all that decides the last bits of what it makes.

    Attributes:
        devices: torch's names of them, ``cpu`` or ``cuda:0``, ``cuda:1``, ...; batches go to them in turn.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        batch_size: rows of every batch.
    """

    devices: tuple[str, ...]
    dtype: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.devices[0].partition(':')[0]} {self.dtype} batch {self.batch_size}"

    @property
    def on_gpu(self) -> bool:
        """Whether the devices are GPUs."""
        return self.devices[0].startswith("cuda")

    @property
    def name(self) -> str:
        """The devices' own name, for logs and figures."""
        times = f"{len(self.devices)} x " if len(self.devices) > 1 else ""
        return times + device_name(self.devices[0])


def place(device: str, dtype: str, batch_size: int | None, on_cpu: int, on_gpu: int) -> Placement:
    """Choose where and how a model runs: the one place where that is decided.

    Args:
        device: see ``choose_devices``.
        dtype: ``auto`` is float16 on a GPU (which OpenAI's CLIP was released in, and nearer to float32 than
            bfloat16 at the same speed) and float32 on a CPU.
        batch_size: rows of every batch; None is the model's default for the device.
        on_cpu: that default on a CPU.
        on_gpu: and on a GPU.

    Raises:
        RuntimeError: where a GPU is asked for and torch sees none.
        ValueError: for an unknown dtype or a batch size below 1.
    """
    devices = choose_devices(device)
    gpu = devices[0].startswith("cuda")
    size = (on_gpu if gpu else on_cpu) if batch_size is None else batch_size
    if size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype is {dtype!r}: choose one of {', '.join(get_args(Dtype))}")
    return Placement(devices, ("float16" if gpu else "float32") if dtype == "auto" else dtype, size)


def choose_devices(device: str = "auto") -> tuple[str, ...]:
    """The torch devices to run on.

    Args:
        device: ``auto`` is every GPU that this process may see, or else the CPU; ``cuda`` is every GPU; else
            names with commas between them, such as ``cpu`` or ``cuda:0,cuda:1``.

    Raises:
        RuntimeError: where a GPU is asked for and torch sees none.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if "cuda" in device and not gpus:
        raise RuntimeError(f"device {device!r}: torch sees no GPU here; choose device='cpu' or 'auto'")
    if device in ("auto", "cuda"):
        return tuple(f"cuda:{number}" for number in range(gpus)) or ("cpu",)
    return tuple(device.split(","))


def device_name(device: str) -> str:
    """A device's own name, such as "NVIDIA H100 80GB HBM3" or the processor's model."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {cores()} cores"


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


SMALL = 20_000_000
"""Parameters below which a model runs on one thread of the CPU."""


def threads_for(model: torch.nn.Module) -> int | None:
    """The CPU threads to run a model on; None leaves it to torch.

    A small model gains next to nothing from a second thread, and loses nine tenths of its speed where another
    process wants the cores too, since the threads then wait for each other at every layer. And with one
    thread its last bits are the same on any number of cores.
    """
    return 1 if sum(p.numel() for p in model.parameters()) < SMALL else None


def workers(placement: Placement, threads: int | None) -> int:
    """The threads that prepare pictures: all cores beside a GPU, else those that the model leaves.

    A model that takes every core of a CPU needs a hundred times as long for a picture as preparing it does.
    """
    if placement.on_gpu:
        return cores()
    return max(1, cores() - (threads or cores()))


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
