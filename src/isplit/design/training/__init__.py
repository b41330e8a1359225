"""Train a split: its bottleneck and tail on the fit part, stopped by the select part."""
