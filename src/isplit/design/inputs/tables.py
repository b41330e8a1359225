"""Read tables of image paths and labels: labels.csv files and data frames."""

import codecs
import csv
import io
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isplit.design.inputs.encoded_images import EncodedImages, encoded_source
from isplit.design.inputs.source import Source, choose_parts, part_name
from isplit.errors import DataError
from isplit.records.files import LARGEST_IMAGE_BYTES, read_limited
from isplit.text import display_name

FILE_NAME = "labels.csv"

_PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "name")
_LABEL_COLUMNS = ("label", "class", "target", "category", "class_name", "label_name", "class_id", "label_id", "y")
_PART_COLUMNS = ("split", "part", "set", "subset", "fold")


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Where the paths of a table lead: whether a file is there, and its content."""

    exists: Callable[[str], bool]
    read: Callable[[str], bytes]


def files_below(folder: Path) -> ImageFiles:
    """Return the files that paths relative to a folder, or absolute ones, lead to."""
    return ImageFiles(
        exists=lambda path: (folder / path).is_file(),
        read=lambda path: read_limited(
            folder / path, limit_bytes=LARGEST_IMAGE_BYTES, kind="an image file", ordinary=True
        ),
    )


def notices_of_files_elsewhere(columns: Mapping[str, Sequence[Any]], folder: Path, *, spec: str) -> tuple[str, ...]:
    """Say how many paths of a table lead out of its folder; such a table cannot be moved with its folder."""
    paths = [str(path) for column, values in columns.items() if column.lower() in _PATH_COLUMNS for path in values]
    # A table may name its folder as the user does, through a link, or as it is called in the end.
    roots = (Path(posixpath.normpath(folder.absolute())), folder.resolve())
    elsewhere = [
        path for path in dict.fromkeys(paths) if not any(_is_inside(path.replace("\\", "/"), root) for root in roots)
    ]
    if not elsewhere:
        return ()
    number = "1 image lies" if len(elsewhere) == 1 else f"{len(elsewhere)} images lie"
    return (f"{spec}: {number} outside the table's folder, for example {display_name(elsewhere[0])}",)


def _is_inside(path: str, root: Path) -> bool:
    """Return whether a path leads to a place below a folder, as it is written; links in the folder are the user's."""
    return Path(posixpath.normpath(str(root / path))).is_relative_to(root)


def parse_csv(content: bytes, *, name: str) -> dict[str, list[str]]:
    """Read a table with a header, separated by commas, semicolons, tabs or bars, as {column: values}.

    Raises:
        DataError: The table is empty, has no header with a known column, or a row of another length.

    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16", "replace") if utf16 else content.decode("utf-8-sig", "surrogateescape")
    header = text.partition("\n")[0]
    delimiter = max((",", ";", "\t", "|"), key=header.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        msg = f"{name} is not a table: {error}; give a line for each image, for example path,label"
        raise DataError(msg) from error
    if len(rows) < 2:
        msg = f"{name} holds no rows below its header: give a line for each image, for example path,label"
        raise DataError(msg)
    columns = [column.strip() for column in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(columns):
            msg = f"{name}: row {number} has {len(row)} values, and the header {len(columns)}: quote what holds commas"
            raise DataError(msg)
    return {column: [row[k].strip() for row in rows[1:]] for k, column in enumerate(columns)}


def read_table(
    columns: Mapping[str, Sequence[Any]],
    files: ImageFiles,
    *,
    spec: str,
    split: str | None,
    notices: Sequence[str] = (),
    orders: Mapping[str, Sequence[Any]] | None = None,
) -> Source:
    """Make a source of a table with a column of paths, one of labels, and perhaps one of parts (train, val, test).

    Labels that are whole numbers give classes in the order of the numbers, others in the order of the names. Where
    both stand there, one for one, the names become the titles of the numbers. An image that has several rows counts
    once.

    Args:
        columns: The values of each column.
        files: Where the paths lead.
        spec: What messages call the table.
        split: Use only this part.
        notices: What is already known about the labels.
        orders: The classes in their order, for columns of labels that have one of their own (pandas' categories).

    Raises:
        DataError: A column is missing or ambiguous, a label is missing, a path leads nowhere, an image has two labels
            or belongs to two parts, or there is no part called `split`.

    """
    column = _column(columns, _PATH_COLUMNS, what="paths of the images", spec=spec)
    paths = [_located(str(path), files) for path in columns[column]]
    names, titles, label_column = _labels(columns, spec=spec)
    _check_paths(paths, names, files, spec=spec)
    classes = _in_order(names)
    if orders and label_column in orders:
        together = {label_column: [*columns[label_column], *orders[label_column]]}
        classes = tuple(dict.fromkeys(_names(together, label_column, spec=spec)[len(names) :]))
        names = _names(together, label_column, spec=spec)[: len(names)]
    number_of = {name: number for number, name in enumerate(classes)}
    labels = np.array([number_of[name] for name in names], dtype=np.int64)
    parts, repeats = _without_repeats(paths, _parts(columns, len(paths), split=split, spec=spec), spec=spec)

    def images_of(rows: Sequence[int]) -> EncodedImages:
        return EncodedImages(
            labels=labels[list(rows)],
            read=lambda item: files.read(paths[rows[item]]),
            name_of=lambda item: display_name(paths[rows[item]]),
        )

    return encoded_source(
        {part: images_of(rows) for part, rows in parts.items()},
        classes=classes,
        spec=spec,
        titles=titles,
        notices=(*notices, *repeats, *_notices_of_negative_numbers(classes, spec=spec)),
    )


def _column(columns: Mapping[str, Any], known: Sequence[str], *, what: str, spec: str) -> str:
    matches = [column for column in columns if str(column).lower() in known]
    if len(matches) == 1:
        return matches[0]
    problem = f"has several columns for the {what} ({', '.join(matches)})" if matches else f"has no column of {what}"
    msg = f"{spec} {problem}; it has {', '.join(map(str, columns))}: call one {known[0]!r}"
    raise DataError(msg)


def _notices_of_negative_numbers(classes: Sequence[str], *, spec: str) -> tuple[str, ...]:
    """Say that a number below zero, which often stands for images without a label, is taken for a class."""
    negative = [name for name in classes if name.startswith("-") and _is_number(name)]
    if not negative or not all(map(_is_number, classes)):
        return ()
    return (f"{spec}: the label {negative[0]} is taken for a class: leave out its rows if it means that there is none",)


def _located(path: str, files: ImageFiles) -> str:
    """Return a path in the one spelling that leads to its file, where backslashes may separate folders."""
    for spelling in (path, path.replace("\\", "/")):
        plain = posixpath.normpath(spelling)
        if files.exists(plain):
            return plain
    return path


def _without_repeats(
    paths: Sequence[str], parts: Mapping[str, Sequence[int]], *, spec: str
) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Return the rows of each part without those that name an image again, and a notice if there are any.

    Raises:
        DataError: An image belongs to two parts, so that a model would be tested on what it was fitted to.

    """
    part_of: dict[str, str] = {}
    kept: dict[str, list[int]] = {part: [] for part in parts}
    for part, rows in parts.items():
        for row in rows:
            if part_of.get(paths[row], part) != part:
                msg = (
                    f"{spec}: {display_name(paths[row])} belongs to two parts, {part_of[paths[row]]} and {part}: "
                    "keep one row for each image"
                )
                raise DataError(msg)
            if paths[row] not in part_of:
                kept[part].append(row)
            part_of[paths[row]] = part
    number = sum(map(len, parts.values())) - len(part_of)
    notice = (
        f"{spec}: {number} rows name an image that an earlier row has named, with the same label, and were left out"
    )
    return kept, (notice,) if number else ()


def _labels(columns: Mapping[str, Sequence[Any]], *, spec: str) -> tuple[list[str], dict[str, str], str]:
    """Return the class of each row by name, titles where names stand beside numbers, and the column of the classes."""
    candidates = [column for column in columns if str(column).lower() in _LABEL_COLUMNS]
    if len(candidates) != 2:
        column = _column(columns, _LABEL_COLUMNS, what="labels", spec=spec)
        return _names(columns, column, spec=spec), {}, column
    first, second = (_names(columns, column, spec=spec) for column in candidates)
    pairs = set(zip(first, second, strict=True))
    if not len(pairs) == len(set(first)) == len(set(second)):
        msg = f"{spec} has two columns of labels that disagree ({', '.join(candidates)}): remove one of them"
        raise DataError(msg)
    if all(map(_is_number, second)):
        return second, {number: name for name, number in pairs}, candidates[1]
    return first, dict(pairs), candidates[0]


def _names(columns: Mapping[str, Sequence[Any]], column: str, *, spec: str) -> list[str]:
    names: list[str] = []
    for row, value in enumerate(columns[column], start=1):
        missing = value is None or value == "" or value != value  # NaN differs from itself
        if missing or isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            what = "no label" if missing else f"the label {value!r}"
            msg = f"{spec}: image {row} has {what} in {column!r}: give a whole number or a name"
            raise DataError(msg)
        names.append(display_name(f"{value:.0f}" if isinstance(value, float) else str(value)))
    # Programs write whole numbers as "10.0" where a column once had a gap; as a name it would come before "2.0".
    decimals = any("." in name for name in names) and all(map(_WHOLE_NUMBER.fullmatch, names))
    return [str(int(float(name))) for name in names] if decimals else names


_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,15}(\.0*)?")


def _is_number(name: str) -> bool:
    return name.isascii() and name.removeprefix("-").isdigit()


def _in_order(names: Sequence[str]) -> tuple[str, ...]:
    distinct = set(names)
    return tuple(sorted(distinct, key=int) if all(map(_is_number, distinct)) else sorted(distinct))


def _check_paths(paths: Sequence[str], names: Sequence[str], files: ImageFiles, *, spec: str) -> None:
    first_name: dict[str, str] = {}
    for path, name in zip(paths, names, strict=True):
        if first_name.setdefault(path, name) != name:
            msg = f"{spec}: {display_name(path)} has two labels, {first_name[path]!r} and {name!r}: keep one"
            raise DataError(msg)
    missing = [path for path in first_name if not files.exists(path)]
    if missing:
        msg = (
            f"{spec}: {len(missing)} of the {len(first_name)} images are not there, the first "
            f"{display_name(missing[0])!r}: paths are relative to the table's folder"
        )
        raise DataError(msg)


def _parts(columns: Mapping[str, Sequence[Any]], rows: int, *, split: str | None, spec: str) -> dict[str, list[int]]:
    """Return the rows of each part to read."""
    matches = [column for column in columns if str(column).lower() in _PART_COLUMNS]
    if not matches:
        choose_parts(["all"], split=split, spec=spec)
        return {"all": list(range(rows))}
    column = _column(columns, _PART_COLUMNS, what="parts", spec=spec)
    parts: dict[str, list[int]] = {}
    for row, value in enumerate(columns[column]):
        parts.setdefault(part_name(str(value)) or str(value), []).append(row)
    known = set(parts) <= {"train", "val", "test"}
    if split is None and not known and len(parts) > 1:
        msg = f"{spec} has the parts {', '.join(parts)} in {column!r}: call them train, val and test, or pass a split"
        raise DataError(msg)
    chosen = choose_parts(parts, split=None if split is None else part_name(split) or split, spec=spec)
    return {part: parts[part] for part in chosen}
