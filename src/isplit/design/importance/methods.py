"""Score how much a tensor matters for a decision.

isplit's own methods score each activation with the gradient of the decision there: a function maps (activation,
gradient, channel_axis) to one value per image. Activation and gradient have the same shape: N×C×H×W or N×C×…
(channel_axis 1), or N×…×C (channel_axis -1: tokens, channels-last maps). Values are at least 0, in units of the logit,
and computed per image, so that a batch gives the same values as its images one by one. Other methods may ask for
several passes.
"""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch

from isplit.design.importance.passes import ImagePasses
from isplit.design.inputs.user_code import call_factory, import_factory
from isplit.errors import InputError
from isplit.records import Cut

Score = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def cam(activation: torch.Tensor, gradient: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Return Grad-CAM's map L = ReLU(mean_k alpha_k A_k), alpha_k = mean over positions of dy/dA_k.

    Selvaraju et al. (ICCV 2017), equations 1 and 2, with I-SPLIT's mean over the K channels in place of their sum,
    so that layers of different width compare. Not upsampled, not scaled.

    Args:
        activation: N×C×H×W, N×C×…, or N×…×C.
        gradient: The same shape.
        channel_axis: 1 or -1.

    Returns:
        N×P float32, P the number of positions in the order of the tensor's own spatial or token axes.

    """
    if channel_axis == 1 and not activation.is_contiguous(memory_format=torch.contiguous_format):
        # Channels-last memory: seen as N×…×C both products read it once from front to back.
        activation, gradient, channel_axis = activation.movedim(1, -1), gradient.movedim(1, -1), -1
    if channel_axis == 1:
        activation, gradient = activation.flatten(2), gradient.flatten(2)
        positions = 2
    else:
        activation, gradient = activation.flatten(1, -2), gradient.flatten(1, -2)
        positions = 1
    # bfloat16 is summed in float32. A plain sum, and a row vector times the matrix, are several times faster than
    # mean() and the matrix times a column vector.
    alpha = gradient.sum(positions, dtype=torch.float32 if gradient.dtype == torch.bfloat16 else None)
    row = alpha.div_(gradient.shape[positions] * alpha.shape[1]).to(activation.dtype).unsqueeze(1)
    weighted = torch.bmm(row, activation if channel_axis == 1 else activation.transpose(1, 2)).squeeze(1)
    return torch.relu_(weighted.float())


def cui(activation: torch.Tensor, gradient: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Return CUI, the cumulated importance: the mean of `cam` over positions (I-SPLIT, Cunico et al., ICPR 2022)."""
    return cam(activation, gradient, channel_axis).mean(1)


def gradient_activation(activation: torch.Tensor, gradient: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Return the mean of |activation × gradient| over all elements (Shrikumar et al. 2016, at an inner layer)."""
    return (activation * gradient).abs_().mean(tuple(range(1, activation.dim())), dtype=torch.float32)


def gradient_energy(activation: torch.Tensor, gradient: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Return the mean of gradient² over all elements, the squared effect of unit noise on the logit."""
    return gradient.square().mean(tuple(range(1, gradient.dim())), dtype=torch.float32)


class ImportanceMethod(Protocol):
    """Score how much the tensor at every cut matters for the decision on each image of a batch.

    Anything with these members can be given to `analyze` as `AnalyzeSettings(method=...)`; docs/extending.md has
    examples. Scores are float32 and at least 0, each image's from that image alone. A larger score means a tensor that
    matters more; the curve shows the logarithm of the mean over images.
    """

    @property
    def name(self) -> str:
        """The short name in records, tables and plots."""
        ...

    def __call__(self, passes: ImagePasses) -> torch.Tensor:
        """Return the scores, N images × K cuts, in the order of `passes.cuts`."""
        ...


@dataclass(frozen=True)
class GradientMethod:
    """Scores each activation with its gradient, in one forward and one backward pass.

    Args:
        name: The method's name in records.
        score: Maps activation, gradient and channel axis to one value per image.

    """

    name: str
    score: Score

    def __call__(self, passes: ImagePasses) -> torch.Tensor:
        """Return the scores, N images × K cuts."""
        return torch.stack(passes.gradients(self.reduce), dim=1)

    def reduce(self, activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> torch.Tensor:
        """Return one value per image for a cut."""
        return self.score(activation, gradient, cut.channel_axis or 1)


METHODS: dict[str, GradientMethod] = {
    method.name: method
    for method in (
        GradientMethod("cui", cui),
        GradientMethod("gradient-activation", gradient_activation),
        GradientMethod("gradient-energy", gradient_energy),
    )
}
"""The importance methods of isplit; `METHOD_TITLES` of the records has their titles."""


def resolve_method(method: str | ImportanceMethod) -> ImportanceMethod:
    """Return the importance method that a setting names.

    Args:
        method: A name in `METHODS`; `./file.py:name` or `package.module:name`, which names a method or a class of one;
            or a method itself.

    Raises:
        InputError: there is no such method, or what was named is none.

    """
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]
    value: object = method
    if isinstance(method, str):
        value = import_factory(method, error=InputError)
        if isinstance(value, type):
            value = call_factory(value, spec=method, error=InputError)
    if not callable(value) or not isinstance(getattr(value, "name", None), str):
        msg = (
            f"{method!r} is not an importance method: it needs a text `name`, and is called with the passes of a batch"
        )
        raise InputError(msg)
    return cast("ImportanceMethod", value)


def method_fingerprint(method: ImportanceMethod) -> str:
    """Return a text that changes when a method does, so that scores of another version are not reused.

    For a method of isplit it is the name; for others it includes the source code and the parameters that the method's
    `repr` shows.
    """
    if METHODS.get(method.name) is method:
        return method.name
    kind = method if inspect.isfunction(method) else type(method)
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = ""  # typed into an interpreter, so only the name and the parameters are available
    described = repr(method) if type(method).__repr__ is not object.__repr__ else ""
    return f"{method.name} {hashlib.sha256(f'{kind.__qualname__} {described} {source}'.encode()).hexdigest()}"


def check_scores(method: ImportanceMethod, scores: torch.Tensor, *, images: int, cuts: int) -> torch.Tensor:
    """Return a method's scores of a batch as float64, N×K, on the CPU.

    Raises:
        InputError: the scores are not N×K numbers, or one is below 0.

    """
    if not isinstance(scores, torch.Tensor) or scores.shape != (images, cuts):
        shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        msg = f"the importance method {method.name!r} gave {shape} for {images} images and {cuts} cuts: give N×K scores"
        raise InputError(msg)
    scores = scores.detach().double().cpu()
    if bool((scores < 0).any()):
        lowest = float(scores.min())
        msg = f"the importance method {method.name!r} gave a score below 0 ({lowest:g}): take its absolute value"
        raise InputError(msg)
    return scores
