"""Turn records with rows into tables: lists of flat dictionaries for data frames, and HTML for notebooks."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, ClassVar, Protocol, TypeVar

from isplit.records.base import Record

_SHOWN_ROWS = 60


class TableRecord(Record):
    """A record that consists of rows, such as predictions or points of a curve.

    `to_dicts` makes one flat dictionary of each row, so that `pandas.DataFrame(record.to_dicts())` works. In a notebook
    the record shows itself as a table. A subclass sets `rows_field`, the name of the field that holds the rows.
    """

    rows_field: ClassVar[str]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as flat dictionaries of numbers and texts, all with the same keys.

        Examples:
            >>> record = CurveRecord.load(directory)
            >>> frame = pandas.DataFrame(record.to_dicts())

        """
        rows = [dict(flattened(row)) for row in self._rows()]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        return [{key: row.get(key) for key in keys} for row in rows]

    def _rows(self) -> Sequence[Mapping[str, Any]]:
        """Return the rows; nested mappings are flattened by `to_dicts`."""
        return [row.model_dump() for row in getattr(self, self.rows_field)]

    def __repr__(self) -> str:
        rows = self.to_dicts()
        columns = ", ".join(rows[0]) if rows else ""
        return f"<{type(self).__name__}: {len(rows)} row{'' if len(rows) == 1 else 's'} ({columns})>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the rows as an HTML table, which a notebook shows in place of the `repr`."""
        rows = self.to_dicts()
        if not rows:
            return f"<p>{escape(type(self).__name__)} without rows</p>"
        head = "".join(f"<th>{escape(key)}</th>" for key in rows[0])
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row.values())}</tr>"
            for row in rows[:_SHOWN_ROWS]
        )
        more = len(rows) - _SHOWN_ROWS
        note = f"<p>and {more} more rows: see to_dicts()</p>" if more > 0 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def flattened(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the items of nested mappings as pairs of a key joined by underscores and a value.

    Sequences become texts separated by commas, so that every value fits into one cell.

    Examples:
        >>> flattened({"cut": "a", "bytes": {"mean": 3.0}})
        [('cut', 'a'), ('bytes_mean', 3.0)]

    """
    items: list[tuple[str, Any]] = []
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            items.extend(flattened(value, f"{name}_"))  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, list | tuple):
            items.append((name, ", ".join(str(part) for part in value)))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        else:
            items.append((name, value))
    return items


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Item = TypeVar("_Item", bound=_Named)


def named(items: Iterable[_Item], name: str) -> _Item:
    """Return the first item of that name.

    Raises:
        KeyError: none has it.

    """
    for item in items:
        if item.name == name:
            return item
    raise KeyError(name)
