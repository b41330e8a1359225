"""What experiments have in common that keep one line of results for each cut and budget."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isplit.records import Budget

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Return the lines of a results file; none where it is not there."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def cut_parser(description: str | None, *, budgets: str) -> argparse.ArgumentParser:
    """Return a parser of STUDY NAME CUT..., of budgets in bytes, and of `--table`, which prints the rows instead."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("cuts", nargs="*")
    parser.add_argument("--budgets", type=read_budgets, default=budgets)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--allow-code", action="store_true", help="run the model's file that the study names")
    return parser


def read_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, which names a study unless it asks for the table alone."""
    options = parser.parse_args()
    missing = [name for name in ("study", "name", "what") if getattr(options, name, "") is None]
    if missing and not options.table:
        parser.error(f"there is no {missing[0].upper()}: give one, or --table")
    return options


def read_budgets(text: str) -> list[Budget]:
    """Return the budgets of a text such as "96,256"."""
    return [Budget(payload_bytes=int(number)) for number in text.split(",")]


def packed(right: NDArray[np.bool_]) -> str:
    """Write one bit for each image, in hexadecimal digits."""
    return np.packbits(right).tobytes().hex()


def unpacked(bits: str, count: int) -> NDArray[np.bool_]:
    """Return for each of so many images whether it was right."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=count).astype(bool)
