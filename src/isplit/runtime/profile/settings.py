"""Define the settings of `isplit profile`."""

from dataclasses import dataclass

from isplit.errors import InputError
from isplit.runtime.providers import Provider, check_provider
from isplit.setting_checks import check_ranges, check_types

_MOST_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class ProfileSettings:
    """Settings of `isplit profile`.

    Args:
        runs: Timed runs of every part of the model, after the warm-up.
        warm_up_runs: Untimed runs of every part before the first timed one.
        seconds: Stop timing a group of parts after this time, but not before five timed runs of each.
        threads: Threads of onnxruntime that share one operator's work; the number is recorded.
        provider: The execution provider of onnxruntime; the one that was really used is recorded.
        memory: Measure the peak memory of every placement in a process of its own.
        energy: Read the machine's energy meter (RAPL or NVML) where there is one.
        watts: Power while the machine computes, for a machine without a meter; marked as stated.
        idle_watts: Power while it waits, for a machine without a meter.

    Examples:
        >>> isplit.ProfileSettings(runs=100, threads=4).runs
        100

    """

    runs: int = 40
    warm_up_runs: int = 3
    seconds: float = 60.0
    threads: int = 1
    provider: Provider = "cpu"
    memory: bool = True
    energy: bool = True
    watts: float | None = None
    idle_watts: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        check_provider(self.provider)
        check_ranges(self, {"runs": (1, 100_000), "threads": (1, 256), "warm_up_runs": (0, 100_000)})
        if not 0 < self.seconds <= _MOST_SECONDS:
            msg = f"seconds is {self.seconds}; give a time above 0, up to {_MOST_SECONDS:,}"
            raise InputError(msg)
        if self.watts is not None and not 0 < self.watts < 1e6:
            msg = f"watts is {self.watts}; give the machine's power in watts, above 0"
            raise InputError(msg)
        if not 0 <= self.idle_watts <= (self.watts or 0.0):
            msg = f"idle_watts is {self.idle_watts}; give at most the watts, which have to be given too"
            raise InputError(msg)
