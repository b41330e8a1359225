"""A second device that is none: its tensors say that they are elsewhere, and refuse to be mixed with the processor's.

What real accelerators refuse is refused here too: an operation on tensors of both places, and `numpy()`. It computes on
the processor, so results are equal. torch's own name "lazy" is taken for it, since nothing here knows that device.
"""

import importlib
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy:0")
_aten = torch.ops.aten
# These take a tensor of either place, as on real accelerators: copies between them, and indices.
_MIXED = {_aten._to_copy, _aten.copy_, _aten.index, _aten.index_put, _aten.index_put_}


class PretendTensor(torch.Tensor):
    """A tensor on the pretended device; `held` is the processor's tensor with its values."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"PretendTensor({self.held!r})"

    def __getitem__(self, index):
        # torch would make the indices of a list on the device without asking anybody.
        places = index if isinstance(index, tuple) else (index,)
        return super().__getitem__(tuple(torch.tensor(place) if isinstance(place, list) else place for place in places))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    """Run an operation on the processor, and return its results on the device that they would be on."""
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    here = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor) and tensor.dim()]
    if away and here and func.overloadpacket not in _MIXED:
        shapes = f"{[tuple(t.shape) for t in away]} there and {[tuple(t.shape) for t in here]} here"
        raise RuntimeError(f"{func} is asked of tensors on two devices: {shapes}")
    wanted = kwargs.get("device")
    goes_away = bool(away) if wanted is None else torch.device(wanted).type == DEVICE.type
    if func.overloadpacket is _aten.copy_:
        goes_away = isinstance(args[0], PretendTensor)
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu") if goes_away else wanted}
    known = {id(tensor.held): tensor for tensor in away}
    unwrap = lambda leaf: leaf.held if isinstance(leaf, PretendTensor) else leaf  # noqa: E731
    results = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))

    def wrap(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) in known:  # an operation in place
            return known[id(leaf)]
        return PretendTensor(leaf) if goes_away else leaf

    return tree_map(wrap, results)


class _Here(TorchDispatchMode):
    """Takes what is made on the pretended device, or moved there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


@contextmanager
def pretended_device(monkeypatch):
    """Offer the device under the name "cuda" and "auto" for the block."""
    monkeypatch.setattr("isplit.design.devices.available_devices", lambda: ["cpu", "cuda:0"])
    real = torch.device

    def resolve(setting):
        return DEVICE if setting in ("auto", "cuda", "cuda:0") else real(setting)

    for module in ("analyze", "predict", "fit"):
        monkeypatch.setattr(f"isplit.design.{module}.resolve_device", resolve)
    make = torch.tensor
    # torch.tensor fills a device's memory without an operation that could be taken over.
    monkeypatch.setattr(torch, "tensor", lambda data, *, device=None, **options: make(data, **options).to(device))
    # The fused kernels run wherever the operations do.
    adam = importlib.import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)
    with _Here():
        yield DEVICE
    monkeypatch.setattr(torch, "tensor", make)
