"""Messages about arguments, rewritten as messages about options."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_FIRST_WORD = re.compile(r"(\w+)(?= (?:is|has|are) (?!not? ))")
"""An argument with its value. "study is not a bundle" speaks of a directory with the name of an argument."""

_ARGUMENT = re.compile(r"`(\w+)=([^`]+)`")

_options_of_verb: ContextVar[Mapping[str, str]] = ContextVar("options_of_verb")


def with_option_names(message: str, options: Mapping[str, str]) -> str:
    """Rewrite a message about a function's arguments as one about the options of a verb.

    An argument stands first in the message, or as code that gives it a value.

    Args:
        message: The message of an error.
        options: The option of each argument.

    Examples:
        >>> with_option_names("batch_size is 0; give at least 1", {"batch_size": "--batch-size"})
        '--batch-size is 0; give at least 1'
        >>> with_option_names("replace it with `overwrite=True`", {"overwrite": "--overwrite"})
        'replace it with --overwrite'

    """
    first = _FIRST_WORD.match(message)
    if first is not None and first[1] in options:
        message = options[first[1]] + message[first.end() :]

    def as_option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in options:
            return match[0]
        return options[name] if value == "True" else f"{options[name]} {value}"

    return _ARGUMENT.sub(as_option, message)


@contextmanager
def running_verb(options: Mapping[str, str]) -> Generator[None]:
    """Let `with_options_of_verb` know the option of each argument of the verb that runs in the block."""
    token = _options_of_verb.set(options)
    try:
        yield
    finally:
        _options_of_verb.reset(token)


def with_options_of_verb(message: str) -> str:
    """Rewrite a message about arguments, such as a note in a record, for the verb that is running."""
    return with_option_names(message, _options_of_verb.get({}))
