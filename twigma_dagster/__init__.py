"""The platform: Dagster assets that each read their inputs and call one function of `twigma_core`."""

import warnings

import dagster as dg

# Partitioned asset checks and mappings that reach before the first month are "beta"; we use them on purpose.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
