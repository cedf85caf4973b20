"""The science of TWIGMA: every function usable from a notebook, no Dagster."""

__version__ = "0.1.0"
