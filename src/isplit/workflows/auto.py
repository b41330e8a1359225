"""Run all phases in one call: `isplit.auto` plans a model for a device and a link, trains the split, and exports it.

check everything ─> estimate ─> analyze ─> predict ─> plan ─> fit what the plan asks for, plan again ─> export
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from isplit import api
from isplit.design.budgets import read_budgets
from isplit.design.class_subsets import parse_groups
from isplit.design.export_settings import ExportSettings
from isplit.design.inputs.data import Dataset
from isplit.design.inputs.models import LoadedModel
from isplit.design.measure.speed import measure_speed
from isplit.design.onnx.output_directory import check_place
from isplit.design.predict_estimate import measure_product, timed_images
from isplit.design.settings import SplitFilter
from isplit.design.study import Study
from isplit.errors import InputError
from isplit.plan.devices import load_device
from isplit.plan.limits import make_limits
from isplit.plan.links import load_link
from isplit.plan.planner import plan
from isplit.plan.study_facts import StudyFacts
from isplit.progress import Progress, silent
from isplit.records import (
    BundleRecord,
    GraphRecord,
    Limits,
    LinkRecord,
    PlannedAccuracy,
    PlannedPlacement,
    PlanRecord,
    ProfileRecord,
    SplitRecord,
    StudyRecord,
)
from isplit.records.split_files import split_records
from isplit.workflows.auto_estimate import TimeEstimate, estimate_time
from isplit.workflows.auto_export import answer_commands, split_to_export, standing_bundle, write_segments
from isplit.workflows.auto_settings import AutoResult, AutoSettings

Say = Callable[[str], None]
"""Called with a sentence for the user."""


def auto(
    model: "LoadedModel | str",
    data: Dataset | str | Path,
    *,
    out: str | Path = "auto",
    device: str | Path | ProfileRecord = "pi4",
    link: str | Path | LinkRecord = "4g",
    limits: Limits | Mapping[str, object] | None = None,
    settings: AutoSettings | None = None,
    progress: Progress = silent,
) -> AutoResult:
    """Find where a model should run, train the split if the answer is one, and export what runs it.

    The phases are analyze, predict, plan, fit, plan again, and export. Only those splits are trained whose training
    could settle or change the answer. Every phase keeps its work, so the same call continues where an earlier one
    stopped.

    Args:
        model: A model from `load_model`, or a name that `load_model` takes.
        data: A data set from `open_data`, or a name that `open_data` takes.
        out: The directory for the study (`study`, with plan.json and report.html) and the bundle (`bundle`).
        device: The device, in any form that `plan` takes.
        link: The link, in any form that `plan` takes.
        limits: The limits, in any form that `plan` takes.
        settings: The settings of the phases, and the server.
        progress: Called with the name of the work, how much of it is done, and how much there is in all.

    Raises:
        InputError: model and data do not fit together, or a device, link or limit is invalid. This is raised before any
            long work.
        StudyError, BundleError: the directory holds something else.

    Examples:
        >>> quick = isplit.AutoSettings(
        ...     budgets=64,
        ...     analyze=isplit.AnalyzeSettings(images=12),
        ...     predict=isplit.PredictSettings(statistics_images=12, images=6, remote_images=6),
        ...     fit=isplit.FitSettings(epochs=1, images=12),
        ... )
        >>> model = isplit.load_model("net.py:build", weights="net.safetensors")
        >>> result = isplit.auto(model, "photos", out="auto", device="pi4", link="wifi", settings=quick)
        >>> result.plan.answer.chosen
        'local'

    """
    run = prepare_auto(model, data, out=out, device=device, link=link, limits=limits, settings=settings)
    return run.finish(progress=progress)


def prepare_auto(
    model: "LoadedModel | str",
    data: Dataset | str | Path,
    *,
    out: str | Path = "auto",
    device: str | Path | ProfileRecord = "pi4",
    link: str | Path | LinkRecord = "4g",
    limits: Limits | Mapping[str, object] | None = None,
    settings: AutoSettings | None = None,
) -> "AutoRun":
    """Check everything that `auto` is given, which takes seconds, and return the object that does the work.

    The arguments and errors are those of `auto`.
    """
    settings, out = settings or AutoSettings(), Path(out)
    checked = make_limits(dict(limits or {}), where="limits")
    if checked.hide_answer:
        msg = "limits: hide_answer needs the last layers on the device, which no bundle can run: use `isplit.plan`"
        raise InputError(msg)
    profile, server = load_device(device, name="device"), load_device(settings.server, name="server")
    dataset = data if isinstance(data, Dataset) else api.open_data(str(data), seed=settings.analyze.seed)
    parse_groups(settings.classes, dataset)
    check_place(out / "bundle", overwrite=True)
    loaded = model if isinstance(model, LoadedModel) else api.load_model(model)
    loaded = loaded.for_classes(len(dataset.classes))
    run = AutoRun(
        model=loaded,
        data=dataset,
        out=out,
        device=profile,
        server=server,
        link=load_link(link, name="link"),
        limits=checked,
        settings=settings,
    )
    run.check_plan()
    return run


@dataclass(frozen=True, kw_only=True, eq=False)
class AutoRun:
    """Run the phases of one call of `auto` whose input was checked. `prepare_auto` makes these objects."""

    model: LoadedModel
    data: Dataset
    out: Path
    device: ProfileRecord
    server: ProfileRecord
    link: LinkRecord
    limits: Limits
    settings: AutoSettings

    @property
    def study_directory(self) -> Path:
        """The directory of the study."""
        return self.out / "study"

    @property
    def bundle_directory(self) -> Path:
        """The directory of the bundle."""
        return self.out / "bundle"

    @cached_property
    def graph(self) -> GraphRecord:
        """The model's cuts."""
        settings = self.settings.analyze
        captured = self.model.graph(channel_axes=settings.channel_axes)
        return captured.record(pre_activation=settings.pre_activation, all_cuts=settings.all_cuts)

    def check_plan(self) -> None:
        """Plan the model without its splits, to find early what prevents a plan, such as a profile of another model.

        Raises:
            InputError: no plan can be made.

        """
        self._plan(
            StudyFacts(
                directory=str(self.study_directory),
                model=self.model.source.spec,
                model_fingerprint=self.model.source.fingerprint,
                group="",
                graph=self.graph,
                whole=PlannedAccuracy(accuracy=1.0, low=1.0, high=1.0, difference=0.0, stderr=0.0, source="whole"),
                splits=(),
                images=(),
            )
        )

    def estimate(self) -> TimeEstimate:
        """Time a small batch, and estimate from it how long the remaining phases will take."""
        settings = self.settings
        images = timed_images(self.graph.macs, batch_size=settings.predict.batch_size)
        return estimate_time(
            measure_speed(self.model, images=images),
            self.graph,
            product_s=measure_product(),
            images={name: len(indices) for name, indices in self.data.parts.items()},
            budgets=read_budgets(settings.budgets),
            settings=(settings.analyze, settings.predict, settings.fit),
            most_trainings=settings.trainings,
            study=self.study_directory,
        )

    def finish(
        self,
        *,
        progress: Progress = silent,
        announce: Callable[[StudyRecord], None] | None = None,
        say: Say = lambda text: None,
    ) -> AutoResult:
        """Run every phase that was not run before.

        Args:
            progress: Called as work goes on.
            announce: Called with the study's record as soon as it is known, as by `analyze`.
            say: Called with a sentence for each decision on the way.

        """
        settings, group = self.settings, self.settings.plan.group
        study = api.analyze(
            self.model,
            self.data,
            out=self.study_directory,
            classes=settings.classes,
            settings=settings.analyze,
            overwrite=settings.overwrite,
            progress=progress,
            announce=announce,
        )
        api.predict(study, settings.budgets, group=group, settings=settings.predict, progress=progress)
        record = self._planned(study)
        trained: list[SplitRecord] = []
        left = settings.trainings - self._earlier_trainings(study)
        while (advice := record.answer.train) is not None and len(trained) < left:
            say(f"{advice.reason} It is trained now.")
            trained.append(
                api.fit(study, advice.cut, advice.budget, group=group, settings=settings.fit, progress=progress)
            )
            record = self._planned(study)
        api.write_report(study)
        bundle = self._export(study, record, progress)
        serve, run = (None, None) if bundle is None else answer_commands(record, self.bundle_directory)
        return AutoResult(
            study=study, plan=record, trained=tuple(trained), bundle=bundle, serve_command=serve, run_command=run
        )

    def _earlier_trainings(self, study: Study) -> int:
        """Return how many splits earlier calls trained with these settings, because they count towards the limit."""
        expected = self.settings.fit.recorded()
        trainings = [record.training for record in split_records(study.directory).values()]
        return sum(training is not None and training.settings == expected for training in trainings)

    def _planned(self, study: Study) -> PlanRecord:
        """Plan the study, and write plan.json."""
        record = self._plan(study)
        record.save(study.directory)
        return record

    def _plan(self, study: Study | StudyFacts) -> PlanRecord:
        return plan(
            study,
            device=self.device,
            link=self.link,
            server=self.server,
            limits=self.limits,
            settings=self.settings.plan,
        )

    def _export(self, study: Study, record: PlanRecord, progress: Progress) -> BundleRecord | None:
        """Write the bundle of the plan's split, unless it exists, and return its record.

        The result is None where no placement keeps the limits. Where the answer is a division into segments, the
        bundle holds the segments. Where it is another one, the bundle holds the best split as it is beside the whole
        model, so that `isplit bench` can measure the placements that were not chosen.
        """
        chosen = None if record.answer.chosen is None else record.placement(record.answer.chosen)
        if chosen is not None and chosen.kind == "segmented":
            group, overwrite = self.settings.plan.group, self.settings.overwrite
            out = self.bundle_directory
            return write_segments(study, chosen, out, group=group, overwrite=overwrite, progress=progress)
        split = split_to_export(record)
        if record.answer.chosen is None or split is None:
            return None
        assert split.cut is not None
        assert split.budget is not None
        trained = split.accuracy is not None and split.accuracy.source == "trained"
        known = self._known_bundle(study, split, trained=trained)
        if known is not None:
            return known
        return api.export(
            study,
            split.cut,
            out=self.bundle_directory,
            group=self.settings.plan.group,
            split_filter=SplitFilter(budget=split.budget, design=split.design, closed_form=not trained),
            settings=ExportSettings(overwrite=True),
            progress=progress,
        )

    def _known_bundle(self, study: Study, split: PlannedPlacement, *, trained: bool) -> BundleRecord | None:
        """Return the existing bundle if it holds exactly this split and is undamaged; otherwise return None.

        Raises:
            BundleError: the bundle is of another model, and the settings do not allow to replace it.

        """
        record = standing_bundle(study, self.bundle_directory, overwrite=self.settings.overwrite)
        if record is None or (record.remote is not None and record.remote.trained):
            return None  # The commands for the answer need the whole model's network.
        for saved in split_records(study.directory).values():
            placement = next((cut for cut in record.cuts if cut.name == split.cut), None)
            if placement is None or (saved.cut, saved.budget) != (split.cut, split.budget):
                continue
            same_split = (saved.training is not None) == trained and saved.bottleneck.design == split.design
            measured = saved.measurement.accuracy, saved.measurement.payload_bytes.mean
            if same_split and measured == (placement.accuracy, placement.payload_bytes_mean):
                return record
        return None
