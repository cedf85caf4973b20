"""A small world to start in: drawn pictures with planted truths, its server, two trained models."""
