"""Steps in worker processes of this machine that live as long as their run.

A worker executes one step after the other, so models that one step loaded are there for the next. A worker
that dies fails its step and is replaced; one whose run's process has gone ends itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from dagster._core.events import DagsterEvent
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext
from dagster._serdes import serialize_value

PATIENCE_S = 5.0
"""Seconds that a worker gets to end its step when it is told to, before it is killed."""
_SPAWN = multiprocessing.get_context("spawn")  # forking a process that has run torch's threads is unsafe


def step_of(context: StepHandlerContext) -> str:
    """Return the key of the step that a context is about."""
    keys = context.execute_step_args.step_keys_to_execute
    assert keys
    return keys[0]


def work(steps: Connection, parent: int) -> None:
    """Execute the steps that come through `steps`; answer each with an error or None."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    from dagster._cli.api import execute_step_command

    while True:
        try:
            arguments = steps.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            execute_step_command.main([arguments], standalone_mode=False)
            steps.send(None)
        except BaseException as error:
            # Dagster has reported what the step itself raised; this is what kept it from starting or ending.
            steps.send("".join(traceback.format_exception(error))[-3000:])
            if not isinstance(error, Exception):
                return


def _end_with(parent: int) -> None:
    """End this process once its parent is gone: also in the middle of a step, and after kill -9."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class Worker:
    """A process that executes steps one after the other."""

    def __init__(self) -> None:
        self.steps, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=work, args=(theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.step: str | None = None
        self.fault: str | None = None

    def start(self, step: str, arguments: str) -> None:
        """Begin a step; `arguments` are Dagster's, serialized."""
        self.step, self.fault = step, None
        with suppress(OSError):  # it died just now: whoever asks for its health sees that
            self.steps.send(arguments)

    def look(self) -> None:
        """Take note of a step that has ended."""
        try:
            while self.steps.poll():
                self.fault, self.step = self.steps.recv(), None
        except (EOFError, OSError):
            pass  # the process is dead; whoever asks for its health sees that

    def end(self) -> None:
        """Stop the process, in the middle of a step too."""
        self.look()
        self.steps.close()  # an idle worker ends at that
        if self.step:
            self.process.terminate()
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class LocalHandler(StepHandler):
    """Starts each step in a free worker of its lane.

    Args:
        slots: workers of this lane, at most; the executor starts no more steps at once.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._workers: list[Worker] = []
        self._doing: dict[str, Worker] = {}

    @property
    def name(self) -> str:
        """Name in the event log."""
        return "local"

    def launch_step(self, context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Give the step to a worker."""
        step = step_of(context)
        worker = self._free()
        self._doing[step] = worker
        yield DagsterEvent.step_worker_starting(
            context.get_step_context(step),
            message=f"Executing step {step} in process {worker.process.pid}.",
            metadata={"pid": worker.process.pid or 0},
        )
        worker.start(step, serialize_value(context.execute_step_args))

    def _free(self) -> Worker:
        """Return an idle worker, a new one where there is none."""
        self._workers = [worker for worker in self._workers if worker.process.is_alive()]
        if len(self._workers) >= self._slots and not self._idle():
            # A step's end is in the log a moment before its worker is back; a second worker would load the
            # models a second time.
            wait([worker.steps for worker in self._workers], PATIENCE_S)
        if idle := self._idle():
            return idle[0]
        self._workers.append(Worker())
        return self._workers[-1]

    def _idle(self) -> list[Worker]:
        for worker in self._workers:
            worker.look()
        return [worker for worker in self._workers if worker.step is None and worker.process.is_alive()]

    def check_step_health(self, context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether the step's worker lives and has not given up."""
        step = step_of(context)
        worker = self._doing.get(step)
        if worker is None:
            return CheckStepHealthResult.unhealthy(f"{step} was started by a process that is gone")
        worker.look()
        if worker.fault:
            return CheckStepHealthResult.unhealthy(f"{step} did not run to its end: {worker.fault}")
        if worker.step == step and not worker.process.is_alive():
            code = worker.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return CheckStepHealthResult.unhealthy(f"the process of {step} died ({how})")
        return CheckStepHealthResult.healthy()

    def terminate_step(self, context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Stop the step's worker."""
        worker = self._doing.get(step_of(context))
        if worker:
            worker.end()
        return iter(())

    def close(self) -> None:
        """End all workers: the run is over."""
        for worker in self._workers:
            worker.end()
