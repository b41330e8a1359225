"""Train or fine-tune a network on a data set, and write the weights that the experiments start from.

    python experiments/train_network.py MODEL DATA -o weights.safetensors [--trunk TRUNK.safetensors | --start FILE]

MODEL is anything `isplit analyze` takes. TRUNK holds the 13 convolutions under the keys of torchvision's
vgg16().features; FILE holds a state dict of the whole network, whose classifier may have other classes. Training runs
Adam with a one-cycle schedule and batches of 64 images, on the fit part only: select and test stay unseen.

    ./experiments/vgg16_trunk.py:build on tiny-imagenet-20 with a trunk: three epochs reach 81.5 % on test, in 40
    minutes on two cores without bf16 units.

With --keep-first N the first N modules of the model's `features` stay as they are. What they compute is computed once
for all epochs, which makes training on a CPU several times as fast. The model has to be `features`, then average
pooling over all positions, then `classifier`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from isplit.design.class_subsets import ClassSubset, parse_groups
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset, open_data
from isplit.design.inputs.models import LoadedModel, load_model
from isplit.design.measure.whole import measure_accuracy
from isplit.design.running import fast_bf16

BATCH = 64


def main() -> None:
    """Train, and say how good the result is on the test part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, help="initial values of the model's `features`")
    parser.add_argument("--start", type=Path, help="initial values of every tensor that has the same shape there")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--classifier-learning-rate", type=float, default=3e-3)
    parser.add_argument("--augment", action="store_true", help="random flips, and shifts by up to an eighth")
    parser.add_argument("--keep-first", type=int, help="modules of `features` that do not learn")
    parser.add_argument("--images", type=int, help="of the fit part; all by default")
    options = parser.parse_args()

    torch.manual_seed(0)
    data = open_data(options.data)
    loaded = load_model(options.model, num_classes=len(data.classes), image_size=options.image_size)
    if options.trunk:
        features = loaded.module.get_submodule("features")
        features.load_state_dict({name: value.float() for name, value in load_file(options.trunk).items()})
    if options.start:
        start(loaded.module, options.start)
    if options.keep_first:
        train_last_part(loaded, data, options)
    else:
        train(loaded, data, options)
    (group,) = (ClassSubset(g, data.classes, range(len(data.classes))) for g in parse_groups((), data))
    accuracy = measure_accuracy(
        loaded.module,
        dataset=data,
        indices=data.parts["test"],
        preprocessing=loaded.preprocessing,
        group=group,
        batch_size=BATCH,
    ).accuracy
    print(f"accuracy on test {accuracy.accuracy:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in loaded.module.state_dict().items()}, options.out)


def start(module: nn.Module, checkpoint: Path) -> None:
    """Load a state dict, and leave at random values what has another shape there: the classifier of other classes."""
    expected = module.state_dict()
    stored = torch.load(checkpoint, weights_only=True)
    fitting = {name: value for name, value in stored.items() if value.shape == expected[name].shape}
    left_out = sorted(expected.keys() - fitting.keys())
    module.load_state_dict(expected | fitting)
    print(f"{len(fitting)} tensors come from {checkpoint.name}; random values: {', '.join(left_out) or 'none'}")


def train(loaded: LoadedModel, data: Dataset, options: argparse.Namespace) -> None:
    """Run all epochs; the last linear layer has a learning rate of its own."""
    model = loaded.module.to(memory_format=torch.channels_last)
    classifier = list([layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1].parameters())
    of_classifier = {id(parameter) for parameter in classifier}
    trunk = [parameter for parameter in model.parameters() if id(parameter) not in of_classifier]
    optimizer = torch.optim.Adam([{"params": trunk}, {"params": classifier}])
    fit = chosen_images(data, options.images)
    steps = options.epochs * (len(fit) // BATCH)
    rates = [options.learning_rate, options.classifier_learning_rate]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)
    step, started = 0, time.perf_counter()
    model.train()
    for epoch in range(options.epochs):
        rng = np.random.default_rng([0, epoch])
        order = rng.permutation(fit)[: len(fit) // BATCH * BATCH]
        for batch in iter_batches(data, order, loaded.preprocessing, batch_size=BATCH):
            images = augmented(batch.images, rng) if options.augment else batch.images
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast_bf16()):
                logits = model(images.to(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits.float(), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % 10 == 0:
                left = (time.perf_counter() - started) / step * (steps - step)
                print(f"step {step} of {steps}, loss {loss.item():.3f}, {left / 60:.0f} minutes left", flush=True)


def train_last_part(loaded: LoadedModel, data: Dataset, options: argparse.Namespace) -> None:
    """Train the modules of `features` after the first few, and the classifier, on what the first ones compute."""
    model = loaded.module.eval().to(memory_format=torch.channels_last)
    features, classifier = model.get_submodule("features"), model.get_submodule("classifier")
    assert isinstance(features, nn.Sequential)
    kept, last = features[: options.keep_first], features[options.keep_first :]
    fit = chosen_images(data, options.images)
    parts: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.inference_mode():
        for batch in iter_batches(data, fit, loaded.preprocessing, batch_size=BATCH):
            parts.append((kept(batch.images.to(memory_format=torch.channels_last)), batch.labels))
            print(f"features of {len(parts) * BATCH} of {len(fit)} images", flush=True)
    inputs, labels = (torch.cat(tensors).clone() for tensors in zip(*parts, strict=True))
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam([{"params": last.parameters()}, {"params": classifier.parameters()}])
    rates = [options.learning_rate, options.classifier_learning_rate]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=options.epochs * len(loader))
    for epoch in range(options.epochs):
        loss = torch.zeros(())
        for crossing, answers in loader:
            loss = functional.cross_entropy(classifier(last(crossing).mean((2, 3))), answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {options.epochs}, last loss {loss.item():.3f}", flush=True)


def chosen_images(data: Dataset, count: int | None) -> NDArray[np.int64]:
    """Return images of the fit part, chosen at random (they are in the order of their classes); all without a count."""
    fit = data.parts["fit"]
    return fit if count is None else np.random.default_rng(0).permutation(fit)[:count]


def augmented(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Flip each image with probability one half, and shift each by up to an eighth of its side."""
    reach = images.shape[-1] // 8
    padded = functional.pad(images, (reach,) * 4)
    height, width = images.shape[-2:]
    moved = [
        image[:, top : top + height, left : left + width]
        for image, (top, left) in zip(padded, rng.integers(0, 2 * reach + 1, (len(images), 2)).tolist(), strict=True)
    ]
    flips = torch.from_numpy(rng.random(len(images)) < 0.5)[:, None, None, None]
    stacked = torch.stack(moved)
    return torch.where(flips, stacked.flip(-1), stacked)


if __name__ == "__main__":
    main()
