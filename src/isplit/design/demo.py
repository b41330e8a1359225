"""A compact residual network and its training on scikit-learn's handwritten digits: what the demo analyses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset
from isplit.records import Preprocessing, write_whole

IMAGE_SIZE = 32
_BATCH = 32


class Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N×inputs×H×W to N×outputs×H×W."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


class CompactResNet(nn.Module):
    """Three stages of residual blocks, each closed by a max-pool, for grey images of 32×32 pixels."""

    preprocessing = Preprocessing(
        image_size=(IMAGE_SIZE, IMAGE_SIZE),
        resize_size=IMAGE_SIZE,
        interpolation="bilinear",
        channels=1,
        mean=(0.5,),
        std=(0.5,),
    )

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.stage1 = nn.Sequential(Block(16, 16), Block(16, 16), nn.MaxPool2d(2))
        self.stage2 = nn.Sequential(Block(16, 32), Block(32, 32), nn.MaxPool2d(2))
        self.stage3 = nn.Sequential(Block(32, 64), Block(64, 64), nn.MaxPool2d(2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N×1×32×32 to logits N×num_classes."""
        return self.classifier(torch.flatten(self.pool(self.stage3(self.stage2(self.stage1(self.stem(x))))), 1))


def compact_resnet(num_classes: int = 10) -> CompactResNet:
    """Build the demo's network with random initial values."""
    return CompactResNet(num_classes)


def train_demo(
    dataset: Dataset,
    preprocessing: Preprocessing,
    path: Path,
    *,
    epochs: int,
    seed: int = 0,
    progress: Callable[[int, int], None],
) -> None:
    """Train the demo's network on the fit part and write its weights to `path` (safetensors).

    The optimiser is Adam with a one-cycle schedule. Images are shifted by up to two pixels.

    Args:
        dataset: The images.
        preprocessing: How the network wants them.
        path: The file to write.
        epochs: Passes over the fit part.
        seed: Seed of the initial values and of the order of the images.
        progress: Called after each step with the number of finished steps and of all.

    Raises:
        StudyError: the file cannot be written.

    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = compact_resnet(len(dataset.classes)).to(memory_format=torch.channels_last)
        parts = list(iter_batches(dataset, dataset.parts["fit"], preprocessing, batch_size=256))
        images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
        steps = epochs * (len(labels) // _BATCH)
        optimizer = torch.optim.Adam(model.parameters(), weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
        rng = np.random.default_rng(seed)
        model.train()
        for step in range(steps):
            chosen = torch.from_numpy(rng.choice(len(labels), _BATCH, replace=False))
            shift = [int(amount) for amount in rng.integers(-2, 3, 2)]
            shifted = torch.roll(images[chosen], shift, (2, 3))
            loss = functional.cross_entropy(model(shifted), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress(step + 1, steps)
    write_whole(path, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
