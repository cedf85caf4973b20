"""Pictures: fetching, safe opening, storage in tar shards, and duplicates.

What does not belong here: what models see in a picture (`twigma_core.models`) and which posts it came
from (`twigma_core.collect`).
"""
