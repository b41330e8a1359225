"""The page on security names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "security.md").read_text("utf-8"))))


def test_many_are_named():
    """The list has not been lost, so that the next test means something."""
    assert len(NAMED) > 40


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_named_tests_exist(path, name):
    """Each test that the page names is a function of that file."""
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions
