"""The worked example: MobileNetV2 with torchvision's own ImageNet weights, from its data to bytes at seven cuts.

    ISPLIT_DATA=FOLDER python experiments/worked_example.py [--study DIR]

FOLDER holds mobilenet_v2-b0353104.pth (torchvision's weights) and imagenet-samples-256.zip (1,000 photographs, one for
each class). The commands run one after the other in the study's directory, and docs/worked-example.md is made of what
they print. What the study already holds is not computed again; from nothing, it takes about an hour on one core.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from isplit.records import CurveRecord, PredictionsRecord, StudyRecord

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "worked-example.md"

MODEL, WEIGHTS, DATA = "torchvision:mobilenet_v2", "mobilenet_v2-b0353104.pth", "imagenet-samples-256.zip"
CUTS = (
    "features.6",
    "features.7.conv.3",
    "features.10",
    "features.13",
    "features.14.conv.3",
    "features.16",
    "features.17.conv.3",
)
BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
STATISTICS_IMAGES = 400
IMAGES = 100

COMMANDS = {
    "data": ("data", MODEL, DATA, "--weights", WEIGHTS),
    "analyze": ("analyze", MODEL, DATA, "--weights", WEIGHTS, "-o", "study"),
    "predict": (
        *("predict", "study", "--cuts", ",".join(CUTS)),
        *(word for budget in BUDGETS for word in ("--bytes", str(budget))),
        *("--statistics-images", str(STATISTICS_IMAGES), "--images", str(IMAGES), "--remote-images", str(IMAGES)),
    ),
}


def run(name: str, folder: Path) -> str:
    """Run one of the commands in the folder, and return what it prints."""
    environment = os.environ | {"COLUMNS": "100", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "isplit", *COMMANDS[name]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"isplit {name} failed:\n{result.stderr}")
    lines = [line.rstrip() for line in (result.stderr + result.stdout).replace(f"{folder}/", "").splitlines()]
    return "\n".join(line for line in lines if line)


def block(name: str, output: str) -> str:
    """Return a command and its output as a block of the page."""
    return f"```console\n$ isplit {shlex.join(COMMANDS[name])}\n{output}\n```\n"


def table(predictions: PredictionsRecord) -> str:
    """Return accuracy on the select part by cut and budget."""
    rows = {cut: {} for cut in CUTS}
    for row in predictions.predictions:
        if row.cut in rows and row.budget.payload_bytes in BUDGETS:
            rows[row.cut][row.budget.payload_bytes] = row.measurement.accuracy.accuracy
    lines = [
        "| split right after | " + " | ".join(f"{budget:,} B" for budget in BUDGETS) + " |",
        "|---|" + "--:|" * len(BUDGETS),
    ]
    lines += [
        f"| `{cut}` | " + " | ".join(f"{100 * values[budget]:.0f} %" for budget in BUDGETS) + " |"
        for cut, values in rows.items()
    ]
    return "\n".join(lines)


def page(outputs: dict[str, str], study: Path) -> str:
    """Return the whole page."""
    record, curve = StudyRecord.load(study), CurveRecord.load(study)
    predictions = PredictionsRecord.load(study)
    base = record.base_accuracy
    images = sum(curve.images_per_class.values())
    first = predictions.predictions[0].measurement
    whole = first.accuracy.accuracy - first.against_whole.difference
    return f"""# Worked example: a pretrained network as it comes

This page follows one study from its data to bytes: MobileNetV2 with the weights that torchvision publishes, nothing
fine-tuned, at 224 × 224 pixels and with all 1,000 classes of ImageNet. Every output below is what the commands printed;
`experiments/worked_example.py` runs them and writes this page.

## What one image a class can show, and what it cannot

The data are 1,000 photographs, one for each class. They are probably training images of the network, so its accuracy
here says nothing about new images. With one image a class, the parts hold different classes: the curve and the
bottlenecks come from {images} images of as many classes, and every accuracy is measured on {IMAGES} images of other
classes. Therefore:

- Accuracies are uncertain by about 8 points either way. Differences to the whole model on the same images are smaller,
  and they are the figures to read.
- Nothing is said about single classes.
- The bottlenecks, which are made from {STATISTICS_IMAGES} images, have never seen an image of the classes that they are
  measured on. That the best of them lose nothing is no memory of those images.
- Payload sizes, costs, and the comparison with JPEG and WebP on the same images do not suffer from this.

## Check the data first

{block("data", outputs["data"])}
The classes of the data are ImageNet's ids in the order of the outputs, so they are matched by position.

## Analyse

{block("analyze", outputs["analyze"])}
The whole model is right on {100 * base.accuracy:.0f} % of {base.images} images of the test part. The curve is taken
from one backward pass for each of {images} images. No maximum is settled: with one image a class there is no error
within a class, and the ranking is a hint about where to measure.

## Predict before any training

Seven of the cuts are measured, between 38 % and 95 % of the model's computation on the device, at six budgets from 256
to 8,192 bytes. For comparison, the image itself is compressed as JPEG and WebP in 21 settings. The bottleneck is the
closed form: no weight of the network changes, and nothing is trained.

{block("predict", outputs["predict"])}
Accuracy on the {IMAGES} images of the select part by cut and budget; the whole model is right on {100 * whole:.0f} %
of them:

{table(predictions)}

Read the output in this order:

1. The lines at the end say whether splitting is worth it: how few bytes keep the accuracy of the whole model within one
   and three points, and how many bytes a compressed image needs for that.
2. The table says where to split. A deep cut computes more on the device, and does not need fewer bytes for that: from
   2,048 bytes on, cuts in the middle of the network lose nothing that 100 images could show.
3. `--wide` adds the difference to the whole model on the same images, with its standard error. Two cuts whose
   differences are within two standard errors of each other are not told apart by 100 images.

Two rows are no steady climb, and are shown as they came out. After `features.16`, which the importance ranks first, the
closed form stays at 58 % however many bytes it may use. After `features.14.conv.3`, 512 bytes do worse than 256. Both
are faults of bottlenecks made from 400 images without training, which is why a prediction is made before one relies on
the ranking. The column "after training" is a calibration on other networks and data, of which none has 1,000 classes.
"""


def main() -> None:
    """Run the commands and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--study", type=Path, default=ROOT / ".cache" / "worked-example")
    folder = parser.parse_args().study.resolve()
    data = os.environ.get("ISPLIT_DATA")
    if not data or not all((Path(data) / name).is_file() for name in (WEIGHTS, DATA)):
        raise SystemExit(f"set ISPLIT_DATA to the folder that holds {WEIGHTS} and {DATA}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, DATA):
        if not (folder / name).exists():
            (folder / name).symlink_to(Path(data).resolve() / name)
    outputs = {name: run(name, folder) for name in COMMANDS}
    PAGE.write_text(page(outputs, folder / "study"), encoding="utf-8")


if __name__ == "__main__":
    main()
