"""The weights of a module: read from files, applied, checked, and told apart by a fingerprint."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from isplit.errors import ModelError, needs_extra

_SHOWN = 4  # how many names an error message lists


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dictionary without running any code from the file.

    Raises:
        ModelError: no such file, another kind of file, a damaged one, or one with more than tensors.

    """
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


def apply_weights(module: nn.Module, state: dict[str, torch.Tensor], *, file: Path) -> None:
    """Copy tensors into the module, cast to its own dtypes; they have to fit exactly.

    Raises:
        ModelError: names or shapes differ; `file` is where they came from.

    """
    own = dict(_tensors(module))
    # Lazy parameters have no shape yet: they take the file's.
    known = [name for name in own.keys() & state.keys() if not nn.parameter.is_lazy(own[name])]
    wrong = [name for name in known if own[name].shape != state[name].shape]
    if wrong:
        outputs = _differing_outputs(module, own, state, wrong) if own.keys() == state.keys() else None
        if outputs is not None:
            theirs, ours = outputs
            msg = f"{file}: the weights have {theirs} outputs, the model {ours}: pass --num-classes {theirs}"
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


def _differing_outputs(
    module: nn.Module, own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], wrong: Sequence[str]
) -> tuple[int, int] | None:
    """Return the outputs of the weights and of the module if that is all they differ in, else None.

    They differ in outputs if the last linear or convolution layer, which is the classifier, has another first
    dimension, and nothing else differs but further such layers in the same way (auxiliary classifiers).
    """
    layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    differing = {name.rpartition(".")[0] for name in wrong}
    if not (layers and layers[-1] in differing and differing <= set(layers)):
        return None
    if any(state[name].ndim == 0 or state[name].shape[1:] != own[name].shape[1:] for name in wrong):
        return None
    outputs = {(len(state[name]), len(own[name])) for name in wrong}
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
