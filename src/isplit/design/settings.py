"""How a split is trained."""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from isplit.design.precision import SETTINGS
from isplit.errors import InputError
from isplit.records import Precision

FeatureStore = Literal["auto", "memory", "disk", "keep", "recompute"]
TrainedDesign = Literal["linear", "undercomplete", "identity"]
Start = Literal["closed-form", "random"]


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How `fit` works.

    Args:
        epochs: Passes of the second stage (task and distillation) at most.
        feature_epochs: Passes of the first stage (the features themselves); None: 0 from the closed form, else 1.
        images: Images of the fit part to train on; None for all.
        select_images: Images of the select part that each epoch is judged on; None for all.
        train_encoder: Whether the encoder learns in the second stage.
        train_decoder: Likewise the decoder.
        train_tail: Likewise the model's own layers after the cut.
        train_head: Likewise those before the cut; they then belong to the split, and no features can be cached.
        bottleneck_rate: Adam's learning rate for the bottleneck, as a share of each tensor's own size (the root of its
            mean square) for the linear design, as it is for the others; None: 0.01 and 0.001.
        model_rate: Likewise for the model's own layers.
        warmup: Share of a stage's steps over which the rates rise; then they fall along a cosine.
        batch_size: Images per step.
        distillation: Weight, from 0 to 1, of the whole model's answers beside the labels.
        temperature: By which both logits are divided before they are compared.
        patience: Epochs without a better accuracy on the select part after which training stops.
        flip: Whether images are mirrored at random; the features of the mirrored ones are a second cached copy.
        features: Where what crosses is kept: "auto" takes the memory if it fits, else the disk, else computes it anew
            in every epoch ("recompute"). "keep" leaves it in the study's directory cache, for the next run at this cut.
        memory_gib: How much memory the features may take.
        precision: Of training and of what is measured: "auto" takes bf16 where the machine multiplies it in hardware;
            the bottleneck stays in float32.
        statistics_images: Images that the closed form, the quantiser and the entropy coder's tables are made from.
        seed: Of random initial values, and of the order of the images.

    """

    epochs: int = 3
    feature_epochs: int | None = None
    images: int | None = None
    select_images: int | None = None
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
    statistics_images: int = 640
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                msg = f"{name} is {value}; give {low:g} or more" + (f", at most {high:g}" if high < _ANY else "")
                raise InputError(msg)
        for name, known in (("features", get_args(FeatureStore)), ("precision", SETTINGS)):
            if getattr(self, name) not in known:
                msg = f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}"
                raise InputError(msg)
        if not any((self.train_encoder, self.train_decoder, self.train_tail, self.train_head)):
            msg = "nothing is left to train: open the encoder, the decoder, the tail or the head"
            raise InputError(msg)

    @property
    def trained(self) -> tuple[str, ...]:
        """The sides that learn."""
        return tuple(side for side in ("head", "encoder", "decoder", "tail") if getattr(self, f"train_{side}"))

    def recorded(self) -> dict[str, float | int | str | bool | None]:
        """Return what the result depends on: where features are kept is not part of it."""
        return {name: value for name, value in asdict(self).items() if name not in ("features", "memory_gib")}


_ANY = float("inf")
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (0, _ANY),
    "feature_epochs": (0, _ANY),
    "images": (2, _ANY),
    "select_images": (1, _ANY),
    "bottleneck_rate": (0, 1),
    "model_rate": (0, 1),
    "warmup": (0, 1),
    "batch_size": (2, _ANY),
    "distillation": (0, 1),
    "temperature": (0.1, _ANY),
    "patience": (1, _ANY),
    "memory_gib": (0, _ANY),
    "statistics_images": (2, _ANY),
    "seed": (0, _ANY),
}
