"""What no record may hold: numbers that are not finite or too large, halves of characters."""

import math
import re

import pytest
from pydantic import JsonValue

from isplit.errors import InputError
from isplit.records import Accuracy, Budget, Paired
from isplit.records.base import Part, Record, _first_non_finite


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


class Example(Record):
    """A record that takes anything."""

    schema_name = "isplit.example/1"
    file_name = "example.json"

    value: JsonValue


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1e101", "it holds 1e101, which is larger than any number in a record"),
        ("-1e308", "it holds -1e308"),
        ("1e999", "it holds 1e999"),
        ("18446744073709551616", "it holds 18446744073709551616"),
        ("-" + "9" * 5000, "it holds -999999999999999999999999999999999999999…"),
        ("NaN", "it holds NaN, which is no number"),
        (r'"a\ud800"', r"it holds '\ud800', which is no character"),
        (r'{"a": ["\uDFFF"]}', r"it holds '\udfff'"),
    ],
)
@pytest.mark.parametrize("kind", [str, str.encode])
def test_values_that_nothing_computes_with(value, words, kind):
    """Numbers that would overflow and halves of characters are refused, wherever they are in a record."""
    with pytest.raises(ValueError, match=re.escape(words)):
        Example.from_json(kind(f'{{"schema": "isplit.example/1", "value": [{value}]}}'))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e100", 1e100),
        ("18446744073709551615", 2**64 - 1),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\\ud800"', r"\ud800"),
        ("1e-320", 1e-320),
    ],
)
def test_values_at_the_limits(text, value):
    """The largest numbers, pairs of halves and what only looks like a half are read."""
    assert value == Example.from_json(f'{{"schema": "isplit.example/1", "value": {text}}}').value


@pytest.mark.parametrize("value", ['1, "value": 1', '{"a": {"b": 1, "b": 2}}'])
def test_a_name_that_comes_twice(value):
    """Readers would differ about the value, so that neither is taken, wherever it is."""
    with pytest.raises(ValueError, match=r"it holds '(value|b)' twice"):
        Example.from_json(f'{{"schema": "isplit.example/1", "value": {value}}}')


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        (Paired, {"only_first": -1, "only_second": 0, "difference": 0, "stderr": 0}),
        (Paired, {"only_first": 1, "only_second": 0, "difference": 2, "stderr": 0}),
        (Paired, {"only_first": 1, "only_second": 0, "difference": 0, "stderr": -1}),
        (Accuracy, {"correct": -1, "images": 1, "accuracy": 0, "low": 0, "high": 1}),
        (Accuracy, {"correct": 1, "images": 1, "accuracy": 1.5, "low": 0, "high": 1}),
    ],
)
def test_figures_that_cannot_be(part, fields):
    """Negative counts, and shares outside 0 to 1, are refused."""
    with pytest.raises(InputError, match=part.__name__):
        part(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"payload_bytes": 0}, "Budget: payload_bytes is 0: input should be greater than or equal to 1"),
        ({"surprise": 1}, "Budget has no field surprise"),
        ({"element_ratio": "x" * 99}, f"Budget: element_ratio is '{'x' * 59}…: input should be a valid number"),
    ],
)
def test_records_made_by_hand(fields, message):
    """What does not fit is named in a sentence, by the project's own error, which is a ValueError too."""
    with pytest.raises(InputError) as caught:
        Budget(**fields)
    assert str(caught.value).startswith(message)


def test_parts_inside_are_named_where_they_are():
    """A part that is validated inside another keeps its place in the message."""
    with pytest.raises(InputError, match=r"SplitFields: budget\.payload_bytes is 0"):
        SplitFields(budget={"payload_bytes": 0})


def test_a_missing_field():
    """A field that is needed is named."""
    with pytest.raises(InputError, match="SplitFields needs budget"):
        SplitFields()


class SplitFields(Part):
    """A part that holds another."""

    budget: Budget
