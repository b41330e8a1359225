"""How images become a model's input: what its library, its own attributes and the user say about it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from isplit.errors import ModelError
from isplit.records import Preprocessing

_GUESSES = {"interpolation": "bilinear", "mean": 0.0, "std": 1.0}


def fields_of(preprocessing: object, *, name: str) -> dict[str, Any]:
    """Return the fields of a `Preprocessing`, or those of them that a mapping holds.

    Args:
        preprocessing: Either of them, or None for no field.
        name: What it is called in a message.

    Raises:
        ModelError: it is none of these.

    """
    if isinstance(preprocessing, Preprocessing):
        return preprocessing.model_dump()
    if preprocessing is None or isinstance(preprocessing, Mapping):
        return dict(cast("Mapping[str, Any]", preprocessing or {}))
    msg = f"{name} is a {type(preprocessing).__name__}, not a Preprocessing or a dict"
    raise ModelError(msg)


def given_fields(
    preprocessing: Preprocessing | Mapping[str, Any] | None, image_size: int | Sequence[int] | None
) -> dict[str, Any]:
    """Return the fields that the user gave as one preprocessing, and as a size of images, which counts more.

    A size to resize to that comes together with another size of images belongs to that one, and is left out with it.
    """
    fields = fields_of(preprocessing, name="the argument preprocessing")
    if image_size is None:
        return fields
    if fields.get("image_size") is not None:
        fields.pop("resize_size", None)
    return {**fields, "image_size": image_size}


def make_preprocessing(
    hints: Mapping[str, Any], given: Mapping[str, Any], *, channels: int, spec: str
) -> tuple[Preprocessing, list[str]]:
    """Combine what the library says with what the user gave, which wins.

    Args:
        hints: Fields of `Preprocessing` that the library or the model itself says.
        given: Fields that the user gave. A given size of images is also the size to which they are resized, unless
            that is given too.
        channels: What the images have if nobody says it.
        spec: The model's name, for messages.

    Returns:
        The preprocessing, and a notice that names what was guessed.

    Raises:
        ModelError: no image size is known, or a field cannot be used.

    """
    # None is a value only for `resize_size`.
    fields = {**hints, **{key: value for key, value in given.items() if value is not None or key == "resize_size"}}
    if fields.get("image_size") is None:
        msg = f"{spec} does not say what images it takes: pass `image_size=N`, or set an attribute preprocessing on it"
        raise ModelError(msg)
    guessed = {name: value for name, value in _GUESSES.items() if fields.get(name) is None}
    for name, value in {**guessed, "channels": channels}.items():
        if fields.get(name) is None:
            fields[name] = value
    keeps_resize = "resize_size" in (fields if given.get("image_size") is None else given)
    checked = _validate(_plain(fields), keeps_resize=keeps_resize, spec=spec)
    words = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{value} {name}" for name, value in guessed.items()
    )
    return checked, [f"the model does not say how its images are prepared: {words} assumed"] if len(guessed) > 1 else []


def _validate(fields: dict[str, Any], *, keeps_resize: bool, spec: str) -> Preprocessing:
    try:
        preprocessing = Preprocessing.model_validate(fields if keeps_resize else fields | {"resize_size": None})
    except ValidationError as error:
        first_error = error.errors()[0]
        where = ".".join(map(str, first_error["loc"]))
        reason = f"{where}: {first_error['msg']} (got {first_error['input']!r})"
        if not where:  # it is about several fields, which the message names
            reason = first_error["msg"].removeprefix("Value error, ")
        msg = f"{spec}: the preprocessing cannot be used: {reason}"
        raise ModelError(msg) from error
    channels, (height, width) = preprocessing.channels, preprocessing.image_size
    broadcast = {
        name: values * channels for name in ("mean", "std") if len(values := getattr(preprocessing, name)) == 1
    }
    preprocessing = preprocessing.model_copy(
        update=broadcast if keeps_resize or height != width else broadcast | {"resize_size": height}
    )
    if not len(preprocessing.mean) == len(preprocessing.std) == channels:
        msg = f"mean {preprocessing.mean} and std {preprocessing.std} must have 1 or {channels} values each"
        raise ModelError(msg)
    if not all(map(math.isfinite, (*preprocessing.mean, *preprocessing.std))):
        msg = f"mean {preprocessing.mean} and std {preprocessing.std} must be finite"
        raise ModelError(msg)
    return preprocessing


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as numbers and tuples: arrays and tensors as lists, one size for both sides, a mean as a tuple.

    What is none of these is left for `Preprocessing` to refuse.
    """
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in fields.items()}
    for name in ("image_size", "mean", "std"):
        value = plain[name]
        plain[name] = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if len(plain["image_size"]) == 1:
        plain["image_size"] *= 2
    return plain
