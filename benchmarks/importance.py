"""The importance of all cuts in one pass, beside a plain backward pass and beside other libraries, in one run.

    python benchmarks/importance.py [--data ZIP] [--weights FILE] [--threads 2] [--quick]

Per network and image size, milliseconds per image (median over rounds; the contenders take turns in every round, so
that the machine's moods hit all of them), and ratios:
    plain        forward and backward from the first cut, the same batch, layout and precision, parameters frozen
    isplit       the same with CUI at every cut
    captum       LayerGradCam, one layer after the other
    torchcam     GradCAM with all layers at once, not normalised
    grad-cam     GradCAM with all layers at once
Peak memory is that of a process of its own. With --weights (experiments/train_network.py) also: do bf16 and fp32 give
the same candidates, and how long does the whole command take on 1,000 images?
Results go to benchmarks/results/importance.json, and from there to docs/benchmarks.md (--page writes only that).
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import resnet50

from isplit.design.graph import ModelGraph, split
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.methods import METHODS
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import open_data
from isplit.design.running import evaluating, fast_bf16
from isplit.design.testing import varied_images
from isplit.records import Cut, Precision

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "importance.json"
PAGE = ROOT.parent / "docs" / "benchmarks.md"
sys.path.insert(0, str(ROOT.parent / "experiments"))

PEERS = ("captum", "torchcam", "grad-cam")
CASES = [("vgg16", 64, 16), ("resnet50", 64, 16), ("vgg16", 224, 4), ("resnet50", 224, 8)]


def build(name: str) -> nn.Module:
    """Build a network with fixed random values; time does not depend on them."""
    from vgg16_trunk import build as vgg16_trunk

    torch.manual_seed(0)
    model = vgg16_trunk(20) if name == "vgg16" else resnet50(weights=None, num_classes=20)
    return model.eval().to(memory_format=torch.channels_last)


def load_images(data: str | None, size: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Take a batch of real images, or made-up ones where no data is given."""
    if data is None:
        images, labels = varied_images(batch, (3, size, size)), torch.arange(batch) % 20
    else:
        dataset = open_data(data)
        preprocessing = build("vgg16").preprocessing  # type: ignore[union-attr]
        assert not isinstance(preprocessing, torch.Tensor | nn.Module)
        sized = preprocessing.model_copy(update={"image_size": (size, size), "resize_size": size})
        chosen = dataset.parts["test"][:: len(dataset.parts["test"]) // batch][:batch]
        (first,) = iter_batches(dataset, chosen, sized, batch_size=batch)
        images, labels = first.images, first.labels
    return images.contiguous(memory_format=torch.channels_last), labels


def objective(labels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the sum of the correct class's logits."""
    return lambda logits: logits.gather(1, labels[:, None]).sum()


def curve_cuts(graph: ModelGraph) -> list[Cut]:
    """Return the cuts of the curve."""
    return [cut for cut in graph.record().cuts if cut.has_positions]


def plain(graph: ModelGraph, cuts: list[Cut], images: torch.Tensor, labels: torch.Tensor, precision: Precision) -> Any:
    """Return a plain forward and backward pass from the first cut."""
    sides = split(graph, cuts[0].name)
    total = objective(labels)

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            with torch.no_grad():
                start = sides.head(images)
            logits = sides.tail(start.detach().requires_grad_())
        total(logits.float()).backward()

    return run


def ours(graph: ModelGraph, cuts: list[Cut], images: torch.Tensor, labels: torch.Tensor, precision: Precision) -> Any:
    """Return CUI at all cuts."""
    gradients = GradientPass(graph, cuts)
    total = objective(labels)
    return lambda: gradients(images, total, METHODS["cui"].reduce, precision=precision)


def peers(model: nn.Module, cuts: list[Cut], images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Return the other libraries on the same layers."""
    # Two of them come with `make bench` only, so `make check` may not find them.
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM  # pyright: ignore[reportMissingImports]
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # pyright: ignore[reportMissingImports]
    from torchcam.methods import GradCAM as TorchCam  # pyright: ignore[reportMissingImports]

    layers = [model.get_submodule(cut.name) for cut in cuts]

    def captum() -> None:
        for layer in layers:
            LayerGradCam(model, layer).attribute(images, labels, relu_attributions=True)

    def torchcam() -> None:
        names: list[nn.Module | str] = [cut.name for cut in cuts]
        with TorchCam(model, names, input_shape=tuple(images.shape[1:])) as extractor:
            extractor(labels.tolist(), model(images), normalized=False)

    def grad_cam() -> None:
        with GradCAM(model, layers) as extractor:
            # Its annotation asks for modules, its documentation for these.
            extractor(images, [ClassifierOutputTarget(int(label)) for label in labels])  # type: ignore[arg-type]

    return {"captum": captum, "torchcam": torchcam, "grad-cam": grad_cam}


def time_case(name: str, size: int, batch: int, data: str | None, rounds: int) -> dict[str, Any]:
    """Time every contender in turns."""
    model = build(name)
    images, labels = load_images(data, size, batch)
    graph = ModelGraph(model, (3, size, size))
    cuts = curve_cuts(graph)
    precisions: list[Precision] = ["fp32", "bf16"] if fast_bf16() else ["fp32"]
    contenders: dict[str, Any] = {}
    for precision in precisions:
        contenders[f"plain {precision}"] = plain(graph, cuts, images, labels, precision)
        contenders[f"isplit {precision}"] = ours(graph, cuts, images, labels, precision)
    contenders |= peers(model, cuts, images, labels)
    times: dict[str, list[float]] = {contender: [] for contender in contenders}
    with evaluating(model, frozen=True):
        for number in range(rounds + 1):
            for contender, run in contenders.items():
                # captum takes so much longer than the others that fewer rounds of it are as exact.
                if contender == "captum" and number > max(1, rounds // 4):
                    continue
                started = time.perf_counter()
                # The other libraries hang on to the first layer's gradient only if something before it asks for one.
                run() if "fp32" in contender or "bf16" in contender else _with_gradients(model, run)
                if number:  # the first round warms up
                    times[contender].append((time.perf_counter() - started) * 1000 / batch)
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    auto = precisions[-1]
    memory = {which: peak_memory(which, name, size, batch, data) for which in ("isplit", "plain")}
    return {
        "case": f"{name} {size} px, batch {batch}, {len(cuts)} cuts",
        "ms_per_image": medians,
        "over plain": {p: medians[f"isplit {p}"] / medians[f"plain {p}"] for p in precisions},
        "faster than, fp32": {peer: medians[peer] / medians["isplit fp32"] for peer in PEERS},
        "faster than, auto": {peer: medians[peer] / medians[f"isplit {auto}"] for peer in PEERS},
        "peak_mib": memory,
        "memory over plain": memory["isplit"] / memory["plain"],
    }


def _with_gradients(model: nn.Module, run: Callable[[], None]) -> None:
    """Other libraries need a parameter that takes a gradient to start autograd; the first layer's is the cheapest."""
    first = next(model.parameters())
    first.requires_grad_(True)
    try:
        run()
    finally:
        first.requires_grad_(False)
        first.grad = None


def peak_memory(which: str, name: str, size: int, batch: int, data: str | None) -> float:
    """Return the growth of resident memory, in MiB, over three passes in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_memory, (which, name, size, batch, data, torch.get_num_threads()))


def _measure_memory(which: str, name: str, size: int, batch: int, data: str | None, threads: int) -> float:
    torch.set_num_threads(threads)
    model = build(name)
    images, labels = load_images(data, size, batch)
    graph = ModelGraph(model, (3, size, size))
    run = (ours if which == "isplit" else plain)(graph, curve_cuts(graph), images, labels, "fp32")
    with evaluating(model, frozen=True):
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
        for _ in range(3):
            run()
        return _status("VmHWM") - before


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def analyze_command(data: str, weights: str, images: int, precision: str) -> tuple[float, list[str]]:
    """Run the whole command in a process of its own; return its seconds and the candidates' names."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(sys.executable, "-c", "from isplit.cli import main; main()"),
            *("analyze", f"{ROOT.parent}/experiments/vgg16_trunk.py:build", data, "--weights", weights),
            *("--images", str(images), "--precision", precision, "-o", f"{directory}/study", "--json"),
        ]
        started = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    return seconds, [candidate["cut"] for candidate in json.loads(done.stdout)["candidates"]]


def write_page(results: dict[str, Any]) -> None:
    """Write docs/benchmarks.md from the results."""
    machine, cases = results["machine"], results["cases"]
    contenders = list(cases[0]["ms_per_image"])
    lines = [
        "# Benchmarks",
        "",
        "`make bench` (benchmarks/importance.py) writes this page; do not edit it. Beside this comparison, it measures "
        "the [runtime, the coder and imports](runtime-benchmarks.md), and in the end `benchmarks/ratios.py` prints all "
        "of it as ratios beside the aims. Figures that need weights, `predict` over its bound and quick runs over full "
        "ones, are then those of the last run that had them.",
        "",
        "This benchmark computes Grad-CAM importance at all cuts of the curve for one batch. *plain* is one forward "
        "and backward pass from the first cut, with the same batch, layout and precision and with frozen parameters; "
        "no method can be faster. captum's LayerGradCam computes one layer after the other; torchcam and grad-cam "
        "compute all layers at once. Their parameters are frozen too, except those of the first layer, which they need "
        "to start autograd.",
        "",
        f"The machine used {machine['threads']} threads and has {'' if machine['fast bf16'] else 'no '}bf16 units. It "
        f"ran torch {machine['torch']} on {machine['images']} images. The contenders took turns. Figures are medians, "
        "in milliseconds per image.",
        "",
        "| case | " + " | ".join(contenders) + " |",
        "|---|" + "--:|" * len(contenders),
    ]
    for case in cases:
        times = (f"{case['ms_per_image'][contender]:.1f}" for contender in contenders)
        lines.append(f"| {case['case']} | " + " | ".join(times) + " |")
    lines += [
        "",
        "The next table gives isplit's time and peak memory as multiples of the plain pass's, and how many times "
        "faster than the others isplit is (in fp32, and with `--precision auto`):",
        "",
        "| case | time | memory | " + " | ".join(f"{peer}, fp32 | {peer}, auto" for peer in PEERS) + " |",
        "|---|--:|--:|" + "--:|--:|" * len(PEERS),
    ]
    for case in cases:
        over = ", ".join(f"{ratio:.2f}× {precision}" for precision, ratio in case["over plain"].items())
        faster = " | ".join(
            f"{case['faster than, fp32'][peer]:.1f}× | {case['faster than, auto'][peer]:.1f}×" for peer in PEERS
        )
        lines.append(f"| {case['case']} | {over} | {case['memory over plain']:.2f}× | {faster} |")
    if "analyze" in results:
        command = results["analyze"]
        lines += [
            "",
            "`isplit analyze` on VGG16 (ImageNet trunk fine-tuned on 20 classes of Tiny-ImageNet, 64 px) with 1,000 "
            f"images and all cuts took {command['1,000 images, seconds']:.0f} s for the whole command. It ranked these "
            f"candidates: {', '.join(command['1,000 images'])}.",
            "",
            f"With 200 images, the candidates were {', '.join(command['200 images, fp32'])} in fp32, and "
            f"{', '.join(command['200 images, bf16'])} in bf16.",
        ]
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run all cases, print them, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("ISPLIT_DATA")
    default = f"{root}/tiny-imagenet-20.zip" if root else None
    parser.add_argument("--data", default=default, help="images of 20 classes; made-up ones without")
    parser.add_argument("--weights", help="VGG16 fine-tuned on the data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--page", action="store_true", help="only write the page from the results")
    options = parser.parse_args()
    if options.page:
        write_page(json.loads(RESULTS.read_text()))
        return
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    results: dict[str, Any] = {
        "machine": {
            "cpu": platform.machine(),
            "threads": options.threads,
            "fast bf16": fast_bf16(),
            "torch": torch.__version__,
            "images": "real" if options.data else "made up",
        },
        "cases": [],
    }
    for name, size, batch in CASES:
        case = time_case(name, size, batch, options.data, rounds=5 if options.quick else 9)
        results["cases"].append(case)
        print(json.dumps(case, indent=1), flush=True)
    if options.data and options.weights:
        seconds, candidates = analyze_command(options.data, options.weights, 1000, "auto")
        fp32, bf16 = (analyze_command(options.data, options.weights, 200, p)[1] for p in ("fp32", "bf16"))
        results["analyze"] = {
            "1,000 images, seconds": seconds,
            "1,000 images": candidates,
            "200 images, fp32": fp32,
            "200 images, bf16": bf16,
        }
        print(json.dumps(results["analyze"], indent=1))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page(results)


if __name__ == "__main__":
    main()
