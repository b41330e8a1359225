"""Tables for a terminal: at most 80 columns unless the reader asks for all of them, and nothing cut short."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from isplit.cli import console
from isplit.text import terminal_text

_UNLIMITED = 10_000
Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    Args:
        heading: What stands above it; a line break makes it narrower.
        value: Returns the cell of a row.
        words: Whether cells are words: they stand on the left, and go on in the next line where they are too long.
        wide: Whether the column is shown under --wide alone.

    """

    heading: str
    value: Callable[[Row], str]
    words: bool = False
    wide: bool = False


def print_table(
    rows: Iterable[Row],
    columns: Sequence[Column[Row]],
    *,
    title: str,
    wide: bool = False,
    section: Callable[[Row], Any] | None = None,
    to: Console | None = None,
) -> None:
    """Print rows as a table below its title.

    Args:
        rows: One object for each line.
        columns: What to show of it, the columns that decide first.
        title: What the table shows, and for which images.
        wide: Whether columns that are marked so are shown too; the table is then as wide as it has to be.
        section: Returns what rows of one section have in common; sections are set apart.
        to: Where to print; by default standard output.

    """
    to = to or console.output()
    shown = [column for column in columns if wide or not column.wide]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in shown:
        justify = "left" if column.words else "right"
        table.add_column(Text(column.heading), justify=justify, no_wrap=not column.words, overflow="fold")
    before: Any = None
    for number, row in enumerate(rows):
        name = section(row) if section else None
        if number and name != before:
            table.add_section()
        before = name
        table.add_row(*(Text(terminal_text(column.value(row), keep="\n")) for column in shown))
    to.print(terminal_text(title), markup=False, highlight=False)
    needed = Measurement.get(to, to.options.update(max_width=_UNLIMITED), table).maximum
    if wide and needed > to.width:
        # A line that the terminal wraps, or that a pager shows by and by, is better than a number cut in two.
        to = Console(file=to.file, width=needed)
    to.print(table)
    to.print()
