"""Compute the importance of the tensor at every cut with one forward and one backward pass."""
