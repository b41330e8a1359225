"""Profiles of devices that nobody measured: presets with the source of each figure, and rates that a user states."""

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from isplit.errors import InputError
from isplit.records import ComputeRates, Machine, Power, ProfileRecord, read_shared

_HPL = (
    "HPL (double precision) {gflops} Gflop/s at {watts} W, from github.com/geerlingguy/top500-benchmark; half of twice "
    "that is assumed for float32 convolutions in onnxruntime"
)
_ASSUMED = (
    "resize, compression and disk rates are assumptions of isplit, scaled from a desktop by the rate of operations"
)


def _preset(
    name: str,
    title: str,
    *,
    gmacs_per_s: float,
    memory_gb_per_s: float,
    memory_gib: float,
    active_w: float,
    idle_w: float,
    pixels_per_s: float,
    cores: int,
    processor: str,
    sources: tuple[str, ...],
    accelerator: str | None = None,
) -> ProfileRecord:
    return ProfileRecord(
        isplit_version=version("isplit"),
        name=name,
        title=title,
        source="estimated",
        sources=(*sources, _ASSUMED),
        machine=Machine(
            processor=processor,
            architecture="aarch64",
            system="Linux",
            logical_cores=cores,
            memory_bytes=int(memory_gib * 2**30),
            accelerator=accelerator,
        ),
        power=Power(meter="stated", active_w=active_w, idle_w=idle_w),
        rates=ComputeRates(
            macs_per_s=gmacs_per_s * 1e9,
            memory_bytes_per_s=memory_gb_per_s * 1e9,
            pixels_per_s=pixels_per_s,
            symbols_per_s=pixels_per_s / 30,
            load_bytes_per_s=4e7,
            overhead_ms=0.5,
            spread=1.2,
        ),
    )


def _presets() -> dict[str, ProfileRecord]:
    return {
        profile.name: profile
        for profile in (
            _preset(
                "pi4",
                "Raspberry Pi 4",
                gmacs_per_s=5.9,
                memory_gb_per_s=4.0,
                memory_gib=4,
                active_w=7.2,
                idle_w=2.7,
                pixels_per_s=2e7,
                cores=4,
                processor="Broadcom BCM2711, 4 x Cortex-A72 at 1.8 GHz",
                sources=(
                    _HPL.format(gflops=11.889, watts=7.2),
                    "as a check, ncnn's benchmark README gives 61.9 ms for MobileNetV2 (0.30 GMAC) at 1.8 GHz and "
                    "233 ms for ResNet-18 (1.8 GMAC) at 1.5 GHz on four threads, which is 4.9 and 7.8 GMAC/s",
                    "4 GB/s of memory bandwidth and 2.7 W when idle are assumptions of isplit",
                ),
            ),
            _preset(
                "pi5",
                "Raspberry Pi 5",
                gmacs_per_s=15.1,
                memory_gb_per_s=9.0,
                memory_gib=8,
                active_w=11.0,
                idle_w=3.3,
                pixels_per_s=5e7,
                cores=4,
                processor="Broadcom BCM2712, 4 x Cortex-A76 at 2.4 GHz",
                sources=(
                    _HPL.format(gflops=30.249, watts=11),
                    "9 GB/s of memory bandwidth (LPDDR4X-4267, 17 GB/s nominal) and 3.3 W when idle are assumptions",
                ),
            ),
            _preset(
                "jetson-nano",
                "Jetson Nano",
                gmacs_per_s=47.0,
                memory_gb_per_s=15.0,
                memory_gib=4,
                active_w=10.0,
                idle_w=2.0,
                pixels_per_s=2e7,
                cores=4,
                processor="4 x Cortex-A57",
                accelerator="128 CUDA cores (Maxwell) at 921 MHz",
                sources=(
                    "128 cores at 921 MHz are 118 GMAC/s of float32 at most, of which 40 % are assumed; memory of "
                    "25.6 GB/s, of which 60 % are assumed; power mode of 10 W (NVIDIA's specification)",
                    "2 W when idle is an assumption",
                ),
            ),
            _preset(
                "jetson-orin-nano",
                "Jetson Orin Nano",
                gmacs_per_s=256.0,
                memory_gb_per_s=41.0,
                memory_gib=8,
                active_w=15.0,
                idle_w=4.0,
                pixels_per_s=5e7,
                cores=6,
                processor="6 x Cortex-A78AE at 1.5 GHz",
                accelerator="1024 CUDA cores (Ampere) at 625 MHz",
                sources=(
                    "1,024 cores at 625 MHz are 640 GMAC/s of float32 at most, of which 40 % are assumed; memory of "
                    "68 GB/s, of which 60 % are assumed; power mode of 15 W (NVIDIA's Jetson Orin Nano data sheet)",
                    "4 W when idle is an assumption",
                ),
            ),
            _preset(
                "phone",
                "A phone of the upper middle class",
                gmacs_per_s=25.0,
                memory_gb_per_s=12.0,
                memory_gib=6,
                active_w=4.0,
                idle_w=0.8,
                pixels_per_s=8e7,
                cores=8,
                processor="4 fast and 4 slow 64-bit Arm cores",
                sources=("every figure is an assumption of isplit, without a reference: measure your phone",),
            ),
        )
    }


THIS_MACHINE = "this-machine"
"""The name under which a device or a server is the machine that the command runs on."""


def preset_names() -> tuple[str, ...]:
    """Return the names of the device presets."""
    return tuple(_presets())


def load_device(spec: str | Path | ProfileRecord, *, name: str) -> ProfileRecord:
    """Return a profile from a preset's name, "this-machine", or a file that `isplit profile` wrote.

    Args:
        spec: The name or the path; a profile is returned as it is.
        name: Where it was given, for messages ("--device").

    Raises:
        InputError: it is no preset and no file, or the file is no profile.

    """
    if isinstance(spec, ProfileRecord):
        return spec
    presets = _presets()
    if str(spec) in presets:
        return presets[str(spec)]
    if str(spec) == THIS_MACHINE:
        return this_machine()
    path = Path(spec)
    if not path.exists():
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
    *bytes* per second of memory bandwidth. Optional are `watts`, `idle_watts`, `memory_gb` (10^9 bytes) and
    `overhead_ms` for each call.

    Raises:
        InputError: an unknown or missing name, or a value that is no positive number.

    """
    known = ("gflops", "gbps", "watts", "idle_watts", "memory_gb", "overhead_ms")
    values: dict[str, float] = {}
    for item in text.split(","):
        key, equals, number = (part.strip() for part in item.partition("="))
        if key not in known or not equals:
            msg = f"--estimate has {item!r}; give NAME=NUMBER with names {', '.join(known)}: gflops=4,gbps=3"
            raise InputError(msg)
        try:
            values[key] = float(number)
        except ValueError:
            values[key] = -1.0
        if not 0 < values[key] < 1e9:
            msg = f"--estimate has {item!r}; {key} has to be a number above 0 (and below 10^9)"
            raise InputError(msg)
    if missing := [key for key in ("gflops", "gbps") if key not in values]:
        msg = f"--estimate is {text!r} and lacks {' and '.join(missing)}: give gflops=4,gbps=3"
        raise InputError(msg)
    watts, idle_watts = values.get("watts"), values.get("idle_watts", 0.0)
    if (watts is None and idle_watts) or (watts is not None and idle_watts > watts):
        msg = f"--estimate is {text!r}: idle_watts needs watts beside it, at least as large"
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
