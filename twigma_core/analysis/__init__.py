"""Statistics of generative pictures: variation, divergence, themes, engagement."""
