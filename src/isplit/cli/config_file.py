"""Options from a YAML file: the same names and values as on the command line, which goes first."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import typer

from isplit.errors import InputError
from isplit.records.files import FileTooLargeError
from isplit.records.yaml_files import read_yaml

_NOT_IN_A_FILE = (None, "help", "config")


def config_reader(paths: Collection[str]) -> Callable[[typer.Context, Path | None], Path | None]:
    """Return the callback of an option that names a file of options. `paths` are the parameters that hold paths."""

    def read_config(context: typer.Context, config: Path | None) -> Path | None:
        """Make the values of the file the defaults of the command's options.

        Names may be written with dashes or underscores. Relative paths are relative to the file.

        Raises:
            InputError: The file cannot be read, is no mapping, or names an option that the command does not have.

        """
        if config is None:
            return None
        parameters = {str(param.name): param for param in context.command.params if param.name not in _NOT_IN_A_FILE}
        values: dict[str, Any] = {}
        for written, value in _read(config).items():
            name = str(written).replace("-", "_")
            if name not in parameters:
                known = ", ".join(sorted(known.replace("_", "-") for known in parameters))
                msg = f"{config} has {written!r}, which is no option of {context.info_name}: there are {known}"
                raise InputError(msg)
            if value is not None:
                takes_several = parameters[name].nargs == -1
                values[name] = _value(name, value, config, takes_several=takes_several, is_path=name in paths)
        context.default_map = {**(context.default_map or {}), **values}
        return config

    return read_config


def _read(config: Path) -> dict[object, Any]:
    try:
        content: Any = read_yaml(config, kind="a file of options")
    except FileTooLargeError:
        raise
    except OSError as error:
        msg = f"cannot read {config}: {error.strerror or error}"
        raise InputError(msg) from error
    except ValueError as error:
        msg = f"{config} is not YAML: {error}"
        raise InputError(msg) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        msg = f"{config} holds a {type(content).__name__}: give one `option: value` on each line"
        raise InputError(msg)
    return cast("dict[object, Any]", content)


def _value(name: str, value: Any, config: Path, *, takes_several: bool, is_path: bool) -> Any:
    """Return a value as the option takes it: several where it takes several, and paths from the file's place."""
    is_list = isinstance(value, list)
    entries = cast("list[Any]", value) if is_list else [value]
    if any(isinstance(entry, dict | list) for entry in entries) or (is_list and not takes_several):
        msg = f"{config}: {name} is {value!r}: give {'a list of values' if takes_several else 'one value'}"
        raise InputError(msg)
    if is_path:
        entries = [_path(str(entry), config) for entry in entries]
    return entries if takes_several else entries[0]


def _path(value: str, config: Path) -> str:
    path = config.parent / value
    return str(path) if path.exists() or ":" not in value else value
