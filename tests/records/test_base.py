"""Where in a record a number is that is not finite."""

import math

import pytest

from isplit.records.base import _first_non_finite


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"points": [{"cui": 1.0}, {"cui": math.nan}]}, "points.1.cui"),
        ({"a": {"b": [0.0, -math.inf]}}, "a.b.1"),
        ({"seconds": math.inf}, "seconds"),
        ({"a": [1.0, 2], "b": "nan"}, None),
    ],
)
def test_place_of_a_number_that_is_not_finite(value, place):
    """The path of names and numbers leads to the value, from the outside in."""
    assert place == _first_non_finite(value)
