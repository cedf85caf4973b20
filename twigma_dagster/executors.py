"""Which lane each step of a run takes.

Dagster knows one executor a run. Ours routes by the step's tag: steps tagged `twigma/compute: gpu` take the
GPU lane, all others the CPU lane of this machine. The settings say what the GPU lane is; no asset knows.
"""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)

from twigma_dagster.declare import COMPUTE, CPU, DOWNLOAD_POOL, GPU, GPU_POOL, RELEASE_POOL, X_POOL
from twigma_dagster.lanes.local import LocalHandler, step_of
from twigma_dagster.lanes.remote import RemoteHandler
from twigma_dagster.settings import Settings, SettingsError

POLL_S = 0.2
"""Seconds between two looks at the event log; Dagster's own second adds up over many small steps."""
HEALTH_S = 3
"""Seconds between two looks at the health of the running steps."""


class Router(StepHandler):
    """Hands each step to the lane that its tag names."""

    name = "lanes"

    def __init__(self, lanes: dict[str, LocalHandler | RemoteHandler]) -> None:
        self._lanes = lanes

    def _lane(self, context: StepHandlerContext) -> StepHandler:
        return self._lanes[context.step_tags[step_of(context)].get(COMPUTE, CPU)]

    def launch_step(self, context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Start the step in its lane."""
        return self._lane(context).launch_step(context)

    def check_step_health(self, context: StepHandlerContext) -> CheckStepHealthResult:
        """Ask the step's lane."""
        return self._lane(context).check_step_health(context)

    def terminate_step(self, context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Stop the step in its lane."""
        return self._lane(context).terminate_step(context)

    def close(self) -> None:
        """The run is over."""
        for lane in self._lanes.values():
            lane.close()


class LaneExecutor(StepDelegatingExecutor):
    """Dagster's executor of delegated steps over our lanes, which end with the run."""

    def __init__(self, router: Router, slots: dict[str, int]) -> None:
        self._router = router
        super().__init__(
            router,
            retries=RetryMode.ENABLED,
            sleep_seconds=POLL_S,
            check_step_health_interval_seconds=HEALTH_S,
            max_concurrent=sum(slots.values()),
            tag_concurrency_limits=[
                {"key": COMPUTE, "value": lane, "limit": limit} for lane, limit in slots.items()
            ],
        )

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        """Execute the plan; yield its events."""
        try:
            yield from super().execute(plan_context, execution_plan)
        finally:
            self._router.close()
            # Steps that were terminated say nothing; without this their slots stay taken for minutes.
            plan_context.instance.event_log_storage.free_concurrency_slots_for_run(plan_context.run_id)


def gpu_lane(settings: Settings) -> LocalHandler | RemoteHandler:
    """Return the GPU lane that the settings ask for.

    Raises:
        SettingsError: the lane lacks a setting.
    """
    wait_s = 60.0 * settings.gpu_wait_minutes
    if settings.gpu_lane == "ray":
        if not settings.ray_address:
            raise SettingsError("TWIGMA_GPU_LANE=ray needs TWIGMA_RAY_ADDRESS, such as http://ray:8265")

        def ray() -> StepHandler:
            from twigma_dagster.lanes.ray import RayHandler

            return RayHandler(settings.ray_address, settings.gpus_per_step)

        def refusal(handler: StepHandler) -> str | None:
            from twigma_dagster.lanes import ray

            return ray.refusal(handler, settings.gpus_per_step)

        return RemoteHandler(f"Ray at {settings.ray_address}", ray, refusal, wait_s)
    if settings.gpu_lane == "k8s":

        def kubernetes() -> StepHandler:
            from twigma_dagster.lanes.kubernetes import handler

            return handler(
                image=settings.k8s_image,
                namespace=settings.k8s_namespace,
                service_account=settings.k8s_service_account,
                node_selector=settings.node_selector,
                gpus=settings.gpus_per_step,
            )

        def whole(handler: StepHandler) -> str | None:
            from twigma_dagster.lanes import kubernetes

            return kubernetes.refusal(handler, settings.gpus_per_step)

        return RemoteHandler("Kubernetes", kubernetes, whole, wait_s)
    return LocalHandler(settings.gpu_slots)


def set_pools(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Set how many slots each pool has: for GPU steps as the settings say, else one unless somebody chose.

    Dagster would make a pool at its first step; on PostgreSQL two runs that do so at once fail each other.
    """
    known = {pool.name for pool in instance.event_log_storage.get_pool_limits()}
    ones = dict.fromkeys((X_POOL, DOWNLOAD_POOL, RELEASE_POOL), 1)
    for pool, slots in ({GPU_POOL: settings.gpu_slots} | ones).items():
        if pool == GPU_POOL or pool not in known:
            instance.event_log_storage.set_concurrency_slots(pool, slots)


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Return the executor of all runs."""

    @dg.executor(name="lanes", requirements=multiple_process_executor_requirements())
    def lanes(context: dg.InitExecutorContext) -> LaneExecutor:
        set_pools(context.instance, settings)
        router = Router({CPU: LocalHandler(settings.cpu_slots), GPU: gpu_lane(settings)})
        return LaneExecutor(router, {CPU: settings.cpu_slots, GPU: settings.gpu_slots})

    return lanes
