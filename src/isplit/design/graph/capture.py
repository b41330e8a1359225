"""Capture a model as a graph: torch.fx first, torch.export where fx cannot trace it.

torch.fx keeps the modules, so BatchNorm and dropout stay trainable on both sides of a cut. torch.export follows any
model whose shapes do not depend on pixel values, but fixes it in evaluation mode.

    model ─ try_model ─> call, logits ─ trace ─> graph ─ rewrite ─> graph of one image batch that ends in logits N×K
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import fx, nn

from isplit.design.graph import rewrite
from isplit.design.graph.diagnosis import (
    BOUND_TO_BATCH,
    changed_state,
    differing_operation,
    first_line,
    gradient_call,
    pixel_reads,
    place_of,
    places_of_reads,
    random_operations,
)
from isplit.design.graph.export_trace import trace_functional, trace_with_export
from isplit.design.graph.fx_trace import trace_with_fx
from isplit.design.graph.guards import GUARDS
from isplit.design.graph.isolation import plain_execution, preserved, quiet, without_hooks
from isplit.design.graph.names import ModuleNames
from isplit.design.graph.outputs import ModelCall, as_matrix
from isplit.design.graph.trial import PIXEL_ADVICE, Trial, is_close, try_model
from isplit.design.graph.values import Value, observe
from isplit.design.running import evaluating
from isplit.errors import ModelError

CapturedBy = Literal["torch.fx", "torch.export"]
_Trace = Callable[[nn.Module, torch.Tensor, ModelCall], tuple[fx.GraphModule, ModuleNames]]


@dataclass(frozen=True)
class Capture:
    """A captured model: one input, one output (the logits), and the qualified module names of its nodes.

    `returned_by` names, per node, the innermost module that is called exactly once and returns that node's value.
    `enclosing` gives the innermost module (not a leaf) in whose forward the node is computed, "" for the model itself.
    `notices` describe how the graph differs from the model as it was given. `call` is how the model is called.
    `ends_as_model` tells whether the graph's result is the model's own, which it is not if a last softmax was removed
    or autocast was left out.
    """

    module: fx.GraphModule
    captured_by: CapturedBy
    returned_by: dict[fx.Node, str]
    enclosing: dict[fx.Node, str]
    notices: tuple[str, ...] = ()
    call: ModelCall = field(default_factory=ModelCall)
    ends_as_model: bool = True


WAYS: dict[str, tuple[CapturedBy, _Trace]] = {
    "torch.fx": ("torch.fx", trace_with_fx),
    "torch.export": ("torch.export", trace_with_export),
    "torch.export, functional": ("torch.export", trace_functional),
}
"""The ways to trace a model, in the order in which they are tried."""


def capture(
    model: nn.Module, input_shape: tuple[int, ...], *, call: ModelCall | None = None
) -> tuple[Capture, dict[fx.Node, Value]]:
    """Capture `model` in evaluation mode, and make sure that what was captured is the model.

    The ways of `WAYS` are tried in turn. Each graph is run beside the model; one that computes something else (fx
    follows `isinstance(x, Tensor)` into the wrong branch without a word), or overwrites memory that another value
    still shares, is passed over.

    Args:
        model: A classifier of one image batch; its mode, parameters, buffers and attributes are left as they were.
        input_shape: The image's shape (C, H, W).
        call: How it is called and which of its outputs is the logits; None to find out.

    Returns:
        The capture, and what each of its nodes computes.

    Raises:
        ModelError: the model fails, has no logits, answers at random, mixes the images of a batch, or no way can
            follow it; the message names the line of the model's code.

    """
    images = torch.randn(3, *input_shape, generator=torch.Generator().manual_seed(0))
    with evaluating(model), preserved(model), torch.no_grad():
        with plain_execution() as autocast_dtypes:
            trial = try_model(model, images, call)
            _check_carries_nothing(model, images, trial)
            ways = [_WITH_AUTOCAST] if autocast_dtypes else list(WAYS)
            captured, failures = _first_that_holds(ways, model, images, trial)
            if captured is not None:
                return captured
        if autocast_dtypes:
            with plain_execution(with_autocast=False):
                trial = try_model(model, images, call)
                captured, failures = _first_that_holds(list(WAYS), model, images, trial)
            if captured is not None:
                left_out = [f"the model's autocast to {dtype} is left out" for dtype in dict.fromkeys(autocast_dtypes)]
                capture, values = captured
                return replace(capture, notices=(*capture.notices, *left_out), ends_as_model=False), values
        captured = None if autocast_dtypes else _without_idle_hooks(model, images, trial)
        if captured is not None:
            return captured
        reason = _true_reason(model, images, trial, failures)
    advice = _BATCH_ADVICE if any(BOUND_TO_BATCH in text for text in failures) else _ADVICE
    raise ModelError(reason or "\n".join(["the model cannot be captured.", *failures, advice]))


_WITH_AUTOCAST = "torch.export, functional"
"""The one way in which the casts of an autocast region become operations of the graph; torch.fx would lose them."""


def _first_that_holds(
    ways: Sequence[str], model: nn.Module, images: torch.Tensor, trial: Trial
) -> tuple[tuple[Capture, dict[fx.Node, Value]] | None, list[str]]:
    """Capture a model in the first way whose graph equals the model; also return why the ways before it failed."""
    failures: list[str] = []
    for name in ways:
        captured_by, trace = WAYS[name]
        try:
            with preserved(model), quiet():
                module, names = trace(model, images[:2], trial.call)
                values, notices, same_end = _settle(module, model, images, trial)
            problem = rewrite.shared_memory(module, values)
        except Exception as error:  # noqa: BLE001 - the user's forward may raise anything when it is traced
            problem = f"stopped {place_of(error)}: {first_line(error)}"
        else:
            if problem is None:
                returned_by, enclosing = names.returned_by(), names.enclosing
                said = (*trial.notices, *notices)
                capture = Capture(module, captured_by, returned_by, enclosing, said, trial.call, same_end)
                return (capture, values), failures
        failures.append(f"  {name}: {problem}")
    return None, failures


def _without_idle_hooks(
    model: nn.Module, images: torch.Tensor, trial: Trial
) -> tuple[Capture, dict[fx.Node, Value]] | None:
    """Capture a model without its hooks, if it answers the same without them; None if it does not.

    Hooks often only look at what passes, and print it or turn it into numbers, which no graph can follow. Whether the
    answers are the same is checked by `_settle` and on images that no hook has seen: features that a hook has kept
    would still be those of an earlier run.
    """
    others = images[1:] * 0.5 + 0.25
    with plain_execution():
        expected = _logits(model, others, trial.call)
        with without_hooks(model) as number:
            try:
                alone = _logits(model, others, trial.call)
            except Exception:  # noqa: BLE001 - a forward pass that needs what its hooks keep may fail in any way
                alone = None
            if not number or expected is None or alone is None or not is_close(alone.float(), expected.float()):
                return None
            captured, _ = _first_that_holds(list(WAYS), model, images, trial)
    if captured is None:
        return None
    capture, values = captured
    hooks = "a forward hook of the model is" if number == 1 else f"{number} forward hooks of the model are"
    notice = f"{hooks} left out: the answers are the same without"
    return replace(capture, notices=(*capture.notices, notice)), values


def _logits(model: nn.Module, images: torch.Tensor, call: ModelCall) -> torch.Tensor | None:
    with preserved(model):
        return as_matrix(call.pick(call(model, images.clone())))


_ANOTHER_COMPUTATION = "it follows another computation than the model's own"
_ADVICE = "Make the forward pass independent of pixel values (no `if` or `int()` on them) and of in-place tricks."
_BATCH_ADVICE = "Compute with the whole batch as one tensor, whatever the number of its images."


def _settle(
    module: fx.GraphModule, model: nn.Module, images: torch.Tensor, trial: Trial
) -> tuple[dict[fx.Node, Value], list[str], bool]:
    """Rewrite a traced graph, and check that it answers as the model does.

    Raises:
        ModelError: its answers differ.

    """
    rewrite.thread_in_place(module)
    rewrite.erase_unused(module)
    values, answers = observe(module, images)
    matrix = as_matrix(answers)
    if matrix is None or not is_close(matrix.float(), trial.logits):
        raise ModelError(_ANOTHER_COMPUTATION)
    _check_other_images(module, model, images, trial.call)
    copied, settled = rewrite.protect_input(module, values), rewrite.settle_squeezes(module, values)
    if copied or settled:
        rewrite.erase_unused(module)
        values, _ = observe(module, images)
    notices = [f"a check that only raises or warns is left out of the graph ({place})" for place in module.meta[GUARDS]]
    detached = rewrite.let_gradients_through(module, values)
    if detached:
        notices.append(f"the model detaches a tensor ({detached[0]}): gradients are taken through it all the same")
    before = rewrite.output_node(module).args
    changed_end = rewrite.finish_with_logits(module, values, gives_probabilities=trial.call.gives_probabilities)
    notices += changed_end
    # A last softmax may also stand before a reshape, and then the output is that of the same node.
    if detached or changed_end or before != rewrite.output_node(module).args:
        rewrite.erase_unused(module)
        values, _ = observe(module, images)
    return values, notices, not changed_end


def _check_other_images(module: fx.GraphModule, model: nn.Module, images: torch.Tensor, call: ModelCall) -> None:
    """Check that a traced graph answers as the model does on images that neither has seen.

    A model may keep features of its last run, in a hook for example. A tracer takes them for a constant, which is right
    for the images of that run only.

    Raises:
        ModelError: the answers differ.

    """
    others = images[1:] * 0.5 + 0.25  # two images, so that a value of the trial's three has another batch
    logits = _logits(model, others, call)
    with evaluating(module):
        answers = as_matrix(module(others.clone()))
    if logits is None or answers is None or len(answers) != 2 or not is_close(answers.float(), logits.float()):
        msg = "it keeps a value of another run, which does not follow the images"
        raise ModelError(msg)


def _true_reason(model: nn.Module, images: torch.Tensor, trial: Trial, failures: Sequence[str]) -> str | None:
    """Return why no graph can hold the model, if one of the known reasons applies.

    These are a decision in Python about pixel values, gradients that the model takes itself, and random numbers.

    Random numbers that are seeded anew in every run pass the trial, but a graph does not seed them. They are the reason
    only where a way to capture the model stopped at them, or computed something else.
    """

    def run(batch: torch.Tensor) -> None:
        with preserved(model):
            trial.call(model, batch.clone())

    batches = [images, images.flip(0) * 3 - 1, 1 - 3 * images, torch.zeros_like(images)]
    reads = pixel_reads(run, batches)
    stopped = [place for place in places_of_reads(lambda: run(images)) if any(place in text for text in failures)]
    if reads:
        return f"the model's forward pass depends on pixel values in Python at {reads[0].place}\n{PIXEL_ADVICE}"
    if stopped:  # what is read was the same for all images that were tried
        return f"the model's forward pass reads values of tensors into Python at {stopped[0]}\n{PIXEL_ADVICE}"
    gradient = gradient_call(lambda: run(images))
    if gradient is not None:
        return (
            f"the model takes gradients in its forward pass ({gradient.operation} at {gradient.place}), which a graph "
            "cannot hold"
        )
    for event in random_operations(lambda: run(images)):
        if any(event.place in failure or _ANOTHER_COMPUTATION in failure for failure in failures):
            return (
                f"the model draws random numbers in its forward pass, which a graph cannot repeat ({event.operation} "
                f"at {event.place}): draw them in __init__ and keep them in a buffer, or draw them while training only"
            )
    event = differing_operation(lambda: run(images))
    if event is not None:
        return (
            "the model's results on the same images differ from run to run, also in evaluation mode (first that of "
            f"{event.operation} at {event.place}): make them depend on nothing but the images"
        )
    return None


def _check_carries_nothing(model: nn.Module, images: torch.Tensor, trial: Trial) -> None:
    """Refuse a model whose answers depend on the images of earlier runs, as a graph would hold one state for ever.

    Raises:
        ModelError: the model reads what it has changed.

    """
    changed: list[str] = []
    with preserved(model), contextlib.suppress(Exception):
        changed = changed_state(model, lambda: trial.call(model, images.clone()))
    state = _carried_state(model, images, trial) if changed else []
    if state:
        msg = (
            f"the model's answers depend on the images before: its forward pass changes {', '.join(state)}, also in "
            "evaluation mode, and reads what it has changed: change it in training mode only"
        )
        raise ModelError(msg)


def _carried_state(model: nn.Module, images: torch.Tensor, trial: Trial) -> list[str]:
    """Return the names of what a model changes while it runs, if its answers to the same images change with it.

    A model that refuses other images, for example because it checks their range, is not looked at.
    """
    changed: list[str] = []
    answers = None
    with preserved(model), contextlib.suppress(Exception):
        for _ in range(_RUNS_BEFORE):
            changed = changed_state(model, lambda: trial.call(model, images.clone() * 3 - 1))
        answers = as_matrix(trial.call.pick(trial.call(model, images.clone())))
    return [] if answers is None or is_close(answers.float(), trial.logits) else changed


_RUNS_BEFORE = 3
"""A moving average has moved far enough after so many runs on other images."""
