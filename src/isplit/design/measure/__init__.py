"""Measure accuracy and bytes: of the whole model, of splits, and of compressed images."""
