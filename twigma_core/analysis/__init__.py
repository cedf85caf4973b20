"""Statistics of generative pictures: variation, divergence, themes, engagement.

Each module imports on its own. Embeddings are (n, d) floats, one row a picture. A large set is reduced once
to an `EmbeddingSummary`; summaries add up, and the tables are computed from them:

>>> import numpy as np
>>> from twigma_core.analysis.codebook import fit_codebook
>>> from twigma_core.analysis.divergence import divergence_matrix
>>> from twigma_core.analysis.intervals import metric_intervals
>>> from twigma_core.analysis.summary import EmbeddingSummary
>>> rng = np.random.default_rng(0)
>>> def pictures(n, shift):
...     x = rng.normal(size=(n, 8)) + shift
...     return x / np.linalg.norm(x, axis=1, keepdims=True)
>>> posts, paintings = pictures(400, 1.0), pictures(300, 0.0)
>>> codebook, _ = fit_codebook({"posts": posts, "paintings": paintings}, sizes=(10,))
>>> january = EmbeddingSummary.from_embeddings(posts[:200], [f"a{i}" for i in range(200)], codebook)
>>> february = EmbeddingSummary.from_embeddings(posts[200:], [f"b{i}" for i in range(200)], codebook)
>>> both = january + february
>>> both.count, round(both.inverse_explained_variance(), 1)
(400, 3.5)
>>> interval, n = metric_intervals(both)["mean_pairwise_distance"]
>>> interval.low < interval.value < interval.high
True
>>> art = EmbeddingSummary.from_embeddings(paintings, [f"c{i}" for i in range(300)], codebook)
>>> divergence_matrix({"posts": both, "art": art}, measure=["kl", "kernel"]).height
4
"""
