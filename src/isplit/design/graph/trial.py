"""Try a model on a few images: check that it runs, repeats its answers, and answers each image on its own."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from isplit.design.graph.diagnosis import (
    BOUND_TO_BATCH,
    Event,
    batch_statistics,
    differing_operation,
    first_line,
    generator_states,
    mixing_operation,
    pixel_reads,
    place_of,
    python_random,
    random_operations,
)
from isplit.design.graph.isolation import preserved
from isplit.design.graph.outputs import (
    ModelCall,
    are_probabilities,
    as_matrix,
    check_inputs,
    choose_output,
    outputs_of,
    why_no_logits,
)
from isplit.errors import ModelError

# Shares of the difference between images. Rounding stays far below the first; a float32 run that cannot be repeated
# in float64 is allowed the second, which is still far below what one image does to another in a batch.
_ROUNDING = 0.02
_COARSE = 0.2

PIXEL_ADVICE = (
    "A graph can only hold tensor operations: use torch.where or a mask instead of `if`, `int()` or `.item()`."
)


@dataclass(frozen=True)
class Trial:
    """The answers of a model: the call with the logits' path, the logits N×K of three images, and notices of them."""

    call: ModelCall
    logits: torch.Tensor
    notices: tuple[str, ...] = ()


def try_model(model: nn.Module, images: torch.Tensor, call: ModelCall | None) -> Trial:
    """Run a model on three images and check that it can be analysed image by image.

    Args:
        model: In evaluation mode; its state is restored after every run.
        images: 3×C×H×W; the model gets copies.
        call: How to call it; None to find out.

    Raises:
        ModelError: the model fails, gives no logits, answers at random, or mixes the images of a batch.

    """
    call = call or ModelCall()
    if isinstance(model, torch.jit.ScriptModule):
        msg = (
            "the model is TorchScript, whose layers cannot be followed: give the Python model that it was made from, "
            "with its state_dict() as weights"
        )
        raise ModelError(msg)
    check_inputs(model, call.extra_inputs, name="the model")
    output = _run(model, images, call)
    if as_matrix(output) is None and not call.path:
        outputs = outputs_of(output, len(images))
        if not outputs:
            msg = f"the model's output holds no logits N×K: {why_no_logits(output)}"
            raise ModelError(msg)
        call = ModelCall(path=choose_output(outputs).output.path, extra_inputs=call.extra_inputs)
    with batch_statistics(model) as norms:
        fewer = _run(model, images[:2], call)
    logits, alone = (as_matrix(call.pick(result)) for result in (output, fewer))
    if logits is None or alone is None or (len(logits), len(alone)) != (3, 2):
        msg = "the model's output holds no logits N×K"
        raise ModelError(msg)
    logits = logits.float()
    notices = _check_repeatable(model, images, call, logits)
    if not is_close(alone.float(), logits) and not _keeps_images_apart(model, images, call):
        raise ModelError(_why_images_mix(model, images, call, norms))
    # The statistics of a batch may change an answer by less than another image would, and still make it another.
    if norms and _mixing_event(model, images, call) is not None:
        raise ModelError(_why_images_mix(model, images, call, norms))
    return Trial(with_kind_of_answer(model, images, call), logits, notices)


def with_kind_of_answer(model: nn.Module, images: torch.Tensor, call: ModelCall) -> ModelCall:
    """Return the call with what is known about a model's answers: whether they are probabilities, or their logarithms.

    Args:
        model: The model, in evaluation mode.
        images: N×C×H×W of usual values.
        call: How the model is called, and which of its outputs is the answer.

    """
    return replace(
        call,
        gives_probabilities=gives_probabilities(model, images, call),
        gives_log_sigmoids=_gives_log_sigmoids(model, images, call),
    )


def _gives_log_sigmoids(model: nn.Module, images: torch.Tensor, call: ModelCall) -> bool:
    """Return whether a model's answer comes out of a logsigmoid; its values alone would not tell."""
    followed = _LogSigmoids()
    try:
        with torch.no_grad(), preserved(model), followed:
            answer = call.pick(call(model, images.clone()))
    except Exception:  # noqa: BLE001 - where the model cannot be followed, its answers are taken as they are
        return False
    return any(answer is tensor for tensor in followed.tensors)


class _LogSigmoids(TorchFunctionMode):
    """Collects what logsigmoid gives in a block, and what only changes the shape of that."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "__name__", ""))
        passed_on = name in _SHAPES and args and any(args[0] is tensor for tensor in self.tensors)
        if "log_sigmoid" in name or "logsigmoid" in name or passed_on:
            self.tensors.append(result)
        return result


_SHAPES = frozenset("flatten reshape view squeeze unsqueeze contiguous clone float to detach".split())


def gives_probabilities(model: nn.Module, images: torch.Tensor, call: ModelCall) -> bool:
    """Return whether a model answers with probabilities, on images of usual and of very large values.

    Logits may all lie between 0 and 1 on some images by chance, but not on these as well.
    """
    for factor in (1, 1e4, -1e4):
        try:
            with torch.no_grad(), preserved(model):
                answers = as_matrix(call.pick(call(model, images * factor)))
        except Exception:  # noqa: BLE001 - the user's own layers may refuse such values in any way
            return False
        if answers is None or not are_probabilities(answers):
            return False
    return True


def _run(model: nn.Module, images: torch.Tensor, call: ModelCall) -> Any:
    try:
        with preserved(model):
            return call(model, images.clone())
    except Exception as error:
        msg = f"the model fails on images of shape {tuple(images.shape[1:])}, {place_of(error)}: {first_line(error)}"
        bound = bound_to_batch(lambda batch: call(model, batch), images)
        raise ModelError(f"{bound} ({msg})" if bound else msg) from error


def bound_to_batch(run: Callable[[torch.Tensor], object], images: torch.Tensor) -> str | None:
    """Return in words that a model which fails on a batch takes another one; None where its size is not why.

    A program of torch.export and an ONNX file have the size of the batch they were exported with, unless it was left
    open. One image is repeated here, so that no other image can be the reason. An answer has to have a row for each
    image, because a model may also take several images that are too small for one.
    """

    def runs(count: int) -> bool:
        try:
            return bool(outputs_of(run(images[:1].repeat(count, 1, 1, 1)), count))
        except Exception:  # noqa: BLE001 - a model may fail in any way
            return False

    others = (count for count in (*range(1, len(images)), *_USUAL_BATCHES) if count != len(images))
    taken = next((count for count in others if runs(count)), None)
    if taken is None or runs(len(images)):
        return None
    return (
        f"{BOUND_TO_BATCH}: it takes {taken} at a time, and not {len(images)}; export it, or write it, for batches of "
        "any size"
    )


_USUAL_BATCHES = (3, 4, 8, 16, 32)


def _check_repeatable(model: nn.Module, images: torch.Tensor, call: ModelCall, logits: torch.Tensor) -> tuple[str, ...]:
    """Check that a model gives the same answers again; return a notice if it draws random numbers all the same.

    A model that draws numbers is asked more often: what depends on them may be rare.
    """
    before = generator_states()
    answers = _same_again(model, images, call, logits)
    if generator_states() != before:
        answers = answers and all(_same_again(model, images, call, logits) for _ in range(_MORE_RUNS))
    elif answers:
        return ()

    def run() -> None:
        _run(model, images, call)

    event = next(reversed(random_operations(run)), None) or python_random(run)
    if answers:
        where = f" ({event.operation} at {event.place})" if event else ""
        return (
            f"the model draws random numbers in evaluation mode{where}: its answers were the same in {_MORE_RUNS + 2} "
            "runs, and are taken to be always so",
        )
    first = None if event else differing_operation(run)
    what = f"{event.operation} at {event.place}" if event else "no random operation of torch is the reason"
    if first is not None:
        what = f"the first result that differs is that of {first.operation} at {first.place}"
    msg = (
        f"the model answers the same images differently from run to run, also in evaluation mode ({what}): make its "
        "answers depend on nothing but the images, at least in evaluation mode"
    )
    raise ModelError(msg)


_MORE_RUNS = 8


def _same_again(model: nn.Module, images: torch.Tensor, call: ModelCall, logits: torch.Tensor) -> bool:
    again = as_matrix(call.pick(_run(model, images, call)))
    return again is not None and is_close(again.float(), logits)


def _keeps_images_apart(model: nn.Module, images: torch.Tensor, call: ModelCall) -> bool:
    """Repeat the comparison of two batches in float64, where rounding cannot be the reason for a difference.

    Kernels differ with the size of the batch, and a deep network without training may magnify rounding without bound.
    Some models compute in float32 only: there a coarser bound has to do.
    """
    try:
        exact = copy.deepcopy(model).double()
        whole, alone = (as_matrix(call.pick(_run(exact, batch.double(), call))) for batch in (images, images[:2]))
    except Exception:  # noqa: BLE001 - the user's own layers may refuse to be copied, or float64, in any way
        whole, alone = (as_matrix(call.pick(_run(model, batch, call))) for batch in (images, images[:2]))
        return whole is not None and alone is not None and is_close(alone.float(), whole.float(), share=_COARSE)
    return whole is not None and alone is not None and is_close(alone, whole)


def _mixing_event(model: nn.Module, images: torch.Tensor, call: ModelCall) -> Event | None:
    """Return the first operation that mixes the images of a batch.

    It is looked for in float64 first, where rounding is far below what even a weak mixture changes.
    """
    try:
        exact = copy.deepcopy(model).double()
        return mixing_operation(
            lambda batch: _run(exact, batch, call),
            images.double(),
            equal=lambda part, whole: is_close(part, whole, share=0, floor=1e-6),
        )
    except Exception:  # noqa: BLE001 - the user's own layers may refuse to be copied, or float64, in any way
        return mixing_operation(lambda batch: _run(model, batch, call), images, equal=is_close)


def _why_images_mix(model: nn.Module, images: torch.Tensor, call: ModelCall, norms: dict[str, str]) -> str:
    """Return the message for a model whose answer to an image depends on its batch, with the place where it does.

    Args:
        model: The model.
        images: Three images.
        call: How the model is called.
        norms: The BatchNorm layers that normalise with the statistics of the batch, each with the reason.

    """

    def run(batch: torch.Tensor) -> None:
        _run(model, batch, call)

    reads = pixel_reads(run, [images, images[[0, 1, 0]]])
    if reads:
        return (
            "the answer to an image depends on the others in its batch, because the model's forward pass reads a value "
            f"of the whole batch into Python at {reads[0].place}\n{PIXEL_ADVICE}"
        )
    event = None if norms else _mixing_event(model, images, call)
    where = f"{event.operation} at {event.place}" if event else "the operation that does it is not known"
    if norms:
        name, reason = next(iter(norms.items()))
        where = f"the BatchNorm layer {name!r} normalises with the statistics of the batch: {reason}"
    return (
        f"the answer to an image depends on the others in its batch, also in evaluation mode ({where}): such a model "
        "cannot be analysed image by image"
    )


def is_close(answers: torch.Tensor, logits: torch.Tensor, *, share: float = _ROUNDING, floor: float = 1e-4) -> bool:
    """Return whether `answers` are the first of `logits` but for rounding.

    What counts is the difference as a share of that between images: another computation changes as much as another
    image would. Differences below `floor`, as a share of the largest logit, never count.
    """
    if not torch.isfinite(logits).all():
        return True  # a model that overflows to NaN or infinity is a matter for the importance, which says where
    spread = float((logits - logits.mean(0)).abs().max())
    tolerance = share * spread + floor * float(logits.abs().max())
    expected = logits[: len(answers)]
    return answers.shape == expected.shape and torch.allclose(answers, expected, rtol=0, atol=tolerance)
