"""One run: recipes, the training loop, the run folder."""
