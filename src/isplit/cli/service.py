"""isplit service: units for systemd that keep `isplit serve` or `isplit run` going."""

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import typer

from isplit.cli.verbs import new_typer
from isplit.errors import InputError, StudyError
from isplit.records.files import read_limited, write_whole

Unit = Literal["serve", "run"]

_UNITS = Path("/etc/systemd/system")
_FILES: dict[Unit, str] = {
    "serve": "serve.yaml (options of `isplit serve`), token, cert.pem and key.pem",
    "run": "run.env (ISPLIT_SERVER=HOST:PORT), ca.pem and token",
}

service = new_typer(help="Print or install a systemd unit that keeps `isplit serve` or `isplit run` going.")

_UnitArgument = Annotated[Unit, typer.Argument(metavar="serve|run", help="The command that the unit keeps going.")]


@service.command("print")
def print_unit(unit: _UnitArgument) -> None:
    """Print the unit, so that you can check or change it first."""
    typer.echo(_text(unit), nl=False)


@service.command("install")
def install(
    unit: _UnitArgument,
    directory: Annotated[Path, typer.Option(help="The directory in which systemd looks for units.")] = _UNITS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing unit that differs.")] = False,
) -> None:
    """Write the unit where systemd finds it, without starting it.

    The remaining steps are printed. A unit that an administrator has masked stays masked.
    """
    path = directory / f"isplit-{unit}.service"
    text = _text(unit)
    try:
        if _is_masked(path):
            msg = (
                f"isplit-{unit} is masked, so that nobody starts it ({path} is empty or leads to {os.devnull}): run "
                f"`systemctl unmask isplit-{unit}` first"
            )
            raise InputError(msg)
        if not overwrite and os.path.lexists(path) and not _holds(path, text):
            msg = f"{path} is there and differs: look at it, then give --overwrite"
            raise InputError(msg)
        write_whole(path, text.encode())
    except StudyError as error:
        msg = f"{error}; try `sudo`, or another --directory"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}; try `sudo`, or another --directory"
        raise InputError(msg) from error
    typer.echo(f"wrote {path}")
    typer.echo(f"put into /etc/isplit: {_FILES[unit]}")
    typer.echo(f"then: systemctl daemon-reload && systemctl enable --now isplit-{unit}")


def _is_masked(path: Path) -> bool:
    """Return whether systemd takes a unit for masked: its file leads to /dev/null, or is empty."""
    if path.is_symlink() and path.readlink() == Path(os.devnull):
        return True
    return path.is_file() and path.stat().st_size == 0


def _holds(path: Path, text: str) -> bool:
    """Return whether a file holds exactly this text."""
    try:
        return read_limited(path, limit_bytes=len(text.encode()), kind="this unit", ordinary=True) == text.encode()
    except InputError:  # it is longer
        return False


def _text(unit: Unit) -> str:
    """Return the unit, with this installation's command in it."""
    text = (files("isplit.cli") / "units" / f"isplit-{unit}.service").read_text("utf-8")
    return text.replace("@isplit@", _executable())


def _executable() -> str:
    """Return the path of the command that runs now; systemd takes no other than an absolute one."""
    beside = Path(sys.executable).with_name("isplit")
    path = str(beside) if beside.is_file() else shutil.which("isplit")
    if path is None:
        msg = f"there is no command `isplit` beside {sys.executable}: install isplit with pip first"
        raise InputError(msg)
    return path
