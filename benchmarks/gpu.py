"""Measure what an accelerator brings at design time, and whether it gives what the CPU gives, in under five minutes.

    python benchmarks/gpu.py [--device cuda] [--small] [--results DIR] [--seconds 270] [--only PART ...] [--again]

Everything is made up on the spot (pictures of 20 classes, ResNet-50 with normalised random weights and a fitted last
layer), so that the machine needs no network and no data. The parts, in their order:

    analyze     images per second of one plain forward and backward pass, of the gradient pass with CUI at every cut,
                and of all of the scoring with decoding; the aim is that scoring takes at most 1.15 times the plain pass
    predict     seconds of `predict` for all cuts of the curve with 640 + 500 images; the aim is one minute
    equality    the same candidates as on the CPU, and accuracies of some splits within 0.2 points
    training    one epoch of `fit` and of `fit --remote`, and a second call that finds them
    budgets     `predict` again with its three default budgets

Results go to benchmarks/results/gpu-CARD.json (or another directory), each part as soon as it is measured. A part that
fails leaves its error there, and the next one goes on. A second call measures only what is missing or has failed, and
no part is started after so many seconds. `--small` does all of it with ResNet-18 and few images; try it first, with
`--device cpu` as well.
"""

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from made_up_pictures import CLASSES, fit_to_pictures, write_pictures
from safetensors.torch import save_file
from torch import nn

import isplit
from isplit.design.devices import describe_device, device_of, placed, resolve_device, synchronise
from isplit.design.graph import ModelGraph, split
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.methods import METHODS
from isplit.design.importance.scoring import ScoreJob, score_images
from isplit.design.importance.table import ScoreTable
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset
from isplit.design.inputs.models import LoadedModel
from isplit.design.running import autocast, chosen_precision, evaluating
from isplit.design.settings import AnalyzeSettings, FitSettings, PredictSettings
from isplit.design.study import Study
from isplit.records import Precision, PredictionsRecord

RESULTS = Path(__file__).parent / "results"
AIM_ANALYZE, AIM_PREDICT_S, AIM_POINTS = 1.15, 60.0, 0.2


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        network: A classifier of torchvision.
        image_px: Side of the model's input.
        fit_images: Pictures of the fit part, for statistics and for those held out.
        statistics: Images that `predict` takes its moments from.
        select: Images that accuracies are measured on.
        batch: Images in a pass.
        rounds: Repetitions of the passes that are compared.
        compared_cuts: Cuts whose accuracy is compared with the CPU's.

    """

    network: str = "resnet50"
    image_px: int = 224
    fit_images: int = 1280
    statistics: int = 640
    select: int = 500
    batch: int = 64
    rounds: int = 15
    compared_cuts: int = 3


SMALL = Sizes(
    network="resnet18", image_px=64, fit_images=120, statistics=60, select=60, batch=16, rounds=2, compared_cuts=2
)


class Bench:
    """The model, the pictures and the studies that the parts share; each is made when it is first needed.

    Args:
        sizes: How much is measured.
        device: Where.
        folder: For files that are deleted afterwards.

    """

    def __init__(self, sizes: Sizes, device: torch.device, folder: Path) -> None:
        self.sizes = sizes
        self.device = device
        self.folder = folder

    @property
    def precision(self) -> Precision:
        """The precision that "auto" means on the device."""
        return chosen_precision("auto", device=self.device)

    @cached_property
    def data(self) -> Dataset:
        """Pictures as JPEG files of 8/7 the size of the model's input, in parts of their own."""
        sizes, side = self.sizes, self.sizes.image_px * 8 // 7
        counts = {"train": sizes.fit_images, "val": sizes.select, "test": 10 * CLASSES}
        write_pictures(self.folder / "pictures", counts, side=side)
        return isplit.open_data(str(self.folder / "pictures"))

    @cached_property
    def model(self) -> LoadedModel:
        """The network, with statistics and a last layer that are fitted to the pictures, from a file of its weights."""
        spec = f"torchvision:{self.sizes.network}"
        torch.manual_seed(0)
        module: nn.Module = getattr(torchvision.models, self.sizes.network)(weights=None, num_classes=CLASSES)
        weights = self.folder / "weights.safetensors"
        loaded = isplit.load_model(spec, num_classes=CLASSES, image_size=self.sizes.image_px)
        fit_to_pictures(module, self.data, loaded, device=self.device)
        save_file({name: value.contiguous() for name, value in module.state_dict().items()}, weights)
        return isplit.load_model(spec, weights=str(weights), num_classes=CLASSES, image_size=self.sizes.image_px)

    @cached_property
    def study(self) -> Study:
        """The study of the device."""
        return self.analyzed("study", str(self.device))

    def analyzed(self, name: str, device: str, precision: str = "auto") -> Study:
        """Analyze into a study of that name."""
        settings = AnalyzeSettings(
            images=self.sizes.statistics // 2,
            test_images=10 * CLASSES,
            batch_size=self.sizes.batch,
            precision=precision,  # type: ignore[arg-type] - the settings check it
            device=device,
        )
        return isplit.analyze(self.model, self.data, out=self.folder / name, settings=settings, announce=silent)

    def predicted(
        self, study: Study, budgets: list[int], device: str, *, cuts: tuple[str, ...] = (), precision: str = "auto"
    ) -> tuple[PredictionsRecord, dict[str, float]]:
        """Predict, and return the record with the seconds of each phase by what its progress was called."""
        settings = PredictSettings(
            statistics_images=self.sizes.statistics,
            images=self.sizes.select,
            remote_images=self.sizes.select if not cuts else 0,
            batch_size=self.sizes.batch,
            precision=precision,  # type: ignore[arg-type] - the settings check it
            device=device,
        )
        phases = PhaseClock()
        record = isplit.predict(study, budgets, cuts=cuts, settings=settings, progress=phases)
        return record, phases.seconds


def silent(record: object) -> None:
    """Say nothing of a study."""


class PhaseClock:
    """A progress function that adds the time since its last call to what has gone on meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note that there is progress."""
        now = time.perf_counter()
        self.seconds[what] = self.seconds.get(what, 0.0) + now - self._last
        self._last = now


def measure_analyze(bench: Bench) -> dict[str, Any]:
    """Compare passes over a batch on the device in turns, and the whole scoring with decoding."""
    sizes, device, precision = bench.sizes, bench.device, bench.precision
    study = bench.study
    graph, view = study.graph, study.view()
    cuts = [cut for cut in study.graph_record.cuts if cut.has_positions]
    gradients = GradientPass(graph, cuts)
    images = view.images("fit", limit=sizes.batch)
    with placed(graph.module, device=device):
        (batch,) = iter_batches(view.data, images, view.preprocessing, batch_size=sizes.batch, device=device)
        batch_images = batch.images.contiguous(memory_format=torch.channels_last)
        labels = view.labels(images)

        def objective(logits: torch.Tensor) -> torch.Tensor:
            return view.classes.decision(logits, torch.from_numpy(labels), "correct")

        contenders = {
            "plain": plain_pass(graph, cuts[0].name, batch_images, objective, precision),
            "gradient pass": lambda: gradients(batch_images, objective, METHODS["cui"].reduce, precision=precision),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        with evaluating(graph.module, frozen=True):
            for number in range(sizes.rounds + 2):
                for name, run in contenders.items():
                    synchronise(device)
                    started = time.perf_counter()
                    run()
                    synchronise(device)
                    if number > 1:  # the first rounds warm up
                        seconds[name].append(time.perf_counter() - started)
        order = np.resize(view.images("fit"), sizes.rounds * sizes.batch)
        job = ScoreJob(
            method=METHODS["cui"], target="correct", precision=precision, batch_size=sizes.batch, order=order
        )
        started = time.perf_counter()
        empty = ScoreTable.empty("bench", len(cuts))
        score_images(gradients, view.data, view.preprocessing, view.classes, job, empty, save=lambda table: None)
        scoring_s = time.perf_counter() - started
    medians = {name: statistics.median(values) / sizes.batch for name, values in seconds.items()}
    rates = {name: 1 / value for name, value in medians.items()} | {"scoring with decoding": len(order) / scoring_s}
    return {
        "images per second": rates,
        "gradient pass over plain": medians["gradient pass"] / medians["plain"],
        "scoring over plain": scoring_s / len(order) / medians["plain"],
        "aim": AIM_ANALYZE,
        "precision": precision,
        "batch": sizes.batch,
        "cuts": len(cuts),
    }


def plain_pass(
    graph: ModelGraph,
    cut: str,
    images: torch.Tensor,
    objective: Callable[[torch.Tensor], torch.Tensor],
    precision: Precision,
) -> Callable[[], None]:
    """Return a forward pass and a backward pass to the first cut."""
    sides, device = split(graph, cut), device_of(graph.module)

    def run() -> None:
        with autocast(precision, device=device):
            with torch.no_grad():
                start = sides.head(images)
            logits = sides.tail(start.detach().requires_grad_())
        objective(logits.float()).backward()

    return run


def measure_predict(bench: Bench, budgets: list[int]) -> dict[str, Any]:
    """Time `predict` for all cuts of the curve, images compressed for the remote baseline included."""
    study = bench.study
    started = time.perf_counter()
    record, phases = bench.predicted(study, budgets, str(bench.device))
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "aim": AIM_PREDICT_S,
        "phases": phases,
        "cuts": len({row.cut for row in record.predictions}),
        "budgets": budgets,
        "images": [bench.sizes.statistics, bench.sizes.select],
        "whole": record.predictions[0].measurement.whole.accuracy,
        "accuracies": {row.cut: row.measurement.accuracy.accuracy for row in record.predictions[:: len(budgets)]},
    }


def measure_equality(bench: Bench) -> dict[str, Any]:
    """Analyze and predict some cuts on the device and on the CPU, both in float32, and compare."""
    sizes, places = bench.sizes, ("cpu", str(bench.device))
    studies = [bench.analyzed(f"equal-{number}", place, "fp32") for number, place in enumerate(places)]
    candidates = [[candidate.cut for candidate in study.ranking.candidates] for study in studies]
    curve = [[point.cui or 1e-30 for point in study.curve.points] for study in studies]
    names = [cut.name for cut in studies[0].graph_record.cuts if cut.has_positions]
    cuts = tuple(names[len(names) // 2 :][: sizes.compared_cuts])
    records = [
        bench.predicted(study, [512], place, cuts=cuts, precision="fp32")[0]
        for study, place in zip(studies, places, strict=True)
    ]
    pairs = list(zip(records[0].predictions, records[1].predictions, strict=True))
    points = [100 * abs(a.measurement.accuracy.accuracy - b.measurement.accuracy.accuracy) for a, b in pairs]
    payloads = [b.measurement.payload_bytes.mean / a.measurement.payload_bytes.mean - 1 for a, b in pairs]
    return {
        "same candidates": candidates[0] == candidates[1],
        "candidates": candidates,
        "largest relative difference of importance": max(
            abs(a - b) / max(a, 1e-30) for a, b in zip(*curve, strict=True)
        ),
        "cuts": list(cuts),
        "accuracies": [[row.measurement.accuracy.accuracy for row in record.predictions] for record in records],
        "largest difference in points": max(points),
        "aim in points": AIM_POINTS,
        "largest difference of payloads": max(map(abs, payloads)),
        "compared on": [record.device for record in records],
    }


def measure_training(bench: Bench) -> dict[str, Any]:
    """Train a split and its opponent for an epoch, and see that a second call finds both."""
    study, sizes = bench.study, bench.sizes
    settings = FitSettings(epochs=1, images=sizes.statistics, select_images=sizes.select, device=str(bench.device))
    split_settings = replace(settings, statistics_images=sizes.statistics)
    names = [cut.name for cut in study.graph_record.cuts if cut.has_positions]
    cut = names[len(names) // 2]
    figures: dict[str, Any] = {"cut": cut, "images": sizes.statistics}
    for name, run in {
        "fit": lambda: isplit.fit(study, cut, 512, settings=split_settings),
        "fit --remote": lambda: isplit.fit_remote(study, "webp:30@0.5", settings=settings),
    }.items():
        started = time.perf_counter()
        record = run()
        seconds = time.perf_counter() - started
        assert record == run(), f"{name} trained again"
        figures[name] = {"seconds": seconds, "accuracy": record.measurement.accuracy.accuracy, "device": record.device}
    opened = isplit.open_study(study.directory)
    figures["seconds of verify"] = timed(
        lambda: isplit.verify(opened, 512, cuts=[cut, names[-1]], settings=split_settings)
    )
    return figures


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a function takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "analyze": measure_analyze,
    "predict": lambda bench: measure_predict(bench, [512]),
    "equality": measure_equality,
    "training": measure_training,
    "budgets": lambda bench: measure_predict(replace_study(bench), [128, 512, 2048]),
}


def replace_study(bench: Bench) -> Bench:
    """Return the bench with a new study, in which nothing is predicted yet."""
    other = Bench(bench.sizes, bench.device, bench.folder / "budgets")
    other.__dict__.update(data=bench.data, model=bench.model)
    return other


class ResultFile:
    """The results of one card and size on disk, written anew after each part.

    Args:
        directory: Where.
        bench: What is measured.

    """

    def __init__(self, directory: Path, bench: Bench) -> None:
        card = describe_device(bench.device)
        words = re.findall(r"\((.*)\)", card) or [platform.machine() + "-" + card]
        name = re.sub(r"[^a-z0-9]+", "-", words[0].lower()).strip("-")
        small = "-small" if bench.sizes == SMALL else ""
        self.path = directory / f"gpu-{name}{small}.json"
        self.head = {
            "device": card,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "sizes": bench.sizes.__dict__,
            "isplit": isplit.__version__,
        }
        known = json.loads(self.path.read_text()) if self.path.exists() else {}
        same = all(known.get(field) == self.head[field] for field in ("device", "torch", "sizes"))
        self.parts: dict[str, Any] = known["parts"] if same else {}

    def is_done(self, part: str) -> bool:
        """Return whether a part was measured without an error."""
        return part in self.parts and "error" not in self.parts[part]

    def add(self, part: str, figures: dict[str, Any]) -> None:
        """Add a part's figures and write the file, whole or not at all."""
        self.parts[part] = figures
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".tmp")
        whole.write_text(json.dumps({**self.head, "parts": self.parts}, indent=1) + "\n")
        whole.replace(self.path)


def measure(bench: Bench, part: str) -> dict[str, Any]:
    """Return the figures of a part, or its error; other parts do not depend on it."""
    started = time.perf_counter()
    try:
        figures = PARTS[part](bench)
    except Exception as error:  # noqa: BLE001 - what fails on a card is not known beforehand, and time is short
        lines = traceback.format_exc().splitlines()
        figures = {"error": f"{type(error).__name__}: {error}", "where": lines[-24:]}
    return {**figures, "took_s": time.perf_counter() - started}


def main() -> None:
    """Measure what is missing, print each part and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="small sizes, for a first try")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=270, help="start no part after so many")
    parser.add_argument("--batch", type=int, help="images in a pass")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART")
    parser.add_argument("--again", action="store_true", help="measure what is known already, too")
    options = parser.parse_args()
    started = time.perf_counter()
    sizes = SMALL if options.small else Sizes()
    if options.batch:
        sizes = replace(sizes, batch=options.batch)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(sizes, resolve_device(options.device), Path(folder))
        results = ResultFile(options.results, bench)
        print(f"Computing on {describe_device(bench.device)}; results in {results.path}", flush=True)
        for part in options.only or PARTS:
            if results.is_done(part) and not options.again:
                continue
            if time.perf_counter() - started > options.seconds:
                print(f"{part}: not started, since the time is up", flush=True)
                continue
            results.add(part, measure(bench, part))
            print(f"{part}: {json.dumps(results.parts[part], indent=1)}", flush=True)


if __name__ == "__main__":
    main()
