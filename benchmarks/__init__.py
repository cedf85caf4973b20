"""Measurements beside the tools that others use: `make bench` runs them, see docs/performance.md."""
