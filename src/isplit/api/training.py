"""Train splits, and their fair opponent on compressed images; verify what was said of them beforehand."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isplit.api.output import report_redrawn, shown
from isplit.design.settings import FitSettings, Start
from isplit.design.study import Study, open_study
from isplit.progress import Progress
from isplit.records import Budget, Compression, SplitRecord, TrainedRemote, VerificationRecord

if TYPE_CHECKING:
    from isplit.design.bottleneck.base import Bottleneck


def fit(
    study: Study | str | Path,
    cut: str,
    budget: int | Budget,
    *,
    group: str | None = None,
    design: "str | type[Bottleneck]" = "linear",
    start: Start | None = None,
    settings: FitSettings | None = None,
    progress: Progress | bool = False,
) -> SplitRecord:
    """Train the split at a cut, measure it on the test part, save it in the study, and draw the report again.

    A split that was trained with the same settings is not trained again; interrupted training goes on after its last
    whole epoch.

    Args:
        study: A study, or its directory; the model itself is not changed.
        cut: The cut's name.
        budget: Mean payload in bytes as an int, or a `Budget`.
        group: A class subset of the study; None for all classes.
        design: "linear" (starts from the closed form), "undercomplete" (the paper's), "identity", or your own: a class
            that inherits from `Bottleneck`, or where one is, such as "./file.py:name" (docs/extending.md).
        start: "closed-form" or "random"; None takes the closed form for the linear design, random values for others.
        settings: How to train.
        progress: True shows bars on standard error; a function is called as work goes on.

    Raises:
        InputError: an unknown cut, subset, design or start, or a budget that cannot be met.
        NonFiniteError: the loss is not a number any more.

    Examples:
        >>> study = isplit.open_study("study", allow_code=True)
        >>> record = isplit.fit(study, "pool2", 64, settings=isplit.FitSettings(epochs=1, images=12))
        >>> record.training.epochs
        1

    """
    from isplit.design.fit import fit as fit_study

    study = open_study(study)
    with report_redrawn(study), shown(progress) as report:
        return fit_study(
            study, cut, budget, group=group, design=design, start=start, settings=settings, progress=report
        )


def fit_remote(
    study: Study | str | Path,
    compression: Compression | str,
    *,
    after: str | None = None,
    group: str | None = None,
    settings: FitSettings | None = None,
    progress: Progress | bool = False,
) -> TrainedRemote:
    """Train the model on compressed images, the fair opponent of trained splits, and draw the report again.

    The network is trained like a split, from labels and from the whole model's answers, measured on the test part and
    saved in the study. What was trained with the same settings is not trained again.

    Args:
        study: A study, or its directory; the model itself is not changed.
        compression: A `Compression`, or its text: "webp:50@0.5" is WebP of quality 50 at half the side.
        after: The cut after which the layers learn; None trains all layers.
        group: A class subset of the study; None for all classes.
        settings: How to train; those that are about splits alone are refused.
        progress: True shows bars on standard error; a function is called as work goes on.

    Raises:
        InputError: a compression that is not available here, an unknown cut or subset, or a setting of splits alone.
        NonFiniteError: the loss is not a number any more.

    Examples:
        >>> study = isplit.open_study("study", allow_code=True)
        >>> fast = isplit.FitSettings(epochs=1, images=12)
        >>> isplit.fit_remote(study, "webp:50@0.5", settings=fast).measurement.part
        'test'

    """
    from isplit.design.fit_remote import fit_remote as fit_network

    study = open_study(study)
    with report_redrawn(study), shown(progress) as report:
        return fit_network(study, compression, after=after, group=group, settings=settings, progress=report)


def verify(
    study: Study | str | Path,
    budget: int | Budget,
    *,
    cuts: Iterable[str] = ("candidates",),
    group: str | None = None,
    settings: FitSettings | None = None,
    fit_all: Callable[[Sequence[str]], Sequence[SplitRecord]] | None = None,
    progress: Progress | bool = False,
) -> VerificationRecord:
    """Train several cuts, say how well each rule had ranked them beforehand, and draw the report again.

    Args:
        study: A study, or its directory.
        budget: Mean payload in bytes as an int, or a `Budget`; the same for all cuts.
        cuts: At least two names; "candidates" stands for the ranked cuts, "all" for those of the curve.
        group: A class subset of the study; None for all classes.
        settings: How to train.
        fit_all: Trains cuts by name and returns their records, instead of `fit` one after the other.
        progress: True shows bars on standard error; a function is called as work goes on.

    Raises:
        InputError: fewer than two cuts, or what `fit` refuses.

    Examples:
        >>> fast = isplit.FitSettings(epochs=1, images=12)
        >>> study = isplit.open_study("study", allow_code=True)
        >>> record = isplit.verify(study, 64, cuts=["pool1", "pool2"], settings=fast)
        >>> [row["cut"] for row in record.to_dicts()]
        ['pool1', 'pool2']

    """
    from isplit.design.verify import verify as verify_study

    study = open_study(study)
    with report_redrawn(study), shown(progress) as report:
        return verify_study(study, budget, cuts=cuts, group=group, settings=settings, fit_all=fit_all, progress=report)
