"""isplit predict: how accurate will a split be? Every cut with the closed-form bottleneck, real payloads, no training.

closed forms of all cuts and budgets ─> answers and payloads on the select part ─> predictions.json, splits/
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.budgets import DEFAULT_BUDGETS, Budgets, read_budgets
from isplit.design.closed_form.build import ClosedForm, closed_forms
from isplit.design.closed_form.passes import StatisticsImages
from isplit.design.closed_form.solve import SHRINKAGE
from isplit.design.devices import describe_device, device_of, placed, resolve_device
from isplit.design.kept_work import KeptWork
from isplit.design.measure.calibration import packaged_calibration
from isplit.design.measure.remote_search import RemoteSearch, search_remote
from isplit.design.measure.splits import SplitEvaluation, evaluate_splits, measure
from isplit.design.predict_estimate import timed_estimate
from isplit.design.predict_quick import evaluate_quickly, quick_note, quick_settings
from isplit.design.prediction_rows import calibrated, importance_of, prediction_warnings
from isplit.design.running import chosen_precision
from isplit.design.settings import PredictSettings
from isplit.design.splits import read_split, save_split, split_directory
from isplit.design.study import Study, StudyView, open_to_write
from isplit.errors import StudyError
from isplit.plan.verdict import images_to_settle, open_questions
from isplit.progress import Progress, silent
from isplit.records import (
    Budget,
    Cut,
    Design,
    Measurement,
    Precision,
    Prediction,
    PredictionsRecord,
    SplitRecord,
)
from isplit.records.split_files import read_split_files


def predict(
    study: Study | str | Path,
    budgets: Budgets = DEFAULT_BUDGETS,
    *,
    cuts: Iterable[str] = (),
    group: str | None = None,
    settings: PredictSettings | None = None,
    settle: bool = False,
    progress: Progress = silent,
    announce: Callable[[str], None] | None = None,
) -> PredictionsRecord:
    """Measure every cut's closed-form split at every budget, on the select part, and write predictions.json.

    The splits themselves are kept in the study: `fit` starts from them, and `export` takes them as they are. What was
    predicted before stays in the record and is not computed again from as many images. A call that is stopped in any
    phase keeps what it has done, and the same call again goes on from there with the same results.

    Args:
        study: A study, or its directory.
        budgets: One or several; an int is a mean payload in bytes.
        cuts: Names; none for all cuts of the curve.
        group: A class subset of the study; None for all classes.
        settings: How much and how.
        settle: Whether to measure on more images of the select part until the verdicts within 1 and 3 points are
            settled, or all images are taken.
        progress: Called as work goes on.
        announce: Called with a sentence on how long it will take, before work begins, for which a batch is timed; and
            with `settle`, with what is open on so many images and with what more of them have settled.

    Raises:
        InputError: a budget below the smallest payload, an unknown cut or subset.

    """
    settings, budgets = settings or PredictSettings(), read_budgets(budgets)
    device = resolve_device(settings.device)
    with open_to_write(study) as opened, placed(opened.graph.module, device=device):
        view = opened.view(group)
        if settings.quick:
            settings = quick_settings(settings, fit_images=len(view.images("fit")))
        run = _PredictRun(view, settings, time.perf_counter(), announce)
        record = run.all_cuts(budgets, cuts, progress)
        return run.settled(record, progress) if settle else record


@dataclass(frozen=True, eq=False)
class _PredictRun:
    """One call of `predict`: the study's view, the settings, and when it was started."""

    view: StudyView
    settings: PredictSettings
    started: float
    announce: Callable[[str], None] | None = None
    whole_is_right: dict[int, bool] = field(default_factory=dict)
    """For images that splits were measured on, by their index, whether the whole model is right."""

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """Indices of the images that splits are measured on."""
        return self.view.images("select", limit=self.settings.images)

    @cached_property
    def precision(self) -> Precision:
        """The precision of the model's passes."""
        return chosen_precision(self.settings.precision, device=self.device)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return device_of(self.view.graph.module)

    @cached_property
    def kept(self) -> KeptWork:
        """The work of a run that was stopped, on this study, these classes, this device and these versions."""
        study = self.view.study
        record = study.record.model_dump(
            mode="json", include={"model", "data", "preprocessing", "graph_sha256", "seed"}
        )
        return KeptWork(
            self.view.directory,
            {
                "study": record,
                "classes": self.view.group.model_dump(mode="json"),
                "device": describe_device(self.device),
                "versions": {**study.versions, "isplit": metadata.version("isplit")},
            },
        )

    def all_cuts(self, budgets: Sequence[Budget], cuts: Iterable[str], progress: Progress) -> PredictionsRecord:
        """Measure what is not known yet, all cuts in one pass, and return the record, written after each phase."""
        study, directory = self.view.study, self.view.directory
        record = study.predictions
        missing = [cut for cut in study.cuts(cuts) if not self.is_known(record, cut, budgets)]
        if missing:
            self.say_duration(missing, budgets)
            closed = closed_forms(self.view, budgets, missing, self.settings, kept=self.kept, progress=progress)
            record = self.merged(record, self.measured(closed, progress))
            record.save(directory)
        record = self.merged(record, (), self.remote(record, progress))
        record.save(directory)
        self.kept.clear()
        return record

    def say_duration(self, cuts: Sequence[Cut], budgets: Sequence[Budget]) -> None:
        """Time a batch, and announce how long these cuts will take."""
        if self.announce is not None:
            self.announce(timed_estimate(self.view, cuts, budgets, settings=self.settings))

    def say(self, texts: Iterable[str]) -> None:
        """Announce sentences, if anyone listens."""
        if self.announce is not None:
            for text in texts:
                self.announce(text)

    def settled(self, record: PredictionsRecord, progress: Progress) -> PredictionsRecord:
        """Measure splits and compressed images on more images until the verdicts are settled or no images are left.

        All rows of these classes are measured again, so that a table is of one set of images.
        """
        view, run = self.view, self
        available = len(view.images("select"))
        questions = open_questions(record, group=view.name)
        while (wanted := images_to_settle(questions)) is not None and len(run.images) < available:
            self.say(question.text for question in questions)
            count = min(available, max(wanted, 2 * len(run.images)))
            remote = 0 if self.settings.remote_images == 0 else count
            more = replace(self.settings, images=count, remote_images=remote)
            run = replace(self, settings=more)
            rows = [row for row in record.predictions if (row.group, row.design) == (view.name, self.design)]
            record = run.merged(record, run.measured_again(rows, progress), run.remote(record, progress))
            record.save(view.directory)
            self.say(text for question in questions if (text := question.answer(record)) is not None)
            questions = open_questions(record, group=view.name)
        return record

    def evaluation(self, progress: Progress) -> dict[str, Any]:
        """Return how splits are measured, as arguments."""
        return {"images": self.images, "precision": self.precision, "kept": self.kept, "progress": progress}

    def measured_again(self, rows: Sequence[Prediction], progress: Progress) -> list[Prediction]:
        """Measure splits that are saved, in one pass, and save what was measured with them."""
        view = self.view
        measured: list[Prediction] = []
        saved = [read_split(self.directory(row.cut, row.budget)) for row in rows]
        splits = [split.at(cut) for split, row in zip(saved, rows, strict=True) for cut in view.study.cuts((row.cut,))]
        evaluations = evaluate_splits(view, splits, **self.evaluation(progress))
        self._remember_whole(evaluations)
        for row, split, evaluation in zip(rows, saved, evaluations, strict=True):
            measurement = measure(view, evaluation, part="select")
            record = split.record.model_copy(update={"measurement": measurement})
            save_split(self.directory(row.cut, row.budget), record, evaluation.split)
            measured.append(row.model_copy(update={"measurement": measurement}))
        return measured

    @property
    def design(self) -> Design:
        """The design of the splits."""
        return "linear" if self.settings.weighted else "pca"

    def directory(self, cut: str, budget: Budget) -> Path:
        """Return the folder of a split."""
        return split_directory(
            self.view.directory, cut=cut, group=self.view.name, design=self.design, budget=budget, trained=False
        )

    def is_known(self, record: PredictionsRecord | None, cut: Cut, budgets: Sequence[Budget]) -> bool:
        """Whether a cut was predicted before at all of the budgets, from as many images and in the same way."""
        images = {
            row.budget.tag: row.measurement.accuracy.images
            for row in (record.predictions if record else ())
            if (row.cut, row.group, row.design) == (cut.name, self.view.name, self.design)
        }
        statistics = min(self.settings.statistics_images, len(self.view.images("fit")))
        expected = statistics, metadata.version("isplit"), self.settings.coder
        for budget in budgets:
            directory = self.directory(cut.name, budget)
            if images.get(budget.tag, 0) < len(self.images) or not (directory / SplitRecord.file_name).exists():
                return False
            try:
                split = read_split_files(directory).record
            except StudyError:  # it is damaged, and is made again
                return False
            if (split.statistics_images, split.isplit_version, split.coder) != expected:
                return False
        return True

    def measured(self, closed: Sequence[ClosedForm], progress: Progress) -> list[Prediction]:
        """Measure closed forms in one pass over the images, and save their splits."""
        view = self.view
        splits, how = [closed_form.split for closed_form in closed], self.evaluation(progress)
        if self.settings.quick:
            evaluations = evaluate_quickly(view, splits, [closed_form.budget for closed_form in closed], **how)
        else:
            evaluations = evaluate_splits(view, splits, **how)
        self._remember_whole(evaluations)
        importance = importance_of(view)
        predictions: list[Prediction] = []
        for closed_form, evaluation in zip(closed, evaluations, strict=True):
            measurement = measure(view, evaluation, part="select")
            self._save(closed_form, measurement)
            cut = closed_form.split.cut
            predictions.append(
                Prediction(
                    cut=cut.name,
                    group=view.name,
                    budget=closed_form.budget,
                    design=self.design,
                    cui=importance.get(cut.name),
                    bytes=cut.bytes,
                    measurement=measurement,
                )
            )
        return predictions

    def _remember_whole(self, evaluations: Sequence[SplitEvaluation]) -> None:
        """Remember where the whole model is right, so that compressed images are compared without running it again."""
        for evaluation in evaluations:
            right = (evaluation.whole == evaluation.labels).tolist()
            self.whole_is_right.update(zip(self.images[: len(right)].tolist(), right, strict=True))

    def _save(self, closed_form: ClosedForm, measurement: Measurement) -> None:
        """Write a closed-form split into its directory of the study."""
        view, cut = self.view, closed_form.split.cut.name
        record = SplitRecord(
            isplit_version=metadata.version("isplit"),
            versions=view.study.versions,
            device=describe_device(self.device),
            model=view.fingerprint,
            cut=cut,
            group=view.name,
            budget=closed_form.budget,
            bottleneck=closed_form.spec,
            coder=closed_form.split.codec.coder,
            statistics_images=closed_form.statistics_images,
            samples_per_dimension=closed_form.samples_per_dimension,
            shrinkage=SHRINKAGE,
            training=None,
            seed=view.study.record.seed,
            measurement=measurement,
        )
        save_split(self.directory(cut, closed_form.budget), record, closed_form.split)

    def remote(self, record: PredictionsRecord | None, progress: Progress) -> RemoteSearch:
        """Measure the compressed image, unless it was measured on as many images before."""
        if self.settings.remote_images == 0:
            return RemoteSearch(measured=(), skipped=())
        images = self.view.images("select", limit=self.settings.remote_images)
        measured = tuple(row for row in record.remote if row.group == self.view.name) if record else ()
        skipped = tuple(row for row in record.remote_skipped if row.group == self.view.name) if record else ()
        if measured and measured[0].payload_bytes.images >= len(images):
            return RemoteSearch(measured=measured, skipped=skipped)
        is_known = self.whole_is_right.keys() >= set(images.tolist())
        return search_remote(
            self.view,
            images=images,
            part="select",
            precision=self.precision,
            whole=np.array([self.whole_is_right[index] for index in images.tolist()]) if is_known else None,
            kept=self.kept,
            progress=progress,
        )

    def merged(
        self, record: PredictionsRecord | None, predictions: Sequence[Prediction], remote: RemoteSearch | None = None
    ) -> PredictionsRecord:
        """Put new rows in the place of old ones for the same split, and keep the others."""

        def key(row: Prediction) -> tuple[object, ...]:
            return row.group, row.cut, row.budget.tag, row.design

        rows = {key(row): row for row in chain(record.predictions if record else (), predictions)}
        depth = {cut.name: cut.depth for cut in self.view.study.graph_record.cuts}
        calibration = packaged_calibration()
        search = remote if remote is not None and remote.measured else RemoteSearch(measured=(), skipped=())
        groups = {row.group for row in search.measured}
        images = [row for row in record.remote if row.group not in groups] if record else []
        skipped = [row for row in record.remote_skipped if row.group not in groups] if record else []
        splits = tuple(
            calibrated(row, calibration)
            for row in sorted(rows.values(), key=lambda row: (row.group, depth[row.cut], row.budget.order))
        )
        return PredictionsRecord(
            calibration=calibration.name if calibration else None,
            statistics_images=self.settings.statistics_images,
            images=len(self.images),
            seconds=time.perf_counter() - self.started,
            device=describe_device(self.device),
            predictions=splits,
            remote=(*images, *search.measured),
            remote_skipped=(*skipped, *search.skipped),
            warnings=(
                *prediction_warnings(
                    StatisticsImages.of(self.view, self.settings),
                    [row for row in splits if (row.group, row.design) == (self.view.name, self.design)],
                ),
                *([quick_note(self.settings)] if self.settings.quick else []),
            ),
        )
