"""Where a model, its weights and its data come from."""
