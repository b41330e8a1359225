"""Show how a data set is taken before any long work: parts, classes beside the model's outputs, and sample images."""

import base64
import io
from pathlib import Path

import numpy as np
import torch
from torch import nn

from isplit.codec.bands import shown, stacked
from isplit.design.inputs.batches import normalise
from isplit.design.inputs.class_outputs import match_data
from isplit.design.inputs.data import Dataset, balanced_order, open_data
from isplit.design.inputs.models import LoadedModel, load_model
from isplit.design.running import evaluating
from isplit.records import ClassRow, DataCheckRecord, PartName, SampleImage

SAMPLES = 9
"""Images that are shown; from as many classes as possible."""


def check_data(
    model: LoadedModel | nn.Module | str,
    data: Dataset | str | Path,
    *,
    class_map: str | Path | None = None,
    seed: int = 0,
) -> DataCheckRecord:
    """Return how the data is taken for a model: its parts, its classes beside the outputs, and nine samples.

    Args:
        model: From `load_model`, or what that takes.
        data: From `open_data`, or what that takes.
        class_map: A JSON file {class: model output}, where that cannot be told by number or name.
        seed: Seed of the choice of sample images.

    Raises:
        ModelError: The classes cannot be matched to the outputs.
        DataError: A sample image is damaged.

    Examples:
        >>> model = isplit.load_model("net.py:build", weights="net.safetensors")
        >>> check = isplit.check_data(model, "photos")
        >>> [(row.name, row.output) for row in check.classes]
        [('bars', 0), ('dots', 1), ('rows', 2)]

    """
    model = model if isinstance(model, LoadedModel) else load_model(model)
    data = data if isinstance(data, Dataset) else open_data(str(data), seed=seed)
    model = model.for_classes(len(data.classes))
    match = match_data(model, data, class_map=None if class_map is None else Path(class_map))
    output_names = model.class_names
    counts: dict[PartName, np.ndarray] = {
        part: np.bincount(data.labels[images], minlength=len(data.classes)) for part, images in data.parts.items()
    }
    return DataCheckRecord(
        model=model.source.spec,
        data=data.source(match.outputs).spec,
        part_images={part: len(images) for part, images in data.parts.items()},
        part_rule=data.part_rule,
        preprocessing=model.preprocessing,
        num_outputs=model.source.num_outputs,
        match_rule=match.rule,
        classes=tuple(
            ClassRow(
                name=name,
                title=title,
                output=output,
                output_name=None if output_names is None else output_names[output],
                part_images={part: int(count[k]) for part, count in counts.items()},
            )
            for k, (name, title, output) in enumerate(zip(data.classes, data.titles, match.outputs, strict=True))
        ),
        samples=_samples(model, data, match.outputs, seed=seed),
        notices=(*model.warnings, *data.notices, *match.notices),
    )


def _samples(model: LoadedModel, data: Dataset, outputs: tuple[int, ...], *, seed: int) -> tuple[SampleImage, ...]:
    images = balanced_order(data.labels, np.arange(len(data)), seed=seed)[:SAMPLES]
    pixels = np.stack([data.pixels(int(index), model.preprocessing) for index in images])
    with evaluating(model.module), torch.no_grad():
        logits = model.logits(normalise(torch.from_numpy(pixels), model.preprocessing))
    title_of = dict(zip(outputs, data.titles, strict=True))
    return tuple(
        SampleImage(
            name=data.name_of(int(index)),
            title=data.titles[data.labels[index]],
            answer=title_of.get(int(answer)),
            png_base64=_png_base64(image),
        )
        for index, image, answer in zip(images, pixels, logits.argmax(1), strict=True)
    )


def _png_base64(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    stacked(pixels if pixels.shape[2] in (1, 3) else shown(pixels)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
