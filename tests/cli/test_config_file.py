"""isplit.cli.config_file: options from a file, as defaults of those on the command line."""

import pytest
import typer

from isplit.cli.config_file import config_reader
from isplit.errors import InputError


def serve(bundles: list[str], port: int = 1, max_batch: int = 2, config: str | None = None) -> None:
    """Serve as a command whose options may stand in a file."""


@pytest.fixture
def read(tmp_path):
    """Write a file and return the defaults that the command has with it."""
    app = typer.Typer(add_completion=False)
    app.command()(serve)

    def run(content):
        path = tmp_path / "options.yaml"
        path.write_bytes(content)
        context = typer.Context(typer.main.get_command(app), info_name="serve")
        assert path == config_reader(("bundles",))(context, path)
        return context.default_map

    return run


def test_values_are_defaults(read):
    """Names may have dashes or underscores, an empty value says nothing, and neither does an empty file."""
    assert {"port": 5, "max_batch": 9} == read(b"port: 5\nmax-batch: 9\n")
    assert {} == read(b"max_batch:\n")
    assert {} == read(b"")


def test_paths_are_relative_to_the_file(read, tmp_path):
    """A path that is there from the file's place is meant from there; a single value stands for a list of one."""
    (tmp_path / "net").mkdir()
    assert {"bundles": [str(tmp_path / "net")]} == read(b"bundles: net\n")
    assert {"bundles": [str(tmp_path / "net"), str(tmp_path / "none")]} == read(b"bundles: [net, none]\n")
    assert {"bundles": ["a:b"]} == read(b"bundles: a:b\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"colour: red\n", "'colour', which is no option of serve: there are bundles, max-batch, port"),
        (b"config: other.yaml\n", "'config', which is no option"),
        (b"port: [1, 2]\n", "give one value"),
        (b"bundles: [{a: 1}]\n", "give a list of values"),
        (b"- port\n", "holds a list"),
        (b"port: [\n", "is not YAML"),
    ],
)
def test_refused(read, content, says):
    """The message names the file and what is wrong in it."""
    with pytest.raises(InputError, match=says) as refused:
        read(content)
    assert "options.yaml" in str(refused.value)


def test_no_file(tmp_path):
    """A file that is missing is refused; no file at all changes nothing."""
    context = typer.Context(typer.main.get_command(typer.Typer(callback=serve)))
    assert None is config_reader(())(context, None)
    assert None is context.default_map
    with pytest.raises(InputError, match=r"cannot read .*none\.yaml"):
        config_reader(())(context, tmp_path / "none.yaml")
