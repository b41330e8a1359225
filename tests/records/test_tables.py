"""Records with rows as lists of flat dictionaries, as a short text, and as HTML."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from isplit.records.base import Part
from isplit.records.tables import TableRecord, flattened, named


class Size(Part):
    mean: float
    largest: int


class Row(Part):
    cut: str
    size: Size
    rules: tuple[str, ...] = ()
    score: float | None = None


class Rows(TableRecord):
    schema_name: ClassVar[str] = "isplit.test/1"
    file_name: ClassVar[str] = "test.json"
    rows_field: ClassVar[str] = "rows"

    rows: tuple[Row, ...]


TWO = Rows(
    rows=(
        Row(cut="a<b", size=Size(mean=1 / 3, largest=2), rules=("x", "y")),
        Row(cut="c", size=Size(mean=2.0, largest=3), score=0.5),
    )
)


def test_rows_are_flat_dictionaries_with_the_same_keys():
    """Nested parts are joined by underscores, sequences by commas."""
    assert [
        {"cut": "a<b", "size_mean": 1 / 3, "size_largest": 2, "rules": "x, y", "score": None},
        {"cut": "c", "size_mean": 2.0, "size_largest": 3, "rules": "", "score": 0.5},
    ] == TWO.to_dicts()


def test_missing_keys_become_none():
    """Rows of different kinds in one table have the same columns."""

    class Mixed(Rows):
        def _rows(self):
            return [{"a": 1}, {"b": {"c": 2}}]

    assert [{"a": 1, "b_c": None}, {"a": None, "b_c": 2}] == Mixed(rows=()).to_dicts()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (TWO.rows, "<Rows: 2 rows (cut, size_mean, size_largest, rules, score)>"),
        (TWO.rows[:1], "<Rows: 1 row (cut, size_mean, size_largest, rules, score)>"),
        ((), "<Rows: 0 rows ()>"),
    ],
)
def test_repr_is_short(rows, text):
    """How many rows and which columns, not every number."""
    record = Rows(rows=rows)
    assert (text, text) == (repr(record), str(record))


def test_html_is_an_escaped_table():
    """Names from a model or a data set cannot put markup into a notebook; numbers are short, None is empty."""
    assert (
        "<table><thead><tr><th>cut</th><th>size_mean</th><th>size_largest</th><th>rules</th><th>score</th></tr></thead>"
        "<tbody><tr><td>a&lt;b</td><td>0.3333</td><td>2</td><td>x, y</td><td></td></tr>"
        "<tr><td>c</td><td>2</td><td>3</td><td></td><td>0.5</td></tr></tbody></table>"
    ) == TWO._repr_html_()
    assert "<p>Rows without rows</p>" == Rows(rows=())._repr_html_()


def test_html_of_many_rows_is_cut():
    """Sixty rows are shown, and the rest is counted."""
    html = Rows(rows=TWO.rows[1:] * 62)._repr_html_()
    assert 60 == html.count("<tr><td>")
    assert html.endswith("<p>and 2 more rows: see to_dicts()</p>")
    assert "more rows" not in Rows(rows=TWO.rows[1:] * 60)._repr_html_()


def test_flattened_keeps_what_is_flat():
    """A mapping without nested ones comes out as it is."""
    assert [("a", 1), ("b", None)] == flattened({"a": 1, "b": None})


def test_named_is_the_first_of_that_name():
    """An item is found by its name, and a name that no item has is a KeyError."""
    items = [SimpleNamespace(name="a", size=1), SimpleNamespace(name="b", size=2), SimpleNamespace(name="b", size=3)]
    assert items[1] is named(items, "b")
    with pytest.raises(KeyError, match="c"):
        named(items, "c")
