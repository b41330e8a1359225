"""Settings and records made by hand with absurd values: what is refused is refused by an error of isplit, by name."""

import dataclasses
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import BaseModel

import isplit
from isplit.errors import InputError, IsplitError
from isplit.setting_checks import check_choice, check_device, check_ranges, check_types

ABSURD = (
    *(None, -1, 0, 10**30, -(10**30), math.nan, math.inf, -math.inf, -0.5, 1e308, True),
    *("x", "", "\0", "../x", b"x", [], {}, (), ["x"], (1, 2, 3), object()),
)
RESULTS = {"AutoResult", "Bundle", "Dataset", "LoadedModel", "Split", "Study", "StudyView"}
"""Classes whose objects isplit makes."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """Fields of every kind that is checked, and of some that are not."""

    count: int = 1
    share: "float | None" = None
    images: Annotated[int | None, "all"] = 1
    name: str = ""
    flag: bool = False
    path: Path | None = None
    axes: Mapping[str, int] = field(default_factory=dict)
    budget: isplit.Budget | None = None
    word: Literal["a", "b"] = "a"
    unknown: "NoSuchName | None" = None  # noqa: F821 - as what is imported for type checkers only


@pytest.mark.parametrize(
    "fields",
    [
        {"count": np.int64(3), "share": np.float32(0.5), "images": None},
        {"share": 1, "path": "a/b", "axes": {"x": 1}, "budget": isplit.Budget(payload_bytes=64)},
        {"word": 3, "unknown": object()},
    ],
)
def test_right_types(fields):
    """Numbers of numpy, whole numbers as numbers, paths as text, and what is not checked are taken."""
    check_types(Example(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": True}, "count is True; give a whole number"),
        ({"count": 2.0}, "count is 2.0; give a whole number"),
        ({"share": "0.5"}, "share is '0.5'; give a number or None"),
        ({"images": "all"}, "images is 'all'; give a whole number or None"),
        ({"name": b"x"}, "name is b'x'; give a text"),
        ({"flag": 1}, "flag is 1; give True or False"),
        ({"path": 3}, "path is 3; give a path or None"),
        ({"axes": [1]}, "axes is [1]; give a dictionary"),
        ({"budget": 64}, "budget is 64; give `Budget` or None"),
        ({"name": list(range(99))}, f"name is {str(list(range(99)))[:60]}…; give a text"),
    ],
)
def test_wrong_types(fields, message):
    """The field, what it is, and what to give are named."""
    with pytest.raises(InputError) as caught:
        check_types(Example(**fields))
    assert message == str(caught.value)


def settings_classes():
    """Return isplit's public settings."""
    public = {name: getattr(isplit, name) for name in isplit.__all__ if name not in RESULTS}
    return [kind for kind in public.values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)]


@pytest.mark.parametrize("kind", settings_classes())
def test_public_settings(kind):
    """Whatever a field of public settings is given, it is taken or refused by an error of isplit."""
    given = {"directory": Path(), "budget": isplit.Budget(payload_bytes=64), "settings": isplit.FitSettings()}
    given |= {"address": "a:1", "certificate": b"", "key": b""}
    names = [each.name for each in dataclasses.fields(kind) if each.init]
    required = {name: value for name, value in given.items() if name in names} if kind is not isplit.Tls else {}
    kind(**required)
    for name in names:
        for value in ABSURD:
            with suppress(IsplitError):
                kind(**required | {name: value})


def records():
    """Return the names of isplit's public records."""
    public = {name: getattr(isplit, name) for name in isplit.__all__}
    return [name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, BaseModel)]


@pytest.mark.parametrize("name", records())
def test_public_records(name):
    """Records that are made by hand from unknown fields or from nonsense raise isplit's own error."""
    kind = getattr(isplit, name)
    with pytest.raises(InputError, match=name):
        kind(surprise=1)
    for field_name in kind.model_fields:
        for value in ABSURD:
            with suppress(InputError):
                kind(**{field_name: value})


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 1e13])
@pytest.mark.parametrize("name", ["arrivals_per_s", "images_per_s", "images_per_day"])
def test_load(name, value):
    """A load is a number from 0 to 1e12, of a plan made by hand too."""
    from isplit.plan.evaluate import Load

    with pytest.raises(InputError, match=name):
        Load(**{name: value})


def test_choice():
    """One of the known values passes; another is refused with all of them."""
    check_choice("coder", "rans", ("rans", "zstd"))
    with pytest.raises(InputError, match="coder is 'gzip'; choose one of rans, zstd"):
        check_choice("coder", "gzip", ("rans", "zstd"))


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"])
def test_device(device):
    """Names of devices pass, whether or not this machine has them."""
    check_device(device)


@pytest.mark.parametrize("device", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:1234", "cuda:0 ", "mps:0"])
def test_no_device(device):
    """Any other text is refused with what can be given."""
    with pytest.raises(InputError, match="choose one of auto, cpu, cuda, cuda:N"):
        check_device(device)


@pytest.mark.parametrize("epochs", [None, 1, 1.0, 2, 3])
def test_inside_the_range(epochs):
    """Both ends belong to a range, and a number that is not given is never refused."""
    check_ranges(SimpleNamespace(epochs=epochs, seconds=0.5), {"epochs": (1, 3), "seconds": (0, 1)})


@pytest.mark.parametrize("epochs", [0.999, 2000.001, float("nan"), float("inf")])
def test_outside_the_range(epochs):
    """Numbers beyond an end, and what is no number, are refused with the setting's name and the range."""
    with pytest.raises(InputError, match=rf"^epochs is {epochs}; give a number from 1 to 2,000$"):
        check_ranges(SimpleNamespace(epochs=epochs), {"epochs": (1, 2000)})


def test_range_without_an_upper_end():
    """The message names no upper end where there is none."""
    check_ranges(SimpleNamespace(epochs=1e300), {"epochs": (1, math.inf)})
    with pytest.raises(InputError, match=r"^epochs is 0; give at least 1$"):
        check_ranges(SimpleNamespace(epochs=0), {"epochs": (1, math.inf)})
