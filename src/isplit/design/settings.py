"""Settings of every verb: frozen classes that check themselves, and from which the command line takes its options.

This module loads no torch, so that `isplit --help` can show the defaults at once.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.errors import InputError
from isplit.records import METHOD_TITLES, Budget, CoderName, Precision, Target
from isplit.setting_checks import check_choice, check_device, check_ranges, check_types

if TYPE_CHECKING:
    from isplit.design.importance.methods import ImportanceMethod

PRECISIONS = ("auto", "fp32", "bf16")
"""The precisions that a user can ask for; `chosen_precision` says what "auto" means on a machine."""

METHOD_NAMES = tuple(METHOD_TITLES)
"""The importance methods that isplit brings."""

CODERS = ("rans", "zstd", "rle", "raw")
"""The entropy coders, by their names in `isplit.codec`."""

ALL = "all"
"""How the command line writes None where it stands for all images."""

ImageCount = Annotated[int | None, ALL]
_LARGEST_SEED = 2**64 - 1  # of torch

FeatureStore = Literal["auto", "memory", "disk", "keep", "recompute"]
Start = Literal["closed-form", "random"]


@dataclass(frozen=True, kw_only=True)
class AnalyzeSettings:
    """Settings of `analyze`; the defaults suit a first look.

    `method` may also be an object that meets `ImportanceMethod`.

    Args:
        images: Number of images that the curve is taken from, class-balanced; None takes the whole fit part.
        tolerance: Stop earlier, as soon as the order of the candidates is settled to this share, for example 0.05 (see
            docs/importance.md). The number of images is then a limit.
        method: The importance method: "cui", "gradient-activation", "gradient-energy", or `./file.py:name` of a method
            of your own.
        target: The logit that is differentiated: that of the correct class, or the largest ("predicted").
        precision: The precision of the model; "auto" takes bf16 where the device multiplies it in hardware.
        device: The processor or accelerator that computes on this machine: "cpu", "cuda", "cuda:N", "mps", or "auto"
            for an accelerator if there is one.
        batch_size: Number of images in one pass.
        test_images: Number of images of the test part that the base accuracy is measured on; None takes all.
        quick: Stop as soon as the first choice is settled, at the latest after a quarter of the images.
        pre_activation: Put the points before activations on the curve too.
        all_cuts: List every cut in graph.json, including those that several tensors cross.
        channel_axes: The channel axis of a cut where the guess is wrong: {cut: 1 or -1}.
        class_map: A JSON file {class: model output}, for data whose names and numbers do not tell the outputs.
        seed: The seed of the choice of images.

    Raises:
        InputError: a value outside its range; the message names the argument.

    Examples:
        >>> AnalyzeSettings(images=200).images
        200

    """

    images: ImageCount = 1000
    tolerance: float | None = None
    method: "str | ImportanceMethod" = "cui"
    target: Target = "correct"
    precision: Precision | Literal["auto"] = "auto"
    device: str = "auto"
    batch_size: int = 16
    test_images: ImageCount = 2000
    quick: bool = False
    pre_activation: bool = False
    all_cuts: bool = False
    channel_axes: Mapping[str, int] = field(default_factory=dict)
    class_map: str | Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        if isinstance(self.method, str) and ":" not in self.method:
            check_choice("method", self.method, METHOD_NAMES)
        check_choice("target", self.target, get_args(Target))
        check_choice("precision", self.precision, PRECISIONS)
        check_device(self.device)
        check_ranges(self, dict.fromkeys(("images", "batch_size", "test_images"), (1, math.inf)))
        check_ranges(self, {"seed": (0, _LARGEST_SEED)})
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            msg = f"tolerance is {self.tolerance:g}; give a share between 0 and 1, for example 0.05"
            raise InputError(msg)


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Settings of `predict`.

    Args:
        statistics_images: Images of the fit part that the moments are taken from; the entropy coder's tables are made
            from as many others.
        images: Number of images of the select part that the accuracy is measured on; None takes all.
        remote_images: Number of these on which compressed images are measured too; 0 leaves them out.
        weighted: False solves for plain PCA instead of importance (S = I), for comparison.
        precision: The precision of the model; "auto" takes bf16 where the device multiplies it in hardware.
            Bottlenecks compute in float32.
        device: The processor or accelerator that computes on this machine: "cpu", "cuda", "cuda:N", "mps", or "auto"
            for an accelerator if there is one.
        batch_size: Number of images in one pass.
        coder: The entropy coder of the payloads: "rans" (the shortest), "zstd", "rle" or "raw".
        quick: Measure all splits on few images, and the contenders of each budget on more (docs/predict.md).
        tuning: Constants of the closed form.

    Raises:
        InputError: a value outside its range; the message names the argument.

    Examples:
        >>> PredictSettings(images=None).statistics_images
        640

    """

    statistics_images: int = 640
    images: ImageCount = 500
    remote_images: ImageCount = 200
    weighted: bool = True
    precision: Precision | Literal["auto"] = "auto"
    device: str = "auto"
    batch_size: int = 16
    coder: CoderName = "rans"
    quick: bool = False
    tuning: ClosedFormTuning = field(default_factory=ClosedFormTuning)

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("coder", self.coder, CODERS)
        check_ranges(self, dict.fromkeys(("statistics_images", "images", "batch_size"), (1, math.inf)))
        check_ranges(self, {"remote_images": (0, math.inf)})
        check_choice("precision", self.precision, PRECISIONS)
        check_device(self.device)


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Settings of `fit`.

    Args:
        epochs: Largest number of passes of the second stage (task and distillation).
        feature_epochs: Passes of the first stage (the features themselves); None takes 0 from the closed form, else 1.
        images: Number of images of the fit part to train on; None takes all.
        select_images: Number of images of the select part that each epoch is judged on; None takes all.
        train_encoder: Whether the encoder learns in the second stage.
        train_decoder: Whether the decoder learns in the second stage.
        train_tail: Whether the model's own layers after the cut learn.
        train_head: Whether the model's own layers before the cut learn too; they then belong to the split, and no
            features can be cached.
        bottleneck_rate: Adam's learning rate for the bottleneck. For the linear design it is a share of each tensor's
            own size (the root of its mean square); None takes 0.01 there and 0.001 for the other designs.
        model_rate: Adam's learning rate for the model's own layers.
        warmup: Share of a stage's steps over which the rates rise; then they fall along a cosine.
        batch_size: Number of images in one step.
        distillation: Weight, from 0 to 1, of the whole model's answers beside the labels.
        temperature: Distillation temperature: both logits are divided by it before they are compared.
        patience: Stop after this many epochs without a better accuracy on the select part.
        flip: Whether images are mirrored at random; the features of the mirrored ones are a second cached copy.
        features: Where features are kept. "auto" takes the memory if they fit, else the disk, else computes them again
            in every epoch ("recompute"). "keep" leaves them in the study's cache for the next run at this cut.
        memory_gib: Memory that the features may take, in GiB.
        precision: Precision of training and of what is measured; "auto" takes bf16 where the machine multiplies it in
            hardware. The bottleneck computes in float32.
        device: The processor or accelerator that computes on this machine: "cpu", "cuda", "cuda:N", "mps", or "auto"
            for an accelerator if there is one.
        statistics_images: Images that the closed form, the quantiser and the entropy coder's tables are made from.
        seed: Seed of random initial values and of the order of the images.
        coder: The entropy coder of the payloads: "rans" (the shortest), "zstd", "rle" or "raw". While it trains, bytes
            are priced as rans would code them; after each epoch the quantiser is set so that real payloads fit.
        tuning: Constants of the closed form.

    Raises:
        InputError: a value outside its range, or nothing left to train; the message names the argument.

    Examples:
        >>> FitSettings(epochs=1, train_head=True).trained
        ('head', 'encoder', 'decoder', 'tail')

    """

    epochs: int = 3
    feature_epochs: int | None = None
    images: ImageCount = None
    select_images: ImageCount = None
    train_encoder: bool = True
    train_decoder: bool = True
    train_tail: bool = True
    train_head: bool = False
    bottleneck_rate: float | None = None
    model_rate: float = 2e-5
    warmup: float = 0.1
    batch_size: int = 64
    distillation: float = 0.9
    temperature: float = 4.0
    patience: int = 2
    flip: bool = False
    features: FeatureStore = "auto"
    memory_gib: float = 4.0
    precision: Precision | Literal["auto"] = "auto"
    device: str = "auto"
    statistics_images: int = 640
    seed: int = 0
    coder: CoderName = "rans"
    tuning: ClosedFormTuning = field(default_factory=ClosedFormTuning)

    def __post_init__(self) -> None:
        check_types(self)
        check_choice("coder", self.coder, CODERS)
        check_ranges(self, _FIT_RANGES)
        check_choice("features", self.features, get_args(FeatureStore))
        check_choice("precision", self.precision, PRECISIONS)
        check_device(self.device)
        if not self.trained:
            msg = "nothing is left to train: open the encoder, the decoder, the tail or the head"
            raise InputError(msg)

    @property
    def trained(self) -> tuple[str, ...]:
        """The sides that learn."""
        return tuple(side for side in ("head", "encoder", "decoder", "tail") if getattr(self, f"train_{side}"))

    def recorded(self) -> dict[str, float | int | str | bool | None]:
        """Return the settings that the result depends on; where features are kept, and where it computes, is not one.

        Tuning is written as text, and left out where it is the default.
        """
        left_out = ("features", "memory_gib", "tuning", "device")
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        return values if self.tuning == ClosedFormTuning() else {**values, "tuning": repr(self.tuning)}


_FIT_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (0, math.inf),
    "feature_epochs": (0, math.inf),
    "images": (2, math.inf),
    "select_images": (1, math.inf),
    "bottleneck_rate": (0, 1),
    "model_rate": (0, 1),
    "warmup": (0, 1),
    "batch_size": (2, math.inf),
    "distillation": (0, 1),
    "temperature": (0.1, 1_000_000),
    "patience": (1, math.inf),
    "memory_gib": (0, math.inf),
    "statistics_images": (2, math.inf),
    "seed": (0, _LARGEST_SEED),
}


@dataclass(frozen=True, kw_only=True)
class SplitFilter:
    """Select one of a cut's splits; None leaves a property open.

    Args:
        budget: The budget that the split was made for.
        design: The design of its bottleneck, by name; or a design of your own as `fit` takes it, which a split of it
            needs to be loaded.
        closed_form: True ignores trained splits; otherwise a trained one is preferred.

    Examples:
        >>> SplitFilter(closed_form=True).design is None
        True

    """

    budget: Budget | None = None
    design: str | type | None = None
    closed_form: bool = False

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """Everything that a worker of `fit_on_ray` needs to train one cut, but for the cut itself.

    Args:
        directory: The study's directory, under the same path on every machine.
        budget: The budget of every cut.
        settings: How to train.
        allow_code: Whether Python code that the study names may run; see `open_study`.
        model: The model, named again.
        weights: Where the model's weights are now, if they have moved.
        data: Where the data are now, if they have moved.
        data_root: Where torchvision's data sets are.
        group: A class subset of the study; None for all classes.
        design: The bottleneck's design, as `fit` takes it; a design of your own is best given as `./file.py:name`,
            which every worker imports.
        start: See `fit`.

    """

    directory: Path
    budget: Budget
    settings: FitSettings
    allow_code: bool = False
    model: str | None = None
    weights: str | None = None
    data: str | None = None
    data_root: Path | None = None
    group: str | None = None
    design: str | type = "linear"
    start: Start | None = None

    def __post_init__(self) -> None:
        check_types(self)
