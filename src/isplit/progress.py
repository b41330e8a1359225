"""Tell a caller how far long work has come."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""A function that is called with what is being done, how much of it is done, and how much there is in all."""


def silent(what: str, done: int, total: int) -> None:
    """Report nothing: the default of every `progress` argument."""
