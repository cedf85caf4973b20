"""Keeping a model busy: while a batch runs, threads open and resize the pictures of the next ones.

What belongs here: preparing ahead, running batches of one shape, and measuring both. What does not: how a
picture is prepared or a batch computed (``clip``, ``blip``).
"""

from __future__ import annotations

import copy
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from PIL import Image

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")


TOGETHER = 8
"""Items that a thread prepares in one go: handing over each alone would cost a small model a twentieth."""


@dataclass
class Meter:
    """What a model did, and how well it was kept busy.

    Attributes:
        rows: pictures or texts that went through it.
        batches: forward passes.
        seconds: from the first item to the last result.
        device_seconds: spent in forward passes, summed over the devices.
        devices: how many there are.
    """

    rows: int = 0
    batches: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    devices: int = 1

    @property
    def per_second(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def busy(self) -> float:
        """Share of the time in which a forward pass ran, 0 to 1."""
        return min(self.device_seconds / self.seconds / self.devices, 1.0) if self.seconds else 0.0


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


def replicas(model: Any, devices: tuple[str, ...]) -> dict[str, Any]:
    """The model on each of the devices."""
    return {
        device: (copy.deepcopy(model) if number else model).to(device)
        for number, device in enumerate(devices)
    }


def to_device(rows: torch.Tensor, device: str) -> torch.Tensor:
    """The rows on the device; the copy to a GPU does not hold up the caller."""
    return rows.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else rows.to(device)


def given_picture(numbered: tuple[int, Image.Image | None]) -> Image.Image:
    """The picture of a (position, picture) pair.

    Raises:
        ValueError: where there is none, naming its position.
    """
    position, image = numbered
    if image is None:
        raise ValueError(
            f"picture {position} is None: leave out pictures that could not be decoded, so that rows and "
            "pictures stay in step"
        )
    return image


def ahead(
    items: Iterable[S], prepare: Callable[[S], R], depth: int, workers: int
) -> Generator[R, None, None]:
    """Yield ``prepare(item)`` in the items' order, computed in threads up to ``depth`` items ahead.

    An error of ``prepare`` is raised where its item would have come. Items are taken by the caller's thread.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="prepare") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(prepare, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def run(
    items: Iterable[S],
    prepare: Callable[[S], R],
    launch: Callable[[list[R]], Callable[[], T]],
    batch_size: int,
    workers: int,
    meter: Meter,
    in_flight: int = 0,
) -> Iterator[T]:
    """Yield the result of each batch of items, in order; prepared in threads, two batches ahead a device.

    Args:
        items: what to run.
        prepare: makes an item ready; called in threads.
        launch: starts a batch and returns what waits for its result.
        batch_size: items of a batch; the last may be shorter.
        workers: threads that prepare.
        meter: counts rows, batches and seconds.
        in_flight: batches that are launched before the result of the one before them is waited for; one a
            GPU, so that each goes from one batch to the next without a pause.
    """
    begun, before = time.perf_counter(), meter.seconds
    running: deque[Callable[[], T]] = deque()
    some = ahead(
        in_batches(items, TOGETHER),
        lambda few: [prepare(item) for item in few],
        2 * batch_size * meter.devices // TOGETHER + 1,
        workers,
    )
    for batch in in_batches(chain.from_iterable(some), batch_size):
        running.append(launch(batch))
        meter.rows += len(batch)
        meter.batches += 1
        if len(running) > in_flight:
            yield running.popleft()()
        meter.seconds = before + time.perf_counter() - begun
    while running:
        yield running.popleft()()
    meter.seconds = before + time.perf_counter() - begun


class Launcher:
    """Starts batches on devices in turn.

    On a CPU a batch has run when it is launched. A GPU has a thread of its own, which queues a batch there
    and comes back, or waits with it where the model looks at what it has made so far, as BLIP does.

    Args:
        devices: torch's names of them.
    """

    def __init__(self, devices: tuple[str, ...]) -> None:
        self._turns = itertools.cycle(devices)
        self._threads = {
            device: ThreadPoolExecutor(1, thread_name_prefix=device)
            for device in devices
            if device.startswith("cuda")
        }

    @property
    def in_flight(self) -> int:
        """Batches to launch before a result is waited for, see `run`."""
        return len(self._threads)

    def launch(self, compute: Callable[[str], torch.Tensor], meter: Meter) -> Callable[[], torch.Tensor]:
        """Start ``compute`` on the next device, which it is told; return what waits for its result.

        The result is on the CPU then.
        """
        device = next(self._turns)
        if device not in self._threads:
            begun = time.perf_counter()
            result = compute(device)
            meter.device_seconds += time.perf_counter() - begun
            return lambda: result
        queued = self._threads[device].submit(_queue, compute, device)

        def wait() -> torch.Tensor:
            start, end, here = queued.result()
            end.synchronize()
            meter.device_seconds += start.elapsed_time(end) / 1000
            return here

        return wait


def _queue(compute: Callable[[str], torch.Tensor], device: str) -> tuple[Any, Any, torch.Tensor]:
    """Queue a batch on a GPU and the copy of its result to the CPU; return its begin, its end, and that."""
    import torch

    with torch.cuda.device(device):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        there = compute(device)
        here = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
        here.copy_(there, non_blocking=True)
        end.record()
    return start, end, here
