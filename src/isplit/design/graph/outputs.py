"""Find out how a model is called with a batch of images, and which of its outputs is the logits."""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from isplit.errors import ModelError

Step = str | int
_LOGITS = ("logits", "out")
# Parameters of forward that hold the image wherever they stand in its signature.
_IMAGE_NAMES = ("pixel_values",)


@dataclass(frozen=True)
class Output:
    """A tensor in a model's output that may be the logits: its place, and the number of classes that it tells apart."""

    path: tuple[Step, ...]
    width: int

    @property
    def name(self) -> str:
        """The steps to the tensor, joined by dots: "logits", "1", "aux.0"; "" if it is the whole output."""
        return ".".join(map(str, self.path))


@dataclass(frozen=True, kw_only=True)
class ModelCall:
    """How to call a model with images, and where in its output the answer is.

    Args:
        path: The steps from the model's output to the logits; empty if the output is a tensor.
        extra_inputs: Values for further parameters of `forward`, by name. Numbers, and tensors: one whose first
            dimension is 1 is repeated for every image of a batch.
        gives_probabilities: Whether the model's answers are probabilities and not logits; see `are_probabilities`.
        gives_log_sigmoids: Whether the model's answers are logarithms of sigmoids of logits.

    """

    path: tuple[Step, ...] = ()
    extra_inputs: Mapping[str, Any] = field(default_factory=dict)
    gives_probabilities: bool = False
    gives_log_sigmoids: bool = False

    def __call__(self, model: nn.Module, images: torch.Tensor) -> Any:
        """Return the model's whole output for images N×C×H×W."""
        return model(*self.positional(model, images), **self.keywords(model, images))

    def positional(self, model: nn.Module, images: Any) -> tuple[Any, ...]:
        """Return the positional arguments of `forward`."""
        return () if image_keyword(model) else (images,)

    def keywords(self, model: nn.Module, images: Any) -> dict[str, Any]:
        """Return the keyword arguments of `forward`."""
        extra = {name: _for_batch(value, images) for name, value in self.extra_inputs.items()}
        keyword = image_keyword(model)
        return {keyword: images, **extra} if keyword else extra

    def pick(self, output: Any) -> Any:
        """Return the logits in a model's output.

        Raises:
            ModelError: the output has another structure.

        """
        value: Any = output
        for step in self.path:
            try:
                value = value[step] if _has_items(value, step) else getattr(value, str(step))
            except (KeyError, IndexError, AttributeError, TypeError) as error:
                msg = f"the model's output has no part {'.'.join(map(str, self.path))!r}"
                raise ModelError(msg) from error
        return value

    def logits(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Run the model and return its logits as N×K; see `as_matrix`."""
        matrix = as_matrix(self.pick(self(model, images)))
        assert matrix is not None
        return matrix


def _has_items(value: Any, step: Step) -> bool:
    return isinstance(value, Mapping) or isinstance(step, int)


def _for_batch(value: Any, images: torch.Tensor) -> Any:
    if isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == 1:
        return value.expand(images.size(0), *value.shape[1:])
    return value


def image_keyword(model: nn.Module) -> str | None:
    """Return the parameter of `forward` that the images must be passed to by name, or None for the first."""
    parameters = _parameters(model)
    first, *others = parameters or ("",)
    if first and parameters[first].kind is inspect.Parameter.KEYWORD_ONLY:
        return first
    return next((name for name in _IMAGE_NAMES if name in others), None)


def check_inputs(model: nn.Module, extra_inputs: Mapping[str, Any], *, name: str) -> None:
    """Check that the given inputs are those that `forward` needs beside the images.

    Raises:
        ModelError: an input that `forward` has no parameter for, or a parameter without a value; `name` begins the
            message.

    """
    parameters = _parameters(model)
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = [] if takes_any else [key for key in extra_inputs if key not in parameters]
    if unknown:
        msg = f"{name}: its forward has no parameter {unknown[0]!r}"
        raise ModelError(msg)
    image = image_keyword(model) or next(iter(parameters), None)
    missing = [
        key
        for key, parameter in parameters.items()
        if key != image
        and key not in extra_inputs
        and parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    if missing:
        names = ", ".join(map(repr, missing))
        msg = (
            f"{name} also needs {names}: give each a constant (`extra_input={missing[0]}=VALUE`, in Python "
            f"`extra_inputs={{{missing[0]!r}: VALUE}}`)"
        )
        raise ModelError(msg)


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}


def as_matrix(tensor: Any) -> torch.Tensor | None:
    """Return an output as N×K, or None if it has another form.

    A vector N is one logit per image (N×1), and N×K×1×1 is what a convolution gives as classifier. Whole numbers and
    truth values are no logits: they are chosen classes, or positions.
    """
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or tensor.dim() == 0:
        return None
    if tensor.dim() == 1:
        return tensor.unsqueeze(1)
    return tensor.flatten(1) if all(extent == 1 for extent in tensor.shape[2:]) else None


def why_no_logits(output: Any) -> str:
    """Return why a model's output holds no logits, and what to return instead."""
    kinds = {tensor.dtype for _, tensor in _leaves(output, ())}
    if not kinds or any(kind.is_floating_point or kind.is_complex for kind in kinds):
        return "a classifier's output is a tensor N×K, or holds one"
    names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    return f"whole numbers ({names}) are chosen classes, or the like: return the logits that they are chosen by"


def are_probabilities(answers: torch.Tensor) -> bool:
    """Return whether answers N×K are probabilities: each from 0 to 1, and of several each row sums to 1."""
    if not torch.isfinite(answers).all() or float(answers.min()) < 0 or float(answers.max()) > 1:
        return False
    return answers.shape[1] == 1 or bool((answers.float().sum(1) - 1).abs().max() < 1e-3)


def logits_of(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the logits N×K of probabilities N×K: their logarithms; of one probability p, log(p / (1 - p))."""
    if probabilities.shape[1] == 1:
        return torch.logit(probabilities.float(), eps=_SMALLEST_PROBABILITY)
    return probabilities.float().clamp_min(_SMALLEST_PROBABILITY).log()


def logits_of_log_sigmoids(answers: torch.Tensor) -> torch.Tensor:
    """Return the logits z of answers log(sigmoid(z)) of any shape: z = a - log(1 - exp(a))."""
    answers = answers.float()
    return answers - (-answers.expm1()).clamp_min(torch.finfo(torch.float32).tiny).log()


_SMALLEST_PROBABILITY = 1e-7


def outputs_of(output: Any, batch: int) -> list[Output]:
    """Return the tensors in a model's output that may be logits, in order: those with a row for each image."""
    outputs: list[Output] = []
    for path, tensor in _leaves(output, ()):
        matrix = as_matrix(tensor)
        if matrix is not None and len(matrix) == batch:
            outputs.append(Output(path, matrix.shape[1]))
    # A vector of one number per image is an answer only where there is no matrix.
    wide = [output for output in outputs if output.width > 1]
    return wide or outputs


def _leaves(value: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Any]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, tuple | list):
        names: Sequence[Step] = getattr(value, "_fields", range(len(value)))
        for step, item in zip(names, value, strict=True):
            yield from _leaves(item, (*path, step))
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            yield from _leaves(getattr(value, item.name), (*path, item.name))
    else:
        for name in _attribute_names(value):
            yield from _leaves(getattr(value, name), (*path, name))


def _attribute_names(value: Any) -> list[str]:
    """Return the names of the attributes of a plain object that is returned for its attribute "logits" or "out".

    Only such an object is looked into: any other may refer to much that is no output.
    """
    if not any(isinstance(getattr(value, name, None), torch.Tensor) for name in _LOGITS):
        return []
    slots = [name for kind in type(value).__mro__ for name in _as_names(getattr(kind, "__slots__", ()))]
    names = dict.fromkeys([*slots, *getattr(value, "__dict__", {}), *_LOGITS])
    return [name for name in names if isinstance(getattr(value, name, None), torch.Tensor)]


def _as_names(slots: str | Sequence[str]) -> Sequence[str]:
    return (slots,) if isinstance(slots, str) else slots


@dataclass(frozen=True)
class Choice:
    """The output that is taken for the logits; `doubt` says what else it might have been, or is ""."""

    output: Output
    doubt: str = ""


def choose_output(outputs: Sequence[Output], *, wanted: str | None = None, classes: int | None = None) -> Choice:
    """Choose the logits among a model's outputs.

    By the first of these that applies: what the user asked for; the name "logits" or "out"; the only output; the only
    one that is as wide as there are classes; the last one. Only the last rule leaves a doubt.

    Args:
        outputs: From `outputs_of`; not empty.
        wanted: An output's name or its position among all outputs, from 0, or from -1 backwards.
        classes: How many classes the model tells apart, if that is known.

    Raises:
        ModelError: no output is what was asked for.

    """
    described = ", ".join(f"{output.name!r} (N×{output.width})" for output in outputs)
    if wanted is not None:
        for output in outputs:
            if output.name == wanted:
                return Choice(output)
        position = int(wanted) if wanted.lstrip("-").isdigit() else len(outputs)
        if -len(outputs) <= position < len(outputs):
            return Choice(outputs[position])
        msg = f"the model has no output {wanted!r} that could be logits; it has {described}"
        raise ModelError(msg)
    for output in outputs:
        if output.path and output.path[-1] in _LOGITS:
            return Choice(output)
    if len(outputs) == 1:
        return Choice(outputs[0])
    fitting = [output for output in outputs if output.width == classes]
    if len(fitting) == 1:
        return Choice(fitting[0])
    taken = (fitting or outputs)[-1]
    return Choice(taken, f"the model has several outputs: {described}; {taken.name!r} is taken; `output=NAME` chooses")
