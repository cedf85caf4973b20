"""Starting runs as Dagster does by default, and noticing when the process of a run has vanished.

Dagster's default launcher never looks: a run whose machine was switched off stays "started" for a day, its
backfill waits for it, and its month is barred to every other run.
"""

from __future__ import annotations

import json
from collections import Counter

import grpc
from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

_TIMES = 2
"""Checks in a row that must find no process: one may fall between its end and the record of it."""
_ANSWER_S = 10


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, which also asks the server that started a run whether it still runs."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._missed: Counter[str] = Counter()

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether the daemon may ask."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a run is there; a run that no server started is not judged."""
        if GRPC_INFO_TAG not in run.tags or _is_there(run):
            self._missed.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._missed[run.run_id] += 1
        if self._missed[run.run_id] < _TIMES:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the process of the run has vanished")


def _is_there(run: DagsterRun) -> bool:
    """Ask the server that started a run; one that is there and slow is no reason to give the run up."""
    info = json.loads(run.tags[GRPC_INFO_TAG])
    client = DagsterGrpcClient(
        port=info.get("port"),
        socket=info.get("socket"),
        host=info.get("host", "localhost"),
        use_ssl=bool(info.get("use_ssl")),
    )
    try:
        reply = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=_ANSWER_S)
    except DagsterUserCodeUnreachableError as error:
        cause = error.__cause__
        gone = isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        return not gone
    return deserialize_value(reply, CanCancelExecutionResult).can_cancel
