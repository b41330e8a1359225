"""Predicted against measured end-to-end latency over made links: models x placements x links.

    python experiments/latency_check.py prepare --work DIR     studies and bundles (needs torch and the data)
    python experiments/latency_check.py measure --work DIR     profile this machine and measure, in turn; resumable
    python experiments/latency_check.py report                 the table and the errors, from the committed results

Device and server are two processes on this machine, in two network namespaces joined by a link of 1, 5, 20 or 100
Mbit/s (the kernel's tbf) with delay, and for some with loss, by isplit's relay. The prediction is `isplit.plan` with a
profile of this machine, as device and as server; with the link's rate and loss as they were asked for; and with the
round trip that `isplit probe` measured of the made link, because the relay adds some tenths of a millisecond to what it
was asked for.

A virtual machine changes its speed within seconds, so a link is measured in rounds: a short profile, directly after it
some images of every placement, and again. A placement's prediction is the median of the rounds' plans, and its
measurement the median of the images of all rounds. Nothing is fitted to the measurements. Both begin with the decoded
picture. Results are JSON lines, one for each (model, placement, budget, link); what stands there is not measured again.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from isplit.plan.devices import this_machine
from isplit.plan.links import load_link
from isplit.plan.planner import plan
from isplit.records import Answer, Compression, LinkRecord, PlannedPlacement, PlanRecord
from isplit.records.runs import median_parts_ms
from isplit.runtime.bench.device_process import DeviceTask, run_device
from isplit.runtime.bundle import Bundle
from isplit.runtime.link import Link, open_link
from isplit.runtime.profile.measure import profile_bundle
from isplit.runtime.profile.settings import ProfileSettings
from isplit.runtime.served import served
from isplit.workflows.bench import planned_placement

RESULTS = Path(__file__).parent / "results" / "latency_check.jsonl"
DATA = os.environ.get("ISPLIT_DATA", "../shared/data")
BUDGETS = (512, 4096)
LINKS = ("1Mbit/s,50ms", "5Mbit/s,20ms", "20Mbit/s,10ms", "100Mbit/s,4ms", "5Mbit/s,20ms,1%")
IMAGES, ROUNDS = 40, 5
PROFILE_RUNS = 12
"""The timed runs of every part in each of the rounds."""
MEDIAN_ERROR, P95_ERROR = 0.05, 0.15
"""What the errors should be at most."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the check: how it is analysed, and the cuts that are run."""

    name: str
    options: tuple[str, ...]
    cuts: tuple[str, ...]


MODELS = (
    Model(
        name="mobilenet_v2",
        options=("--weights", f"{DATA}/mobilenet_v2-b0353104.pth", "--image-size", "160"),
        cuts=("features.3", "features.6", "features.10"),
    ),
    Model(
        name="resnet18",
        options=("--num-classes", "20", "--image-size", "128"),
        cuts=("layer1.1", "layer2.1", "layer3.1"),
    ),
)


def prepare(work: Path) -> None:
    """Analyse every model, predict its cuts, and export a bundle for every budget; what is there stays."""
    for model in MODELS:
        study, cuts = work / model.name, ",".join(model.cuts)
        data = f"{DATA}/tiny-imagenet-20.zip"
        if not (study / "curve.json").exists():
            _isplit(
                "analyze", f"torchvision:{model.name}", data, "-o", str(study), *model.options, "--images", "16", "-q"
            )
        if not (study / "predictions.json").exists():
            budgets = [word for budget in BUDGETS for word in ("--bytes", str(budget))]
            few = ("--statistics-images", "256", "--images", "40", "--remote-images", "40", "-q")
            _isplit("predict", str(study), "--cuts", cuts, *budgets, *few)
        for budget in BUDGETS:
            if not (bundle := _bundle(work, model, budget)).exists():
                chosen = ("--cuts", cuts, "--bytes", str(budget), "--images", "4", "-q")
                _isplit("export", str(study), *chosen, "-o", str(bundle))


def measure(work: Path) -> None:
    """Profile this machine and measure every placement, in turn, for every bundle and link."""
    with suppress(OSError):
        # Other work on this machine is no part of the check; the processes that are started here inherit this.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    images = _images(work)
    for model in MODELS:
        for budget in BUDGETS:
            bundle = Bundle.open(_bundle(work, model, budget))
            for spec in LINKS:
                todo = [name for name in _placements(model, budget) if _key(model, name, budget, spec) not in _done()]
                if not todo:
                    continue
                link = load_link(spec, name="link")
                for row in _measured(bundle, link, todo, images, study=work / model.name):
                    _append({"model": model.name, "budget": budget, "link": spec, **row})


@dataclass(kw_only=True)
class _Comparison:
    """Collects what the plan of each round expects of a placement, and the answers of each round."""

    expected: list[PlannedPlacement] = field(default_factory=list[PlannedPlacement])
    answers: list[Answer] = field(default_factory=list[Answer])

    def row(self, placement: str) -> dict[str, Any]:
        """Return medians over the rounds beside medians over all images."""
        times = [answer.timings.total_ms - (answer.timings.decode_image_ms or 0.0) for answer in self.answers]
        predicted_ms = float(np.median([entry.latency_ms for entry in self.expected]))
        measured_ms = float(np.median(times))
        parts = [entry.latency.model_dump() for entry in self.expected]
        parts_ms = {key: float(np.median([values[key] for values in parts])) for key in parts[0]}
        return {
            "placement": placement,
            "images": len(times),
            "rounds": len(self.expected),
            "predicted_ms": round(predicted_ms, 3),
            "measured_ms": round(measured_ms, 3),
            "error": round(predicted_ms / measured_ms - 1, 4),
            "predicted_p95_ms": round(float(np.median([entry.latency_p95_ms for entry in self.expected])), 3),
            "measured_p95_ms": round(float(np.percentile(times, 95)), 3),
            "predicted_parts_ms": {key: round(value, 3) for key, value in parts_ms.items() if value},
            "measured_parts_ms": {key: round(value, 3) for key, value in median_parts_ms(self.answers).items()},
        }


def _measured(
    bundle: Bundle, link: LinkRecord, placements: list[str], images: list[Path], *, study: Path
) -> Iterator[dict[str, Any]]:
    """Yield a row for every placement over one link."""
    comparisons = {name: _Comparison() for name in placements}
    with open_link(
        rate_bits_per_s=int(link.up_bits_per_s), rtt_ms=link.rtt_ms, loss_up=link.loss_up, loss_down=link.loss_down
    ) as opened:
        if opened.rate_bits_per_s is None:
            sys.exit(f"no link can be made on this machine: {opened.reason}")
        with served(bundle.directory, host=opened.host) as address:
            for number in range(ROUNDS):
                planned = _planned(study, bundle, link.model_copy(update={"rtt_ms": _probed_rtt_ms(opened, address)}))
                base = DeviceTask(
                    bundle=str(bundle.directory),
                    images=tuple(map(str, images[number::ROUNDS])),
                    placement="local",
                    server=address,
                    insecure=True,
                    pause_ms=20.0,
                )
                for name, comparison in comparisons.items():
                    expected = planned_placement(planned, name, bundle.record)
                    if expected is None:
                        sys.exit(f"the plan has no placement {name}")
                    comparison.expected.append(expected)
                    comparison.answers += run_device(replace(base, placement=name), prefix=opened.prefix).answers
    for name, comparison in comparisons.items():
        yield comparison.row(name)


def _planned(study: Path, bundle: Bundle, link: LinkRecord) -> PlanRecord:
    """Profile this machine, and plan a study for it on both sides of a link.

    Of the image settings only the one that the bundle sends is timed; a profile of all takes three times as long.
    """
    assert bundle.record.remote is not None
    sent = bundle.record.remote.recommended
    compression = Compression(format=sent.format, quality=sent.quality, scale=sent.scale)
    settings = ProfileSettings(runs=PROFILE_RUNS, memory=False, energy=False)
    pictures = _images(study.parent)
    machine = profile_bundle(bundle, name="this", pictures=pictures, settings=settings, compressions=[compression])
    machine = machine.model_copy(update={"rates": this_machine().rates})
    return plan(study, device=machine, server=machine, link=link)


def _probed_rtt_ms(opened: Link, address: str) -> float:
    """Return the round trip that `isplit probe` measures from the device's side of the made link."""
    options = ("--seconds", "0.1", "--round-trips", "40", "--json", "-o", "/dev/null")
    command = [*opened.prefix, sys.executable, "-m", "isplit", "probe", address, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["rtt_ms"])


def report() -> None:
    """Print every combination, and the errors of the medians and of the 95th percentiles."""
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    for row in sorted(rows, key=lambda row: (row["model"], row["placement"], row["budget"], row["link"])):
        print(
            f"{row['model']:13} {row['placement']:12} {row['budget']:5} {row['link']:16} predicted "
            f"{row['predicted_ms']:7.1f} ms, measured {row['measured_ms']:7.1f} ms ({row['error']:+.1%})"
        )
    print()
    print("| | combinations | median error | 95th percentile of errors | largest |")
    print("|---|--:|--:|--:|--:|")
    splits = [row for row in rows if row["placement"] not in ("local", "remote")]
    print(_errors("all", rows))
    print(_errors("those that use the link", [row for row in rows if row["placement"] != "local"]))
    print(_errors("splits", splits))
    for link in LINKS:
        print(_errors(f"splits over {link}", [row for row in splits if row["link"] == link]))
    print(f"The aims are {MEDIAN_ERROR:.0%} for the median error and {P95_ERROR:.0%} for the 95th percentile.")


def _errors(title: str, rows: list[dict[str, Any]]) -> str:
    """Return a line of a Markdown table with the errors of some combinations."""
    errors = np.abs([row["error"] for row in rows])
    figures = (np.median(errors), np.percentile(errors, 95), errors.max())
    return f"| {title} | {len(rows)} | " + " | ".join(f"{100 * figure:.1f} %" for figure in figures) + " |"


def _placements(model: Model, budget: int) -> list[str]:
    # Sending the image and running locally do not depend on the budget.
    return [*model.cuts, *(("remote", "local") if budget == BUDGETS[0] else ())]


def _bundle(work: Path, model: Model, budget: int) -> Path:
    return work / f"{model.name}-{budget}"


def _images(work: Path) -> list[Path]:
    """Return images of the data set as files, which are written when first asked for."""
    import zipfile

    folder = work / "images"
    if not folder.exists():
        folder.mkdir(parents=True)
        with zipfile.ZipFile(f"{DATA}/tiny-imagenet-20.zip") as archive:
            names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg", ".png")))
            for number, name in enumerate(names[:: max(len(names) // IMAGES, 1)][:IMAGES]):
                (folder / f"{number:03}{Path(name).suffix.lower()}").write_bytes(archive.read(name))
    return sorted(folder.iterdir())


def _key(model: Model, placement: str, budget: int, link: str) -> tuple[str, str, int, str]:
    return model.name, placement, budget, link


def _done() -> set[tuple[str, str, int, str]]:
    if not RESULTS.exists():
        return set()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return {(row["model"], row["placement"], row["budget"], row["link"]) for row in rows}


def _append(row: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{row['model']} {row['placement']} {row['budget']} {row['link']}: {row['error']:+.1%}", flush=True)


def _isplit(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "isplit", *arguments], check=True)


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("prepare", "measure", "report"))
    parser.add_argument("--work", type=Path, default=Path("latency-check"), help="where studies and bundles are")
    arguments = parser.parse_args()
    if arguments.step == "report":
        report()
    else:
        {"prepare": prepare, "measure": measure}[arguments.step](arguments.work)


if __name__ == "__main__":
    main()
