"""Importance at every cut from one forward and one backward pass."""

from isplit.design.importance.gradients import GradientPass
from isplit.design.importance.methods import METHODS, cam

__all__ = ["METHODS", "GradientPass", "cam"]
