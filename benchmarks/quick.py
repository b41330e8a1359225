"""`--quick` of analyze and predict against the full commands: processor time, and whether the first choice is the same.

    python benchmarks/quick.py --data FOLDER [--pairs vgg16-notmnist,...] [--weights FOLDER] [--statistics 400]
        [--images 400] [--remote 100] [--cuts 9] [--label NAME]

The pairs of VGG16 have its ImageNet trunk with a linear layer that is fitted to the data by ridge regression, at 32
pixels; that of MobileNetV2 has the weights that `experiments/reproduction/networks.py` trains. Full and quick commands
have the same settings apart from `quick`, so the share is smaller where the full command takes more images. All times
are processor seconds of one thread.

A first choice is the split of a budget with the most right answers; of equally many, that whose class probabilities
are nearest to the whole network's. Both choices are judged by the full command's answers: `lost points` is what the
quick choice's accuracy is below that of the full choice there, and `standard error` that of a difference of two
accuracies on as many images. A choice is the same within the noise where it loses at most two of these.

With a label, results are added to benchmarks/results/quick.json.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from predict_bound import NETWORK, estimated_seconds, fitted_weights

import isplit
from isplit.design.predict_quick import quick_settings
from isplit.design.settings import AnalyzeSettings, PredictSettings
from isplit.records import Prediction

RESULTS = Path(__file__).parent / "results" / "quick.json"
TRUNK = "vgg16-imagenet-trunk-fp16.safetensors"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A network and its data, relative to the folder of the data sets; `weights` names a trained network's file."""

    data: str
    image_size: int
    budgets: tuple[int, ...]
    weights: str | None = None


PAIRS = {
    "vgg16-notmnist": Pair(
        data="idx:notmnist-images-idx3-ubyte.gz,notmnist-labels-idx1-ubyte.gz", image_size=32, budgets=(30, 120)
    ),
    "vgg16-tin20": Pair(data="tiny-imagenet-20.zip", image_size=32, budgets=(60, 240)),
    "vgg16-xray": Pair(data="chest-xray-pneumonia-128.zip", image_size=32, budgets=(30, 120)),
    "mobilenetv2-tin100": Pair(
        data="tiny-imagenet-100.zip", image_size=96, budgets=(128, 512), weights="mobilenetv2-tin100.safetensors"
    ),
}


def data_spec(pair: Pair, folder: Path) -> str:
    """Return the data as `isplit analyze` takes it."""
    if pair.data.startswith("idx:"):
        return "idx:" + ",".join(str(folder / name) for name in pair.data.removeprefix("idx:").split(","))
    return str(folder / pair.data)


def load(pair: Pair, options: argparse.Namespace, scratch: Path) -> tuple[Any, Any]:
    """Return the network and the data of a pair."""
    data = isplit.open_data(data_spec(pair, options.data))
    how: dict[str, Any] = {"num_classes": len(data.classes), "image_size": pair.image_size}
    if pair.weights is not None:
        return isplit.load_model("torchvision:mobilenet_v2", weights=str(options.weights / pair.weights), **how), data
    spec, path = f"{NETWORK}:build", scratch / "weights.safetensors"
    fitted_weights(isplit.load_model(spec, **how), data, options.data / TRUNK, path)
    return isplit.load_model(spec, weights=str(path), **how), data


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and the processor seconds that it took."""
    start_s = time.process_time()
    result = run()
    return result, time.process_time() - start_s


def first_choice(rows: Sequence[Prediction]) -> Prediction:
    """Return the split with the most right answers as a share of its images."""
    most = max(row.measurement.accuracy.images for row in rows)
    # Splits that were left in an earlier round of a quick run were surely worse than another.
    remaining = [row for row in rows if row.measurement.accuracy.images == most]
    return max(
        remaining, key=lambda row: (row.measurement.accuracy.accuracy, -(row.measurement.divergence_nats or 0.0))
    )


def compared_choices(full: Any, quick: Any) -> list[dict[str, Any]]:
    """Return for each budget both first choices, judged by the full command's answers."""
    choices: list[dict[str, Any]] = []
    for budget in dict.fromkeys(row.budget for row in full.predictions):
        every = {row.cut: row for row in full.predictions if row.budget == budget}
        best = first_choice(list(every.values()))
        chosen = first_choice([row for row in quick.predictions if row.budget == budget])
        accuracies = [every[row.cut].measurement.accuracy for row in (best, chosen)]
        lost = accuracies[0].accuracy - accuracies[1].accuracy
        error = math.hypot(*(math.sqrt(of.accuracy * (1 - of.accuracy) / of.images) for of in accuracies))
        choices.append(
            {
                "budget": budget.tag,
                "full": best.cut,
                "quick": chosen.cut,
                "lost_points": 100 * lost,
                "standard_error": 100 * error,
                "same_within_noise": lost <= 2 * error,
                "quick_images": [row.measurement.accuracy.images for row in quick.predictions if row.budget == budget],
            }
        )
    return choices


def measured(name: str, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Return the figures of one pair."""
    pair = PAIRS[name]
    model, data = load(pair, options, scratch)
    studies: dict[bool, Any] = {}
    seconds: dict[str, float] = {}
    records: dict[bool, Any] = {}
    fit_images = len(data.parts["fit"])
    ways = ((False, "full"), (True, "quick"))
    for quick, way in ways:
        settings = AnalyzeSettings(quick=quick, images=options.analyze, test_images=options.analyze)
        studies[quick], seconds[f"analyze_{way}"] = timed(
            lambda settings=settings, way=way: isplit.analyze(model, data, out=scratch / way, settings=settings)
        )
    every = [cut.name for cut in studies[False].cuts()]
    count = min(options.cuts, len(every))
    cuts = [every[place * (len(every) - 1) // max(1, count - 1)] for place in range(count)]
    for quick, way in ways:
        chosen = PredictSettings(
            quick=quick,
            statistics_images=options.statistics,
            images=options.images,
            remote_images=options.remote,
        )
        seconds[f"estimate_{way}"] = estimated_seconds(
            studies[quick],
            studies[quick].cuts(cuts),
            pair.budgets,
            quick_settings(chosen, fit_images=fit_images) if quick else chosen,
        )
        records[quick], seconds[f"predict_{way}"] = timed(
            lambda quick=quick, chosen=chosen: isplit.predict(
                studies[quick], list(pair.budgets), cuts=cuts, settings=chosen
            )
        )
    candidates = [studies[quick].candidates for quick in (False, True)]
    return {
        "images": [options.statistics, options.images, options.remote],
        "cuts": len(cuts),
        "seconds": seconds,
        "analyze_share": seconds["analyze_quick"] / seconds["analyze_full"],
        "predict_share": seconds["predict_quick"] / seconds["predict_full"],
        "analyze_first": [of[0].cut if of else None for of in candidates],
        "choices": compared_choices(records[False], records[True]),
        "warnings": list(records[True].warnings),
        "remote_skipped": len(records[True].remote_skipped),
    }


def main() -> None:
    """Measure, print, and add the figures to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent.parent / "experiments" / "weights")
    parser.add_argument("--analyze", type=int, default=400, help="images of the curve, and of the base accuracy")
    parser.add_argument("--statistics", type=int, default=400)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--remote", type=int, default=100)
    parser.add_argument("--cuts", type=int, default=9, help="cuts that are predicted, evenly over the depth")
    parser.add_argument("--label", help="under which the figures are added to the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.pairs.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            figures = measured(name, options, Path(scratch))
        print(name, json.dumps(figures, indent=1), flush=True)
        if options.label:
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            known.setdefault(options.label, {})[name] = figures
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
