"""The weights of a module: applied from a file, checked, and told apart by a fingerprint."""

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn

from isplit.design.inputs.weights_file import WeightsFile
from isplit.errors import ModelError

_SHOWN = 4  # how many names an error message lists


# Optimisers keep tensors too; averaged weights are a choice of their own. The first that fits is taken.
_PREFERRED = ("", "state_dict", "model_state_dict", "model", "net", "network", "weights", "module")


def apply_weights(module: nn.Module, file: WeightsFile) -> list[str]:
    """Copy tensors from a file into the module, cast to its own dtypes; they have to fit exactly.

    Names may have a prefix that training put in front of all of them ("module.", "model.", "_orig_mod."), and further
    tensors without it are left out. Of tensors that the module shares, one is enough.

    Returns:
        Notices of what was done to make them fit.

    Raises:
        ModelError: names or shapes differ, or the weights are quantised; the message shows both.

    """
    tensors = dict(_tensors(module))
    order = sorted(file.states, key=lambda place: (place not in _PREFERRED, _rank(place), place))
    fits = [(place, fit) for place in order if (fit := _fit(module, tensors, file.states[place])) is not None]
    if not fits and _loads(module, file.states[order[0]]):
        fits = [(order[0], _Fit(file.states[order[0]], "", 0))]
    if not fits:
        _refuse(module, tensors, file, order[0])
    place, fit = fits[0]
    _check_not_quantised(file.path, file.states[place])
    wrong = [name for name in tensors.keys() & fit.state.keys() if _differs(tensors[name], fit.state[name])]
    if wrong:
        _refuse_shapes(module, tensors, fit.state, wrong, file=file.path)
    _check_castable(tensors, fit.state, file=file.path)
    module.load_state_dict(fit.state, strict=False)
    return _notices(file, place, fit, [other for other, _ in fits[1:]], tensors)


def _loads(module: nn.Module, state: Mapping[str, torch.Tensor]) -> bool:
    """Return whether the module itself takes a state whose names differ: its classes may translate older ones."""
    try:
        result = module.load_state_dict(dict(state), strict=False)
    except Exception:  # noqa: BLE001 - a module's own way of loading may fail in any way
        return False
    missing = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    return not missing and not result.unexpected_keys


def _rank(place: str) -> int:
    return _PREFERRED.index(place) if place in _PREFERRED else len(_PREFERRED)


@dataclass(frozen=True)
class _Fit:
    """A state dictionary with the module's names; the prefix that was taken away or added, and what was left out."""

    state: dict[str, torch.Tensor]
    prefix: str
    left_out: int


def _fit(module: nn.Module, tensors: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> _Fit | None:
    """Return the state under the module's names if it maps one to one onto them, else None."""
    plain = {_WRAPPERS.sub("", name): tensor for name, tensor in state.items()}
    if len(plain) == len(state):
        state = plain
    first = min(tensors, default="")
    prefixes = {name[: -len(first)] for name in state if name.endswith(first)} | {""}
    for prefix in sorted(prefixes, key=len):
        renamed = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if _is_complete(module, tensors, renamed):
            return _Fit(_with_shared(module, renamed), prefix, len(state) - len(renamed))
    # The other way round: the module is wrapped, the file is of what is inside.
    common = _common_prefix(tensors)
    renamed = {common + name: tensor for name, tensor in state.items()}
    if common and _is_complete(module, tensors, renamed):
        return _Fit(_with_shared(module, renamed), f"+{common}", 0)
    return None


_WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpoints put into names; it is never part of a model's own."""


def _common_prefix(names: Iterable[str]) -> str:
    first = {name.partition(".")[0] for name in names}
    return f"{first.pop()}." if len(first) == 1 else ""


def _with_shared(module: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Add the tensors that the module has under several names, of which the state holds one."""
    filled = dict(state)
    groups: dict[int, list[str]] = {}
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        groups.setdefault(id(tensor), []).append(name)
    for names in groups.values():
        known = next((name for name in names if name in state), None)
        if known is not None:
            filled.update({name: state[known] for name in names if name not in state})
    return filled


def _problems(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
) -> tuple[list[str], list[str]]:
    """Return the names that the state lacks and those that the module does not know."""
    state = _with_shared(module, state)
    # Hooks of the module rename what older versions called otherwise; they are asked on a copy of the names.
    renamed = _renamed_by_hooks(module, state)
    # BatchNorm's counter is absent from old files, and unused with the usual momentum.
    missing = [name for name in tensors if name not in renamed and not name.endswith("num_batches_tracked")]
    return missing, [name for name in renamed if name not in tensors]


def _renamed_by_hooks(module: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state as it is after the pre-hooks of loading have renamed old names."""
    renamed = dict(state)
    for path, child in module.named_modules():
        prefix = f"{path}." if path else ""
        for hook in child._load_state_dict_pre_hooks.values():
            hook(renamed, prefix, {}, True, [], [], [])
    return renamed


def _is_complete(module: nn.Module, tensors: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> bool:
    if not state:
        return False
    missing, unknown = _problems(module, tensors, state)
    return not missing and not unknown


def _differs(tensors: torch.Tensor, given: torch.Tensor) -> bool:
    # Lazy parameters have no shape yet: they take the file's.
    return not nn.parameter.is_lazy(tensors) and tensors.shape != given.shape


def _check_not_quantised(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Raise a ModelError if the tensors are those of a quantised model."""
    marks = ("_packed_params", "qweight", "qzeros", "SCB", "zero_point")
    quantised = [name for name, tensor in state.items() if tensor.is_quantized or name.endswith(marks)]
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.dtype == torch.int8}
    if quantised or kinds:
        shown = _some(quantised) if quantised else ", ".join(sorted(kinds))
        msg = (
            f"{path} holds quantised weights ({shown}): isplit needs the model's floating-point weights, and quantises "
            "itself where that helps"
        )
        raise ModelError(msg)


def _check_castable(tensors: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], *, file: Path) -> None:
    """Raise a ModelError if a tensor would lose its imaginary part, its fractions or its range in the model's dtype."""
    for name in sorted(tensors.keys() & state.keys()):
        given, wanted = state[name], tensors[name].dtype
        if (given.is_floating_point() and (wanted.is_floating_point or wanted.is_complex)) or (
            given.is_complex() and wanted.is_complex
        ):
            continue  # a precision, which is said in a notice
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of an imaginary part; here it is an error
            same = torch.equal(given.to(wanted).to(given.dtype), given)
        if not same:
            kinds = (str(kind).removeprefix("torch.") for kind in (given.dtype, wanted))
            msg = "{}: {} is {} there and {} in the model, which cannot hold its values: is it another model's?"
            raise ModelError(msg.format(file, name, *kinds))


def _refuse(module: nn.Module, tensors: Mapping[str, torch.Tensor], file: WeightsFile, place: str) -> NoReturn:
    """Raise the error for a file of which nothing fits."""
    state = file.states[place]
    _check_not_quantised(file.path, state)
    missing, unknown = _problems(module, tensors, state)
    wrong = [name for name in tensors.keys() & state.keys() if _differs(tensors[name], state[name])]
    if wrong:
        _refuse_shapes(module, tensors, state, wrong, file=file.path)
    problems = [("lacks", missing), ("has the unknown", unknown)]
    what = " and ".join(f"{verb} {_some(names)}" for verb, names in problems if names)
    msg = f"{file.path} does not fit the model: it {what}"
    if place or len(file.states) > 1:
        msg += f" (looked for in {', '.join(repr(name) for name in file.states)})"
    raise ModelError(msg)


def _refuse_shapes(
    module: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    wrong: Sequence[str],
    *,
    file: Path,
) -> NoReturn:
    """Raise the error for tensors of other shapes."""
    outputs = _differing_outputs(module, tensors, state, wrong) if tensors.keys() == state.keys() else None
    if outputs is not None:
        theirs, ours = outputs
        msg = f"{file}: the weights have {theirs} outputs, the model {ours}: pass `num_classes={theirs}`"
        raise ModelError(msg)
    shapes = [f"{name} is {tuple(state[name].shape)}, not {tuple(tensors[name].shape)}" for name in wrong]
    msg = f"{file} is of another model: {_some(shapes)}"
    raise ModelError(msg)


def _notices(
    file: WeightsFile, place: str, fit: _Fit, others: Sequence[str], tensors: Mapping[str, torch.Tensor]
) -> list[str]:
    """Say what was done to a file's weights so that they fit."""
    notices: list[str] = []
    if place and others:
        shown = ", ".join(map(repr, others))
        notices.append(f"of the weights in {file.path.name} those under {place!r} are taken, not those under {shown}")
    if fit.prefix:
        word = "added to" if fit.prefix.startswith("+") else "taken from"
        notices.append(f"the prefix {fit.prefix.removeprefix('+')!r} was {word} the names in {file.path.name}")
    if fit.left_out:
        notices.append(f"{fit.left_out} tensors in {file.path.name} that are not the model's were left out")
    kinds = {
        str(tensor.dtype).removeprefix("torch.")
        for name, tensor in fit.state.items()
        if name in tensors and tensor.dtype != tensors[name].dtype
    }
    if kinds:
        notices.append(f"the weights in {file.path.name} are {', '.join(sorted(kinds))} and were cast to the model's")
    if file.ignored:
        notices.append(f"objects in {file.path.name} that are no tensors were not loaded: {', '.join(file.ignored)}")
    return notices


def _differing_outputs(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], wrong: Sequence[str]
) -> tuple[int, int] | None:
    """Return the outputs of the weights and of the module if that is all they differ in, else None.

    They differ in outputs if the last linear or convolution layer, which is the classifier, has another first
    dimension, and nothing else differs but further such layers in the same way (auxiliary classifiers).
    """
    layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    differing = {name.rpartition(".")[0] for name in wrong}
    if not (layers and layers[-1] in differing and differing <= set(layers)):
        return None
    if any(state[name].ndim == 0 or state[name].shape[1:] != tensors[name].shape[1:] for name in wrong):
        return None
    outputs = {(len(state[name]), len(tensors[name])) for name in wrong}
    return outputs.pop() if len(outputs) == 1 else None


def check_finite(module: nn.Module) -> None:
    """Raise a ModelError if the module's state holds NaN or infinity, or has no shape yet."""
    for name, tensor in _tensors(module):
        if nn.parameter.is_lazy(tensor):
            msg = f"{name} has no shape yet: run lazy modules once before the factory returns them"
            raise ModelError(msg)
        if not torch.isfinite(tensor).all():
            msg = f"{name} holds NaN or infinity: these weights cannot be used"
            raise ModelError(msg)


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 over the sorted state of a module: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(module):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _some(names: Sequence[str]) -> str:
    """Return the first few names in order, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the module's state by name; extra state that is not a tensor is left out."""
    return sorted((name, value) for name, value in module.state_dict().items() if isinstance(value, torch.Tensor))
