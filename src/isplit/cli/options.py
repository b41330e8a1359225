"""Options made from dataclasses: names, types, defaults and help of a settings class, in one place.

A verb takes a settings class as one parameter, and gets it filled in:

    def fit(study: StudyArgument, settings: Annotated[FitSettings, Options("Training")]) -> None: ...

`with_options(fit)` is the function that typer reads: it has an option for every field of the class. The class's own
checks say what is wrong with a value; `wording.with_option_names` turns the argument in the message into the option.
"""

import builtins
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from isplit.design.settings import ALL
from isplit.errors import InputError

_PLAIN_TYPES = (bool, int, float, str, Path)


@dataclass(frozen=True)
class Options:
    """How a dataclass appears on the command line: `Annotated[FitSettings, Options("Training")]`.

    Args:
        panel: The title above the options in the help; None puts them under "Options".
        without: Fields that are no options: the verb sets them itself, or their defaults hold.

    """

    panel: str | None = None
    without: Sequence[str] = ()


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb whose parameters of settings classes are replaced by one option for each field.

    Fields of other types than numbers, words, paths and lists of them are left to Python. A verb without such
    parameters is returned as it is.

    Raises:
        TypeError: two options have the same name: a mistake in the program.

    """
    hints = get_type_hints(verb, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for parameter in inspect.signature(verb).parameters.values():
        hint = hints[parameter.name]
        settings, options = _settings_class(hint)
        if settings is None:
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        offered = [field for field in fields(settings) if field.name not in options.without]
        field_options = [option for field in offered if (option := _parameter(field, settings, options)) is not None]
        groups[parameter.name] = (settings, [option.name for option in field_options])
        parameters.extend(field_options)
    if not groups:
        return verb
    names = [parameter.name for parameter in parameters]
    if twice := {name for name in names if names.count(name) > 1}:
        msg = f"{verb.__name__} has two options of the same name: {', '.join(sorted(twice))}"
        raise TypeError(msg)

    @wraps(verb)
    def with_values(**values: Any) -> None:
        for name, (settings, option_names) in groups.items():
            chosen = {option: values.pop(option) for option in option_names}
            values[name] = settings(**_read_counts(settings, chosen))
        verb(**values)

    del with_values.__wrapped__  # inspect.signature would look through it
    with_values.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_values.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_values


def argument_texts(settings: type) -> dict[str, str]:
    """Return what the Args section of a class's docstring says about each argument.

    Examples:
        >>> argument_texts(Options)["panel"]
        'The title above the options in the help; None puts them under "Options".'

    """
    section = re.search(r"^Args:\n((?:[ ]+.*\n|\n)+)", (inspect.getdoc(settings) or "") + "\n", re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def parse_count(text: str, option: str) -> int | None:
    """Read a number, or None for "all".

    Raises:
        InputError: it is neither; `option` is where it was given.

    """
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        msg = f"{option} is {text!r}; give a number or 'all'"
        raise InputError(msg) from None


def _settings_class(hint: Any) -> tuple[type | None, Options]:
    options = Options()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        options = next((extra for extra in extras if isinstance(extra, Options)), options)
    return (hint if isinstance(hint, type) and is_dataclass(hint) else None), options


class _Names(dict[str, Any]):
    """Names of a module for `eval`; a name that is only imported for type checking stands for any object."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        super().__init__(module)

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, object)


def _field_type(field: Field[Any], settings: type) -> tuple[Any, list[Any]]:
    """Return a field's type and what it is annotated with."""
    hint: Any = field.type
    if isinstance(hint, str):
        hint = eval(hint, {}, _Names(vars(sys.modules[settings.__module__])))
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        return hint, extras
    return hint, []


def _parameter(field: Field[Any], settings: type, options: Options) -> inspect.Parameter | None:
    """Return the parameter that typer reads for one field; None where its type is one that only Python can give."""
    hint, extras = _field_type(field, settings)
    info = copy(next((extra for extra in extras if isinstance(extra, OptionInfo | ArgumentInfo)), typer.Option()))
    default = field.default if field.default_factory is MISSING else field.default_factory()
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    text = argument_texts(settings).get(field.name, "")
    kind: Any = str
    if ALL in extras:
        default, info.metavar = "all" if default is None else str(default), info.metavar or "N|all"
        text = text.replace("None ", "'all' ")
    elif choices := [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]:
        info.metavar, info.autocompletion = info.metavar or "|".join(choices), lambda: choices
    elif known := [member for member in members if member in _PLAIN_TYPES or get_origin(member) is list]:
        kind = known[0]
    else:
        return None
    if kind is bool and default is False and isinstance(info, OptionInfo) and info.default is ...:
        info.default = f"--{field.name.replace('_', '-')}"
    if NoneType in members and ALL not in extras:
        kind = kind | None
        text = text.replace("; None ", "; the default ").replace("None ", "The default ")
    info.help = info.help or text
    if isinstance(info, OptionInfo):
        info.rich_help_panel = info.rich_help_panel or options.panel
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, info],
    )


def _read_counts(settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with "all" read as None where a field stands for a number of images."""
    counts = {field.name for field in fields(settings) if ALL in _field_type(field, settings)[1]}
    return {
        name: parse_count(value, f"--{name.replace('_', '-')}") if name in counts else value
        for name, value in values.items()
    }
