"""Does a bundle answer as torch does? Four networks, 24 images, from pixels through bytes to logits.

    python benchmarks/export_equality.py [vgg16 resnet50 mobilenet_v3_large vit_b_16] [--again]

Each network is built without trained weights and its last layer fitted in closed form to scikit-learn's digits, so
that its answers vary (an untrained one gives every image the same, and then equality means nothing). It is split at
two cuts with the closed-form bottleneck and exported. Then 24 images go through the bundle as the runtime runs it:
head in onnxruntime, the codec's bytes and back, tail in onnxruntime, all 24 in one batch. Beside it: torch, each side
in eager mode, and the whole model.

Per network and placement: how many of the answers are the same, how many of the latent's symbols differ and by how
much; the largest difference of a logit from the image on, and of the tail given the same latent, which the tolerance
in the bundle's manifest bounds. And what `isplit run` holds in memory at each placement.

Results go to benchmarks/results/export_equality.json and docs/runtime-benchmarks.md, one network at a time; those that
are there are not run again without --again. Small images keep this within minutes: the operations are the same at any
size.
"""

import argparse
import json
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from edge_footprint import peak_resident_mib
from numpy.typing import NDArray
from runtime_page import equality, write_page
from torch import nn

from isplit.codec.image import preprocess
from isplit.design.analyze import analyze
from isplit.design.export import export
from isplit.design.export_settings import ExportSettings
from isplit.design.inputs.batches import normalise
from isplit.design.inputs.data import Dataset, open_data
from isplit.design.inputs.models import load_model
from isplit.design.onnx.compare import TorchSplit, answer_whole, load_pixels
from isplit.design.predict import predict
from isplit.design.settings import AnalyzeSettings, PredictSettings, SplitFilter
from isplit.design.splits import choose_split
from isplit.design.study import Study, open_study
from isplit.records import Budget, Preprocessing
from isplit.runtime.bundle import Bundle
from isplit.runtime.session import Session

RESULTS = Path(__file__).parent / "results" / "export_equality.json"
IMAGES, SIZE, CLASSES = 24, 64, 10
BUDGET = Budget(payload_bytes=512)
# Of the cuts of the curve, from the first (0) to the last (1).
DEPTHS = (0.4, 0.8)
NETWORKS = ("vgg16", "resnet50", "mobilenet_v3_large", "vit_b_16")


def main() -> None:
    """Run the networks that are asked for and have no result yet, and print the table."""
    parser = argparse.ArgumentParser(description="Bundles against torch")
    parser.add_argument("networks", nargs="*", default=NETWORKS, help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--again", action="store_true", help="also those that have results")
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"networks": {}}
    for name in arguments.networks:
        if name in results["networks"] and not arguments.again:
            continue
        results["networks"][name] = run(name)
        results |= {"machine": platform.machine(), "python": platform.python_version()}
        results["versions"] = {
            package: version(package) for package in ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime")
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    write_page()
    print(equality(results["networks"]))


def run(name: str) -> dict[str, Any]:
    """Build, fit, split, export and compare one network."""
    started = time.perf_counter()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = open_data("sklearn:digits")
    preprocessing = Preprocessing(
        image_size=(SIZE, SIZE),
        resize_size=SIZE,
        interpolation="bilinear",
        channels=3,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    network = build(name, data, preprocessing)
    with tempfile.TemporaryDirectory(prefix="isplit-equality-") as scratch:
        study = split_network(network, data, Path(scratch) / "study")
        curve = study.cuts()
        cuts = [curve[round(depth * (len(curve) - 1))].name for depth in DEPTHS]
        settings = PredictSettings(statistics_images=100, images=50, remote_images=0, precision="fp32")
        predict(study, [BUDGET], cuts=tuple(cuts), settings=settings)
        record = export(study, cuts, Path(scratch) / "bundle", settings=ExportSettings(images=IMAGES))
        placements = compare(study, Bundle.open(Path(scratch) / "bundle"))
        peaks = peak_resident_mib(Path(scratch) / "bundle")
        megabytes = sum(file.bytes for file in record.files.values()) / 1e6
    return {
        "image_size": SIZE,
        "parameters": study.record.model.parameters,
        "base_accuracy": study.record.base_accuracy.accuracy,
        "bundle_megabytes": round(megabytes, 1),
        "placements": placements,
        "peak_resident_mib": peaks,
        "seconds": round(time.perf_counter() - started),
    }


def build(name: str, data: Dataset, preprocessing: Preprocessing) -> nn.Module:
    """Return a network with random weights, honest BatchNorm statistics, and a last layer fitted to the data."""
    options: dict[str, Any] = {"image_size": SIZE} if name.startswith("vit") else {}
    network = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options)
    network.preprocessing = preprocessing  # type: ignore[assignment] - analyze reads it
    shown = data.parts["fit"][:300]
    pixels = np.stack([preprocess(data.image(int(index)), preprocessing) for index in shown])
    images = normalise(torch.from_numpy(pixels), preprocessing)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None  # the plain average over what it is shown
    network.eval()
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    features: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    with torch.no_grad():
        if norms:
            for module in norms:
                module.train()
            for start in range(0, 96, 32):
                network(images[start : start + 32])
        features.clear()
        network.eval()
        for start in range(0, len(images), 50):
            network(images[start : start + 50])
        hook.remove()
        fit_last(last, torch.cat(features), torch.from_numpy(data.labels[shown]))
    return network


def fit_last(last: nn.Linear, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Fit a linear layer to one-hot labels by ridge regression, its logits scaled to about ten."""
    mean, spread = features.double().mean(0), features.double().std(0) + 1e-9
    standard = (features.double() - mean) / spread
    targets = nn.functional.one_hot(labels, CLASSES).double() - 1 / CLASSES
    kernel = standard @ standard.T
    ridge = 0.1 * kernel.diagonal().mean() * torch.eye(len(kernel), dtype=torch.float64)
    weights = 10 * (torch.linalg.solve(kernel + ridge, targets).T @ standard) / spread
    last.weight.copy_(weights)
    last.bias.copy_(-weights @ mean)


def split_network(network: nn.Module, data: Dataset, directory: Path) -> Study:
    """Analyse the network on a few images: the cuts are all that is wanted."""
    settings = AnalyzeSettings(images=20, test_images=100, precision="fp32")
    analyze(load_model(network), data, directory, settings=settings)
    return open_study(directory, model=network)


def compare(study: Study, bundle: Bundle) -> dict[str, Any]:
    """Send the images through every placement of the bundle, in one batch, and hold the answers against torch's."""
    view = study.view()
    pixels = load_pixels(view, "select", limit=IMAGES)
    whole = answer_whole(view, pixels).logits
    assert bundle.local_path is not None
    tolerance = bundle.record.cuts[0].logits_tolerance
    rows = {"whole": differences(Session(bundle.local_path).run(pixels), whole, tolerance)}
    for cut in bundle.record.cuts:
        chosen = choose_split(view, cut.name, split_filter=SplitFilter())
        reference = TorchSplit(view, chosen)
        expected = reference(pixels)
        assert expected.latents is not None
        latents, codec = Session(bundle.head_path(cut.name)).run(pixels), bundle.codec(cut.name)
        payloads = [codec.encode_symbols(latent) for latent in latents]
        arrived = np.stack([codec.decode_symbols(payload) for payload in payloads])
        assert np.array_equal(arrived, latents)
        logits = Session(bundle.tail_path(cut.name)).run(arrived)
        apart = np.abs(latents.astype(int) - expected.latents)
        rows[cut.name] = differences(logits, expected.logits, cut.logits_tolerance) | {
            "tail_difference_max": float(np.abs(logits - reference.logits(latents)).max()),
            "same_as_whole": int((logits.argmax(1) == whole.argmax(1)).sum()),
            "symbols": int(apart.size),
            "symbols_different": int((apart > 0).sum()),
            "lsb_max": int(apart.max()),
            "payload_bytes_mean": round(float(np.mean([len(payload) for payload in payloads])), 1),
        }
    return rows


def differences(got: NDArray[np.float32], wanted: NDArray[np.float32], tolerance: float) -> dict[str, Any]:
    """Compare logits."""
    return {
        "images": len(wanted),
        "answers": len(np.unique(wanted.argmax(1))),
        "top1_same": int((got.argmax(1) == wanted.argmax(1)).sum()),
        "logits_max": float(np.abs(wanted).max()),
        "logits_difference_max": float(np.abs(got - wanted).max()),
        "tail_difference_max": float(np.abs(got - wanted).max()),
        "tolerance": tolerance,
    }


if __name__ == "__main__":
    main()
