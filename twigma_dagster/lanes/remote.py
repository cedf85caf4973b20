"""Steps outside of this machine: what Ray and Kubernetes lack of a safe lane, around their own step handlers.

- The handler is made at the first step that needs it: a cluster that is absent fails that step, not the run.
- A cluster that does not answer for a while is lost, and its steps fail: their handlers would wait for ever.
- A step that nobody starts within the limit (no such GPU, none free) is stopped and fails with the reason.
- The run leaves a sign of life; a step whose run has ended, or leaves none, ends itself (`watch`): no orphan
  keeps a GPU, whatever became of the run's process.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX

from twigma_dagster.lanes.local import step_of
from twigma_dagster.settings import secrets

SIGN_OF_LIFE = f"{HIDDEN_TAG_PREFIX}twigma-alive"
LOOK_S = 5.0
"""Seconds between two looks of a remote step at its run."""
SILENCE_S = 30.0
"""Seconds without a new sign of life after which a remote step ends itself."""
REQUEST_S = 5.0
"""Seconds that a cluster gets to answer a request; its clients set no limit of their own."""
LOST_S = 15.0
"""Seconds without an answer after which a cluster counts as lost."""
UNREPORTED_S = 15.0
"""Seconds that the event of a step whose job has ended may take to arrive."""
PASSED_ON = ("TWIGMA_", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "HF_")
"""Variables of the run that its steps get too, by the beginning of their names."""


def passed_on() -> list[str]:
    """Return the names of the variables that the steps of this run get of it: settings, and no secret.

    Secrets are set where the steps run: a job's description is shown to all who may look at the cluster.
    """
    hidden = {*secrets(), "HF_TOKEN"}
    return sorted(name for name in os.environ if name.startswith(PASSED_ON) and name not in hidden)


class RemoteHandler(StepHandler):
    """A guarded step handler of a lane outside of this machine.

    Args:
        where: the cluster, as errors name it.
        make: makes the lane's own step handler; called at the first step.
        refuse: called with the handler before a step is launched; returns why it can never run, or None.
        wait_s: seconds within which a launched step must start.
    """

    def __init__(
        self,
        where: str,
        make: Callable[[], StepHandler],
        refuse: Callable[[StepHandler], str | None],
        wait_s: float,
    ) -> None:
        self._where, self._make, self._refuse, self._wait_s = where, make, refuse, wait_s
        self._inner: StepHandler | None = None
        self._launched: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._started: set[str] = set()

    @property
    def name(self) -> str:
        """Name in the event log."""
        return self._inner.name if self._inner else "remote"

    def launch_step(self, context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Launch a step; what goes wrong becomes the step's failure at its next health check."""
        step = step_of(context)
        self._failed.pop(step, None)
        self._started.discard(step)
        self._launched[step] = self._answered[step] = time.monotonic()
        _give_sign(context)
        try:
            self._inner = self._inner or self._make()
            if why := self._refuse(self._inner):
                self._failed[step] = why
                return
            yield from self._inner.launch_step(_with_watch(context))
        except Exception as error:
            self._failed[step] = f"could not be launched on {self._where}: {type(error).__name__}: {error}"

    def check_step_health(self, context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether the lane still works on the step."""
        step = step_of(context)
        _give_sign(context)
        if why := self._failed.get(step):
            return CheckStepHealthResult.unhealthy(f"{step}: {why}")
        if not self._has_started(context, step):
            waited = time.monotonic() - self._launched.setdefault(step, time.monotonic())
            if waited > self._wait_s:
                list(self.terminate_step(context))
                return CheckStepHealthResult.unhealthy(
                    f"{step}: not started within {waited / 60:.0f} minutes: no GPU was free; "
                    "add one, or raise TWIGMA_GPU_WAIT_MINUTES"
                )
        now = time.monotonic()
        try:
            self._inner = self._inner or self._make()
            health = self._inner.check_step_health(context)
        except Exception as error:
            silent = now - self._answered.setdefault(step, now)
            if silent < LOST_S:
                return CheckStepHealthResult.healthy()
            return CheckStepHealthResult.unhealthy(
                f"{step}: {self._where} does not know it or does not answer since {silent:.0f} s: "
                f"{type(error).__name__}: {str(error)[:300]}"
            )
        self._answered[step] = now
        return health

    def _has_started(self, context: StepHandlerContext, step: str) -> bool:
        if step not in self._started:
            found = context.instance.get_records_for_run(
                context.execute_step_args.run_id, of_type=DagsterEventType.STEP_START
            )
            self._started |= {
                record.event_log_entry.step_key for record in found.records if record.event_log_entry.step_key
            }
        return step in self._started

    def terminate_step(self, context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Stop the step; one that the lane cannot stop says so."""
        step = step_of(context)
        if self._inner is None or step in self._failed:
            return
        try:
            yield from self._inner.terminate_step(context)
        except Exception as error:
            yield DagsterEvent.engine_event(
                context.get_step_context(step),
                message=f"{step} could not be stopped where it runs: {error}; it ends itself within a minute",
                event_specific_data=EngineEventData(),
            )

    def close(self) -> None:
        """The run is over: what still works for it sees that by itself."""


def _give_sign(context: StepHandlerContext) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    context.instance.add_run_tags(context.execute_step_args.run_id, {SIGN_OF_LIFE: now})


def _with_watch(context: StepHandlerContext) -> StepHandlerContext:
    """Return the context with this module as the step's entry point in place of Dagster's own."""
    arguments = context.execute_step_args
    origin = arguments.job_origin
    python = origin.repository_origin.executable_path
    watched = origin.repository_origin._replace(entry_point=[python, "-m", __name__])
    step = step_of(context)
    inner = StepHandlerContext(
        context.instance,
        context._plan_context,
        [context._steps_by_key[step]],
        dg._record.replace(arguments, job_origin=origin._replace(repository_origin=watched)),
        context.dagster_run,
    )
    return inner


def watch(instance: dg.DagsterInstance, run_id: str) -> None:
    """End this process once its run has ended or has given no sign of life for too long."""
    last, since = "", time.monotonic()
    while True:
        time.sleep(LOOK_S)
        try:
            run = instance.get_run_by_id(run_id)
        except Exception as error:  # a database that is away for a moment is no reason to end
            print(f"the run could not be looked up: {error}", file=sys.stderr)  # noqa: T201
            continue
        sign = run.tags.get(SIGN_OF_LIFE, "") if run else ""
        if sign != last:
            last, since = sign, time.monotonic()
        silent = time.monotonic() - since
        if run is None or run.is_finished or silent > SILENCE_S:
            why = f"gave no sign of life for {silent:.0f} s" if run and not run.is_finished else "has ended"
            print(f"run {run_id} {why}: this step ends", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)


def main() -> None:
    """Execute a step as Dagster's own command does, watched."""
    import base64
    import zlib

    from dagster._cli import main as dagster_main
    from dagster._grpc.types import ExecuteStepArgs
    from dagster._serdes import deserialize_value

    packed = os.environ["DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS"]
    arguments = deserialize_value(zlib.decompress(base64.b64decode(packed)).decode(), ExecuteStepArgs)
    assert arguments.instance_ref
    instance = dg.DagsterInstance.from_ref(arguments.instance_ref)
    threading.Thread(target=watch, args=(instance, arguments.run_id), daemon=True).start()
    dagster_main()


if __name__ == "__main__":
    main()
