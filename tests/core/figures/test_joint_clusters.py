"""Figure 2(b) from the pictures on: k-means of another make, and a count of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from sklearn.cluster import KMeans

from twigma_core.analysis.codebook import fit_codebook
from twigma_core.figures import FIGURES


def test_shares_of_2b_are_those_of_a_count_of_the_pictures_themselves() -> None:
    """Four sources about four points; scikit-learn clusters them, and pictures are counted one by one."""
    rng = np.random.default_rng(0)
    points = 3 * np.eye(4, 6)
    mixtures = {"laion": [70, 10, 10, 10], "artbench": [0, 60, 20, 20], "twigma": [5, 5, 50, 40]}
    mixtures["diffusiondb"] = [10, 0, 45, 45]
    of = {s: np.repeat(np.arange(4), sizes) for s, sizes in mixtures.items()}
    vectors = {s: points[at] + 0.2 * rng.normal(size=(100, 6)) for s, at in of.items()}
    rows = FIGURES["figure_2b"].table(fit_codebook(vectors, sizes=(4, 7))[1])
    labels = KMeans(4, n_init=10, random_state=1).fit_predict(np.concatenate(list(vectors.values())))
    counted = Counter(zip(np.repeat(list(vectors), 100).tolist(), labels.tolist(), strict=True))
    size = Counter(labels.tolist())
    expected = {
        (source, label): (counted[source, label] / size[label], counted[source, label] / 100)
        for source in vectors
        for label in size
    }
    # Labels of the two have no order: clusters are told by their share of every source.
    shares = ("share_of_cluster", "share_of_source")
    found = {(r["source"], r["cluster"]): tuple(r[s] for s in shares) for r in rows.iter_rows(named=True)}

    def clusters(table: Mapping[tuple[str, int], tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
        return sorted([table[s, label] for s in vectors] for label in {label for _, label in table})

    assert np.allclose(clusters(found), clusters(expected), atol=1e-12)
    assert rows.height == 16 and sorted(size.values()) == [75, 85, 115, 125]
