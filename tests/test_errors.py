"""isplit.errors: one tree, whose docstring draws it, and a message for a missing library."""

import importlib
import inspect

import pytest

from isplit import errors
from isplit.errors import IsplitError, MissingExtraError, needs_extra

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and value.__module__ == errors.__name__ and issubclass(value, Exception)
]


def test_every_exception_is_below_one():
    """A caller can catch everything with `IsplitError`; only warnings stand apart."""
    assert len(CLASSES) > 10
    assert all(issubclass(value, IsplitError | Warning) for value in CLASSES)


def test_the_docstring_draws_the_tree():
    """Each exception and each warning of the module stands in the drawing."""
    assert [] == [value.__name__ for value in CLASSES if f" {value.__name__} " not in errors.__doc__]


def test_a_missing_library():
    """The message names the library and the extra that brings it."""
    with pytest.raises(MissingExtraError, match=r"'no_such_library', .*isplit\[onnx\]"), needs_extra("onnx"):
        importlib.import_module("no_such_library")


def test_a_fault_of_ours():
    """A module of isplit that is missing is no missing library."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needs_extra("onnx"):
        importlib.import_module("isplit.no_such_module")
