"""Where training starts: the closed form, or random values of the same shape."""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import nn

from isplit.codec.frame import HEADER_BYTES
from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.linear import LinearBottleneck
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.bottleneck.spec import build_bottleneck, linear_spec
from isplit.design.bottleneck.undercomplete import undercomplete_widths
from isplit.design.closed_form.build import closed_forms
from isplit.design.progress import Progress
from isplit.design.settings import FitSettings, PredictSettings, Start, TrainedDesign
from isplit.design.splits import BuiltSplit, load_bottleneck, split_directory
from isplit.design.study import StudyView
from isplit.design.training.features import Features
from isplit.errors import InputError
from isplit.records import BottleneckSpec, Budget, Cut


@dataclass(frozen=True, eq=False)
class Beginning:
    """A bottleneck to train, and the split that needs no training (None for a random start)."""

    bottleneck: Bottleneck
    spec: BottleneckSpec
    before: BuiltSplit | None
    statistics_images: int
    samples_per_dimension: float | None


def begin(
    view: StudyView,
    cut: Cut,
    budget: Budget,
    *,
    design: TrainedDesign,
    start: Start,
    settings: FitSettings,
    features: Features,
    progress: Progress,
) -> Beginning:
    """Make the bottleneck; random values depend on the seed alone.

    Raises:
        InputError: a start that the design does not have, or a budget that it cannot meet.

    """
    if design == "linear":
        return _linear(view, cut, budget, start=start, settings=settings, progress=progress)
    mean, scale = channel_statistics(features, cut, images=settings.statistics_images)
    layout = PatchLayout.of(cut)
    spec = BottleneckSpec(design=design, shape=layout.shape, channel_axis=layout.channel_axis)
    if design == "undercomplete":
        if budget.element_ratio is not None:
            elements = prod(cut.shape) / budget.element_ratio
        else:
            assert budget.payload_bytes is not None
            elements = budget.payload_bytes - HEADER_BYTES
        spec = spec.model_copy(update={"widths": undercomplete_widths(layout, elements=max(1, int(elements)))})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        bottleneck = build_bottleneck(spec)
    for name, buffer in bottleneck.named_buffers(recurse=False):
        if name in ("mean", "scale"):
            buffer.copy_(mean if name == "mean" else scale)
    count = min(len(features.source.images), settings.statistics_images)
    return Beginning(bottleneck, spec, None, count, None)


def check_start(design: str, start: str, budget: Budget) -> None:
    """Refuse what no bottleneck can start from.

    Raises:
        InputError: an unknown design or start, or two that do not go together.

    """
    for what, value, known in (
        ("design", design, ("linear", "undercomplete", "identity")),
        ("start", start, ("closed-form", "random")),
    ):
        if value not in known:
            msg = f"{what} is {value!r}; choose one of {', '.join(known)}"
            raise InputError(msg)
    if design == "undercomplete" and start == "closed-form":
        msg = "the undercomplete design has no closed form: start it from random values (--start random)"
        raise InputError(msg)
    if design == "identity" and budget.element_ratio not in (None, 1):
        msg = "the identity design sends every element: give --bytes, or --ratio 1"
        raise InputError(msg)


def channel_statistics(features: Features, cut: Cut, *, images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation (C) of each channel over the first images; 1 where it is constant."""
    layout = PatchLayout.of(cut)
    sums = torch.zeros(3, layout.channels, dtype=torch.float64)
    rows = np.arange(min(images, len(features.source.images)))
    with torch.no_grad(), features.batches(rows, batch_size=64) as examples:
        for example in examples:
            inputs = example.inputs if not features.source.raw else features.head(example.inputs)
            vectors = layout.split(inputs.float()).flatten(0, 1).double().cpu()
            sums += torch.stack([vectors.sum(0), vectors.square().sum(0), torch.full((layout.channels,), len(vectors))])
    mean = sums[0] / sums[2]
    scale = (sums[1] / sums[2] - mean.square()).clamp_min(0).sqrt()
    scale[scale == 0] = 1
    return mean.float(), scale.float()


def _linear(
    view: StudyView,
    cut: Cut,
    budget: Budget,
    *,
    start: Start,
    settings: FitSettings,
    progress: Progress,
) -> Beginning:
    """Take the closed form that `predict` left in the study, or solve for it."""
    directory = split_directory(
        view.directory, cut=cut.name, group=view.name, design="linear", budget=budget, trained=False
    )
    if (directory / "split.json").exists():
        record, bottleneck, codec, _ = load_bottleneck(directory)
        if record.model == view.fingerprint:
            made = Beginning(
                bottleneck,
                record.bottleneck,
                BuiltSplit(cut, bottleneck, codec),
                record.statistics_images,
                record.samples_per_dimension,
            )
            return _own_values(made, random=start == "random", seed=settings.seed)
    chosen = PredictSettings(statistics_images=settings.statistics_images, precision=settings.precision)
    (closed,) = closed_forms(view, [budget], [cut], chosen, progress=progress)
    made = Beginning(
        closed.bottleneck,
        linear_spec(closed.bottleneck, weighted=True),
        closed.split,
        closed.statistics_images,
        closed.samples_per_dimension,
    )
    return _own_values(made, random=start == "random", seed=settings.seed)


def _own_values(closed: Beginning, *, random: bool, seed: int) -> Beginning:
    """Copy the closed form's bottleneck, which stays as it is for comparison, or fill one like it at random."""
    before = closed.before
    assert before is not None
    bottleneck = build_bottleneck(closed.spec)
    assert isinstance(bottleneck, LinearBottleneck)
    bottleneck.load_state_dict(closed.bottleneck.state_dict())
    bottleneck.quantiser = before.codec.quantiser
    if random:
        bottleneck.quantiser = None
        generator = torch.Generator().manual_seed(seed)
        for one in bottleneck.linear_maps:
            # Latents of unit size from standardised vectors, and vectors of unit size from those.
            nn.init.normal_(one.encoder, std=one.layout.width**-0.5, generator=generator)
            nn.init.normal_(one.decoder, std=max(1, one.rank) ** -0.5, generator=generator)
        if (joint := bottleneck.joint) is not None:
            nn.init.zeros_(joint.mean)
            nn.init.normal_(joint.encoder, std=joint.mean.numel() ** -0.5, generator=generator)
            nn.init.normal_(joint.decoder, std=joint.rank**-0.5, generator=generator)
    bottleneck.requires_grad_(True)
    return Beginning(
        bottleneck,
        closed.spec,
        None if random else before,
        closed.statistics_images,
        closed.samples_per_dimension,
    )
