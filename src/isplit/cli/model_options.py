"""Read the values of options that say how a model is called: its images' size and normalisation, further inputs."""

import json

from isplit.errors import InputError


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Read a size: one number for both sides, or height and width joined by an x.

    Raises:
        InputError: it is neither.

    """
    if text is None:
        return None
    try:
        sides = [int(side) for side in text.lower().replace("×", "x").split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        msg = f"--image-size is {text!r}; give pixels as 224, or height and width as 240x320"
        raise InputError(msg)
    return sides[0], sides[-1]


def parse_numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Read numbers separated by commas.

    Raises:
        InputError: they are none; `option` is where they were given.

    """
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        msg = f"{option} is {text!r}; give numbers separated by commas, for example 0.485,0.456,0.406"
        raise InputError(msg) from None


def parse_extra_inputs(texts: list[str] | None) -> dict[str, object]:
    """Read NAME=VALUE pairs, whose values are numbers or lists of numbers in JSON.

    Raises:
        InputError: a pair has another form.

    """
    inputs: dict[str, object] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = None
        if not (name and equals) or not isinstance(parsed, int | float | list):
            msg = f"--extra-input is {text!r}; give NAME=VALUE with a number or a list, for example age=[[0.5]]"
            raise InputError(msg)
        inputs[name] = parsed
    return inputs
