"""Make the times at which devices send requests: at a fixed period, at random, or as a file gives them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError
from isplit.plan.units import LONGEST_S, parse_number
from isplit.records.files import LARGEST_TABLE_BYTES, FileTooLargeError, read_limited

Values = NDArray[np.float64]

MOST_REQUESTS = 5_000_000
"""A simulation of more requests than this would take memory in gigabytes."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Hold when each request is made and by which device, sorted by device and then by time."""

    time_ms: Values
    device: NDArray[np.intp]


def periodic(*, devices: int, period_ms: float, duration_s: float, random: np.random.Generator) -> Requests:
    """Make requests at a fixed period. Each device begins at a random point of it, so that devices are not in step."""
    count = _count(devices, period_ms, duration_s)
    phases = random.random(devices) * period_ms
    times = phases[:, None] + period_ms * np.arange(count)[None, :]
    return Requests(time_ms=times.ravel(), device=np.repeat(np.arange(devices), count))


def poisson(*, devices: int, period_ms: float, duration_s: float, random: np.random.Generator) -> Requests:
    """Make requests at random: each device follows a Poisson process with that mean period."""
    _count(devices, period_ms, duration_s)
    counts = random.poisson(1e3 * duration_s / period_ms, devices)
    device = np.repeat(np.arange(devices), counts)
    times = random.random(int(counts.sum())) * 1e3 * duration_s
    order = np.lexsort((times, device))
    return Requests(time_ms=times[order], device=device[order])


def at_times(times_s: Values, *, devices: int, random: np.random.Generator) -> Requests:
    """Make every device's requests at the given times, each device shifted by up to the mean gap between them."""
    ordered = np.sort(times_s) * 1e3
    if len(ordered) * devices > MOST_REQUESTS:
        msg = (
            f"devices is {devices:,}: with {len(ordered):,} request times each they make more than {MOST_REQUESTS:,} "
            "requests; take fewer devices or fewer times"
        )
        raise InputError(msg)
    gap = float(np.diff(ordered).mean()) if len(ordered) > 1 else 0.0
    shifts = random.random(devices) * gap if devices > 1 else np.zeros(devices)
    times = shifts[:, None] + ordered[None, :]
    return Requests(time_ms=times.ravel(), device=np.repeat(np.arange(devices), len(ordered)))


def read_times(path: Path) -> Values:
    """Read request times in seconds, one on each line. Lines that begin with # are ignored.

    Raises:
        InputError: the file cannot be read or is empty, or a line is not a number of at least 0.

    """
    try:
        content = read_limited(path, limit_bytes=LARGEST_TABLE_BYTES, kind="a file of request times")
        lines = content.decode("utf-8-sig").splitlines()
    except FileTooLargeError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        msg = f"cannot read the request times in {path}: {reason}"
        raise InputError(msg) from error
    times: list[float] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        value = parse_number(text)
        if not 0 <= value <= LONGEST_S:
            msg = (
                f"{path}, line {number}: {text[:40]!r} is no time; give one number of seconds a line, from 0 to "
                f"{LONGEST_S:g}"
            )
            raise InputError(msg)
        times.append(value)
    if not times:
        msg = f"{path} holds no request times; give one number of seconds a line"
        raise InputError(msg)
    return np.array(times)


def _count(devices: int, period_ms: float, duration_s: float) -> int:
    """Return the number of requests of one device, which is at least one, and refuse too many of all devices."""
    count = max(float(np.floor(1e3 * duration_s / period_ms)), 1.0)  # infinite where the period is tiny
    requests = devices * count
    if requests > MOST_REQUESTS:
        number = f"{requests:,.0f}" if requests < 1e12 else f"{requests:.0e}"
        msg = (
            f"devices is {devices:,}: with a request every {period_ms:g} ms for {duration_s:g} s they make {number} "
            f"requests, more than {MOST_REQUESTS:,}; take fewer devices, a longer period or a shorter duration"
        )
        raise InputError(msg)
    return int(count)
