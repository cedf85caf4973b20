"""Training of the sample world's small models; ``python -m twigma_core.sample.training.clip --out DIR``."""
