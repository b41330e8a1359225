"""What every record shares: frozen fields, a schema name with a version, and files that are whole or absent."""

import json
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from isplit.errors import StudyError
from isplit.records.files import write_whole


class Part(BaseModel):
    """A piece of a record: immutable, and strict about unknown fields."""

    # NaN and infinity become null on paper: JSON has no word for them, and every reader knows null.
    # Built when first used: a device imports all records and uses four.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", defer_build=True)


class Record(Part):
    """A part that is saved as a file of its own and says which schema it follows.

    A subclass sets `schema_name` ("isplit.curve/1") and `file_name` ("curve.json"). The schema's number grows
    whenever an older reader would misunderstand the file.
    """

    schema_name: ClassVar[str]
    file_name: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _check_schema(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = dict(cast("dict[str, Any]", data))
        schema = fields.pop("schema", cls.schema_name)
        if schema != cls.schema_name:
            msg = f"schema is {schema!r}, this version of isplit reads {cls.schema_name!r}"
            raise ValueError(msg)
        return fields

    def to_json(self) -> str:
        """Return the record as JSON text, its schema first."""
        fields = {"schema": self.schema_name, **json.loads(self.model_dump_json())}
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: not JSON, no schema or another one, or fields that do not fit it.

        """
        data = json.loads(text)
        if not isinstance(data, dict) or "schema" not in data:
            msg = f"not a record: no schema (expected {cls.schema_name!r})"
            raise ValueError(msg)
        return cls.model_validate(data)

    def save(self, directory: Path) -> Path:
        """Write the record under its file name in `directory` and return the path.

        Raises:
            StudyError: the file cannot be written.

        """
        path = directory / self.file_name
        write_whole(path, self.to_json().encode())
        return path

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the record from its file in `directory`.

        Raises:
            StudyError: the file is missing, damaged, or follows another schema.

        """
        path = directory / cls.file_name
        try:
            return cls.from_json(path.read_bytes())
        except FileNotFoundError:
            what = f"{directory} is not a study" if not directory.is_dir() else f"{directory} is not finished"
            msg = f"{what}: {cls.file_name} is missing; run `isplit analyze MODEL DATA -o {directory}` to write it"
            raise StudyError(msg) from None
        except OSError as error:
            msg = f"cannot read {path}: {error.strerror or error}"
            raise StudyError(msg) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            msg = f"{path} cannot be read: {where}: {first['msg']}; delete the file and run `isplit analyze` again"
            raise StudyError(msg) from error
        except (ValueError, RecursionError) as error:
            msg = f"{path} is damaged: {error}; delete the file and run `isplit analyze` again"
            raise StudyError(msg) from error
