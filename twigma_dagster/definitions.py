"""The table of contents: what Dagster loads. Nothing is defined here."""

from __future__ import annotations

from typing import Any

import dagster as dg

from twigma_dagster import automation, checks
from twigma_dagster.assets import (
    annotation,
    collection,
    comparison,
    dataset,
    deletions,
    engagement,
    features,
    figures,
    images,
    references,
    release,
    themes,
)
from twigma_dagster.executors import build_executor
from twigma_dagster.io import LakeIO
from twigma_dagster.resources import build_resources
from twigma_dagster.settings import Settings, load_settings

MODULES = (
    collection,
    deletions,
    images,
    features,
    dataset,
    references,
    themes,
    comparison,
    engagement,
    annotation,
    figures,
    release,
)


def build_defs(settings: Settings | None = None, **resources: Any) -> dg.Definitions:
    """Return the definitions for these settings, the environment's by default.

    Args:
        settings: settings instead of the environment's, for tests.
        resources: resources to use instead of those that the settings give, by name.
    """
    settings = settings or load_settings()
    available = {**build_resources(settings), **resources}
    return dg.Definitions(
        assets=dg.load_assets_from_modules(MODULES),
        asset_checks=[*dg.load_asset_checks_from_modules([checks])],
        jobs=[automation.month, automation.whole, automation.refresh, automation.deletions],
        schedules=[automation.month_schedule, automation.refresh_schedule, automation.deletions_schedule],
        sensors=[automation.keep_current],
        resources={**available, "lake_io": LakeIO(lake=available["lake"])},
        executor=build_executor(settings),
    )


defs = build_defs()
