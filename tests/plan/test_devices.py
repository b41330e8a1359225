"""Devices that nobody measured: presets, stated rates, and this machine."""

import itertools
from pathlib import Path

import pytest

from isplit.errors import InputError
from isplit.plan.devices import THIS_MACHINE, estimate_device, load_device, preset_names, this_machine
from isplit.records import write_shared


def test_presets_say_that_they_are_estimated_and_from_what():
    """Five devices with rates, power and sources; all are called estimated."""
    assert ("pi4", "pi5", "jetson-nano", "jetson-orin-nano", "phone") == preset_names()
    for name in preset_names():
        profile = load_device(name, name="--device")
        assert (True, True, True) == (profile.estimated, profile.rates is not None, bool(profile.sources))


def test_stated_rates():
    """A floating-point operation is half a multiply-accumulate operation; memory is in bytes."""
    profile = estimate_device("gflops=4,gbps=3,watts=5,idle_watts=1,memory_gb=2", name="board")
    assert profile.rates is not None
    assert profile.power is not None
    assert profile.machine is not None
    assert (2e9, 3e9) == (profile.rates.macs_per_s, profile.rates.memory_bytes_per_s)
    assert (5.0, 1.0, 2_000_000_000) == (profile.power.active_w, profile.power.idle_w, profile.machine.memory_bytes)
    assert ("board", True) == (profile.name, profile.estimated)


@pytest.mark.parametrize(
    "text",
    ["", "gflops=4", "gbps=3", "gflops=0,gbps=3", "gflops=x,gbps=3", "gflops=nan,gbps=3", "gflops=４,gbps=3",
     "gflops=1_0,gbps=3", "gflops=1e12,gbps=3",
     "tops=4", "gflops=4,gbps=3,idle_watts=1", "gflops=4,gbps=3,watts=1,idle_watts=2"],
)  # fmt: skip
def test_what_cannot_be_estimated_from_is_refused(text: str):
    """Missing and unknown names, rates that are none, and idle power above active power."""
    with pytest.raises(InputError, match="estimate"):
        estimate_device(text)


def test_files_and_unknown_names(tmp_path: Path):
    """A profile is read from a file; another name is refused with the names that there are."""
    profile = estimate_device("gflops=4,gbps=3")
    assert profile == load_device(str(write_shared(profile, tmp_path / "p.json")), name="--device")
    with pytest.raises(InputError, match="pi4, pi5, jetson-nano"):
        load_device("pi6", name="--device")


def test_this_machine_is_estimated_from_two_short_runs():
    """With a clock that gives every run a millisecond: 512^3 multiplications, of which half; and twice 16 MiB."""
    ticks = itertools.count()
    profile = this_machine(clock=lambda: next(ticks) / 1000)
    assert profile.rates is not None
    assert (512**3 * 1e3 / 2, 2 * 2**24 * 1e3) == pytest.approx(
        (profile.rates.macs_per_s, profile.rates.memory_bytes_per_s)
    )
    assert (THIS_MACHINE, True) == (profile.name, profile.estimated)
