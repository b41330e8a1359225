"""Define the settings and the result of `isplit.auto`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isplit.design.budgets import DEFAULT_BUDGETS, Budgets, read_budgets
from isplit.design.settings import AnalyzeSettings, FitSettings, PredictSettings
from isplit.design.study import Study
from isplit.errors import InputError
from isplit.plan.devices import THIS_MACHINE
from isplit.plan.planner import PlanSettings
from isplit.records import BundleRecord, PlanRecord, ProfileRecord, SplitRecord
from isplit.setting_checks import check_types


@dataclass(frozen=True, kw_only=True)
class AutoSettings:
    """Set how `auto` works.

    Args:
        server: The server: the name of a preset, a file of `isplit profile`, "this-machine", or a profile.
        budgets: The budgets that are predicted, and from which the plan chooses.
        trainings: The largest number of splits to train, including those of earlier calls. Only those splits are
            trained whose training could settle or change the answer of the plan.
        analyze: The settings of `analyze`.
        predict: The settings of `predict`.
        fit: The settings of `fit`.
        plan: The settings of `plan`, such as the objective and the load.
        classes: The class subsets to analyze. The plan is for the first.
        overwrite: Whether a study of other input, and its bundle, may be replaced.

    Raises:
        InputError: a value is outside its range.

    Examples:
        >>> isplit.AutoSettings(budgets=256, trainings=1).server
        'this-machine'

    """

    server: str | Path | ProfileRecord = THIS_MACHINE
    budgets: Budgets = DEFAULT_BUDGETS
    trainings: int = 3
    analyze: AnalyzeSettings = field(default_factory=AnalyzeSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    plan: PlanSettings = field(default_factory=PlanSettings)
    classes: Sequence[str] = ()
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        read_budgets(self.budgets)
        if not 0 <= self.trainings <= 1000:
            msg = f"trainings is {self.trainings}; give 0 to train nothing, or at most 1000"
            raise InputError(msg)
        if self.plan.middle or self.plan.tiers:
            msg = "plan has a server in the middle or further machines, which no bundle can run: use `isplit.plan`"
            raise InputError(msg)


@dataclass(frozen=True, kw_only=True)
class AutoResult:
    """Hold the results of `auto`: the study, the plan with its answer, and the bundle.

    `bundle` is None where no placement keeps the limits. `trained` lists the splits that this call trained.
    `serve_command` is None where no server is needed. Both commands are None where the bundle does not hold the answer,
    which is then the network that was trained on compressed images.
    """

    study: Study
    plan: PlanRecord
    trained: tuple[SplitRecord, ...]
    bundle: BundleRecord | None
    serve_command: str | None
    run_command: str | None
