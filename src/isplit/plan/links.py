"""Load links by name, by file or from stated figures, and read traces of links that change."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isplit.errors import InputError
from isplit.plan.presets import link_presets
from isplit.plan.units import (
    FASTEST_BITS_PER_S,
    LONGEST_MS,
    LONGEST_S,
    parse_duration,
    parse_number,
    parse_rate,
    parse_share,
)
from isplit.records import LinkRecord, LinkTrace, TracePoint, read_shared
from isplit.records.files import LARGEST_TABLE_BYTES, FileTooLargeError, read_limited

ASSUMED_ROUND_TRIP = "0 ms round trip assumed"
"""A source of every link that was stated without a round trip; the answer of a plan repeats it."""


def link_names() -> tuple[str, ...]:
    """Return the names of the link presets."""
    return tuple(link_presets())


def load_link(spec: str | Path | LinkRecord, *, name: str) -> LinkRecord:
    """Return a link from a preset's name, a file that `isplit probe` wrote, or its figures.

    Figures are "RATE,RTT[,LOSS]" such as "4Mbit/s,50ms" or "1MB/s,20ms,1%". Two rates, up and down, are joined by a
    colon: "2Mbit/s:8Mbit/s,50ms". `isplit.plan.units` tells rates in bits from rates in bytes. Without a round trip,
    0 ms is taken, and `sources` says that this is an assumption.

    Raises:
        InputError: the text is none of these, or a figure is invalid. `name` is the argument that the message names.

    """
    if isinstance(spec, LinkRecord):
        return spec
    text = str(spec)
    presets = link_presets()
    if text in presets:
        return presets[text]
    path = Path(text)
    if path.is_file():
        return read_shared(LinkRecord, path, command="isplit probe")
    if text.lower() in presets:
        msg = f"{name} is {text!r}; write {text.lower()} for the preset"
        raise InputError(msg)
    if path.is_dir() and text:
        msg = f"{name} is {text!r}, a directory; give a file that `isplit probe` wrote"
        raise InputError(msg)
    if "," in text or any(character.isdigit() for character in text[:1]):
        return _stated(text, name=name)
    msg = (
        f"{name} is {text!r}, which is neither a preset ({', '.join(presets)}), a file that `isplit probe` wrote, nor "
        "figures such as 4Mbit/s,50ms or 2Mbit/s:8Mbit/s,50ms,1% (rate up and down, round trip, loss)"
    )
    raise InputError(msg)


def _stated(text: str, *, name: str) -> LinkRecord:
    parts = [part.strip() for part in text.split(",")]
    if not 1 <= len(parts) <= 3 or not all(parts):
        msg = f"{name} is {text!r}; give RATE,RTT[,LOSS], for example 4Mbit/s,50ms or 4Mbit/s,50ms,1%"
        raise InputError(msg)
    if parts[0].isdigit() and len(parts) > 1 and parts[1].endswith(("/s", "ps")):
        msg = f"{name} is {text!r}; a comma separates figures, so write decimals with a point: {parts[0]}.{parts[1]}"
        raise InputError(msg)
    up_text, colon, down_text = parts[0].partition(":")
    up = parse_rate(up_text, name=f"{name} has a rate that")
    down = parse_rate(down_text, name=f"{name} has a rate down that") if colon else up
    rtt_ms = parse_duration(parts[1], name=f"{name} has a round trip that") if len(parts) > 1 else 0.0
    loss = parse_share(parts[2], name=f"{name} has a loss that") if len(parts) > 2 else 0.0
    title = f"a link of {text.replace(',', ', ')}"
    return LinkRecord(
        name="stated",
        title=title,
        source="estimated",
        sources=("stated by the user", *(() if len(parts) > 1 else (ASSUMED_ROUND_TRIP,))),
        up_bits_per_s=up,
        down_bits_per_s=down,
        rtt_ms=rtt_ms,
        loss_up=loss,
        loss_down=loss,
    )


_COLUMNS = ("time_s", "bits_per_s", "rtt_ms", "loss")
_LARGEST_VALUES = {
    "time_s": LONGEST_S,
    "bits_per_s": FASTEST_BITS_PER_S,
    "down_bits_per_s": FASTEST_BITS_PER_S,
    "rtt_ms": LONGEST_MS,
}


def read_trace(path: Path) -> LinkTrace:
    """Read a link that changes from a CSV file with the columns time_s, bits_per_s, rtt_ms and loss.

    The rate down may have a column of its own, `down_bits_per_s`; without one it is the rate up. Loss is a share. The
    last point lasts as long as the one before it (a second where there is only one), then the trace starts again.

    Raises:
        InputError: the file cannot be read, lacks a column or rows, or holds invalid figures. The message gives the
            line.

    """
    try:
        text = read_limited(path, limit_bytes=LARGEST_TABLE_BYTES, kind="a trace of a link").decode("utf-8-sig")
    except FileTooLargeError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        msg = f"cannot read the trace {path}: {reason}"
        raise InputError(msg) from error
    try:
        return _read_rows(csv.DictReader(text.splitlines(), skipinitialspace=True), path)
    except csv.Error as error:
        msg = f"the trace {path} is not a table: {error}"
        raise InputError(msg) from error


def _read_rows(rows: "csv.DictReader[str]", path: Path) -> LinkTrace:
    missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        msg = (
            f"the trace {path} has no column {', '.join(missing)}; its first line has to be {','.join(_COLUMNS)}: "
            "seconds, bits per second (not bytes), milliseconds, and the share of packets lost"
        )
        raise InputError(msg)
    points: list[TracePoint] = []
    for row in rows:
        points.append(_point(row, path=path, line=rows.line_num))
    if not points:
        msg = f"the trace {path} is empty: after the line of column names it needs at least one line of figures"
        raise InputError(msg)
    step = points[-1].time_s - points[-2].time_s if len(points) > 1 else 1.0
    step = step if step > 0 else 1.0  # the record refuses times that do not grow, in words
    try:
        return LinkTrace(name=path.stem, points=tuple(points), seconds=points[-1].time_s + step)
    except InputError as error:
        msg = f"the trace {path} cannot be played: {str(error).removeprefix('LinkTrace: ')}"
        raise InputError(msg) from error


def _point(row: Mapping[str | None, Any], *, path: Path, line: int) -> TracePoint:
    if None in row:  # where csv.DictReader puts what has no column
        msg = f"{path}, line {line} has more figures than there are columns; write decimals with a point"
        raise InputError(msg)
    values: dict[str, float] = {}
    for column in (*_COLUMNS, "down_bits_per_s"):
        text = row.get(column)
        if text is None and column == "down_bits_per_s":
            continue
        values[column] = parse_number(text or "")
        if not math.isfinite(values[column]) or values[column] < 0:
            shown = "missing" if text is None else repr(text)
            shown = shown if len(shown) <= 40 else f"{shown[:40]}…"
            msg = f"{path}, line {line}: {column} is {shown}; give a number of at least 0, without a unit"
            raise InputError(msg)
    for column, most in _LARGEST_VALUES.items():
        if values.get(column, 0.0) > most:
            msg = f"{path}, line {line}: {column} is {values[column]:g}; give at most {most:g}"
            raise InputError(msg)
    if values["loss"] >= 1:
        msg = f"{path}, line {line}: loss is {values['loss']:g}; give a share below 1, so that 1 % is 0.01"
        raise InputError(msg)
    return TracePoint(
        time_s=values["time_s"],
        up_bits_per_s=values["bits_per_s"],
        down_bits_per_s=values.get("down_bits_per_s", values["bits_per_s"]),
        rtt_ms=values["rtt_ms"],
        loss=values["loss"],
    )
