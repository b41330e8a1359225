"""Draw importance maps of a few images at the candidates, for the report."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.codec.bands import shown
from isplit.design.class_subsets import ClassSubset
from isplit.design.graph import ModelGraph
from isplit.design.graph.gradients import GradientPass
from isplit.design.graph.tokens import token_grid
from isplit.design.importance.methods import cam
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset
from isplit.records import Cut, Overlays, Preprocessing, Target


def draw_overlays(
    graph: ModelGraph,
    cuts: Sequence[Cut],
    dataset: Dataset,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing,
    group: ClassSubset,
    target: Target,
) -> Overlays:
    """Compute Grad-CAM's maps of the images at `indices` at every cut in one pass.

    Tokens are arranged as the square that they came from, without class and register tokens.
    """
    (batch,) = iter_batches(dataset, indices, preprocessing, batch_size=len(indices))
    labels = torch.from_numpy(group.label_map)[batch.labels]
    gradients = GradientPass(graph, cuts)
    _, maps = gradients(
        batch.images,
        lambda logits: group.decision(logits, labels, target),
        lambda activation, gradient, cut: cam(activation, gradient, cut.channel_axis or 1),
    )
    pixels = np.stack([dataset.pixels(int(index), preprocessing) for index in indices])
    maps = [values.cpu().numpy() for values in maps]
    laid_out = {cut.name: lay_out(values, cut, preprocessing) for cut, values in zip(cuts, maps, strict=True)}
    return Overlays(
        images=shown(pixels),
        titles=tuple(group.group.classes[int(label)] for label in labels),
        maps={name: values for name, values in laid_out.items() if values is not None},
    )


def lay_out(values: NDArray[np.float32], cut: Cut, preprocessing: Preprocessing) -> NDArray[np.float32] | None:
    """Arrange N×P values as N maps h×w over the image.

    Tokens fill a grid of the image's proportions from the end; class and register tokens come before it and are left
    out. None if the positions form no such grid (the windows of MaxViT).
    """
    height, width = preprocessing.image_size
    extents = cut.shape[1:] if cut.channel_axis == 1 else cut.shape[:-1]
    if len(extents) == 2:
        rows, columns = extents
        is_grid = abs(rows * width - columns * height) <= max(height, width)
        return values.reshape(-1, rows, columns) if is_grid else None
    if len(extents) != 1:
        return None
    rows, columns = token_grid(extents[0], preprocessing.image_size)
    return values[:, extents[0] - rows * columns :].reshape(-1, rows, columns) if rows * columns else None
