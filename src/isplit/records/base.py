"""Define what every record shares: frozen fields, a schema name with a version, and files that are whole or absent."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Never, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isplit.errors import InputError, NonFiniteError, StudyError
from isplit.records.files import LARGEST_RECORD_BYTES, FileTooLargeError, read_limited, write_whole

_Json = Mapping[str, Any] | list[Any] | tuple[Any, ...] | str | int | float | bool | None

ComputedOn = Annotated[
    str | None, Field(description="the device that computed it, with the card's name; None in older records")
]
"""The field of a record that says where its figures were computed."""

_LARGEST_INTEGER = 2**64 - 1  # the largest seed of torch

Count = Annotated[int, Field(ge=0, le=_LARGEST_INTEGER)]
"""A number of things; a larger one could be written, but not be read again."""

Amount = Annotated[float, Field(ge=-1e-6)]
"""A time, a size or another quantity that is never negative, but for rounding where it is a difference."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole, which is 1."""

Extent = Annotated[int, Field(ge=1, le=2**31)]
"""The length of one dimension of a tensor."""

Side = Annotated[int, Field(ge=1, le=2**16)]
"""The side of an image in pixels."""

Axis = Annotated[int, Field(ge=-8, le=8)]
"""The number of a tensor's dimension, counted from its end if it is negative."""

Seed = Annotated[int, Field(ge=0, le=_LARGEST_INTEGER)]
"""A seed of random numbers."""


class Part(BaseModel):
    """A piece of a record: immutable, and strict about unknown fields."""

    # NaN and infinity are refused where a record is read and written (`Record.from_json`, `Record.to_json`).
    # Validators are built when first used, because a device imports all records and uses four.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", defer_build=True)

    def __init__(self, /, **fields: Any) -> None:
        """Make a part by hand, from its fields.

        Raises:
            InputError: a field is missing, unknown or out of its range; the message names it.

        """
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InputError(_explained(type(self).__name__, error)) from error

    # Pydantic then validates parts inside others and files without calling this constructor, and names where they are.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


class LaterSchemaError(ValueError):
    """A record was written by a later version of isplit than this one."""


class Record(Part):
    """A part that is saved as a file of its own and names the schema that it follows.

    A subclass sets `schema_name` ("isplit.curve/1") and `file_name` ("curve.json"). The number of the schema grows
    whenever an older reader would misunderstand the file. `remedy` says what to do about a damaged file; `{path}` and
    `{directory}` in it are replaced.
    """

    schema_name: ClassVar[str]
    file_name: ClassVar[str]
    remedy: ClassVar[str] = "delete the file and run `isplit analyze` again"

    @model_validator(mode="before")
    @classmethod
    def _check_schema(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = dict(cast("dict[str, Any]", data))
        _check_schema(fields.pop("schema", cls.schema_name), cls.schema_name)
        return fields

    def to_json(self) -> str:
        """Return the record as JSON text, its schema first.

        Raises:
            NonFiniteError: a number is NaN, infinite or too large to be read again; the message names its field.

        """
        fields = {"schema": self.schema_name, **json.loads(self.model_dump_json())}
        if (where := _first_non_finite(fields)) is not None:
            msg = f"{self.file_name} is not written: {where} is NaN or infinite, or beyond {_LARGEST_FLOAT:g}"
            raise NonFiniteError(msg)
        return json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Make a record from the text of `to_json`.

        Raises:
            LaterSchemaError: a later version of isplit wrote it.
            ValueError: it is not JSON, has no schema or another one, does not fit it, or holds a name twice, a number
                beyond what is computed with, or a text that is not Unicode.

        """
        data = json.loads(
            text, parse_constant=_refuse_number, parse_float=_finite, parse_int=_integer, object_pairs_hook=_object
        )
        if b"\\ud" in (text.encode(errors="replace") if isinstance(text, str) else text).lower():
            _check_unicode(data)
        if not isinstance(data, dict) or "schema" not in data:
            msg = f"not a record: no schema (expected {cls.schema_name!r})"
            raise ValueError(msg)
        _check_schema(cast("dict[str, Any]", data)["schema"], cls.schema_name)
        return cls.model_validate(data)

    def save(self, directory: Path) -> Path:
        """Write the record under its file name in `directory` and return the path.

        Raises:
            StudyError: the file cannot be written.
            NonFiniteError: a number in it is NaN or infinite.

        """
        path = directory / self.file_name
        write_whole(path, self.to_json().encode())
        return path

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the record from its file in `directory`.

        Raises:
            StudyError: the file is missing, damaged, too large, or follows another schema.

        """
        path = directory / cls.file_name
        try:
            return cls.read(path, ordinary=True)
        except FileNotFoundError:
            what = f"{directory} is not a study" if not directory.is_dir() else f"{directory} is not finished"
            msg = f"{what}: {cls.file_name} is missing; run `isplit analyze MODEL DATA -o {directory}` to write it"
            raise StudyError(msg) from None
        except OSError as error:
            msg = f"cannot read {path}: {error.strerror or error}"
            raise StudyError(msg) from error
        except LaterSchemaError as error:
            msg = f"{path} cannot be read: {error}"
            raise StudyError(msg) from error
        except FileTooLargeError as error:
            msg = f"{error}; {cls._remedy(path)}"
            raise StudyError(msg) from error
        except ValueError as error:
            msg = f"{path} is damaged: {error}; {cls._remedy(path)}"
            raise StudyError(msg) from error

    @classmethod
    def read(cls, path: Path, *, limit_bytes: int = LARGEST_RECORD_BYTES, ordinary: bool = False) -> Self:
        """Read the record from a file of any name.

        Args:
            path: The file.
            limit_bytes: The largest size that is read.
            ordinary: Whether a pipe is refused.

        Raises:
            OSError: the file cannot be read.
            LaterSchemaError: a later version of isplit wrote it.
            FileTooLargeError: it is larger than any such record.
            ValueError: it is damaged or another record; the message says how, without the path.

        """
        content = read_limited(path, limit_bytes=limit_bytes, kind=f"a record {cls.schema_name!r}", ordinary=ordinary)
        try:
            return cls.from_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            msg = f"{where + ': ' if where else ''}{first['msg']}"
            if first["type"] == "extra_forbidden":
                msg = f"it holds {where}, which this version of isplit does not know; perhaps a later version wrote it"
            raise ValueError(msg) from error
        except RecursionError:
            msg = "it is nested too deep"
            raise ValueError(msg) from None

    @classmethod
    def _remedy(cls, path: Path) -> str:
        return cls.remedy.format(path=path, directory=path.parent)


def _explained(name: str, error: ValidationError) -> str:
    """Say in a line what is wrong with the first of the fields that do not fit."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    if not where:
        return f"{name}: {reason}"
    if first["type"] == "missing":
        return f"{name} needs {where}"
    if first["type"] == "extra_forbidden":
        return f"{name} has no field {where}"
    shown = repr(first["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    return f"{name}: {where} is {shown}: {reason[:1].lower()}{reason[1:]}"


def _check_schema(schema: object, expected: str) -> None:
    if schema == expected:
        return
    name, _, version = expected.rpartition("/")
    match = re.fullmatch(rf"{re.escape(name)}/([0-9]{{1,9}})", schema) if isinstance(schema, str) else None
    if match and int(match[1]) > int(version):
        msg = (
            f"it follows {schema!r}, and this version of isplit reads {expected!r}: a later version wrote it; install "
            "that one (`pip install --upgrade isplit`)"
        )
        raise LaterSchemaError(msg)
    shown = repr(schema)
    msg = f"schema is {shown if len(shown) <= 80 else shown[:80] + '…'}, this version of isplit reads {expected!r}"
    raise ValueError(msg)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, and refuse a name that comes twice: another reader might take the other value."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        msg = f"it holds {twice[:80]!r} twice"
        raise ValueError(msg)
    return fields


def _refuse_number(word: str) -> float:
    msg = f"it holds {word}, which is no number"
    raise ValueError(msg)


_LARGEST_FLOAT = 1e100  # squares of the largest 32-bit number are below it, and a product of three is still finite


def _finite(text: str) -> float:
    """Parse a number, and refuse one with which computations would overflow."""
    number = float(text)
    if not math.isfinite(number):  # JSON allows more digits than a float has
        return _refuse_number(text[:40])
    return number if abs(number) <= _LARGEST_FLOAT else _refuse_large(text)


def _integer(text: str) -> int:
    """Parse a whole number, and refuse one that has more than 64 bits."""
    return int(text) if len(text) <= 20 and abs(int(text)) <= _LARGEST_INTEGER else _refuse_large(text)


def _refuse_large(text: str) -> Never:
    msg = f"it holds {text[:40]}{'…' if len(text) > 40 else ''}, which is larger than any number in a record"
    raise ValueError(msg)


def _check_unicode(value: _Json) -> None:
    """Refuse halves of a character that JSON can escape one by one, because no file or terminal takes them."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        msg = f"it holds {error.object[error.start]!r}, which is no character"
        raise ValueError(msg) from None


def _first_non_finite(value: _Json, where: str = "") -> str | None:
    """Return the place of the first number that is NaN, infinite or too large ("points.3.cui"), or None."""
    if isinstance(value, float):
        return None if abs(value) <= _LARGEST_FLOAT else where
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        inner = _first_non_finite(item, f"{where}.{name}" if where else str(name))
        if inner is not None:
            return inner
    return None
