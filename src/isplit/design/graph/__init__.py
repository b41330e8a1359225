"""Capture a model, enumerate its cuts, split it into head and tail."""

from isplit.design.graph.cuts import ModelGraph
from isplit.design.graph.flow import CutPoint
from isplit.design.graph.split import Split, split

__all__ = ["CutPoint", "ModelGraph", "Split", "split"]
