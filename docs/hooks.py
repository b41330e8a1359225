"""Fill in the page of the commands while the site is built, from the commands themselves."""

from typing import Any

import click
import typer

from isplit.cli.app import app

_MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark by a section for each command; mkdocs calls this for every page."""
    return markdown.replace(_MARK, commands()) if _MARK in markdown else markdown


def commands() -> str:
    """Return Markdown with the usage, the help and the options of every command, in the order of `isplit --help`."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    context = click.Context(group, info_name="isplit")
    sections = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        sections.append(_section(command, click.Context(command, info_name=f"isplit {name}", parent=None)))
    return "\n\n".join(sections)


def _section(command: click.Command, context: click.Context) -> str:
    rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    usage = " ".join([context.info_name or "", *command.collect_usage_pieces(context)])
    help_text = (command.help or "").replace("\b", "").strip()
    table = ["| option or argument | meaning | default |", "|---|---|---|", *rows]
    return f"## `{context.info_name}`\n\n    {usage}\n\n{help_text}\n\n" + "\n".join(table)


def _row(parameter: click.Parameter) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if isinstance(parameter, click.Argument) or not names.startswith("`-"):
        names = f"`{parameter.make_metavar(click.Context(click.Command('x')))}`"
    meaning = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    default = parameter.default if not callable(parameter.default) else None
    shown = "" if default in (None, False, ()) else f"`{default}`"
    return f"| {names} | {meaning} | {shown} |"
