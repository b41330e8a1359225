"""Tables in a terminal of 80 columns: nothing is cut, and the columns that decide come first."""

import io

import pytest
from rich.console import Console

from isplit.cli.tables import Column, print_table

NAME = "features.denseblock4.denselayer16.conv2"
NUMBERS = ("123,456", "1,024", "2,048", "100%", "100.0% (100.0–100.0)", "−100.0 ± 10.0", "100.0% ± 10.0")


def printed(columns, *, width=80, **options):
    file = io.StringIO()
    console = Console(file=file, width=width)
    print_table([NUMBERS, NUMBERS], columns, title="Numbers of 500 images", to=console, **options)
    return file.getvalue()


@pytest.fixture
def columns():
    """A long name, and numbers as wide as they come; the last two under --wide."""
    numbers = [Column(f"number\n{i}", lambda row, i=i: row[i], wide=i > 4) for i in range(len(NUMBERS))]
    return [Column("split right after", lambda row: NAME, words=True), *numbers]


def test_nothing_is_cut(columns):
    """At 80 columns every number is whole, and a name that is too long goes on in the next line."""
    text = printed(columns)

    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert all(number in text for number in NUMBERS[:5])
    assert NAME in "".join(line.split(" ")[0] for line in text.splitlines()[4:])
    assert NUMBERS[5] not in text


def test_wide_is_as_wide_as_it_has_to_be(columns):
    """--wide shows every column, each row in one line, however narrow the terminal is."""
    text = printed(columns, wide=True)

    rows = [line for line in text.splitlines() if NAME in line]
    assert 2 == len(rows)
    assert all(number in row for row in rows for number in NUMBERS)


def test_narrow_terminal_cuts_nothing(columns):
    """In a terminal of 40 columns numbers go on in the next line rather than being cut."""
    assert "…" not in printed(columns, width=40)


def test_markup_is_shown_as_it_is():
    """A name with brackets is no markup."""
    assert "layer[0]" in printed([Column("cut", lambda row: "layer[0]", words=True)])


def test_sections(columns):
    """Rows of different sections are set apart."""
    apart = printed(columns[:2], section=lambda row: object())
    together = printed(columns[:2], section=lambda row: 1)

    assert len(apart.splitlines()) > len(together.splitlines())
