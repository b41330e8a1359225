"""Load models by name or path, or take modules; give them their weights, check them and describe them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isplit.design.graph import ModelGraph
from isplit.design.graph.isolation import preserved
from isplit.design.graph.layout import use_channels_last
from isplit.design.graph.outputs import (
    ModelCall,
    Output,
    as_matrix,
    check_inputs,
    choose_output,
    logits_of,
    logits_of_log_sigmoids,
    outputs_of,
    why_no_logits,
)
from isplit.design.graph.trial import bound_to_batch, with_kind_of_answer
from isplit.design.inputs.built import Built
from isplit.design.inputs.files import file_sha256
from isplit.design.inputs.model_sources import build, name_of
from isplit.design.inputs.preprocessing import given_fields, make_preprocessing
from isplit.design.inputs.private_copy import in_float32, prepare, private_copy
from isplit.design.inputs.weights import apply_weights, check_finite, fingerprint
from isplit.design.inputs.weights_file import check_plain, read_weights
from isplit.design.running import evaluating
from isplit.errors import ModelError
from isplit.records import ModelSource, Preprocessing


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LoadedModel:
    """A model in evaluation mode that has answered a trial batch.

    Attributes:
        module: The model; a copy of its own where a module was given.
        source: What a study records about it.
        preprocessing: How images become its input.
        class_names: The names of its outputs where they are known.
        warnings: What the user has to know about it because results may mean something else.
        notices: What was done or assumed so that it can be used.
        call: How it is called, and which of its outputs is the logits.
        outputs: All of its outputs that may be logits.

    """

    module: nn.Module
    source: ModelSource
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    call: ModelCall = field(default_factory=ModelCall)
    outputs: tuple[Output, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of an image."""
        return (self.preprocessing.channels, *self.preprocessing.image_size)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Run images N×C×H×W and return the logits N×K; one logit z stands for (0, z).

        Of a model that answers with probabilities these are their logarithms; a last logsigmoid is undone.
        """
        matrix = self.call.logits(self.module, images)
        if self.call.gives_probabilities:
            matrix = logits_of(matrix)
        elif self.call.gives_log_sigmoids:
            matrix = logits_of_log_sigmoids(matrix)
        return torch.cat([torch.zeros_like(matrix), matrix], 1) if matrix.shape[1] == 1 else matrix

    def graph(self, *, channel_axes: Mapping[str, int] | None = None, keep_layout: bool = False) -> ModelGraph:
        """Capture the model, laid out channels-last in memory where it can compute so.

        Args:
            channel_axes: The channel axis of cuts where it is guessed wrongly: cut name to 1 or -1.
            keep_layout: Leave the weights as they lie in memory, so that results equal those of the given model bit
                for bit.

        Raises:
            ModelError: the model cannot be captured.

        """
        channels_last, notices = False, []
        if not keep_layout:
            channels_last, notices = use_channels_last(self.module, self.input_shape, self.call)
        return ModelGraph(
            self.module,
            self.input_shape,
            channel_axes=channel_axes,
            call=self.call,
            channels_last=channels_last,
            notices=notices,
        )

    @property
    def output_doubt(self) -> str:
        """Which output is taken for the logits and what else it might have been; "" where there is no doubt."""
        doubt = choose_output(self.outputs).doubt if self.outputs else ""
        return doubt if doubt in self.warnings else ""

    def for_classes(self, count: int) -> "LoadedModel":
        """Return the model with the output that is as wide as there are classes, if exactly one of several is."""
        fitting = [output for output in self.outputs if output.width == count]
        doubt = self.output_doubt
        if not doubt or len(fitting) != 1:
            return self
        (output,) = fitting
        return replace(
            self,
            call=_with_path(self.call, output, self.module, self.preprocessing),
            source=self.source.model_copy(update={"output": output.name, "num_outputs": output.width}),
            warnings=(
                *(warning for warning in self.warnings if warning != doubt),
                f"of the model's outputs {output.name!r} is taken: it is as wide as there are classes",
            ),
            class_names=None if self.class_names is None or len(self.class_names) != count else self.class_names,
        )

    def __repr__(self) -> str:
        rows, columns = self.preprocessing.image_size
        return (
            f"LoadedModel({self.source.spec}: input {self.preprocessing.channels}×{rows}×{columns}, "
            f"{self.source.num_outputs} outputs, {self.source.parameters:,} parameters)"
        )


def load_model(
    spec: str | nn.Module,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    image_size: int | Sequence[int] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    output: str | int | None = None,
    extra_inputs: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Build a model or take the one given, load its weights, and try it on two black images.

    Args:
        spec: `torchvision:NAME`, `timm:NAME`, `hf:FOLDER` (see `build_hugging_face`), `model.onnx`, `./file.py:factory`
            or `package.module:factory`, a function that returns a module and is given `num_classes` if it takes it. Or
            a module, which is copied; of a compiled, parallel, averaged or adapted one the inner module is taken.
        weights: None (the values it is built with, or a given module's own), "default" (the library's trained ones,
            downloaded), or a file with a state dictionary: .safetensors, or what torch.save wrote.
        num_classes: Outputs of the model. With "default" weights another number puts an untrained classifier in.
        image_size: Height and width of the input, or one number for both, instead of what the library says.
        preprocessing: How images become the input, instead of what the library says: a `Preprocessing`, or some of its
            fields, such as `{"channels": 1, "mean": 0.5, "std": 0.25}`. One number stands for all channels. A module,
            given or a factory's, may say the same in an attribute of this name.
        output: Which of several outputs is the logits: its name ("logits", "aux.0") or its position.
        extra_inputs: Constants for further parameters of the model's forward: numbers, lists or tensors. A tensor
            whose first dimension is 1 is repeated for every image.

    Random initial values are the same at every call, and the caller's random state stays as it was.

    Raises:
        ModelError: unknown model, weights that are missing, unsafe, of another model, NaN or infinite, a module that
            cannot take the image size, or whose output holds no N×K tensor.
        MissingExtraError: the library that builds the model is not installed.

    Examples:
        >>> isplit.load_model("net.py:build", weights="net.safetensors")
        LoadedModel(net.py:build: input 3×16×16, 3 outputs, 2,447 parameters)

    """
    weights = None if weights is None else str(weights)
    built, notices = _build(spec, weights=weights, num_classes=num_classes)
    call = ModelCall(extra_inputs=_as_inputs(extra_inputs or {}))
    check_inputs(built.module, call.extra_inputs, name=name_of(spec))
    given = given_fields(preprocessing, image_size)
    prepared, outputs, more = _try(built.module, built.hints, given, call, spec=name_of(spec))
    choice = choose_output(outputs, wanted=None if output is None else str(output), classes=num_classes)
    source = _source(spec, built.module, weights, choice.output, num_classes)
    names = built.class_names
    return LoadedModel(
        module=built.module,
        source=source.model_copy(update={"extra_inputs": dict(extra_inputs or {})}),
        preprocessing=prepared,
        class_names=names if names is not None and len(names) == source.num_outputs else None,
        warnings=(*built.warnings, *([choice.doubt] if choice.doubt else [])),
        notices=(*notices, *more),
        call=_with_path(call, choice.output, built.module, prepared),
        outputs=tuple(outputs),
    )


def _with_path(call: ModelCall, output: Output, module: nn.Module, preprocessing: Preprocessing) -> ModelCall:
    """Return the call that gives one of the outputs, and tell whether that holds probabilities."""
    call = replace(call, path=output.path)
    shape = (2, preprocessing.channels, *preprocessing.image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with evaluating(module):
        return with_kind_of_answer(module, images, call)


def _source(
    spec: str | nn.Module, module: nn.Module, weights: str | None, output: Output, num_classes: int | None
) -> ModelSource:
    """Describe a model for the record, after checking that it has as many outputs as were asked for."""
    file = _weights_file(weights)
    return ModelSource(
        spec=name_of(spec),
        weights=weights,
        weights_sha256=None if file is None else file_sha256(file),
        fingerprint=fingerprint(module),
        num_outputs=_num_outputs(output, num_classes, spec=name_of(spec)),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        output=output.name or None,
    )


def _num_outputs(output: Output, num_classes: int | None, *, spec: str) -> int:
    """Return the number of logits, two if one logit z stands for (0, z); raise if another number was asked for."""
    num_outputs = max(2, output.width)
    if num_classes not in (None, num_outputs):
        msg = f"{spec} has {num_outputs} outputs, not {num_classes}: its factory has to take num_classes and use it"
        raise ModelError(msg)
    return num_outputs


def _build(spec: str | nn.Module, *, weights: str | None, num_classes: int | None) -> tuple[Built, list[str]]:
    """Build a model, or copy the one given, with its weights; return it with notices of what was done."""
    if num_classes is not None and num_classes < 2:
        msg = f"a model needs at least 2 outputs to tell classes apart, not {num_classes}"
        raise ModelError(msg)
    notices: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        built = build(spec, weights=weights, num_classes=num_classes)
    buffers = built.module.named_buffers()  # a state dictionary holds no buffers that are not saved
    check_plain([*built.module.state_dict().items(), *buffers], where="the model")
    if isinstance(spec, nn.Module):
        built.module, notices = private_copy(built.module)
    file = _weights_file(weights)
    if file is not None:
        notices += apply_weights(built.module, read_weights(file))
    prepare(built.module)
    check_finite(built.module)
    return built, notices


def _weights_file(weights: str | None) -> Path | None:
    return Path(weights).expanduser() if weights not in (None, "default") else None


def _as_inputs(extra_inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return lists as tensors; numbers and tensors as they are."""
    return {
        name: torch.tensor(value) if isinstance(value, list | tuple) else value for name, value in extra_inputs.items()
    }


def _try(
    module: nn.Module, hints: Mapping[str, Any], given: Mapping[str, Any], call: ModelCall, *, spec: str
) -> tuple[Preprocessing, list[Output], list[str]]:
    """Run two black images through the module; return what its images are, and its outputs.

    Where nobody says how many channels the images have, the first convolution's number is tried, then 3 and 1.
    """
    first = next((layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)), 3)
    said = given.get("channels") is not None or hints.get("channels") is not None
    guesses = [first] if said else [first, *(count for count in (3, 1) if count != first)]
    failure: ModelError | None = None
    for guess in guesses:
        try:
            preprocessing, notices = make_preprocessing(hints, given, channels=guess, spec=spec)
            images = torch.zeros(2, preprocessing.channels, *preprocessing.image_size)
            notices += in_float32(module, lambda images=images: _run(module, images, call))
            return preprocessing, _outputs(module, images, call, spec=spec), notices
        except ModelError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _run(module: nn.Module, images: torch.Tensor, call: ModelCall) -> Any:
    with torch.no_grad(), preserved(module):
        return call(module, images.clone())


def _outputs(module: nn.Module, images: torch.Tensor, call: ModelCall, *, spec: str) -> list[Output]:
    shape = tuple(images.shape)
    try:
        output = _run(module, images, call)
    except Exception as error:  # the module may raise anything
        reason = f"{type(error).__name__}: {error}"
        bound = bound_to_batch(lambda batch: _run(module, batch, call), images)
        msg = f"{spec} cannot take images of shape {shape}: {reason}; try another `image_size=N`"
        raise ModelError(f"{spec}: {bound} ({reason})" if bound else msg) from error
    outputs = outputs_of(output, len(images))
    if not outputs or (isinstance(output, torch.Tensor) and as_matrix(output) is None):
        described = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        msg = f"{spec} gave {described} for two images: {why_no_logits(output)}"
        raise ModelError(msg)
    return outputs
