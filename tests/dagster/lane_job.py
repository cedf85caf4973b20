"""A job of small steps for the tests of lanes; as a program it is a run, executed by the real executor.

Each step writes down who executed it and when. What a step does is told by a file, so that a test can let a
step wait, and kill what it likes meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository

from twigma_dagster.declare import COMPUTE, CPU, GPU, GPU_POOL
from twigma_dagster.executors import build_executor
from twigma_dagster.settings import load_settings

FOLDER = Path(os.environ.get("LANE_TEST", "."))
LIMIT_S = 120.0


def step(name: str) -> None:
    """Write down that the step began, wait while the file `hold-NAME` is there, write down that it ended."""
    about: dict[str, Any] = {
        "pid": os.getpid(),
        "on_ray": "DAGSTER_RUN_STEP_KEY" in os.environ,
        "seed": load_settings().seed,
        "told": sorted(name for name in os.environ if "X_BEARER" in name or "HF_TOKEN" in name),
        "begin": time.time(),
    }
    note = FOLDER / f"{name}.json"
    note.write_text(json.dumps(about))
    while (FOLDER / f"hold-{name}").exists() and time.time() - about["begin"] < LIMIT_S:
        time.sleep(0.05)
    note.write_text(json.dumps({**about, "end": time.time()}))


def asset(name: str, lane: str, deps: tuple[str, ...] = ()) -> dg.AssetsDefinition:
    """Return an asset that takes this lane, declared as `twigma_dagster.declare` declares them."""

    @dg.asset(
        name=name,
        deps=list(deps),
        op_tags={COMPUTE: lane},
        pool=GPU_POOL if lane == GPU else None,
        group_name="lanes",
    )
    def made() -> None:
        step(name)

    return made


ASSETS = [
    asset("cpu_one", CPU),
    asset("gpu_one", GPU),
    asset("gpu_two", GPU, ("gpu_one",)),
    asset("cpu_two", CPU, ("gpu_two",)),
    asset("gpu_other", GPU),
]
defs = dg.Definitions(assets=ASSETS, executor=build_executor(load_settings()))


def main(*names: str) -> None:
    """Execute these assets as one run; print how it ended and a line for each failed step."""
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            ReconstructableRepository.for_module(__name__, "defs").get_reconstructable_job("__ASSET_JOB"),
            instance,
            asset_selection=[dg.AssetKey(name) for name in names],
            raise_on_error=False,
        )
        for event in result.all_events:
            if event.is_step_failure and event.step_failure_data.error:
                print(f"{event.step_key}: {event.step_failure_data.error.message}")
        print("SUCCESS" if result.success else "FAILURE", flush=True)


if __name__ == "__main__":
    from tests.dagster import lane_job

    lane_job.main(*sys.argv[1:])  # by its module's name, as the steps' processes know it
