"""Train a split: fit its bottleneck and tail on the fit part, stop by the select part, measure on the test part."""

from isplit.design.training.fit import fit
from isplit.design.training.load import load_trained
from isplit.design.training.settings import FitSettings

__all__ = ["FitSettings", "fit", "load_trained"]
