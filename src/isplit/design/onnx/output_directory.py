"""Where a bundle is written: beside its place under another name, then moved there whole."""

import re
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from isplit.errors import BundleError
from isplit.records import BundleRecord


def check_place(out: Path, *, overwrite: bool) -> None:
    """Refuse to write over anything but a bundle, and over a bundle unless told.

    Raises:
        BundleError: there is something else.

    """
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        msg = f"{out} is there and is no directory: give another place"
        raise BundleError(msg)
    if not any(out.iterdir()):
        return
    if not (out / BundleRecord.file_name).is_file():
        msg = f"{out} holds something that is no bundle: give another place"
        raise BundleError(msg)
    try:
        BundleRecord.from_json((out / BundleRecord.file_name).read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        msg = f"{out} holds something that is no bundle (its {BundleRecord.file_name} is another's): give another place"
        raise BundleError(msg) from error
    if not overwrite:
        msg = f"{out} holds a bundle: give another place, or replace it (`overwrite=True`)"
        raise BundleError(msg)


@contextmanager
def new_directory(out: Path) -> Generator[Path]:
    """Give a new directory, which becomes `out` when the block succeeds and disappears when it fails.

    Raises:
        BundleError: the directory cannot be made or moved.

    """
    token = secrets.token_hex(4)
    making, old = (out.with_name(f".{out.name}.{word}-{token}") for word in ("new", "old"))
    try:
        making.mkdir(parents=True)
        yield making
        if out.exists():
            out.rename(old)
        making.rename(out)
    except OSError as error:
        msg = f"cannot write the bundle {out}: {error.strerror or error}"
        raise BundleError(msg) from error
    finally:
        # Whatever happened in between, a bundle that was there is there.
        if old.exists() and not out.exists():
            old.rename(out)
        for leftover in (making, old):
            shutil.rmtree(leftover, ignore_errors=True)


def bundle_name(out: Path) -> str:
    """Return the name that a bundle gets from its directory: what is not allowed on the wire becomes -."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", out.absolute().name).strip("-")[:64] or "bundle"


def file_stem(cut: str) -> str:
    """Return a cut's name as a file's: "add_1" of "encoder:add_1" stays readable."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", cut)
