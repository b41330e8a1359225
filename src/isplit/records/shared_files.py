"""Read and write records that people share as files of any name: device profiles, links, plans and simulations."""

import re
from pathlib import Path
from typing import TypeVar

from isplit.errors import InputError
from isplit.records.base import LaterSchemaError, Record
from isplit.records.files import FileTooLargeError, write_whole

_Shared = TypeVar("_Shared", bound=Record)


def read_shared(kind: type[_Shared], path: Path, *, command: str) -> _Shared:
    """Read a record from a file of any name.

    Args:
        kind: The record's class.
        path: The file.
        command: The command that writes such a file, for the message.

    Raises:
        InputError: the file is missing, too large, damaged, or holds another kind of record; the message says which
            and names the command that writes the right one.

    """
    advice = f"`{command}` writes such a file"
    try:
        return kind.read(path)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}; {advice}"
        raise InputError(msg) from error
    except FileTooLargeError as error:
        msg = f"{error}; {advice}"
        raise InputError(msg) from error
    except LaterSchemaError as error:
        msg = f"{path} cannot be read: {error}"
        raise InputError(msg) from error
    except ValueError as error:
        msg = f"{path} cannot be read as {kind.schema_name}: {error}; {advice}"
        raise InputError(msg) from error


_SCHEMA = re.compile(rb'\s*\{\s*"schema"\s*:\s*"([a-z.-]+)/')
"""The beginning of a record's file, with the name of its schema."""


def check_shared_path(path: Path, kind: type[Record]) -> None:
    """Check that a record may be written to a file, before the work whose result it will hold.

    An older record of the same kind may be there, and under the usual name of such a record also a damaged one.
    Anything else stays: with a wrong name, a plan would replace the study that it was made from.

    Raises:
        InputError: the path is empty or a directory, its directory does not exist, or the file holds something else.

    """
    if not path.name or path.is_dir():
        msg = f"out is {str(path)!r}, a directory; give the name of a file to write"
        raise InputError(msg)
    if not path.parent.is_dir():
        msg = f"out is {str(path)!r}, but there is no directory {str(path.parent)!r}; make it first"
        raise InputError(msg)
    try:
        if not path.is_file():
            return
        with path.open("rb") as file:
            beginning = file.read(200)
    except OSError:
        return  # Writing fails too then, and says why.
    name = _SCHEMA.match(beginning)
    own_name = kind.schema_name.rpartition("/")[0]
    replaceable = path.name == kind.file_name if name is None else name[1].decode() == own_name
    if beginning and not replaceable:
        content = "something else" if name is None else f"a record {name[1].decode()!r}"
        msg = f"out is {str(path)!r}, which holds {content}; give another name, or delete that file first"
        raise InputError(msg)


def write_shared(record: Record, path: Path) -> Path:
    """Write a record to a file of any name, so that the file is never seen half-written, and return its path.

    Raises:
        InputError: the file may not be written there; see `check_shared_path`.
        StudyError: the file cannot be written.

    """
    check_shared_path(path, type(record))
    write_whole(path, record.to_json().encode())
    return path
