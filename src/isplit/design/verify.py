"""isplit verify: train every cut, and tell how well it was known beforehand which one is best."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from isplit.design.budgets import read_budget
from isplit.design.fit import fit
from isplit.design.measure.ranking import score_predictors
from isplit.design.predict import predict
from isplit.design.settings import FitSettings, PredictSettings
from isplit.design.study import Study, open_to_write
from isplit.errors import InputError, StudyError
from isplit.progress import Progress, silent
from isplit.records import (
    Budget,
    Prediction,
    SplitRecord,
    Verification,
    VerificationRecord,
    VerifiedCut,
)

FitAll = Callable[[Sequence[str]], Sequence[SplitRecord]]


def verify(
    study: Study | str | Path,
    budget: int | Budget,
    *,
    cuts: Iterable[str] = ("candidates",),
    group: str | None = None,
    settings: FitSettings | None = None,
    fit_all: FitAll | None = None,
    progress: Progress = silent,
) -> VerificationRecord:
    """Train the cuts from the closed form, and write verification.json.

    What was known beforehand comes from the study's curve and from `predict` on the select part, which is run for cuts
    that it has not seen; what is true, from the test part. Cuts that are trained already are not trained again.

    Args:
        study: A study, or its directory.
        budget: The same for all cuts.
        cuts: At least two names, or words for several: see `Study.cut_names`.
        group: A class subset of the study.
        settings: Of the training.
        fit_all: Trains cuts by name and returns their records in that order, instead of one after the other here.
        progress: Called as work goes on.

    Raises:
        InputError: fewer than two cuts, or what `fit` refuses.

    """
    budget = read_budget(budget)
    with open_to_write(study) as opened:
        return _verify(opened, budget, cuts, group=group, settings=settings, fit_all=fit_all, progress=progress)


def _verify(
    study: Study,
    budget: Budget,
    cuts: Iterable[str],
    *,
    group: str | None,
    settings: FitSettings | None,
    fit_all: FitAll | None,
    progress: Progress,
) -> VerificationRecord:
    names = study.cut_names(cuts, group=group)
    if len(names) < 2:
        msg = f"a ranking needs at least two cuts, got {len(names)}: choose 'all', or name more"
        raise InputError(msg)
    settings = settings or FitSettings()
    before = _predictions(study, budget, names, group=group, settings=settings, progress=progress)
    if fit_all is not None:
        records = list(fit_all(names))
    else:
        records = []
        for number, name in enumerate(names):
            records.append(fit(study, name, budget, group=group, settings=settings, progress=progress))
            progress("cuts", number + 1, len(names))
    rows = tuple(_row(study, prediction, record) for prediction, record in zip(before, records, strict=True))
    trainings = [record.training for record in records if record.training is not None]
    verification = Verification(
        group=study.view(group).name,
        budget=budget,
        design="linear",
        cuts=rows,
        scores=score_predictors(rows),
        epochs=settings.epochs,
        training_seconds=sum(training.seconds for training in trainings),
        device="; ".join(sorted({record.device for record in records if record.device})) or None,
    )
    record = VerificationRecord(verifications=(*_others(study, verification), verification))
    record.save(study.directory)
    return record


def _predictions(
    study: Study,
    budget: Budget,
    names: Sequence[str],
    *,
    group: str | None,
    settings: FitSettings,
    progress: Progress,
) -> list[Prediction]:
    """Return the linear design's prediction of each cut, made now where there is none."""

    def known() -> dict[str, Prediction]:
        name, record = study.view(group).name, study.predictions
        return {
            row.cut: row
            for row in (record.predictions if record else ())
            if row.group == name and row.budget.tag == budget.tag and row.design == "linear"
        }

    missing = tuple(name for name in names if name not in known())
    if missing:
        wanted = PredictSettings(
            statistics_images=settings.statistics_images,
            images=None,
            remote_images=0,
            coder=settings.coder,
            device=settings.device,
            tuning=settings.tuning,
        )
        predict(study, [budget], cuts=missing, group=group, settings=wanted, progress=progress)
    predictions = known()
    return [predictions[name] for name in names]


def _row(study: Study, before: Prediction, trained: SplitRecord) -> VerifiedCut:
    cut = study.graph_record.cut(before.cut)
    return VerifiedCut(
        cut=cut.name,
        cui=before.cui,
        bytes=cut.bytes,
        depth=cut.depth,
        closed_form=before.measurement,
        calibrated_accuracy=before.predicted_accuracy,
        trained=trained.measurement,
    )


def _others(study: Study, verification: Verification) -> tuple[Verification, ...]:
    """Return earlier verifications for other budgets or classes."""
    try:
        known = VerificationRecord.load(study.directory).verifications
    except StudyError:
        return ()
    replaced = verification.group, verification.budget.tag
    return tuple(row for row in known if (row.group, row.budget.tag) != replaced)
