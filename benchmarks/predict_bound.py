"""`isplit predict` over the passes of the model that it cannot do without, in one run on one thread.

    python benchmarks/predict_bound.py --data tiny-imagenet-20.zip --trunk TRUNK.safetensors [--statistics 320]
        [--images 160] [--remote 100] [--bytes 512 ...] [--label NAME]

The network is VGG16's trunk with a linear layer that is fitted to the data by ridge regression, at 64 pixels. The bound
is one forward and backward pass over the statistics images, one forward pass over as many others, and one evaluation of
the whole model and of the tail of every cut for every budget. `predict` runs with the same images, batches and
precision. All figures are CPU seconds of the process, which other work on the machine disturbs least; the phases of
`predict` are those of the functions named in PHASES, inner ones first.

With a label, results are added to benchmarks/results/predict-bound.json.
"""

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file

import isplit
from isplit.design.graph import split
from isplit.design.graph.features import FeaturePass
from isplit.design.graph.gradients import GradientPass
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset
from isplit.design.inputs.models import LoadedModel
from isplit.design.measure.speed import measure_speed
from isplit.design.predict_estimate import measure_product, predict_seconds
from isplit.design.running import autocast, chosen_precision, evaluating
from isplit.design.settings import AnalyzeSettings, PredictSettings
from isplit.design.study import Study
from isplit.records import Budget, Cut

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "predict-bound.json"
NETWORK = ROOT.parent / "experiments" / "vgg16_trunk.py"
RIDGE_IMAGES = 1000
EVALUATION_BATCH = 64

PHASES = {
    "statistics": "isplit.design.closed_form.passes.StatisticsPasses.moments",
    "latents": "isplit.design.closed_form.passes.StatisticsPasses.latents",
    "solve": "isplit.design.closed_form.moments.CutMoments.solve",
    "joint maps": "isplit.design.closed_form.basis.JointBasis.of",
    "rank, step and tables": "isplit.design.closed_form.build.build_split",
    "comparison of patches": "isplit.design.closed_form.build.choose_by_answers",
    "decoders": "isplit.design.closed_form.build.estimate_decoders",
    "evaluation": "isplit.design.predict.evaluate_splits",
    "compressed images": "isplit.design.predict.search_remote",
    "writing": "isplit.design.predict.save_split",
}
"""What each phase of `predict` is called, and the function whose time it is, less the phases inside it."""


class Phases:
    """Sums CPU seconds of functions, each without those of the functions inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its seconds are added to a phase."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                total = time.process_time() - start
                inside = self._inside.pop()
                self.seconds[name] = self.seconds.get(name, 0.0) + total - inside
                self._inside[-1] += total

        return run

    def watch(self, stack: ExitStack) -> None:
        """Time every function of PHASES that this version has until the stack is closed."""
        for name, path in PHASES.items():
            owner, attribute = _find(path)
            if owner is None:
                continue
            known = owner.__dict__[attribute]
            wrapped: Any = self.timed(name, known.__func__ if isinstance(known, classmethod) else known)
            if isinstance(known, classmethod):
                wrapped = classmethod(wrapped)
            stack.enter_context(mock.patch.object(owner, attribute, wrapped))


def _find(path: str) -> tuple[Any, str]:
    """Return the module or class that holds a function, and the function's name; None where there is none."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:-1]:
            owner = getattr(owner, name, None)
        return (owner, parts[-1]) if parts[-1] in getattr(owner, "__dict__", {}) else (None, "")
    return None, ""


def fitted_weights(loaded: LoadedModel, data: Dataset, trunk: Path, path: Path) -> None:
    """Write weights: the trunk's, and a linear layer fitted to some images of the fit part by ridge regression."""
    module = loaded.module
    features = module.get_submodule("features")
    features.load_state_dict({name: value.float() for name, value in load_file(trunk).items()})
    pooled: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    chosen = data.parts["fit"][:: max(1, len(data.parts["fit"]) // RIDGE_IMAGES)]
    batches = iter_batches(data, chosen, loaded.preprocessing, batch_size=EVALUATION_BATCH)
    with evaluating(module), torch.no_grad(), closing(batches):
        for batch in batches:
            pooled.append(features(batch.images).mean((2, 3)).double())
            labels.append(batch.labels)
    values = torch.cat(pooled)
    mean = values.mean(0)
    targets = torch.nn.functional.one_hot(torch.cat(labels), len(data.classes)).double()
    centred = values - mean
    gram = centred.T @ centred
    penalty = 0.1 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    weight = torch.linalg.solve(gram + penalty, centred.T @ (targets - targets.mean(0)))
    classifier: Any = module.get_submodule("classifier")
    with torch.no_grad():  # ten times the regression's values, as logits are farther apart than targets of 0 and 1
        classifier.weight.copy_(10 * weight.T)
        classifier.bias.copy_(10 * (targets.mean(0) - mean @ weight))
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)


def bound_seconds(study: Study, cuts: list[Cut], settings: PredictSettings, budgets: int) -> dict[str, float]:
    """Return the CPU seconds of the passes that no `predict` can do without."""
    view = study.view()
    fit, select = view.images("fit"), view.images("select", limit=settings.images)
    count = settings.statistics_images
    precision = chosen_precision(settings.precision)
    labels = torch.from_numpy(view.classes.label_map)
    gradients, features = GradientPass(view.graph, cuts), FeaturePass(view.graph, cuts)
    tails = {cut.name: split(view.graph, cut.name).tail.eval() for cut in cuts}

    def run_tails(cut: Cut, tensor: torch.Tensor) -> None:
        for _ in range(budgets):
            with torch.no_grad(), autocast(precision):
                tails[cut.name](tensor)

    def seconds(images: Any, batch_size: int, run: Callable[[Any], object]) -> float:
        start = time.process_time()
        with closing(iter_batches(view.data, images, view.preprocessing, batch_size=batch_size)) as batches:
            for batch in batches:
                run(batch)
        return time.process_time() - start

    def statistics(batch: Any) -> None:
        gradients(
            batch.images,
            lambda logits: view.classes.decision(logits, labels[batch.labels], "correct"),
            lambda activation, gradient, cut: None,
            precision=precision,
        )

    return {
        "statistics": seconds(fit[:count], settings.batch_size, statistics),
        "latents": seconds(
            fit[count : 2 * count],
            settings.batch_size,
            lambda batch: features(batch.images, lambda cut, tensor: None, precision=precision),
        ),
        "evaluation": seconds(
            select, EVALUATION_BATCH, lambda batch: features(batch.images, run_tails, precision=precision)
        ),
    }


def estimated_seconds(
    study: Study, cuts: Sequence[Cut], payload_bytes: Sequence[int], settings: PredictSettings
) -> float:
    """Return how many processor seconds predict estimates beforehand."""
    return predict_seconds(
        measure_speed(study.model, images=settings.batch_size, clock=time.process_time),
        measure_product(clock=time.process_time),
        cuts,
        [Budget(payload_bytes=count) for count in payload_bytes],
        settings=settings,
        fit_images=len(study.view().images("fit")),
        select_images=len(study.view().images("select")),
    )


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the bound, the phases and the ratio of one run of `predict`."""
    data = isplit.open_data(str(options.data))
    weights = folder / "weights.safetensors"
    spec = f"{NETWORK}:build"
    fitted_weights(isplit.load_model(spec), data, options.trunk, weights)
    model = isplit.load_model(spec, weights=str(weights))
    few = AnalyzeSettings(images=20, test_images=20)
    study = isplit.analyze(model, data, out=folder / "study", settings=few)
    settings = PredictSettings(
        statistics_images=options.statistics, images=options.images, remote_images=options.remote
    )
    cuts = list(study.cuts())
    bound = bound_seconds(study, cuts, settings, len(options.bytes))
    estimate_s = estimated_seconds(study, cuts, options.bytes, settings)
    phases = Phases()
    with ExitStack() as stack:
        phases.watch(stack)
        start, wall = time.process_time(), time.perf_counter()
        record = isplit.predict(study, options.bytes, settings=settings)
        total, elapsed = time.process_time() - start, time.perf_counter() - wall
    phases.seconds["the rest"] = total - sum(phases.seconds.values())
    return {
        "images": [options.statistics, options.images, options.remote],
        "cuts": len(cuts),
        "budgets": list(options.bytes),
        "bound_s": bound,
        "phases_s": phases.seconds,
        "predict_s": total,
        "predict_wall_s": elapsed,
        "estimate_s": estimate_s,
        "ratio": total / sum(bound.values()),
        "accuracies": [row.measurement.accuracy.accuracy for row in record.predictions],
        "payload_bytes": [row.measurement.payload_bytes.mean for row in record.predictions],
        "remote": [[row.format, row.scale, row.quality, row.accuracy.accuracy] for row in record.remote],
    }


def main() -> None:
    """Measure, print, and add the figures to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True)
    parser.add_argument("--statistics", type=int, default=320)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--remote", type=int, default=100)
    parser.add_argument("--bytes", type=int, nargs="+", default=[512])
    parser.add_argument("--label", help="under which the figures are added to the results; without it they are printed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(options, Path(folder))
    bound = sum(figures["bound_s"].values())
    for title, parts in (("bound", figures["bound_s"]), ("predict", figures["phases_s"])):
        print(f"{title}: {sum(parts.values()):.1f} s")
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
            print(f"    {name:24}{seconds:8.1f} s{seconds / bound:8.2f} x the bound")
    print(f"predict over its bound: {figures['ratio']:.2f}")
    print(f"predict over its own estimate: {figures['predict_s'] / figures['estimate_s']:.2f}")
    if options.label:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**known, options.label: figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
