"""Fill in the templates of the page and of the fragments: Jinja2 with autoescape, and filters for names and numbers.

Everything that a template prints is escaped, unless Python made it as Markup: drawings, style sheets and scripts.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isplit.report import text

_LONG_NAME = 20
_OPTION = re.compile(r"(--[a-z][a-z-]*)")
_BREAK_AFTER = re.compile(r"(?<=[.:/_,-])(?=.)")


def render(template: str, context: Mapping[str, object]) -> str:
    """Return a template of isplit.report filled in.

    Raises:
        jinja2.UndefinedError: the template asks for what the context does not have.

    """
    return _environment().get_template(template).render(context)


def asset(name: str) -> str:
    """Return a style sheet or a script among the templates as text."""
    return resources.files("isplit.report").joinpath("templates", name).read_text(encoding="utf-8")


def breakable(name: str) -> Markup:
    """Return a name that may break between its parts where it is long."""
    if len(name) <= _LONG_NAME:
        return Markup("{}").format(name)
    return Markup(".<wbr>").join(name.split("."))


def code(name: str) -> Markup:
    """Return a name as code."""
    return Markup("<code>{}</code>").format(breakable(name))


def specification(name: str) -> Markup:
    """Return the name of a model or of data, which may break after its punctuation and nowhere else if it is long."""
    return Markup("<wbr>").join(_BREAK_AFTER.split(name))


def command(line: str) -> Markup:
    """Return a command whose options do not break: a browser would break `--cut` after its hyphens."""
    pieces = _OPTION.split(line)
    marked = ('<span class="option">{}</span>' if number % 2 else "{}" for number in range(len(pieces)))
    return Markup("").join(Markup(form).format(piece) for form, piece in zip(marked, pieces, strict=True))


def prose(text: str) -> Markup:
    """Return a sentence of a record, with text between backticks as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a single backtick is a character like any other
        return Markup("{}").format(text)
    marked = (
        Markup("<code>{}</code>").format(command(piece)) if number % 2 else Markup("{}").format(piece)
        for number, piece in enumerate(pieces)
    )
    return Markup("").join(marked)


def words(items: Sequence[str]) -> Markup:
    """Join items as prose, keeping markup: "a", "a and b", "a, b and c"."""
    *firsts, last = items
    return Markup("{} and {}").format(Markup(", ").join(firsts), last) if firsts else Markup("{}").format(last)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("isplit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": breakable,
        "code": code,
        "command": command,
        "specification": specification,
        "words": words,
        "prose": prose,
        "percent": text.percent,
        "kib": text.kib,
        "times": text.times,
        "minus": text.minus,
        "found_by": text.found_by,
        "budget": text.budget_words,
        "thousands": lambda count: f"{count:,}",
        "number": lambda value: f"{value:g}",
    }
    return environment
