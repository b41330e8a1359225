"""Texts of options about a model: sizes, numbers and constants, and what is said about texts that are none."""

import pytest

from isplit.cli.model_options import parse_extra_inputs, parse_image_size, parse_numbers
from isplit.cli.study_options import ModelChoice
from isplit.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"), [(None, None), ("224", (224, 224)), ("240x320", (240, 320)), ("8X6", (8, 6)), ("8×6", (8, 6))]
)
def test_image_sizes(text, size):
    """One number is both sides, and two are height and width."""
    assert size == parse_image_size(text)


@pytest.mark.parametrize("text", ["", "wide", "8x", "1x2x3", "2.5"])
def test_texts_that_are_no_size(text):
    """The message repeats what was given."""
    with pytest.raises(InputError, match=rf"--image-size is '{text}'; give pixels as 224"):
        parse_image_size(text)


@pytest.mark.parametrize(
    ("text", "numbers"), [(None, None), ("0.5", (0.5,)), ("0.4,0.5,1e-1", (0.4, 0.5, 0.1)), (" 1 , 2 ", (1.0, 2.0))]
)
def test_numbers(text, numbers):
    """Numbers are separated by commas."""
    assert numbers == parse_numbers(text, "--mean")


def test_texts_that_are_no_numbers():
    """The message names the option."""
    with pytest.raises(InputError, match="--std is '1;2'; give numbers separated by commas"):
        parse_numbers("1;2", "--std")


def test_constants():
    """Numbers and lists in JSON; the last value of a name counts."""
    assert {} == parse_extra_inputs(None)
    assert {"age": [[0.5]], "count": 3} == parse_extra_inputs(["age=1", "age=[[0.5]]", "count=3"])


@pytest.mark.parametrize("text", ["age", "=1", "age=", "age=old", 'age="old"', "age={}", "age=" + "[" * 100_000])
def test_texts_that_are_no_constants(text):
    """A pair without a name or a value, and values that are no numbers or lists, however deep they are nested."""
    with pytest.raises(InputError, match=r"--extra-input is .*; give NAME=VALUE"):
        parse_extra_inputs([text])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": "wide"}, "--image-size is 'wide'"),
        ({"mean": "red"}, "--mean is 'red'"),
        ({"std": "red"}, "--std is 'red'"),
        ({"extra_input": ["age"]}, "--extra-input is 'age'"),
    ],
)
def test_options_are_read_before_the_model(options, words):
    """A choice with a wrong text cannot be made, so neither data nor a model are read for it."""
    with pytest.raises(InputError, match=words):
        ModelChoice(**options)
