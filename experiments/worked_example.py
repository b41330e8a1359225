"""The worked example: MobileNetV2 with torchvision's own ImageNet weights, from its data to bytes at seven cuts.

    ISPLIT_DATA=FOLDER python experiments/worked_example.py [--study DIR]

FOLDER holds mobilenet_v2-b0353104.pth (torchvision's weights) and imagenet-samples-256.zip (1,000 photographs, one for
each class). The commands run one after the other in the study's directory, and docs/worked-example.md is made of what
they print. What the study already holds is not computed again; from nothing, it takes about an hour on one core.
"""

import argparse
import os
import re
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
    return "\n".join(line for line in lines if line and not _PROGRESS.search(line))


_PROGRESS = re.compile(r"^Computing on|^Estimated time|: [\d,]+ of [\d,]+(, about .* left)?$")
"""What a command says while it works, which depends on the machine and its load."""


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

This page follows one study from the data to the bytes on the wire. The network is MobileNetV2 with the weights that
torchvision publishes. It is not fine-tuned, sees images of 224 × 224 pixels, and tells all 1,000 classes of ImageNet
apart. The script `experiments/worked_example.py` runs the commands, and writes this page with what they printed.

## What one image a class can show, and what it cannot

The data are 1,000 photographs, one for each class. They are probably training images of the network, so its accuracy
here says nothing about new images. With one image for each class, the parts hold different classes: the curve and the
bottlenecks come from {images} images of as many classes, and every accuracy is measured on {IMAGES} images of other
classes. Therefore:

- Accuracies are uncertain by about 8 points either way. Differences to the whole model on the same images are smaller,
  and they are the figures to read.
- The page says nothing about single classes.
- The bottlenecks, which are made from {STATISTICS_IMAGES} images, have never seen an image of the classes that they are
  measured on. The best of them lose no accuracy, so this cannot be because they remember the images.
- Payload sizes, computing costs, and the comparison with JPEG and WebP on the same images are not affected.

## Check the data first

{block("data", outputs["data"])}
The classes of the data are ImageNet's ids in the order of the outputs, so they are matched by position.

## Analyse

{block("analyze", outputs["analyze"])}
The whole model is right on {100 * base.accuracy:.0f} % of {base.images} images of the test part. The curve is taken
from one backward pass for each of {images} images. No maximum is settled, because a standard error within a class needs
more than one image of it. The ranking is therefore a hint about where to measure.

## Predict before any training

Seven of the cuts are measured, between 38 % and 95 % of the model's computation on the device, at six budgets from 256
to 8,192 bytes. For comparison, the image itself is compressed as JPEG and WebP in 21 settings. The bottleneck is
computed in closed form: no weight of the network changes, and nothing is trained.

{block("predict", outputs["predict"])}
Accuracy on the {IMAGES} images of the select part by cut and budget; the whole model is right on {100 * whole:.0f} %
of them:

{table(predictions)}

Read the output in this order:

1. The lines at the end say whether splitting is worth it: how few bytes keep the accuracy of the whole model within one
   and three points, and how many bytes a compressed image needs for that.
2. The table says where to split. Deep cuts compute more on the device and need fewer bytes: after `features.16`, 1,024
   bytes lose no accuracy that 100 images could show. Cuts in the middle of the network need 2,048 to 4,096 bytes for
   that, at half of the computation on the device.
3. `--wide` adds the difference to the whole model on the same images, with its standard error. Two cuts whose
   differences are within two standard errors of each other are not told apart by 100 images.

After `features.16`, which the importance ranks first, the fewest bytes are enough, but the differences to its
neighbours are within what 100 images can show. The column "after training" was calibrated on other networks and data,
and none of them has 1,000 classes.

## The same network as an ONNX file

A model may be given as an ONNX file. torchvision's network, exported by `torch.onnx.export(..., dynamo=True)` for any
number of images in a batch, gives the same study:

```console
$ isplit analyze mobilenet_v2.onnx imagenet-samples-256.zip -o study-onnx --images 100 --test-images 50 \\
      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
```

The file does not say how its images are prepared. They are resized to 224 pixels at once, while torchvision's own
preparation resizes to 232 and crops. `--image-size 224` does the former for `torchvision:mobilenet_v2` as well.

This study and that of `torchvision:mobilenet_v2 --image-size 224` with the same options have the same 33 cuts, with the
same shapes, costs and operations before them. The CUI of every cut is equal within 0.1 %, and the same 15 candidates
come in the same order. The cuts are named after the nodes of the file (`node_Conv_934` is `features.14.conv.3`).
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
