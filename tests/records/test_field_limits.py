"""Defaults and limits of every field of every record are those of the written list."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from isplit import records
from isplit.records.base import Part

LIST = Path(__file__).with_name("field_limits.json")
"""One line for each field. A change of a line changes what files of older versions mean. Running this file
with Python writes the list anew."""

LIMITS = (
    "minimum exclusiveMinimum maximum exclusiveMaximum minLength maxLength minItems maxItems pattern default".split()
)


def part_classes(base: type[Part] = Part) -> dict[str, type[Part]]:
    """Return the classes of isplit.records that files are made of, by name."""
    assert records.__all__  # all modules are imported
    classes = {} if base is Part or not base.__module__.startswith("isplit.records.") else {base.__name__: base}
    for kind in base.__subclasses__():
        classes |= part_classes(kind)
    return dict(sorted(classes.items()))


def limits_of(field: FieldInfo, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a field's default and limits, those of a value that may be None among them, and if it takes NaN."""
    limits: dict[str, Any] = {}
    for part in [schema, *schema.get("anyOf", ())]:
        limits |= {key: part[key] for key in LIMITS if key in part}
    if "number" in json.dumps(schema):
        try:
            TypeAdapter(Annotated[field.annotation, *field.metadata, "as in the record"]).validate_python(float("nan"))
        except ValidationError:
            limits["nan"] = False
    return limits


def all_limits() -> dict[str, dict[str, Any]]:
    """Return the limits of every field that has some."""
    limits: dict[str, dict[str, Any]] = {}
    for name, kind in part_classes().items():
        schemas = kind.model_json_schema()["properties"]
        for field_name, field in kind.model_fields.items():
            limits[f"{name}.{field_name}"] = limits_of(field, schemas.get(field_name, {}))
    return {name: fields for name, fields in limits.items() if fields}


def test_limits_and_defaults():
    """A file that an older version wrote, or that leaves a field out, is read with the same meaning as before."""
    assert json.loads(LIST.read_text()) == all_limits()


if __name__ == "__main__":
    lines = (f" {json.dumps(name)}: {json.dumps(limits)}" for name, limits in all_limits().items())
    LIST.write_text("{\n" + ",\n".join(lines) + "\n}\n")
