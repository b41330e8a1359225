"""Importance at every cut from one forward and one backward pass."""
