"""GPU steps as jobs of a Ray cluster, through dagster-ray's step handler.

That handler submits what no node can ever run, and waits for ever for a job that ended without a word; both
are mended here. Whoever reaches Ray's job server runs code there, so a server without a token is refused
(docs/deploy.md).
"""

from __future__ import annotations

import os
import time
from typing import Any

import requests
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext
from dagster_ray.core.executor import RayStepHandler
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_nodes

from twigma_dagster.lanes.local import step_of
from twigma_dagster.lanes.remote import REQUEST_S, UNREPORTED_S, passed_on
from twigma_dagster.settings import SettingsError

OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Variables that Ray's clients take instead of the address they are given."""


class Client(JobSubmissionClient):
    """Ray's job client with a time limit on each request."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        return super()._do_request(method, endpoint, **{"timeout": REQUEST_S, **options})


class RayHandler(RayStepHandler):
    """dagster-ray's step handler that passes the settings on and notices a job that ended without a word.

    Raises:
        SettingsError: no token is set.
    """

    def __init__(self, address: str, gpus: float) -> None:
        _require_token(address)
        for name in OVERRIDES:
            os.environ.pop(name, None)
        super().__init__(
            client=Client(address),
            env_vars=passed_on(),
            runtime_env=None,
            num_cpus=1,
            num_gpus=gpus,
            memory=None,
            resources=None,
        )
        self.address = address
        self._ended: dict[str, float] = {}

    def check_step_health(self, context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether Ray still works on the step's job."""
        job = self._get_ray_job_submission_id(context)
        status = self.client.get_job_status(job)
        if status in (JobStatus.SUCCEEDED, JobStatus.STOPPED):
            now = time.monotonic()
            if now - self._ended.setdefault(job, now) > UNREPORTED_S:
                return CheckStepHealthResult.unhealthy(
                    f"{step_of(context)}: Ray job {job} is {status}, but the step never ended: "
                    "does its node reach Dagster's database? See the job's log"
                )
        return super().check_step_health(context)


def _require_token(address: str) -> None:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    if is_token_auth_enabled() and AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        return
    raise SettingsError(
        f"Ray at {address} without a token is open to all who reach it; set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) here and on every node of the cluster"
    )


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
