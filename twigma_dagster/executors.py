"""Where the steps of a run execute.

A run has one executor. The default runs steps one after the other in the run's own process, so that
models stay loaded between steps; steps marked for the GPU lane take the one slot of the pool "gpu", which
all runs share. `multiprocess` gives each step a process of its own, at some seconds a step.
"""

from __future__ import annotations

import dagster as dg

from twigma_dagster.settings import Settings


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Return the executor that the settings ask for."""
    if settings.executor == "multiprocess":
        return dg.multiprocess_executor.configured({"max_concurrent": 2})
    return dg.in_process_executor
