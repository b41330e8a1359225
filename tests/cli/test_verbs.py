"""The table of verbs: order, help, what is imported, and how errors and interrupts are worded."""

import inspect
import subprocess
import sys

import pytest
from typer.main import get_command

from isplit.cli.app import app
from isplit.cli.verbs import VERBS, VerbCommand, load_verb, new_typer

ORDER = "demo data analyze cuts predict fit verify plan export serve run report".split()


def test_verbs_stand_in_the_order_of_the_work():
    """The verbs that most studies need stand in the order in which they are used."""
    names = [verb.name for verb in VERBS]

    assert [name for name in ORDER if name in names] == [name for name in names if name in ORDER]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_summary(verb):
    """The table's sentence is the first of the verb's own help, and a whole one."""
    command = load_verb(verb)

    assert verb.name == command.name
    assert " ".join(inspect.cleandoc(command.help).split("\n\n")[0].split()).startswith(verb.summary)
    assert verb.summary.endswith(".")
    assert verb.summary[0].isupper()


def test_every_verb_module_is_listed():
    """No module of the command line has a function of its own name that the table does not list."""
    from importlib import import_module
    from pathlib import Path

    import isplit.cli

    modules = [path.stem for path in Path(isplit.cli.__file__).parent.glob("[a-z]*.py") if path.stem != "app"]
    verbs = {name for name in modules if hasattr(import_module(f"isplit.cli.{name}"), name)}

    assert verbs == {verb.name for verb in VERBS}


def test_help_lists_whole_sentences(isplit):
    """`isplit --help` has every verb's whole sentence, an example, and how to get shell completion."""
    result = isplit("--help")

    words = " ".join(result.out.split())
    assert 0 == result.code
    for verb in VERBS:
        assert f" {verb.name} {verb.summary}" in words
    assert "isplit analyze torchvision:resnet50 photos.zip" in words
    assert "isplit --install-completion" in words
    assert max(map(len, result.out.splitlines())) <= 80


def test_help_imports_no_verb():
    """`isplit --help` loads neither numpy nor pydantic, rich, torch or a verb: it answers at once."""
    code = "import sys\nfrom isplit.cli import main\ntry:\n    main()\nexcept SystemExit:\n    print(*sys.modules)"
    command = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)

    modules = set(done.stdout.splitlines()[-1].split())
    assert {"isplit.cli.verbs", "typer"} <= modules
    heavy = {"numpy", "pydantic", "rich", "torch", "PIL", "importlib.metadata", "isplit.records"}
    assert set() == modules & (heavy | {f"isplit.cli.{verb.name}" for verb in VERBS})


def test_unknown_verb_gets_the_nearest(isplit):
    """A verb that does not exist is refused with the nearest one."""
    result = isplit("prdict")

    assert 2 == result.code
    assert "Did you mean 'predict'" in result.err


def test_completion_knows_verbs_and_options():
    """Completion lists verbs with their sentences, and a verb's options."""
    group = get_command(app)
    context = group.make_context("isplit", [], resilient_parsing=True)

    assert ["predict"] == [item.value for item in group.shell_complete(context, "pre")]
    _, command, _ = group.resolve_command(context, ["predict"])
    inner = command.make_context("predict", ["x"], resilient_parsing=True)
    assert "--precision" in [item.value for item in command.shell_complete(inner, "--pre")]


def test_options_stand_in_groups():
    """Options with a panel stand below its title, and those without below "Options", last."""
    from typing import Annotated

    import typer

    application = new_typer()

    @application.command(cls=VerbCommand)
    def verb(
        argument: str,
        quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing.")] = False,
        epochs: Annotated[int, typer.Option(help="Number of passes.", rich_help_panel="Training")] = 3,
    ):
        """Do it."""

    command = get_command(application)
    lines = command.get_help(command.make_context("verb", ["x"])).splitlines()

    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert ["Arguments:", "Training:", "Options:"] == titles
    assert lines.index("Training:") < next(i for i, line in enumerate(lines) if "--epochs" in line)
    assert lines.index("Options:") < next(i for i, line in enumerate(lines) if "--quiet" in line)


def test_placeholders_are_words_for_people():
    """The help names values by words and not by types of Python, and only what can be left out stands in brackets."""
    import enum
    from pathlib import Path
    from typing import Annotated

    import typer

    class Level(enum.StrEnum):
        low = "low"
        high = "high"

    application = new_typer()

    @application.command(cls=VerbCommand)
    def verb(
        study: Annotated[Path, typer.Argument(metavar="STUDY")],
        pictures: Annotated[list[str], typer.Argument(metavar="PICTURE")],
        metrics_host: str = "here",
        epochs: int = 3,
        limit: Annotated[int, typer.Option(min=1)] = 1,
        share: float = 0.5,
        token_file: Path | None = None,
        level: Level = Level.low,
    ):
        """Do it."""

    command = get_command(application)
    text = command.get_help(command.make_context("verb", ["x", "y"]))
    columns = [line.split("  ")[1] for line in text.splitlines() if line.startswith("  ") and line.strip()]

    assert "Usage: verb [OPTIONS] STUDY PICTURE..." == text.splitlines()[0].strip()
    expected = ["STUDY", "PICTURE", "--metrics-host HOST", "--epochs N", "--limit N", "--share N"]
    assert [*expected, "--token-file FILE", "--level low|high"] == columns[1:9]
