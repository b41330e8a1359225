"""isplit report: draw a study again from its records."""

import json as json_module

import typer

from isplit.cli import console
from isplit.report import write_report


def report(study: console.StudyArgument, json: console.JsonOption = False) -> None:
    """Draw the report of STUDY again from its records, without the model and without torch.

    It writes report.html and curve.svg, and prints their paths.
    """
    paths = write_report(study)
    typer.echo(json_module.dumps([str(path) for path in paths]) if json else "\n".join(map(str, paths)))
