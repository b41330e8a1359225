"""Records that people share as files of any name: device profiles, links, plans and simulations."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from isplit.errors import InputError
from isplit.records.base import Record
from isplit.records.files import write_whole

_Shared = TypeVar("_Shared", bound=Record)

LARGEST_FILE_BYTES = 64 * 2**20
"""A profile of a thousand cuts takes less than a megabyte; whatever is larger than this is no record of ours."""


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
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}; {advice}"
        raise InputError(msg) from error
    if len(content) > LARGEST_FILE_BYTES:
        msg = f"{path} is larger than {LARGEST_FILE_BYTES // 2**20} MiB, so it is not {kind.schema_name}; {advice}"
        raise InputError(msg)
    try:
        return kind.from_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        msg = f"{path} cannot be read as {kind.schema_name}: {where + ': ' if where else ''}{first['msg']}; {advice}"
        raise InputError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} cannot be read as {kind.schema_name}: {error}; {advice}"
        raise InputError(msg) from error


def write_shared(record: Record, path: Path) -> Path:
    """Write a record to a file of any name, so that the file is never seen half-written, and return its path.

    Raises:
        StudyError: the file cannot be written.

    """
    write_whole(path, record.to_json().encode())
    return path
