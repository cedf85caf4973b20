"""GPU steps as jobs of a Ray cluster, through dagster-ray's step handler.

That handler waits for ever for a cluster that is gone, and submits what no node can ever run; both are
mended here. Ray asks for a token where `RAY_AUTH_MODE=token` is set on both sides (docs/deploy.md).
"""

from __future__ import annotations

import time
from typing import Any

import requests
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext
from dagster_ray.core.executor import RayStepHandler
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_nodes

from twigma_dagster.lanes.local import step_of

REQUEST_S = 5.0
"""Seconds that Ray's job server gets to answer a request; its client sets no limit of its own."""
LOST_S = 12.0
"""Seconds out of reach after which a job counts as lost."""
UNREPORTED_S = 15.0
"""Seconds that the event of a step whose job has ended may take to arrive."""


class Client(JobSubmissionClient):
    """Ray's job client with a time limit on each request."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        return super()._do_request(method, endpoint, **{"timeout": REQUEST_S, **options})


class RayHandler(RayStepHandler):
    """dagster-ray's step handler that notices a lost cluster and a job that ended without a word."""

    def __init__(self, address: str, gpus: float) -> None:
        super().__init__(
            client=Client(address),
            env_vars=None,
            runtime_env=None,
            num_cpus=1,
            num_gpus=gpus,
            memory=None,
            resources=None,
        )
        self.address = address
        self._since: dict[tuple[str, str], float] = {}

    def check_step_health(self, context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether Ray still works on the step's job."""
        step, job = step_of(context), self._get_ray_job_submission_id(context)
        try:
            status = self.client.get_job_status(job)
        except (RuntimeError, requests.RequestException, ConnectionError) as error:
            lost = self._seconds(job, "lost")
            if lost < LOST_S:
                return CheckStepHealthResult.healthy()
            return CheckStepHealthResult.unhealthy(
                f"{step}: Ray at {self.address} does not know or does not answer for job {job} "
                f"since {lost:.0f} s: {str(error)[:300]}"
            )
        self._since.pop((job, "lost"), None)
        if status in (JobStatus.SUCCEEDED, JobStatus.STOPPED) and self._seconds(job, "ended") > UNREPORTED_S:
            return CheckStepHealthResult.unhealthy(
                f"{step}: Ray job {job} is {status}, but the step never ended"
            )
        return super().check_step_health(context)

    def _seconds(self, job: str, what: str) -> float:
        now = time.monotonic()
        return now - self._since.setdefault((job, what), now)


def refusal(handler: StepHandler, gpus: float) -> str | None:
    """Return why no node of the cluster can ever run a step that asks for `gpus`, or None."""
    assert isinstance(handler, RayHandler)
    nodes = list_nodes(address=handler.address, filters=[("state", "=", "ALIVE")], timeout=int(REQUEST_S))
    most = max((float(node.resources_total.get("GPU", 0)) for node in nodes), default=0.0)
    if gpus <= most:
        return None
    return (
        f"asks for {gpus:g} GPUs; no node of the Ray cluster at {handler.address} has more than {most:g}; "
        "set TWIGMA_GPUS_PER_STEP, or add a node"
    )
