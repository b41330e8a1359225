"""Make the bottleneck that training starts from: the closed form, or the initial values of a design."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.bottleneck.base import Bottleneck, Place
from isplit.design.bottleneck.coding import LatentQuantiser
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.bottleneck.sides import start_design
from isplit.design.bottleneck.spec import BottleneckDesign
from isplit.design.closed_form.build import closed_forms
from isplit.design.closed_form.passes import StatisticsImages
from isplit.design.closed_form.solve import SHRINKAGE
from isplit.design.settings import FitSettings, PredictSettings, Start
from isplit.design.splits import BuiltSplit, read_split, split_directory
from isplit.design.study import StudyView
from isplit.design.training.features import Features
from isplit.errors import InputError, StudyError
from isplit.progress import Progress
from isplit.records import BottleneckSpec, Budget, Cut

if TYPE_CHECKING:
    from isplit.design.bottleneck.linear import LinearBottleneck


@dataclass(frozen=True, kw_only=True, eq=False)
class FitTask:
    """Describe the split that is to be trained, and how it is trained.

    Attributes:
        view: The study, with the classes of labels and logits.
        cut: The cut at which the network is split.
        budget: The budget of a payload.
        design: The design of the bottleneck.
        start: The name of the start, such as the closed form or random values.
        settings: The settings of the training.

    """

    view: StudyView
    cut: Cut
    budget: Budget
    design: BottleneckDesign
    start: Start
    settings: FitSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingPoint:
    """Hold a bottleneck to train, and its origin.

    Attributes:
        bottleneck: The bottleneck with the values that training starts from.
        spec: The specification from which an equal bottleneck can be built.
        quantiser: The quantiser that belongs to these values. None where there is none yet.
        before: The split in closed form, which needs no training. None for a random start.
        statistics_images: The number of images from which these values, or mean and scale of channels, were computed.
        samples_per_dimension: The samples per dimension of the closed form's moments. None where there are none.
        shrinkage: The shrinkage of the closed form.

    """

    bottleneck: Bottleneck
    spec: BottleneckSpec
    quantiser: LatentQuantiser | None = None
    before: BuiltSplit | None = None
    statistics_images: int
    samples_per_dimension: float | None = None
    shrinkage: float = 0.0


def starting_point(task: FitTask, features: Features, *, progress: Progress) -> StartingPoint:
    """Make the bottleneck that training starts from. Random values depend on the seed alone.

    Raises:
        InputError: the design cannot meet the budget, or a design of the user's own breaks the contract.

    """
    if "closed-form" in task.design.bottleneck.starts:
        return _from_closed_form(task, progress)
    settings, cut = task.settings, task.cut
    mean, scale = channel_statistics(features, cut, images=settings.statistics_images)
    assert cut.channel_axis is not None
    place = Place(shape=cut.shape, channel_axis=cut.channel_axis, budget=task.budget, mean=mean, scale=scale)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        bottleneck = start_design(task.design, place)
    return StartingPoint(
        bottleneck=bottleneck,
        spec=task.design.spec(bottleneck, place),
        statistics_images=min(len(features.source.images), settings.statistics_images),
    )


def table_images(task: FitTask) -> NDArray[np.int64]:
    """Return the images that the quantiser and the coder's tables are made from.

    Latents of the images that the closed form was solved from are atypical. Latents of the training images are less
    so. Images that are in neither set are therefore preferred, and then images that are only trained on.
    """
    settings, every = task.settings, task.view.images("fit")
    count = settings.statistics_images
    if settings.images is not None:
        unseen = every[max(count, settings.images) :]
        if len(unseen) >= min(count, settings.tuning.held_out_images):
            return unseen[:count]
    predict_settings = PredictSettings(statistics_images=count, tuning=settings.tuning)
    return StatisticsImages.of(task.view, predict_settings).held_out


def check_start(design: BottleneckDesign, start: str, budget: Budget) -> None:
    """Refuse a start that a design does not have, and a budget that it can never meet.

    Raises:
        InputError: the start or the budget is refused.

    """
    known: tuple[Start, ...] = ("closed-form", "random")
    if start not in known:
        msg = f"start is {start!r}; choose one of {', '.join(known)}"
        raise InputError(msg)
    if start not in design.bottleneck.starts:
        msg = f"the {design.name} design has no closed form: start it from random values (`start=random`)"
        raise InputError(msg)
    design.bottleneck.check_budget(budget)


def channel_statistics(features: Features, cut: Cut, *, images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the standard deviation (C) of each channel over the first images.

    The standard deviation of a constant channel is returned as 1.
    """
    layout = PatchLayout.of(cut)
    sums = torch.zeros(3, layout.channels, dtype=torch.float64)
    rows = np.arange(min(images, len(features.source.images)))
    with torch.no_grad(), features.batches(rows, batch_size=64) as examples:
        for example in examples:
            inputs = example.inputs if not features.source.raw else features.head(example.inputs)
            vectors = layout.split(inputs.float()).flatten(0, 1).cpu().double()
            sums += torch.stack([vectors.sum(0), vectors.square().sum(0), torch.full((layout.channels,), len(vectors))])
    mean = sums[0] / sums[2]
    scale = (sums[1] / sums[2] - mean.square()).clamp_min(0).sqrt()
    scale[scale == 0] = 1
    return mean.float(), scale.float()


def _from_closed_form(task: FitTask, progress: Progress) -> StartingPoint:
    """Copy the closed form, which is kept for comparison, or fill a bottleneck of the same shape with random values."""
    closed = _predicted(task) or _solved(task, progress)
    spec = closed.spec.model_copy(update={"design": task.design.name, "source": task.design.source})
    # Only linear bottlenecks have a closed form.
    bottleneck = cast("LinearBottleneck", task.design.bottleneck.rebuild(spec, task.budget))
    bottleneck.load_state_dict(closed.bottleneck.state_dict())
    if task.start == "random":
        bottleneck.fill_at_random(seed=task.settings.seed)
        closed = replace(closed, before=None)
    return replace(
        closed,
        bottleneck=bottleneck.requires_grad_(True),
        spec=spec,
        quantiser=None if closed.before is None else closed.before.quantiser,
    )


def _predicted(task: FitTask) -> StartingPoint | None:
    """Return the closed form that `predict` kept in the study, or None where there is none for these settings."""
    view = task.view
    directory = split_directory(
        view.directory, cut=task.cut.name, group=view.name, design="linear", budget=task.budget, trained=False
    )
    try:
        saved = read_split(directory)
    except StudyError:  # it is missing or damaged, so the closed form is solved again
        return None
    record = saved.record
    if record.model != view.fingerprint or record.coder != task.settings.coder:
        return None
    return StartingPoint(
        bottleneck=saved.bottleneck,
        spec=record.bottleneck,
        before=saved.at(task.cut),
        statistics_images=record.statistics_images,
        samples_per_dimension=record.samples_per_dimension,
        shrinkage=SHRINKAGE,
    )


def _solved(task: FitTask, progress: Progress) -> StartingPoint:
    """Solve for the closed form."""
    settings = task.settings
    (closed,) = closed_forms(
        task.view,
        [task.budget],
        [task.cut],
        PredictSettings(
            statistics_images=settings.statistics_images,
            precision=settings.precision,
            coder=settings.coder,
            tuning=settings.tuning,
        ),
        progress=progress,
    )
    return StartingPoint(
        bottleneck=closed.split.bottleneck,
        spec=closed.spec,
        before=closed.split,
        statistics_images=closed.statistics_images,
        samples_per_dimension=closed.samples_per_dimension,
        shrinkage=SHRINKAGE,
    )
