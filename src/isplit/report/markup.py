"""Numbers and names as they stand in the page. Every text that comes from a record is escaped here."""

from html import escape

KIB = 1024


def code(name: str) -> str:
    """Return a name as code."""
    return f"<code>{breakable(name)}</code>"


def breakable(name: str) -> str:
    """Escape a name, and let a long one break between its parts."""
    return escape(name).replace(".", ".<wbr>") if len(name) > 20 else escape(name)


def percent(share: float) -> str:
    """Return a share as per cent with one decimal."""
    return f"{100 * share:.1f}\u00a0%"


def kib(count_bytes: float) -> str:
    """Return bytes as KiB with four digits."""
    return f"{count_bytes / KIB:,.4g}\u00a0KiB"


def minus(number: str) -> str:
    """Return the number with a true minus sign."""
    return number.replace("-", "−")


def words(items: list[str]) -> str:
    """Join as prose: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def css_class(name: str) -> str:
    """Return the attribute, nothing where the name is empty."""
    return f' class="{name}"' if name else ""


def sortable_head(columns: tuple[tuple[str, str, bool], ...]) -> str:
    """Return headings as buttons, so that sorting works with the keyboard: title, unit, whether cells are numbers."""
    return "\n".join(
        f'<th scope="col" aria-sort="none"{css_class("number" if number else "")}><button type="button">'
        f'{title}<span class="unit">{unit}<span class="arrow" aria-hidden="true"></span></span>'
        "</button></th>"
        for title, unit, number in columns
    )


def sortable_row(cells: tuple[tuple[object, str, str], ...], *, style: str = "") -> str:
    """Return a row of cells: what each sorts by (None: nothing, it comes last), its HTML, and its class."""
    html = "".join(
        f'<td{css_class(of_cell)} data-value="{"" if value is None else escape(str(value))}">{text}</td>'
        for value, text, of_cell in cells
    )
    return f"<tr{css_class(style)}>{html}</tr>"
