"""A split from its directory, ready to be measured, exported or trained on."""

from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from isplit.design.bottleneck.build import load_split
from isplit.design.graph import split
from isplit.design.measure.splits import BuiltSplit
from isplit.design.study import OpenStudy
from isplit.errors import StudyError


def load_trained(study: OpenStudy, directory: Path) -> BuiltSplit:
    """Rebuild the split that `fit` (or `predict`) saved: the same weights in the same memory layout.

    Sides that were not trained are None: they are the model's own.

    Raises:
        StudyError: files are missing or damaged, or the split was made from another model.

    """
    record, bottleneck, codec, tensors = load_split(directory)
    if record.model != study.model.source.fingerprint:
        msg = f"the split {directory} was made from another model than the study's: make it again"
        raise StudyError(msg)
    (cut,) = study.cuts((record.cut,))
    sides = split(study.graph, cut.name)
    bottleneck.requires_grad_(False)
    return BuiltSplit(
        cut,
        bottleneck,
        codec,
        tail=_side(sides.tail, "tail", tensors, directory),
        head=_side(sides.head, "head", tensors, directory),
    )


def _side(module: nn.Module, side: str, tensors: dict[str, torch.Tensor], directory: Path) -> nn.Module | None:
    start = f"{side}."
    own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
    if not own:
        return None
    copied = deepcopy(module)
    try:
        copied.load_state_dict(own)
    except RuntimeError as error:
        msg = f"the split {directory} is damaged: {error}; delete it and train it again"
        raise StudyError(msg) from error
    return copied.eval().requires_grad_(False)
