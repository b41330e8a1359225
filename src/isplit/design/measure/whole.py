"""Measure how often the whole model is right."""

from contextlib import closing
from dataclasses import dataclass

import torch
from numpy.typing import NDArray

from isplit.design.class_subsets import ClassSubset
from isplit.design.devices import device_of
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset
from isplit.design.running import evaluating, find_logits
from isplit.errors import ModelError
from isplit.progress import Progress, silent
from isplit.records import Accuracy, Preprocessing


@dataclass(frozen=True, kw_only=True)
class BaseAccuracy:
    """Hold how often the model is right, and what guessing would reach: the share of the most frequent class."""

    accuracy: Accuracy
    chance: float


def measure_accuracy(
    model: torch.nn.Module,
    *,
    dataset: Dataset,
    indices: NDArray,
    preprocessing: Preprocessing,
    group: ClassSubset,
    batch_size: int,
    progress: Progress = silent,
) -> BaseAccuracy:
    """Count the images of a subset's classes that the model answers correctly among these classes.

    Args:
        model: Maps N×C×H×W to logits N×K, or to tuples, lists or mappings that hold them (see `find_logits`).
        dataset: The data set.
        indices: Indices of the images. Images of classes outside the subset are passed over.
        preprocessing: The steps that turn an image into the model's input.
        group: The classes that compete.
        batch_size: The number of images in one forward pass.
        progress: Called as images are done.

    Raises:
        DataError: an image is damaged.
        ModelError: the output holds no N×K tensor.

    """
    labels = group.label_map[dataset.labels[indices]]
    indices, labels = indices[labels >= 0], labels[labels >= 0]
    correct = done = 0
    progress("base accuracy", 0, len(indices))
    # The batches are closed even if the model raises: their threads would go on decoding while the traceback is kept.
    device = device_of(model)
    batches = closing(iter_batches(dataset, indices, preprocessing, batch_size=batch_size, device=device))
    with evaluating(model), torch.no_grad(), batches as coming:
        for batch in coming:
            logits = find_logits(model(batch.images))
            if logits is None:
                msg = "the model's output holds no tensor N×K: a classifier's logits are needed to tell if it is right"
                raise ModelError(msg)
            expected = torch.from_numpy(group.label_map)[batch.labels]
            correct += int((group(logits).argmax(1).cpu() == expected).sum())
            done += len(expected)
            progress("base accuracy", done, len(indices))
    counts = torch.bincount(torch.from_numpy(labels), minlength=1)
    chance = float(counts.max()) / max(1, len(labels))
    return BaseAccuracy(accuracy=Accuracy.from_counts(correct, len(labels)), chance=chance)
