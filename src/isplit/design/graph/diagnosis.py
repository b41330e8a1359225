"""Find the line of a model's own code that stands in the way of analysing it."""

import contextlib
import linecache
import random
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_Follower = Callable[[FrameType, str, Any], Any]

_HERE = str(Path(__file__).parent)
_TORCH = str(torch.__path__[0])
_FOREIGN = (_HERE, _TORCH, str(Path(np.__file__).parent), random.__file__)
_LONGEST = 200
BOUND_TO_BATCH = "the model is bound to one size of batch"
_READS_WHOLE = frozenset(("numpy", "tolist", "__array__", "__bool__", "__int__", "__float__", "item"))


@dataclass(frozen=True)
class Event:
    """A relevant operation of a run: its line in the model's code, and its result."""

    operation: str
    place: str
    value: Any = None


class Watch(TorchDispatchMode):
    """Records random operations, and every reading of a tensor's values into Python, with their lines."""

    def __init__(self) -> None:
        super().__init__()
        self.random: list[Event] = []
        self.reads: list[Event] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").split(".")[0]
        if torch.Tag.nondeterministic_seeded in func.tags and "dot_product" not in name:
            self.random.append(Event(name, own_place(traceback.extract_stack())))
        elif name == "_local_scalar_dense":
            self.reads.append(Event(name, own_place(traceback.extract_stack()), result))
        return result


class _Results(TorchDispatchMode):
    """Records every operation that answers with a tensor, with a copy of the tensor as it was then."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(first, torch.Tensor) and _is_plain(first):
            name = str(func).removeprefix("aten.").split(".")[0]
            self.events.append(Event(name, own_place(traceback.extract_stack()), first.detach().clone()))
        return result


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has real numbers in rows and columns that can be compared."""
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_complex()


class _WholeReads(TorchFunctionMode):
    """Records where a whole tensor leaves torch: numpy(), tolist()."""

    def __init__(self, reads: list[Event]) -> None:
        super().__init__()
        self._reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in _READS_WHOLE and args and isinstance(args[0], torch.Tensor):
            value = args[0].detach().cpu().numpy().tobytes() if args[0].dtype != torch.bfloat16 else None
            self._reads.append(Event(name, own_place(traceback.extract_stack()), value))
        return result


def random_operations(run: Callable[[], object]) -> list[Event]:
    """Return the random operations of a run, in order."""
    with Watch() as watch:
        run()
    return watch.random


def python_random(run: Callable[[], object]) -> Event | None:
    """Return where a run first draws from the global generator of Python's `random` or of `numpy.random`, if it does.

    The states of both generators are compared between the lines of the model's code. Generators that the model has made
    itself are not seen.
    """
    lines: list[tuple[str, int]] = [("", 0)]
    states = _python_states()
    drawn: list[Event] = []

    def follow(frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code.co_filename
        if drawn or code.startswith((*_FOREIGN, "<")):
            return None
        for name, state in _python_states().items():
            if state != states[name] and not drawn:
                path, number = lines[-1]
                drawn.append(Event(name, f"{path}:{number}: {linecache.getline(path, number).strip()}"))
        if event == "line":
            lines[-1] = (code, frame.f_lineno)
        elif event == "return":  # what follows in this run belongs to the line that called
            lines.pop()
        elif event == "call":  # an exception begins no run of its own
            lines.append((code, frame.f_lineno))
        return follow

    _run_followed(run, follow, current=sys.gettrace, install=sys.settrace)
    return drawn[0] if drawn else None


def _run_followed(
    run: Callable[[], object], follow: _Follower, *, current: Callable[[], Any], install: Callable[[Any], None]
) -> None:
    """Run with a trace or profile function in place, and put the one that was there before back in its place.

    Args:
        run: What is run.
        follow: Called by the interpreter as `sys.settrace` and `sys.setprofile` describe it.
        current: `sys.gettrace` or `sys.getprofile`.
        install: `sys.settrace` or `sys.setprofile`.

    """
    before = current()
    install(follow)
    try:
        run()
    finally:
        install(before)


def _python_states() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state(legacy=False)
    return {
        "random": random.getstate(),
        "numpy.random": (numpy_state["state"]["key"].tobytes(), numpy_state["state"]["pos"]),
    }


def generator_states() -> list[bytes]:
    """Return the states of the global generators of torch, Python and numpy, to be compared."""
    return [bytes(torch.get_rng_state().numpy()), *(repr(state).encode() for state in _python_states().values())]


def differing_operation(run: Callable[[], object]) -> Event | None:
    """Return the first operation whose result differs between two runs on the same images.

    What a model takes from elsewhere (a generator of its own, the time, a counter) comes into its answer there.
    """
    recorded: list[list[Event]] = []
    for _ in range(2):
        with _Results() as results:
            run()
        recorded.append(results.events)
    for first, second in zip(*recorded, strict=False):
        if (first.operation, first.place, first.value.shape) != (second.operation, second.place, second.value.shape):
            return replace(first, value=None)
        if not torch.equal(first.value.nan_to_num(), second.value.nan_to_num()):
            return replace(first, value=None)
    return None


def gradient_call(run: Callable[[], object]) -> Event | None:
    """Return where a run takes gradients itself, if it does."""
    names = {torch.autograd.grad.__code__: "torch.autograd.grad", torch.autograd.backward.__code__: "backward"}
    calls: list[Event] = []

    def follow(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in names and not calls:
            calls.append(Event(names[frame.f_code], own_place(traceback.extract_stack(frame))))

    _run_followed(run, follow, current=sys.getprofile, install=sys.setprofile)
    return calls[0] if calls else None


def changed_state(model: nn.Module, run: Callable[[], object]) -> list[str]:
    """Return the names of the buffers and attributes of a model that a run changes; the changes stay."""
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    run()
    changed = [
        name
        for name, buffer in model.named_buffers()
        if name in buffers and not (buffer.shape == buffers[name].shape and torch.equal(buffer, buffers[name]))
    ]
    for path, module in model.named_modules():
        before = attributes.get(path, {})
        for name, value in vars(module).items():
            if name not in before or before[name] is not value:
                changed.append(f"{path}.{name}".lstrip("."))
    return changed


@contextlib.contextmanager
def batch_statistics(model: nn.Module) -> Generator[dict[str, str]]:
    """Note the BatchNorm layers that normalise with the statistics of the batch while a `with` block runs.

    Yields:
        Their names, each with the reason.

    """
    reasons: dict[str, str] = {}
    names: dict[nn.Module, str] = {}
    handles: list[Any] = []

    def note(norm: Any, _: object) -> None:
        if norm.training:
            reasons[names[norm]] = "it is in training mode while the model runs"
        elif norm.running_mean is None:
            reasons[names[norm]] = "it keeps no running statistics"

    for name, module in model.named_modules():
        # A subclass with a forward of its own may compute something else.
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module).forward in _NORMALISE:
            names[module] = name
            handles.append(module.register_forward_pre_hook(note))
    try:
        yield reasons
    finally:
        for handle in handles:
            handle.remove()


_NORMALISE = (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)


def mixing_operation(
    run: Callable[[torch.Tensor], object],
    images: torch.Tensor,
    *,
    equal: Callable[[torch.Tensor, torch.Tensor], bool],
) -> Event | None:
    """Return the first operation whose result for an image depends on the other images of its batch.

    Only results whose first dimension is the batch's are compared: elsewhere the rows may be in any order.

    Args:
        run: Runs the model on a batch.
        images: N×C×H×W; the model also gets all of them but the last.
        equal: Whether a result for fewer images is the beginning of that for all, but for rounding.

    """
    recorded: list[list[Event]] = []
    for batch in (images, images[:-1]):
        with _Results() as results:
            run(batch)
        recorded.append(results.events)
    for whole, part in zip(*recorded, strict=False):
        if (whole.operation, whole.place) != (part.operation, part.place):
            return None
        sizes = tuple(event.value.shape[0] if event.value.dim() else 0 for event in (whole, part))
        same_rows = sizes == (len(images), len(images) - 1) and whole.value.shape[1:] == part.value.shape[1:]
        if same_rows and not equal(part.value.float(), whole.value.float()):
            return replace(whole, value=None)
    return None


def pixel_reads(run: Callable[[torch.Tensor], object], batches: Sequence[torch.Tensor]) -> list[Event]:
    """Return the readings into Python whose values differ between batches, because they depend on pixel values.

    Batches that the model refuses, for example because it checks their range, are left out.
    """
    runs: list[list[Event]] = []
    for images in batches:
        with contextlib.suppress(Exception), Watch() as watch, _WholeReads(watch.reads):
            run(images)
            runs.append(watch.reads)
    for other in runs[1:]:
        for before, after in zip(runs[0], other, strict=False):
            if before.place != after.place:
                break
            if before.value != after.value:
                return [before]
    return []


def places_of_reads(run: Callable[[], object]) -> list[str]:
    """Return the lines at which a run reads values of tensors into Python, in order."""
    with Watch() as watch, _WholeReads(watch.reads):
        run()
    return list(dict.fromkeys(event.place for event in watch.reads))


def own_place(stack: traceback.StackSummary) -> str:
    """Return the innermost line of a stack that is neither torch's nor ours, as "file:line: code"."""
    frames = [frame for frame in stack if not frame.filename.startswith((_TORCH, "<", _HERE))]
    if not frames:
        return "inside torch"
    return f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}"


def place_of(error: BaseException) -> str:
    """Return the line of the model's own code that raised an error."""
    place = own_place(traceback.extract_tb(error.__traceback__))
    return place if place == "inside torch" else f"at {place}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, cut to a readable length."""
    if "Constraints violated (batch)" in str(error):
        return f"{BOUND_TO_BATCH}: it loops over the images in Python, or takes their number as one"
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
