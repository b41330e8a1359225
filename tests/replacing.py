"""What may stand in the place of a file: the damages and replacements that a disk or a stranger can make."""

import os
import random
from collections.abc import Callable
from pathlib import Path


def _flip(path: Path, generator: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def _grow(path: Path, _: random.Random) -> None:
    with path.open("ab") as file:
        file.truncate(2**31)  # takes no room on the disk


def _replace(make: Callable[[Path], object]) -> Callable[[Path, random.Random], None]:
    def replace(path: Path, _: random.Random) -> None:
        path.unlink()
        make(path)

    return replace


REPLACEMENTS: dict[str, Callable[[Path, random.Random], None]] = {
    "empty": lambda path, _: path.write_bytes(b""),
    "cut short": lambda path, generator: path.write_bytes(path.read_bytes()[: -generator.randrange(2, 40)]),
    "a flipped bit": _flip,
    "random bytes": lambda path, generator: path.write_bytes(generator.randbytes(path.stat().st_size or 64)),
    "another kind of file": lambda path, _: path.write_bytes(b'{"schema": "isplit.unknown/1"}\n'),
    "2 GiB": _grow,
    "a link to itself": _replace(lambda path: path.symlink_to(path.name)),
    "a link to nothing": _replace(lambda path: path.symlink_to(path.parent.parent / "outside")),
    "a folder": _replace(lambda path: path.mkdir()),
    "a pipe": _replace(os.mkfifo),
    "nothing": _replace(lambda path: None),
}
"""Functions that replace a file, by what stands there afterwards."""
