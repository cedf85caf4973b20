"""The platform: Dagster assets that each read their inputs and call one function of `twigma_core`."""

import warnings

# Partitioned asset checks and mappings that reach before the first month are "beta"; we use them on purpose.
# Named by their words: importing Dagster for their classes costs each `twigma` command a second.
warnings.filterwarnings("ignore", message=".* is currently in (beta|preview)")
