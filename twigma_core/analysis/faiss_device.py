"""Where FAISS computes: on all GPUs that it sees (CUDA_VISIBLE_DEVICES limits them), else on the CPU.

Nothing else asks for a GPU of FAISS. Who searches or fits with it asks here, and does the same with both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import faiss


def has_gpus() -> bool:
    """Say whether FAISS sees a GPU; the build for the CPU alone never does."""
    import faiss

    return faiss.get_num_gpus() > 0


def index_on_gpus(base: np.ndarray) -> faiss.Index | None:
    """Return an index of inner products over the rows of `base`, (m, d) float32, on all GPUs; None without.

    The rows are spread over the GPUs, so that a base may be as large as all their memories.
    """
    import faiss

    if not has_gpus():
        return None
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(base.shape[1]), options)
    index.add(base)
    return index
