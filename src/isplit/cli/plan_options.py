"""Options of the verbs that plan: the device, the link, the server, and the limits that a placement has to keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from isplit.cli.options import Options
from isplit.errors import InputError
from isplit.plan.devices import THIS_MACHINE, estimate_device, load_device
from isplit.plan.limits import MEMORY_WITH_UNIT, check_objective, make_limits, read_limits
from isplit.records import Limits, Objective, ProfileRecord

_DEFAULT_DEVICE = "pi4"


@dataclass(frozen=True, kw_only=True)
class MachineChoice:
    """The device, the link and the server of a plan.

    Args:
        device: The device to plan for: pi4, pi5, jetson-nano, jetson-orin-nano, phone, this-machine, or a file of
            `isplit profile`.
        link: The link to the server: ethernet, wifi, 5g, 4g, 3g, lte-m, nb-iot, ble, lora, a file of `isplit probe`, or
            rate and round trip: 4Mbit/s,50ms.
        server: The server, in any form that --device takes.
        estimate: Estimate the device from its rates instead of --device: 10^9 floating-point operations per second, and
            10^9 bytes of memory per second.
        scale: A factor for all times of the device, such as 1.3 for a slower one.

    """

    device: Annotated[str, typer.Option(metavar="NAME|FILE")] = _DEFAULT_DEVICE
    link: Annotated[str, typer.Option(metavar="NAME|FILE|RATE,RTT")] = "4g"
    server: Annotated[str, typer.Option(metavar="NAME|FILE")] = THIS_MACHINE
    estimate: Annotated[str | None, typer.Option(metavar="gflops=N,gbps=N")] = None
    scale: float = 1.0

    def device_profile(self) -> ProfileRecord:
        """Return the device's profile.

        Raises:
            InputError: there is no such device, or a figure cannot be.

        """
        if not 1e-6 < self.scale < 1e6:
            msg = f"--scale is {self.scale}; give a factor from 10^-6 to 10^6: 1.3 takes 1.3 times as long"
            raise InputError(msg)
        if self.estimate is not None and self.device != _DEFAULT_DEVICE:
            msg = f"--device is {self.device!r} and --estimate {self.estimate!r}; give only one of them"
            raise InputError(msg)
        profile = load_device(self.device, name="--device") if self.estimate is None else estimate_device(self.estimate)
        return profile if self.scale == 1 else profile.scaled(self.scale)


@dataclass(frozen=True, kw_only=True)
class LimitChoice:
    """What a placement has to keep, and what is best among those that do.

    Args:
        max_latency_ms: The highest median latency of an image.
        max_p95_latency_ms: The highest 95th percentile of the latency.
        min_accuracy: The lowest accuracy, as a share: 0.8 is 80 %.
        max_accuracy_loss: The largest loss of accuracy below the whole model, as a share. Default: 0.01.
        max_device_memory: The largest memory on the device: 150MB or 150MiB.
        max_device_energy_mj: The most energy that the device may spend on an image, in millijoules.
        max_wire_bytes: The most bytes that an image may take on the link, in both directions together.
        max_bytes_per_day: The most bytes of a day, in both directions together.
        min_images_per_s: The fewest images per second that have to be served.
        max_device_mac_share: The largest share of the operations that the device computes.
        hide_image: Exclude placements in which the server sees the image.
        hide_answer: Exclude placements in which the server sees the answer.
        limits: A YAML file with lines such as max_latency_ms: 100 or objective: bytes. The command line has priority.
        objective: What to optimise: latency, p95-latency, energy, bytes, accuracy or throughput. Default: latency.

    """

    max_latency_ms: float | None = None
    max_p95_latency_ms: float | None = None
    min_accuracy: float | None = None
    max_accuracy_loss: float | None = None
    max_device_memory: Annotated[str | None, typer.Option(metavar="SIZE")] = None
    max_device_energy_mj: float | None = None
    max_wire_bytes: float | None = None
    max_bytes_per_day: float | None = None
    min_images_per_s: float | None = None
    max_device_mac_share: float | None = None
    hide_image: bool = False
    hide_answer: bool = False
    limits: Annotated[Path | None, typer.Option(metavar="FILE")] = None
    objective: str | None = None

    def read(self) -> tuple[Limits, Objective]:
        """Join the limits of the file with those of the options, which win; return them with the objective.

        Raises:
            InputError: the file cannot be read, a limit makes no sense, or limits contradict each other.

        """
        stated: dict[str, object] = {
            name: getattr(self, name)
            for name in Limits.model_fields
            if name not in ("max_device_memory_bytes", "hide_image", "hide_answer")
        }
        stated[MEMORY_WITH_UNIT] = self.max_device_memory
        stated |= {"hide_image": self.hide_image or None, "hide_answer": self.hide_answer or None}
        fields: dict[str, object] = {}
        labels: dict[str, str] = {}
        objective: Objective | None = None
        if self.limits is not None:
            from_file, objective = read_limits(self.limits)
            fields = {name: value for name, value in dict(from_file).items() if value is not None}
            labels = {name: f"{self.limits}: {name}" for name in fields}
            if self.max_device_memory is not None:
                fields.pop("max_device_memory_bytes", None)
        given = {name: value for name, value in stated.items() if value is not None}
        labels |= {name: f"--{name.replace('_', '-')}" for name in given}
        limits = make_limits(fields | given, where="limits", labels=labels)
        if self.objective is not None:
            objective = check_objective(self.objective)
        return limits, objective or "latency"


MachineOptions = Annotated[MachineChoice, Options("Machines and links")]
LimitOptions = Annotated[LimitChoice, Options("Limits")]
