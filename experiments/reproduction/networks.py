"""Train the networks that are split, and write their weights to experiments/weights.

    python experiments/reproduction/networks.py --data FOLDER [--pairs a,b]

VGG16 starts from the trunk in FOLDER, MobileNetV2 from its ImageNet weights there, and ResNet-50 from random values. A
network that is there is not trained again. On one thread with bf16 units each takes 3 to 20 minutes.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from pairs import EXPERIMENTS, MANY_IMAGES, PAIRS, WEIGHTS, Pair


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--pairs", default=",".join(pair.name for pair in (*PAIRS, MANY_IMAGES)))
    options = parser.parse_args()
    for pair in (*PAIRS, MANY_IMAGES):
        if pair.name in options.pairs.split(",") and not pair.weights.exists():
            make(pair, options.data)


def make(pair: Pair, folder: Path) -> None:
    """Train one, after laying out its data."""
    if pair.data == "xray-3.zip" and not (WEIGHTS / pair.data).exists():
        script("xray_classes.py", folder / "chest-xray-pneumonia-128.zip", "-o", WEIGHTS / pair.data)
    recipe = [folder / word if word.endswith((".safetensors", ".pth")) else word for word in pair.recipe]
    where = ("--image-size", pair.image_size, "-o", pair.weights)
    script("train_network.py", pair.model, pair.data_spec(folder), *recipe, *where)


def script(name: str, *arguments: object) -> None:
    """Run one of the scripts here."""
    subprocess.run([sys.executable, EXPERIMENTS / name, *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
