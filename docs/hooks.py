"""Fill in the page of the commands while the site is built, from the commands themselves."""

from typing import Any

import typer

from isplit.cli.app import app

_MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark by a section for each command; mkdocs calls this for every page."""
    return markdown.replace(_MARK, commands()) if _MARK in markdown else markdown


def commands() -> str:
    """Return Markdown with the usage, the help and the options of every command, in the order of `isplit --help`."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("isplit", [], resilient_parsing=True)
    names = group.list_commands(context)
    return "\n\n".join(_section(f"isplit {name}", group.get_command(context, name)) for name in names)


def _section(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    rows = [_row(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)]
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    help_text = (command.help or "").replace("\b", "").strip()
    table = ["| option or argument | meaning | default |", "|---|---|---|", *rows]
    return f"## `{name}`\n\n    {usage}\n\n{help_text}\n\n" + "\n".join(table)


def _row(parameter: Any, context: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.make_metavar(context)}`"
    meaning = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    default = parameter.default if not callable(parameter.default) else None
    shown = "" if default in (None, False, ()) else f"`{default}`"
    return f"| {names} | {meaning} | {shown} |"
