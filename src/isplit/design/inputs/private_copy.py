"""A copy of a user's model that isplit may change: without wrappers, in evaluation mode, in float32."""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from isplit.design.inputs.closures import rebind_functions

# Wrappers that only pass the call on, by class name, with the attribute that holds the model. Their own passes are
# compiled, or scatter a batch over devices; the wrapper of an average keeps a counter beside the averaged model.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "ModelEma": "ema",
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
    "EMA": "ema_model",
}


def unwrap(module: nn.Module) -> nn.Module:
    """Return the model inside wrappers of training: compiled, parallel, averaged, or adapted models."""
    while True:
        inner = getattr(module, _WRAPPERS.get(type(module).__name__, ""), None)
        if inner is None and hasattr(module, "peft_config") and hasattr(module, "get_base_model"):
            # The adapters (LoRA) stay inside its layers.
            inner = getattr(module, "get_base_model")()  # noqa: B009 - the type checker takes it for a submodule
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def private_copy(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return a copy of a model without wrappers, and what the user should know about it.

    Where a model cannot be copied it is used itself, and a notice says so.
    """
    module = unwrap(module)
    # Old weight norms keep their product as an attribute, hooks the features of the last run in a dictionary: both
    # have a history, which deepcopy refuses.
    computed = [
        value
        for child in module.modules()
        for value in tree_leaves(vars(child))
        if isinstance(value, torch.Tensor) and value.grad_fn is not None
    ]
    memo = {id(value): value.detach().clone() for value in computed}
    try:
        with torch.no_grad():  # parameters of TorchScript would be copied with a history
            copied = copy.deepcopy(module, memo)
            rebind_functions(copied, memo)
            return copied, []
    except Exception as error:  # noqa: BLE001 - the user's classes may refuse to be copied in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return module, [f"the model cannot be copied ({reason}): it is used itself and stays in evaluation mode"]


def prepare(module: nn.Module) -> None:
    """Put a model into evaluation mode, switch observers off, and undo what compiles or spreads parts of it."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            inner = unwrap(child) if type(child).__name__ in ("OptimizedModule", "DataParallel") else child
            if inner is not child:
                setattr(parent, name, inner)
        parent._compiled_call_impl = None
    module.eval()  # its result is not used: a model's own train() may return nothing
    # Observers of quantisation-aware training would go on to change the model with every image that it sees.
    module.apply(torch.ao.quantization.disable_observer)


def in_float32(module: nn.Module, run: Callable[[], object]) -> list[str]:
    """Cast a model to float32 if it is in another precision and cannot take float32 images; return a notice of it.

    A model that casts its images itself is left as it is.
    """
    kinds = {p.dtype for p in module.parameters() if p.is_floating_point() and p.dtype != torch.float32}
    if not kinds:
        return []
    try:
        run()
    except Exception:  # noqa: BLE001 - a model may fail in any way; what float32 does not mend is reported later
        module.float()
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        return [f"the model's {names} parameters were cast to float32"]
    return []
