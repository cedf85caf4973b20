"""The platform: Dagster assets that each read their inputs and call one function of `twigma_core`."""

import warnings

import dagster as dg

# `backfill_policy=` and partitioned asset checks are "beta" in Dagster 1.13; we use them on purpose.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
