"""What runs by itself: the job of a month and its schedule, which ships stopped (one click starts it)."""

from __future__ import annotations

import dagster as dg

from twigma_dagster.graph import FROZEN
from twigma_dagster.partitions import MONTHS, PARTITIONS

month = dg.define_asset_job(
    "month",
    selection=[name for name, cut in PARTITIONS.items() if cut == MONTHS],
    description="Everything of one month: collect, fetch, embed, caption, deduplicate, summarise, compare.",
)
whole = dg.define_asset_job(
    "whole",
    selection=dg.AssetSelection.groups("figures", "release").upstream().downstream()
    - dg.AssetSelection.assets(*PARTITIONS, *FROZEN),
    description="Every whole-dataset table, figure, release and report. The frozen models stay as they are.",
)
month_schedule = dg.build_schedule_from_partitioned_job(
    month, day_of_month=3, hour_of_day=4, description="Brings in the month just ended."
)
