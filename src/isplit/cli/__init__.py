"""The command line: one file per verb. The only place that prints or exits."""

from isplit.cli.app import main

__all__ = ["main"]
