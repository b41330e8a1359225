"""A pretended accelerator: its tensors say that they are elsewhere, and refuse to be mixed with those of the CPU.

What real accelerators refuse is refused here too: an operation on tensors of both places (only a number, a tensor
without axes, may be on the CPU), `numpy()`, indices on the device for a tensor on the CPU, a generator of the CPU that
fills a tensor on the device, the fused Adam with a count of steps on the CPU, and, where it is asked for, float64 as on
Apple's GPUs. It computes on the CPU, so results are equal. torch's own name "lazy" is taken for it, since nothing here
knows that device.
"""

import importlib
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("lazy:0")
_aten = torch.ops.aten
# These take a tensor of either place, as on real accelerators: copies between them, and indices.
_COPIES = {_aten._to_copy, _aten.copy_}
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_FUSED = {_aten._fused_adam_, _aten._fused_adam, _aten._fused_adamw_}
_dtypes_refused = set()


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


def _check_places(func, args, away, here):
    """Refuse what an accelerator refuses."""
    kind = func.overloadpacket
    numbers = [tensor for tensor in here if not tensor.dim()]
    arrays = [tensor for tensor in here if tensor.dim()]
    if kind in _COPIES:
        return
    if kind in _INDEXING:
        place, indices = args[0], [index for index in args[1] if index is not None]
        if not isinstance(place, PretendTensor) and any(isinstance(index, PretendTensor) for index in indices):
            raise RuntimeError(f"{func}: indices are on the device, and the tensor that is indexed is on the CPU")
        arrays = [tensor for tensor in arrays if not any(tensor is index for index in indices)]
    if kind in _FUSED:
        arrays = [*arrays, *numbers]
    if away and arrays:
        shapes = f"{[tuple(t.shape) for t in away]} there and {[tuple(t.shape) for t in arrays]} here"
        raise RuntimeError(f"{func} is asked of tensors that are not on the same device: {shapes}")


def _each(function, value):
    """Apply a function to a value, or to the values of a list: operations take and return lists of tensors, not trees.

    torch's own functions for trees take several times as long, and every operation passes here.
    """
    return type(value)(map(function, value)) if type(value) in (list, tuple) else function(value)


def _run(func, args, kwargs):
    """Run an operation on the CPU, and return its results on the device that they would be on."""
    tensors = []
    for value in (*args, *kwargs.values()):
        values = value if type(value) in (list, tuple) else (value,)
        tensors += [leaf for leaf in values if isinstance(leaf, torch.Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    _check_places(func, args, away, [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)])
    wanted = kwargs.get("device")
    goes_away = bool(away) if wanted is None else torch.device(wanted).type == DEVICE.type
    if func.overloadpacket is _aten.copy_:
        goes_away = isinstance(args[0], PretendTensor)
    if goes_away and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: expected a generator of the device, not one of the CPU")
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu") if goes_away else wanted}
    known = {id(tensor.held): tensor for tensor in away}

    def unwrap(leaf):
        return leaf.held if isinstance(leaf, PretendTensor) else leaf

    results = func(
        *(_each(unwrap, value) for value in args), **{name: _each(unwrap, value) for name, value in kwargs.items()}
    )

    def wrap(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) in known:  # an operation in place
            return known[id(leaf)]
        if goes_away and leaf.dtype in _dtypes_refused:
            raise TypeError(f"{func}: the device has no {leaf.dtype}")
        return PretendTensor(leaf) if goes_away else leaf

    return _each(wrap, results)


class _Here(TorchDispatchMode):
    """Takes what is made on the pretended device, or moved there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


@contextmanager
def pretended_device(monkeypatch, *, float64=True):
    """Offer the device under the name "cuda" and "auto" for the block; without float64 as on Apple's GPUs."""
    real, make, scale, no_sums = (
        torch.device,
        torch.tensor,
        torch.ldexp,
        "isplit.design.closed_form.moment_sums.sum_device",
    )
    adam = importlib.import_module("torch.optim.adam")

    def ldexp(values, exponents):
        # torch composes it of operations that take a number of the CPU; a card of NVIDIA's took none.
        if isinstance(values, PretendTensor) != isinstance(exponents, PretendTensor):
            raise RuntimeError("ldexp is asked of tensors that are not on the same device")
        return scale(values, exponents)

    def resolve(setting):
        return DEVICE if setting in ("auto", "cuda", "cuda:0") else real(setting)

    with monkeypatch.context() as patch, _Here():
        patch.setattr("isplit.design.devices.available_devices", lambda: ["cpu", "cuda:0"])
        for module in ("analyze", "predict", "fit", "fit_remote"):
            patch.setattr(f"isplit.design.{module}.resolve_device", resolve)
        # torch.tensor fills a device's memory without an operation that could be taken over.
        patch.setattr(torch, "tensor", lambda data, *, device=None, **options: make(data, **options).to(device))
        patch.setattr(torch, "ldexp", ldexp)
        # The fused kernels run wherever the operations do.
        patch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)
        if not float64:
            patch.setattr(no_sums, lambda device: real("cpu"))
            patch.setattr(f"{__name__}._dtypes_refused", {torch.float64})
        yield DEVICE
