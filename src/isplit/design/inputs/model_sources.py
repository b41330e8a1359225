"""Build modules by name, with torchvision, timm or the user's factory, and describe their input."""

import inspect
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isplit.design.inputs.built import Built
from isplit.design.inputs.hugging_face_models import build_hugging_face
from isplit.design.inputs.onnx_models import build_from_onnx, is_onnx_file
from isplit.design.inputs.preprocessing import fields_of
from isplit.design.inputs.private_copy import unwrap
from isplit.design.inputs.source import close_match
from isplit.design.inputs.user_code import call_factory, import_factory
from isplit.errors import ModelError, needs_extra

SPECS = "torchvision:NAME, timm:NAME, hf:FOLDER, model.onnx, ./file.py:factory, package.module:factory"
"""The forms of models that `load_model` takes."""


def name_of(spec: str | nn.Module) -> str:
    """Return the name of a model in records: its spec, or `python:CLASS` for a module."""
    return spec if isinstance(spec, str) else f"python:{type(spec).__qualname__}"


def build(spec: str | nn.Module, *, weights: str | None, num_classes: int | None) -> Built:
    """Build the module that `spec` names, with its default weights if `weights` is "default"; files come later.

    A module is taken as is.

    Raises:
        ModelError: unknown model, no default weights or a failed download, a factory that fails.
        MissingExtraError: timm, transformers or onnx2torch is needed and not installed.

    """
    if isinstance(spec, nn.Module):
        _refuse_default_weights(weights, spec=name_of(spec))
        return _describe(spec, spec=name_of(spec))
    if not isinstance(spec, str):
        what = "call its `.module()`" if isinstance(spec, torch.export.ExportedProgram) else f"a model is {SPECS}"
        msg = f"a {type(spec).__name__} is neither a torch.nn.Module nor a model's name: {what}"
        raise ModelError(msg)
    kind, _, name = spec.partition(":")
    if is_onnx_file(spec):
        if weights is not None:
            msg = f"{spec} holds its own weights: leave `weights={weights}` out"
            raise ModelError(msg)
        return build_from_onnx(spec)
    if kind == "hf" and name:
        return build_hugging_face(name, weights=weights, num_classes=num_classes)
    if kind == "torchvision":
        built = _build_torchvision(name, weights=weights, num_classes=num_classes)
    elif kind == "timm":
        built = _build_timm(name, pretrained=weights == "default", num_classes=num_classes)
    elif kind and name:
        return _build_from_factory(spec, weights=weights, num_classes=num_classes)
    else:
        hint = close_match(spec, _torchvision_names(), prefix="torchvision:")
        msg = f"{spec!r} is not a model{hint}; a model is {SPECS}"
        raise ModelError(msg)
    if weights is None:
        built.warnings.append("no weights were given: the model has its random initial values and knows nothing")
    return built


def _torchvision_models() -> Any:
    """Import torchvision's models only when one is asked for, because that takes as long as importing torch."""
    with needs_extra("design"):
        from torchvision import models
    return models


def _torchvision_names() -> list[str]:
    models = _torchvision_models()
    return models.list_models(module=models)


def _build_torchvision(name: str, *, weights: str | None, num_classes: int | None) -> Built:
    models = _torchvision_models()
    if name not in _torchvision_names():
        hint = close_match(name, _torchvision_names(), prefix="torchvision:")
        msg = f"torchvision has no classification model {name!r}{hint}; see torchvision.models.list_models()"
        raise ModelError(msg)
    trained = models.get_model_weights(name)["DEFAULT"]
    transforms = trained.transforms()
    hints = {
        "image_size": transforms.crop_size[0],
        "resize_size": transforms.resize_size[0],
        "interpolation": transforms.interpolation.value,
        "mean": transforms.mean,
        "std": transforms.std,
    }
    if weights != "default":
        # Two of these models warn unless told how to start, and none needs a slow start when a file overwrites it.
        start = {"init_weights": weights is None} if name.startswith(("googlenet", "inception", "vgg")) else {}
        outputs = {} if num_classes is None else {"num_classes": num_classes}
        return Built(module=models.get_model(name, weights=None, **start, **outputs), hints=hints)
    try:
        module = models.get_model(name, weights=trained)
    except (OSError, RuntimeError, ValueError) as error:
        cache = Path(torch.hub.get_dir(), "checkpoints")
        msg = (
            f"the default weights of torchvision:{name} could not be downloaded: {error}; download {trained.url} "
            f"elsewhere and put it into {cache}, or pass the file with `weights=FILE`"
        )
        raise ModelError(msg) from error
    names = tuple(trained.meta["categories"])
    built = Built(module=module, hints=hints, class_names=names)
    if num_classes not in (None, len(names)):
        _replace_classifier(module, outputs=len(names), wanted=num_classes)
        built.class_names = None
        built.warnings.append(f"the classifier of {num_classes} outputs is untrained: only the rest has weights")
    return built


def _replace_classifier(module: nn.Module, *, outputs: int, wanted: int) -> None:
    """Put a new classifier of `wanted` outputs, and new auxiliary ones, in place of those of `outputs`."""
    classifiers = [
        name
        for name, layer in module.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == outputs)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == outputs and layer.kernel_size == (1, 1))
    ]
    if not classifiers:
        msg = f"no classifier of {outputs} outputs was found to replace: pass a file of weights with {wanted} outputs"
        raise ModelError(msg)
    for name in classifiers:
        # torchvision's auxiliary classifiers: aux1, aux2 (GoogLeNet), AuxLogits (Inception). Others are inner layers.
        if name != classifiers[-1] and "aux" not in name.lower():
            continue
        old = module.get_submodule(name)
        bias = old.bias is not None
        if isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, wanted, bias=bias)
        else:
            assert isinstance(old, nn.Conv2d)
            new = nn.Conv2d(old.in_channels, wanted, kernel_size=1, bias=bias)
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, new)


def _build_timm(name: str, *, pretrained: bool, num_classes: int | None) -> Built:
    with needs_extra("timm"):
        import timm
        from timm.data.config import resolve_model_data_config
    if not timm.is_model(name.split(".")[0]):
        hint = close_match(name, timm.list_models(), prefix="timm:")
        msg = f"timm has no model {name!r}{hint}; see timm.list_models()"
        raise ModelError(msg)
    outputs: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    try:
        module = timm.create_model(name, pretrained=pretrained, **outputs)
    except Exception as error:  # the hub's client raises errors of many kinds, depending on its version
        what = "default weights could not be downloaded" if pretrained else "model could not be built"
        msg = f"the {what} for timm:{name}: {type(error).__name__}: {error}; pass a file with `weights=FILE`"
        raise ModelError(msg) from error
    config = resolve_model_data_config(module)
    _, height, width = config["input_size"]
    hints = {key: config[key] for key in ("interpolation", "mean", "std")}
    # This follows timm's evaluation, except for its other ways of cropping.
    resize = math.floor(min(height, width) / config["crop_pct"])
    built = Built(module=module, hints={**hints, "image_size": (height, width), "resize_size": resize})
    if config["crop_mode"] != "center":
        if config["crop_mode"] == "squash" and config["crop_pct"] == 1:
            built.hints["resize_size"] = None
        else:
            mode = config["crop_mode"]
            built.warnings.append(f"timm resizes with crop mode {mode!r} for this model; a centre crop is used instead")
    trained = getattr(module, "pretrained_cfg", {}).get("num_classes")
    if pretrained and num_classes not in (None, trained):
        built.warnings.append(f"the classifier of {num_classes} outputs is untrained: only the rest has weights")
    return built


def _build_from_factory(spec: str, *, weights: str | None, num_classes: int | None) -> Built:
    _refuse_default_weights(weights, spec=spec)
    factory = import_factory(spec, error=ModelError)
    module = _call_model_factory(factory, spec=spec, num_classes=num_classes)
    if not isinstance(module, nn.Module):
        msg = f"{spec} returned a {type(module).__name__}, not a torch.nn.Module"
        raise ModelError(msg)
    return _describe(module, spec=spec)


def _call_model_factory(factory: Callable[..., Any], *, spec: str, num_classes: int | None) -> Any:
    """Call a factory, with `num_classes` if it is given and the factory takes it by name or passes it on."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}
    by_name = "num_classes" in parameters
    passed_on = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if num_classes is None or not (by_name or passed_on):
        return call_factory(factory, spec=spec, error=ModelError)
    try:
        return call_factory(factory, spec=spec, error=ModelError, num_classes=num_classes)
    except ModelError as error:
        # The function that gets the keyword arguments may not know num_classes.
        if by_name or not isinstance(error.__cause__, TypeError) or "num_classes" not in str(error):
            raise
        return call_factory(factory, spec=spec, error=ModelError)


def _refuse_default_weights(weights: str | None, *, spec: str) -> None:
    if weights == "default":
        msg = f"{spec} has no default weights: pass a file, or leave the weights out if the factory loads its own"
        raise ModelError(msg)


def _said(module: nn.Module, attribute: str) -> Any:
    """Return an attribute of a module, or of the module that it wraps."""
    said = getattr(module, attribute, None)
    return getattr(unwrap(module), attribute, None) if said is None else said


def _describe(module: nn.Module, *, spec: str) -> Built:
    """Return a user's module with the content of its attributes `preprocessing` and `class_names`."""
    hints = fields_of(_said(module, "preprocessing"), name=f"{spec}: the attribute preprocessing")
    names = _said(module, "class_names")
    if names is not None and (isinstance(names, str) or not isinstance(names, Iterable)):
        msg = f"{spec}: the attribute class_names is a {type(names).__name__}, not a list of names"
        raise ModelError(msg)
    return Built(module=module, hints=hints, class_names=None if names is None else tuple(map(str, names)))
