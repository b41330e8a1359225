"""The page on security names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)))
AREAS = range(1, 12)
"""Strangers, pictures, operation; answers, deadlines, set-up, providers; what a file can do, others' files, writing,
and damaged input."""


def test_many_are_named():
    """The list has not been lost, so that the next test means something."""
    assert len(NAMED) > 40


@pytest.mark.parametrize("area", AREAS)
def test_every_area_has_tests(area):
    """Each numbered area of the list has a promise with a test."""
    rows = re.findall(rf"^\| {area} \| [^|]+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows
    assert all("::test_" in row for row in rows)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_named_tests_exist(path, name):
    """Each test that the page names is a function of that file."""
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions
