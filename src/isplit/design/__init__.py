"""From a model and its data to a study. Needs torch; runs on the engineer's workstation."""
