"""Models by name or path: built, given their weights, checked, and described.

load_model(spec) -> LoadedModel: the module, where it came from, and how images become its input
"""

import hashlib
import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision
from pydantic import ValidationError
from torch import nn

from isplit.design.sources import call_factory, close_match, file_sha256, import_factory
from isplit.errors import MissingExtraError, ModelError, needs_extra
from isplit.records import ModelSource, Preprocessing

SPECS = "torchvision:NAME, timm:NAME, ./file.py:factory, package.module:factory"
"""What `load_model` understands."""

_SHOWN = 4  # how many names an error message lists


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model in evaluation mode that has answered a trial batch.

    `class_names` are its outputs' names where they are known. `warnings` say what the user has to know about it.
    """

    module: nn.Module
    source: ModelSource
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Built:
    """A module as its library made it, and what that library says about it: fields of `Preprocessing`, names."""

    module: nn.Module
    hints: dict[str, Any]
    class_names: tuple[str, ...] | None = None
    warnings: list[str] = field(default_factory=list)


def load_model(
    spec: str,
    *,
    weights: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> LoadedModel:
    """Build a model, load its weights, and try it on two black images.

    Args:
        spec: `torchvision:NAME` (classification), `timm:NAME`, or `./file.py:factory` or `package.module:factory`, a
            function that returns a module and is given `num_classes` if it takes it.
        weights: None (initial values), "default" (the library's trained ones, downloaded), or a .safetensors, .pth or
            .pt file with a state dictionary.
        num_classes: outputs of the model. With "default" weights another number puts an untrained classifier in.
        image_size: height and width of the input, instead of what the library says. A factory's module may say it in
            an attribute `preprocessing`: a `Preprocessing` or some of its fields.
        channels: 1 or 3; must agree with the first convolution.
        mean: of each channel (or one for all) of images in [0, 1].
        std: likewise.

    The module's `requires_grad` and the global random state stay as they are.

    Raises:
        ModelError: unknown model, weights that are missing, unsafe, of another model, NaN or infinite, a module that
            cannot take the image size, or whose output holds no N×K tensor.
        MissingExtraError: timm is not installed.

    """
    if num_classes is not None and num_classes < 2:
        msg = f"a model needs at least 2 outputs to tell classes apart, not {num_classes}"
        raise ModelError(msg)
    with torch.random.fork_rng(devices=[]):
        built = _build(spec, weights=weights, num_classes=num_classes)
    file = Path(weights).expanduser() if weights not in (None, "default") else None
    if file is not None:
        _apply_weights(built.module, _read_weights(file), file=file)
    module = built.module.eval()
    _check_finite(module)
    given = {"image_size": image_size, "channels": channels, "mean": mean, "std": std}
    preprocessing = _make_preprocessing(module, built.hints, given, spec=spec)
    num_outputs = _count_outputs(module, preprocessing, spec=spec)
    if num_classes not in (None, num_outputs):
        msg = f"{spec} has {num_outputs} outputs, not {num_classes}: its factory has to take num_classes and use it"
        raise ModelError(msg)
    names = built.class_names
    return LoadedModel(
        module=module,
        source=ModelSource(
            spec=spec,
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


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 over the sorted state of a module: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(module):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def find_logits(output: Any) -> torch.Tensor | None:
    """Return the first N×K tensor in a model's output (a tensor, or tuples, lists and mappings of them), or None."""
    if isinstance(output, torch.Tensor):
        return output if output.ndim == 2 else None
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return next((found for value in values if (found := find_logits(value)) is not None), None)


def match_classes(
    classes: Sequence[str],
    *,
    loaded: LoadedModel,
    titles: Sequence[str] | None = None,
    class_map: Path | None = None,
) -> tuple[int, ...]:
    """Return the model output of each of the data's classes.

    By the first of these that applies: `class_map`, a JSON file {class: output}; the names of the model's outputs,
    if each class's name or title (or the first of its synonyms, "tabby, tabby cat") is among them; position, if there
    are as many classes as outputs; ImageNet's order, if the classes are ImageNet ids (n02085620) and there are 1000
    outputs (needs timm).

    Raises:
        ModelError: none applies, or the class map lacks a class, repeats an output or names one there is not.

    """
    num_outputs = loaded.source.num_outputs
    if class_map is not None:
        return _read_class_map(class_map, classes, num_outputs=num_outputs)
    by_name = _by_name(classes, titles or classes, loaded.class_names or ())
    if by_name is not None:
        return by_name
    if len(classes) == num_outputs:
        return tuple(range(num_outputs))
    note = ""
    if num_outputs == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes):
        try:
            with needs_extra("timm"):
                from timm.data.imagenet_info import ImageNetInfo
        except MissingExtraError as error:
            note = f" (the classes are ImageNet ids: {error} to match them by that)"
        else:
            order = {name: index for index, name in enumerate(ImageNetInfo().label_names())}
            if set(classes) <= order.keys():
                return tuple(order[name] for name in classes)
    msg = (
        f"the data has {len(classes)} classes, the model {num_outputs} outputs{note}: pass --num-classes "
        f"{len(classes)} with weights fitted to them, or --class-map FILE"
    )
    raise ModelError(msg)


def _by_name(classes: Sequence[str], titles: Sequence[str], names: Sequence[str]) -> tuple[int, ...] | None:
    lowered = [name.lower() for name in names]
    # ImageNet has two cranes and two maillots: a name that is not unique tells nothing.
    outputs = {name: index for index, name in enumerate(lowered) if lowered.count(name) == 1}
    found: list[int] = []
    for name, title in zip(classes, titles, strict=True):
        candidates = (name.lower(), title.lower(), title.lower().split(",")[0].strip())
        match = next((outputs[candidate] for candidate in candidates if candidate in outputs), None)
        if match is None or match in found:
            return None
        found.append(match)
    return tuple(found)


def _read_class_map(path: Path, classes: Sequence[str], *, num_outputs: int) -> tuple[int, ...]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        msg = f"the class map {path} cannot be read: {error}; it is a JSON file {{class: output}}"
        raise ModelError(msg) from error
    if not isinstance(found, dict):
        msg = f"the class map {path} is a JSON {type(found).__name__}, not {{class: output}}"
        raise ModelError(msg)
    outputs: list[int] = []
    for name in classes:
        output = found.get(name)
        if type(output) is not int or not 0 <= output < num_outputs or output in outputs:
            why = "has no output" if name not in found else f"has the output {output!r}"
            msg = f"the class map {path}: {name!r} {why}: give each class its own of 0 to {num_outputs - 1}"
            raise ModelError(msg)
        outputs.append(output)
    return tuple(outputs)


# --- building ---


def _build(spec: str, *, weights: str | None, num_classes: int | None) -> _Built:
    kind, _, name = spec.partition(":")
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


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def _build_torchvision(name: str, *, weights: str | None, num_classes: int | None) -> _Built:
    if name not in _torchvision_names():
        hint = close_match(name, _torchvision_names(), prefix="torchvision:")
        msg = f"torchvision has no classification model {name!r}{hint}; see torchvision.models.list_models()"
        raise ModelError(msg)
    trained = torchvision.models.get_model_weights(name)["DEFAULT"]
    transforms = trained.transforms()
    hints = {
        "image_size": transforms.crop_size[0],
        "resize_size": transforms.resize_size[0],
        "interpolation": transforms.interpolation.value,
        "mean": transforms.mean,
        "std": transforms.std,
    }
    if weights != "default":
        # Two of these warn unless told how to start, and none need start slowly when a file overwrites it.
        start = {"init_weights": weights is None} if name.startswith(("googlenet", "inception", "vgg")) else {}
        outputs = {} if num_classes is None else {"num_classes": num_classes}
        return _Built(module=torchvision.models.get_model(name, weights=None, **start, **outputs), hints=hints)
    try:
        module = torchvision.models.get_model(name, weights=trained)
    except (OSError, RuntimeError, ValueError) as error:
        cache = Path(torch.hub.get_dir(), "checkpoints")
        msg = (
            f"the default weights of torchvision:{name} could not be downloaded: {error}; download {trained.url} "
            f"elsewhere and put it into {cache}, or pass the file with --weights FILE"
        )
        raise ModelError(msg) from error
    names = tuple(trained.meta["categories"])
    built = _Built(module=module, hints=hints, class_names=names)
    if num_classes not in (None, len(names)):
        _replace_classifier(module, outputs=len(names), wanted=num_classes)
        built.class_names = None
        built.warnings.append(f"the classifier of {num_classes} outputs is untrained: only the rest has weights")
    return built


def _replace_classifier(module: nn.Module, *, outputs: int, wanted: int) -> None:
    """Put a new classifier of `wanted` outputs, and new auxiliary ones, in place of those of `outputs`."""
    found = [
        name
        for name, layer in module.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == outputs)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == outputs and layer.kernel_size == (1, 1))
    ]
    if not found:
        msg = f"no classifier of {outputs} outputs was found to replace: pass a file of weights with {wanted} outputs"
        raise ModelError(msg)
    for name in found:
        # torchvision's auxiliary classifiers: aux1, aux2 (GoogLeNet), AuxLogits (Inception). Others are inner layers.
        if name != found[-1] and "aux" not in name.lower():
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


def _build_timm(name: str, *, pretrained: bool, num_classes: int | None) -> _Built:
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
    except Exception as error:  # the hub's client, on whose version it depends, raises errors of many kinds
        what = "default weights could not be downloaded" if pretrained else "model could not be built"
        msg = f"the {what} for timm:{name}: {type(error).__name__}: {error}; pass a file with --weights FILE"
        raise ModelError(msg) from error
    config = resolve_model_data_config(module)
    _, height, width = config["input_size"]
    hints = {key: config[key] for key in ("interpolation", "mean", "std")}
    # As timm's evaluation does it, but for its other ways of cropping.
    resize = math.floor(min(height, width) / config["crop_pct"])
    built = _Built(module=module, hints={**hints, "image_size": (height, width), "resize_size": resize})
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


def _build_from_factory(spec: str, *, weights: str | None, num_classes: int | None) -> _Built:
    if weights == "default":
        msg = f"{spec} has no default weights: pass a file, or leave the weights out if the factory loads its own"
        raise ModelError(msg)
    factory = import_factory(spec, error=ModelError)
    try:
        takes = "num_classes" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        takes = False
    arguments = {"num_classes": num_classes} if takes and num_classes is not None else {}
    module = call_factory(factory, spec=spec, error=ModelError, **arguments)
    if not isinstance(module, nn.Module):
        msg = f"{spec} returned a {type(module).__name__}, not a torch.nn.Module"
        raise ModelError(msg)
    hints = getattr(module, "preprocessing", None) or {}
    hints = hints.model_dump() if isinstance(hints, Preprocessing) else hints
    if not isinstance(hints, Mapping):
        msg = f"{spec}: the attribute preprocessing is a {type(hints).__name__}, not a Preprocessing or a dict"
        raise ModelError(msg)
    names = getattr(module, "class_names", None)
    return _Built(module=module, hints=dict(hints), class_names=tuple(map(str, names)) if names else None)


# --- weights ---


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dictionary without running any code from the file."""
    if not path.is_file():
        msg = f"there is no file of weights {str(path)!r}: pass a .safetensors, .pth or .pt file, or 'default'"
        raise ModelError(msg)
    if path.suffix == ".safetensors":
        with needs_extra("design"):
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            msg = f"{path} cannot be read: {error}; download or save it again"
            raise ModelError(msg) from error
    if path.suffix not in (".pth", ".pt"):
        msg = f"weights are .safetensors, .pth or .pt files, not {path.name!r}"
        raise ModelError(msg)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged bytes, torch's unpickler raises errors of every kind
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"{path} is damaged, or holds more than tensors and is unsafe to load ({first}): save model.state_dict()"
        raise ModelError(msg) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        msg = f"{path} is not a state dictionary of tensors: save model.state_dict()"
        raise ModelError(msg)
    state = {str(name): tensor for name, tensor in state.items()}
    if all(name.startswith("module.") for name in state):  # from DataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _apply_weights(module: nn.Module, state: dict[str, torch.Tensor], *, file: Path) -> None:
    """Copy tensors into the module, cast to its own dtypes; they have to fit exactly."""
    own = dict(_tensors(module))
    wrong = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if wrong:
        outputs = {(state[name].shape[:1], own[name].shape[:1]) for name in wrong}
        inner = any(state[name].shape[1:] != own[name].shape[1:] for name in wrong)
        ((theirs, ours), *others) = outputs
        if not (inner or others) and own.keys() == state.keys():
            msg = f"{file}: the weights have {theirs[0]} outputs, the model {ours[0]}: pass --num-classes {theirs[0]}"
            raise ModelError(msg)
        shapes = [f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}" for name in wrong]
        msg = f"{file} is of another model: {_some(shapes)}"
        raise ModelError(msg)
    # Not strict: the report is ours. The module's own hooks still rename what older versions called otherwise.
    result = module.load_state_dict(state, strict=False)
    # BatchNorm's counter is absent from old files, and unused with the usual momentum.
    missing = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    problems = [("lacks", missing), ("has the unknown", result.unexpected_keys)]
    if any(names for _, names in problems):
        what = " and ".join(f"{verb} {_some(names)}" for verb, names in problems if names)
        msg = f"{file} does not fit the model: it {what}"
        raise ModelError(msg)


def _some(names: Sequence[str]) -> str:
    """Return the first few names in order, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the module's state by name; extra state that is not a tensor is left out."""
    return sorted((name, value) for name, value in module.state_dict().items() if isinstance(value, torch.Tensor))


def _check_finite(module: nn.Module) -> None:
    for name, tensor in _tensors(module):
        if nn.parameter.is_lazy(tensor):
            msg = f"{name} has no shape yet: run lazy modules once before the factory returns them"
            raise ModelError(msg)
        if not torch.isfinite(tensor).all():
            msg = f"{name} holds NaN or infinity: these weights cannot be used"
            raise ModelError(msg)


# --- input and output ---


def _make_preprocessing(
    module: nn.Module, hints: Mapping[str, Any], given: Mapping[str, Any], *, spec: str
) -> Preprocessing:
    """Combine what the library says with what the user gave, which wins."""
    fields = {**hints, **{key: value for key, value in given.items() if value is not None}}
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    channels = fields.setdefault("channels", first.in_channels if first is not None else 3)
    if first is not None and channels != first.in_channels:
        msg = f"{spec} takes images of {first.in_channels} channels, not {channels}: leave the channels out"
        raise ModelError(msg)
    size = fields.get("image_size")
    if size is None:
        msg = f"{spec} does not say what images it takes: pass --image-size N, or set an attribute preprocessing on it"
        raise ModelError(msg)
    fields["image_size"] = size = (size, size) if isinstance(size, int) else tuple(size)
    if given["image_size"] is not None or "resize_size" not in fields:
        fields["resize_size"] = size[0] if len(set(size)) == 1 else None
    fields.setdefault("interpolation", "bilinear")
    for name, neutral in (("mean", 0.0), ("std", 1.0)):
        values = tuple(fields.get(name) or (neutral,))
        fields[name] = values * channels if len(values) == 1 else values
    try:
        made = Preprocessing(**fields)
    except ValidationError as error:
        first_error = error.errors()[0]
        where = ".".join(map(str, first_error["loc"]))
        msg = f"{spec}: the preprocessing cannot be used: {where}: {first_error['msg']} (got {first_error['input']!r})"
        raise ModelError(msg) from error
    if not len(made.mean) == len(made.std) == channels or not all(0 < value < math.inf for value in made.std):
        msg = f"mean {made.mean} and std {made.std} must have 1 or {channels} values each, and std be positive"
        raise ModelError(msg)
    if min(*made.image_size, made.resize_size or 1) < 1 or not all(map(math.isfinite, made.mean)):
        msg = (
            f"image size {made.image_size}, resize size {made.resize_size} and mean {made.mean}: sizes must be positive"
        )
        raise ModelError(msg)
    return made


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
