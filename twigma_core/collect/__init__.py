"""Collecting: from X or an archive to the tables of posts and their pictures' addresses.

The pictures themselves belong to `twigma_core.images`.
"""
