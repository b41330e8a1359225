"""How often the model is right."""

from collections.abc import Callable

import torch
from numpy.typing import NDArray

from isplit.design.batches import iter_batches
from isplit.design.data import Dataset
from isplit.design.groups import GroupLogits
from isplit.design.modes import evaluating
from isplit.records import Accuracy, Preprocessing


def measure_accuracy(
    model: torch.nn.Module,
    dataset: Dataset,
    indices: NDArray,
    preprocessing: Preprocessing,
    group: GroupLogits,
    *,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> tuple[Accuracy, float]:
    """Count correct answers among a group's classes.

    Args:
        model: Maps N×C×H×W to logits.
        dataset: Its images.
        indices: Which of them; images of classes outside the group are passed over.
        preprocessing: How an image becomes input.
        group: The classes that compete.
        batch_size: Images per forward pass.
        progress: Called with images done and images in all.

    Returns:
        The accuracy with its interval, and the share of the most frequent class: what guessing would reach.

    """
    labels = group.label_map[dataset.labels[indices]]
    indices, labels = indices[labels >= 0], labels[labels >= 0]
    correct = done = 0
    progress(0, len(indices))
    with evaluating(model), torch.no_grad():
        for batch in iter_batches(dataset, indices, preprocessing, batch_size=batch_size):
            expected = torch.from_numpy(group.label_map)[batch.labels]
            correct += int((group(model(batch.images)).argmax(1) == expected).sum())
            done += len(expected)
            progress(done, len(indices))
    counts = torch.bincount(torch.from_numpy(labels), minlength=1)
    chance = float(counts.max()) / max(1, len(labels))
    return Accuracy.from_counts(correct, len(labels)), chance
