"""What the paper compares with: readers and importers for picture corpora and text sources.

What does not belong here: how the two are compared (`twigma_core.analysis`).
"""
