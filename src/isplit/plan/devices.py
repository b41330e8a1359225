"""Load profiles of devices by name or by file, or estimate them from rates that a user states."""

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from isplit.errors import InputError
from isplit.plan.presets import device_presets
from isplit.plan.units import parse_number
from isplit.records import ComputeRates, Machine, Power, ProfileRecord, read_shared

_ASSUMED = (
    "resize, compression and disk rates are assumptions of isplit, scaled from a desktop by the rate of operations"
)


THIS_MACHINE = "this-machine"
"""The name under which a device or a server is the machine that the command runs on."""


def preset_names() -> tuple[str, ...]:
    """Return the names of the device presets."""
    return tuple(device_presets())


def load_device(spec: str | Path | ProfileRecord, *, name: str) -> ProfileRecord:
    """Return a profile from a preset's name, "this-machine", or a file that `isplit profile` wrote.

    Args:
        spec: The name or the path. A profile is returned as it is.
        name: The name of the argument, for messages ("device").

    Raises:
        InputError: there is neither a preset nor a file of that name, or the file is not a profile.

    """
    if isinstance(spec, ProfileRecord):
        return spec
    presets = device_presets()
    if str(spec) in presets:
        return presets[str(spec)]
    if str(spec) == THIS_MACHINE:
        return this_machine()
    path = Path(spec)
    if str(spec).lower() in presets and not path.exists():
        msg = f"{name} is {str(spec)!r}; write {str(spec).lower()} for the preset"
        raise InputError(msg)
    if path.is_dir() and str(spec):
        command = f"isplit profile {spec} -o device.json"
        msg = f"{name} is {str(spec)!r}, a directory; `{command}` measures this machine with it"
        raise InputError(msg)
    if not str(spec) or not path.exists():
        known = ", ".join([*presets, THIS_MACHINE])
        msg = (
            f"{name} is {str(spec)!r}, which is neither a preset ({known}) nor a file; "
            "`isplit profile` writes a file for the machine that it runs on"
        )
        raise InputError(msg)
    return read_shared(ProfileRecord, path, command="isplit profile")


def estimate_device(text: str, *, name: str | None = None) -> ProfileRecord:
    """Return a profile from stated rates, such as "gflops=4,gbps=3".

    `gflops` are 10^9 floating-point operations per second (two for each multiply-accumulate operation), `gbps` are 10^9
    *bytes* per second of memory bandwidth. `watts`, `idle_watts`, `memory_gb` (10^9 bytes) and `overhead_ms` (for each
    call) are optional.

    Raises:
        InputError: a name is unknown or missing, or a value is not a positive number.

    """
    values = _stated_rates(text)
    watts, idle_watts = values.get("watts"), values.get("idle_watts", 0.0)
    if (watts is None and idle_watts) or (watts is not None and idle_watts > watts):
        msg = f"estimate is {text!r}: idle_watts needs watts beside it, at least as large"
        raise InputError(msg)
    memory_gb = values.get("memory_gb")
    title = f"a device of {values['gflops']:g} Gflop/s and {values['gbps']:g} GB/s"
    unknown = Machine(
        processor="unknown",
        architecture="unknown",
        system="unknown",
        memory_bytes=None if memory_gb is None else int(memory_gb * 1e9),
    )
    pixels_per_s = 3.4e6 * values["gflops"] / 2
    return ProfileRecord(
        isplit_version=version("isplit"),
        name=name or "estimate",
        title=name or title,
        source="estimated",
        sources=(f"stated by the user: {text}", _ASSUMED),
        machine=unknown,
        power=None if watts is None else Power(meter="stated", active_w=watts, idle_w=idle_watts),
        rates=ComputeRates(
            macs_per_s=values["gflops"] / 2 * 1e9,
            memory_bytes_per_s=values["gbps"] * 1e9,
            pixels_per_s=pixels_per_s,
            symbols_per_s=pixels_per_s / 30,
            load_bytes_per_s=4e7,
            overhead_ms=values.get("overhead_ms", 0.5),
            spread=1.2,
        ),
    )


def _stated_rates(text: str) -> dict[str, float]:
    """Return the numbers of an estimate by name, each checked by itself."""
    known = ("gflops", "gbps", "watts", "idle_watts", "memory_gb", "overhead_ms")
    values: dict[str, float] = {}
    for item in text.split(","):
        key, equals, number = (part.strip() for part in item.partition("="))
        if key not in known or not equals:
            msg = f"estimate has {item!r}; give NAME=NUMBER with names {', '.join(known)}: gflops=4,gbps=3"
            raise InputError(msg)
        if key in values:
            msg = f"estimate is {text!r}, which gives {key} twice; give it once"
            raise InputError(msg)
        values[key] = parse_number(number)
        if not 1e-6 < values[key] < 1e9:
            msg = f"estimate has {item!r}; {key} has to be a number above 0 (from 10^-6 to 10^9)"
            raise InputError(msg)
    if missing := [key for key in ("gflops", "gbps") if key not in values]:
        msg = f"estimate is {text!r} and lacks {' and '.join(missing)}: give gflops=4,gbps=3"
        raise InputError(msg)
    return values


def this_machine(*, clock: Callable[[], float] = time.perf_counter) -> ProfileRecord:
    """Estimate this machine from a matrix product and a copy in memory, which take about a tenth of a second.

    The profile is "estimated", because no model was run: `isplit profile` measures the model itself.
    """
    size = 512
    matrix = np.ones((size, size), np.float32)
    macs_per_s = size**3 / _shortest_s(lambda: matrix @ matrix, clock=clock)
    block = np.ones(2**22, np.float32)
    copy_s = _shortest_s(block.copy, clock=clock)
    processor = platform.processor() or platform.machine()
    return ProfileRecord(
        isplit_version=version("isplit"),
        name=THIS_MACHINE,
        title="this machine",
        source="estimated",
        sources=(
            "rates of a 512 x 512 float32 matrix product and of a 16 MiB copy in numpy, just now; half of the first is "
            "taken for convolutions in onnxruntime",
        ),
        machine=Machine(processor=processor, architecture=platform.machine(), system=platform.system()),
        rates=ComputeRates(
            macs_per_s=macs_per_s / 2,
            memory_bytes_per_s=2 * block.nbytes / copy_s,
            pixels_per_s=1e8,
            symbols_per_s=2e6,
            load_bytes_per_s=5e8,
            overhead_ms=0.1,
        ),
    )


def _shortest_s(run: Callable[[], object], *, clock: Callable[[], float], times: int = 15) -> float:
    durations: list[float] = []
    for _ in range(times):
        start = clock()
        run()
        durations.append(clock() - start)
    return max(min(durations), 1e-9)
