"""Options made from settings classes: names, defaults, help, and what is built from them."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

import pytest
from typer.main import get_command

from isplit.cli.options import Options, argument_texts, with_options
from isplit.cli.verbs import VERBS, VerbCommand, load_verb, new_typer
from isplit.design.export_settings import ExportSettings
from isplit.design.settings import AnalyzeSettings, FitSettings, ImageCount, PredictSettings
from isplit.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Oven:
    """An oven.

    Args:
        degrees: Temperature in degrees, which are of Celsius
            everywhere; None takes what the recipe says.
        loaves: Number of loaves; None takes the whole batch.
        fan: Whether the fan runs.
        light: Whether the light is on.
        mode: Where the heat comes from.
        shelves: Shelves by name; only from Python.

    """

    degrees: float | None = None
    loaves: ImageCount = 12
    fan: bool = False
    light: bool = True
    mode: Literal["top", "bottom"] | Literal["both"] = "both"
    shelves: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if self.loaves is not None and self.loaves < 1:
            msg = f"loaves is {self.loaves}; give at least 1"
            raise InputError(msg)


@pytest.fixture
def baked():
    """What the verb was called with."""
    return []


@pytest.fixture
def command(baked):
    """A verb that takes an oven."""

    def bake(oven: Annotated[Oven, Options("Oven")]):
        """Bake."""
        baked.append(oven)

    application = new_typer()
    application.command("bake", cls=VerbCommand)(with_options(bake))
    return get_command(application)


def test_defaults_are_those_of_the_class(command, baked):
    """Without options the verb gets what the class itself says."""
    command.main([], standalone_mode=False)

    assert [Oven()] == baked


def test_values(command, baked):
    """Every field has an option; "all" is None, and a flag that is on by default can be taken back."""
    arguments = "--degrees 220 --loaves all --fan --no-light --mode top".split()
    command.main(arguments, standalone_mode=False)

    assert [Oven(degrees=220, loaves=None, fan=True, light=False, mode="top")] == baked


def test_errors_speak_of_options(command):
    """What the class refuses is said of the option, and words that are no number too."""
    with pytest.raises(InputError, match=r"^--loaves is 0; give at least 1$"):
        command.main(["--loaves", "0"], standalone_mode=False)
    with pytest.raises(InputError, match=r"^--loaves is 'some'; give a number or 'all'$"):
        command.main(["--loaves", "some"], standalone_mode=False)


def test_help(command):
    """Help has the class's words, its defaults and choices, below the group's title; fields for Python are left out."""
    text = " ".join(command.get_help(command.make_context("bake", [])).split())

    assert "Oven: --degrees N Temperature in degrees, which are of Celsius everywhere; the default takes" in text
    assert "--loaves N|all Number of loaves; 'all' takes the whole batch. [default: 12]" in text
    assert "--fan Whether the fan runs." in text
    assert "--light / --no-light Whether the light is on." in text
    assert "--mode top|bottom|both Where the heat comes from. [default: both]" in text
    assert "shelves" not in text


def test_left_out():
    """A field that the verb sets itself is no option."""

    def bake(oven: Annotated[Oven, Options(without=("degrees",))]):
        pass

    assert "degrees" not in inspect.signature(with_options(bake)).parameters


def test_two_of_the_same_name():
    """Two options of one name are a mistake that is found when the verb is loaded."""

    def bake(oven: Oven, light: bool = False):
        pass

    with pytest.raises(TypeError, match="two options of the same name: light"):
        with_options(bake)


def test_verb_without_settings_stays():
    """A verb that writes out its options is not touched."""

    def plain(name: str = ""):
        pass

    assert with_options(plain) is plain


@pytest.mark.parametrize("settings", [AnalyzeSettings, PredictSettings, FitSettings, ExportSettings])
def test_every_setting_is_explained(settings):
    """The docstring of a settings class, from which the help comes, has every field, in whole sentences."""
    texts = argument_texts(settings)

    assert [field.name for field in fields(settings)] == list(texts)
    assert [] == [text for text in texts.values() if not text.endswith(".")]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_of_every_verb(verb):
    """Every option of every verb is explained in whole sentences, within 80 columns."""
    command = load_verb(verb)
    context = command.make_context(verb.name, [], resilient_parsing=True, terminal_width=80)
    lines = command.get_help(context).splitlines()

    assert max(map(len, lines)) <= 80
    assert "{" not in lines[0]
    assert [] == [line for line in lines if re.search(r"<[^<>]+>", line)]
    for param in command.params:
        words = param.help
        assert words, param.name
        assert words.rstrip().endswith((".", ")")), (param.name, words)
