"""Models by name or path, or as they are: given their weights, checked and described."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from isplit.design.inputs.files import file_sha256
from isplit.design.inputs.model_sources import build, name_of
from isplit.design.inputs.weights import apply_weights, check_finite, fingerprint, read_weights
from isplit.design.running import find_logits
from isplit.errors import ModelError
from isplit.records import ModelSource, Preprocessing


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LoadedModel:
    """A model in evaluation mode that has answered a trial batch.

    `class_names` are its outputs' names where they are known. `warnings` say what the user has to know about it.
    """

    module: nn.Module
    source: ModelSource
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        rows, columns = self.preprocessing.image_size
        return (
            f"LoadedModel({self.source.spec}: input {self.preprocessing.channels}×{rows}×{columns}, "
            f"{self.source.num_outputs} outputs, {self.source.parameters:,} parameters)"
        )


def load_model(
    spec: str | nn.Module,
    *,
    weights: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> LoadedModel:
    """Build a model or take the one given, load its weights, and try it on two black images.

    Args:
        spec: `torchvision:NAME` (classification), `timm:NAME`, or `./file.py:factory` or `package.module:factory`, a
            function that returns a module and is given `num_classes` if it takes it. Or a module, recorded as
            `python:CLASS` and used itself, not copied: it is put into evaluation mode, and a file's weights into it.
        weights: None (the values it is built with, or a given module's own), "default" (the library's trained ones,
            downloaded), or a .safetensors, .pth or .pt file with a state dictionary.
        num_classes: outputs of the model. With "default" weights another number puts an untrained classifier in.
        image_size: height and width of the input, instead of what the library says. A module, given or a factory's,
            may say it in an attribute `preprocessing`: a `Preprocessing` or some of its fields.
        channels: 1 or 3; must agree with the first convolution.
        mean: of each channel (or one for all) of images in [0, 1].
        std: likewise.

    Random initial values are the same at every call, and the caller's random state stays as it was. So does the
    module's `requires_grad`.

    Raises:
        ModelError: unknown model, weights that are missing, unsafe, of another model, NaN or infinite, a module that
            cannot take the image size, or whose output holds no N×K tensor.
        MissingExtraError: timm is not installed.

    Example:
        >>> isplit.load_model("net.py:build", weights="net.safetensors")
        LoadedModel(net.py:build: input 3×16×16, 3 outputs, 2,447 parameters)

    """
    if num_classes is not None and num_classes < 2:
        msg = f"a model needs at least 2 outputs to tell classes apart, not {num_classes}"
        raise ModelError(msg)
    name = name_of(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        built = build(spec, weights=weights, num_classes=num_classes)
    file = Path(weights).expanduser() if weights not in (None, "default") else None
    if file is not None:
        apply_weights(built.module, read_weights(file), file=file)
    module = built.module.eval()
    check_finite(module)
    given = {"image_size": image_size, "channels": channels, "mean": mean, "std": std}
    preprocessing = _make_preprocessing(module, built.hints, given, spec=name)
    num_outputs = _count_outputs(module, preprocessing, spec=name)
    if num_classes not in (None, num_outputs):
        msg = f"{name} has {num_outputs} outputs, not {num_classes}: its factory has to take num_classes and use it"
        raise ModelError(msg)
    names = built.class_names
    return LoadedModel(
        module=module,
        source=ModelSource(
            spec=name,
            weights=weights,
            weights_sha256=None if file is None else file_sha256(file),
            fingerprint=fingerprint(module),
            num_outputs=num_outputs,
            parameters=sum(parameter.numel() for parameter in module.parameters()),
        ),
        preprocessing=preprocessing,
        class_names=names if names is not None and len(names) == num_outputs else None,
        warnings=tuple(built.warnings),
    )


# --- input and output ---


def _make_preprocessing(
    module: nn.Module, hints: Mapping[str, Any], given: Mapping[str, Any], *, spec: str
) -> Preprocessing:
    """Combine what the library says with what the user gave, which wins."""
    fields = {**hints, **{key: value for key, value in given.items() if value is not None}}
    if fields.get("image_size") is None:
        msg = f"{spec} does not say what images it takes: pass --image-size N, or set an attribute preprocessing on it"
        raise ModelError(msg)
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    defaults = {"channels": 3 if first is None else first.in_channels, "interpolation": "bilinear"}
    for name, default in {**defaults, "mean": 0.0, "std": 1.0}.items():
        if fields.get(name) is None:
            fields[name] = default
    fields = _plain(fields)
    own_resize = given["image_size"] is None and "resize_size" in fields
    try:
        made = Preprocessing.model_validate(fields if own_resize else fields | {"resize_size": None})
    except ValidationError as error:
        first_error = error.errors()[0]
        where = ".".join(map(str, first_error["loc"]))
        msg = f"{spec}: the preprocessing cannot be used: {where}: {first_error['msg']} (got {first_error['input']!r})"
        raise ModelError(msg) from error
    channels, (height, width) = made.channels, made.image_size
    if first is not None and channels != first.in_channels:
        msg = f"{spec} takes images of {first.in_channels} channels, not {channels}: leave the channels out"
        raise ModelError(msg)
    broadcast = {name: values * channels for name in ("mean", "std") if len(values := getattr(made, name)) == 1}
    made = made.model_copy(update=broadcast if own_resize or height != width else broadcast | {"resize_size": height})
    if not len(made.mean) == len(made.std) == channels or not all(0 < value < math.inf for value in made.std):
        msg = f"mean {made.mean} and std {made.std} must have 1 or {channels} values each, and std be positive"
        raise ModelError(msg)
    if min(*made.image_size, made.resize_size or 1) < 1 or not all(map(math.isfinite, made.mean)):
        msg = f"sizes must be positive and means finite: {made.image_size}, {made.resize_size}, {made.mean}"
        raise ModelError(msg)
    return made


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as numbers and tuples: arrays and tensors as lists, one size for both sides, a mean as a tuple.

    What is none of these is left for `Preprocessing` to refuse.
    """
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in fields.items()}
    for name in ("image_size", "mean", "std"):
        value = plain[name]
        plain[name] = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if len(plain["image_size"]) == 1:
        plain["image_size"] *= 2
    return plain


def _count_outputs(module: nn.Module, preprocessing: Preprocessing, *, spec: str) -> int:
    """Run two black images through the module and return K of its N×K output."""
    shape = (2, preprocessing.channels, *preprocessing.image_size)
    try:
        with torch.no_grad():
            output = module(torch.zeros(shape))
    except Exception as error:  # the module may raise anything
        msg = f"{spec} cannot take images of shape {shape}: {type(error).__name__}: {error}; try another --image-size"
        raise ModelError(msg) from error
    logits = find_logits(output)
    if logits is None or len(logits) != 2:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        msg = f"{spec} gave {found} for two images: a classifier's output is a tensor N×K, or holds one"
        raise ModelError(msg)
    return logits.shape[1]
