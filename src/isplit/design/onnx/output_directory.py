"""Where a bundle is written: beside its place under another name, then moved there whole."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from isplit.errors import BundleError, InputError
from isplit.records import BundleName, BundleRecord
from isplit.records.directories import new_directory, recover
from isplit.records.files import resolved


def check_place(out: Path, *, overwrite: bool) -> None:
    """Refuse to write over anything but a bundle, and over a bundle unless told.

    Raises:
        BundleError: there is something else.

    """
    recover(out)
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
        BundleRecord.read(out / BundleRecord.file_name)
    except (ValueError, OSError) as error:
        msg = f"{out} holds something that is no bundle (its {BundleRecord.file_name} is another's): give another place"
        raise BundleError(msg) from error
    if not overwrite:
        msg = f"{out} holds a bundle: give another place, or replace it (`overwrite=True`)"
        raise BundleError(msg)


@contextmanager
def new_bundle_directory(out: Path, *, overwrite: bool) -> Generator[Path]:
    """Give a new directory, which becomes `out` when the block succeeds and disappears when it fails.

    See `isplit.records.directories`: whatever happens, `out` is the old bundle or the new one, whole.

    Raises:
        BundleError: the directory cannot be made, written or moved.

    """
    try:
        with new_directory(resolved(out), overwrite=overwrite) as making:
            yield making
    except OSError as error:
        msg = f"cannot write the bundle {out}: {error.strerror or error}"
        raise BundleError(msg) from error


def bundle_name(out: Path) -> str:
    """Return the name that a bundle gets from its directory: what is not allowed on the wire becomes -."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", out.absolute().name).strip("-")[:64] or "bundle"


def checked_name(name: str) -> str:
    """Return a bundle's name as it is.

    Raises:
        InputError: it cannot be a part of a model's name on the wire.

    """
    try:
        return TypeAdapter(BundleName).validate_python(name)
    except ValidationError as error:
        raise InputError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def file_stem(cut: str) -> str:
    """Return a cut's name as a file's: "add_1" of "encoder:add_1" stays readable."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", cut)
