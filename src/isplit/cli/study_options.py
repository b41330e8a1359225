"""Options that several verbs have: the model, the cuts, the budget, Ray, and where a study's inputs are now."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isplit.cli.model_options import parse_extra_inputs, parse_image_size, parse_numbers
from isplit.cli.options import Options
from isplit.design.budgets import read_budget
from isplit.errors import InputError, needs_extra
from isplit.plan.planned import PLANNED, planned_split
from isplit.records import Budget

if TYPE_CHECKING:
    from isplit.design.inputs.data import Dataset
    from isplit.design.inputs.models import LoadedModel
    from isplit.design.study import Study

MODEL_PANEL = "Model"
DATA_PANEL = "Data and classes"

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="torchvision:NAME, timm:NAME, hf:FOLDER, model.onnx, package.module:factory or ./file.py:factory.",
    ),
]
DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder or .zip of class folders, an .npz, idx:IMAGES,LABELS, torchvision:NAME, sklearn:digits, "
        "package.module:factory or ./file.py:factory.",
    ),
]
GroupOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A class subset of the study. By default, the study's own classes.",
        rich_help_panel="Cuts and budget",
    ),
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="A subset of the classes: 'cat,dog', 'normal,ill=flu+cold' (which merges two), a group's name, or a "
        "JSON file of groups. Repeatable.",
        rich_help_panel=DATA_PANEL,
    ),
]
ClassMapOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A JSON file {class: model output}, where names and numbers do not tell.",
        rich_help_panel=DATA_PANEL,
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(help="Seed of the choice of images, and of parts that are held out.", rich_help_panel=DATA_PANEL),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a study of another model or of other data.")
]


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A model's weights and what it takes.

    Args:
        weights: A .safetensors or .pth file with the weights, or "default" for the library's own download.
        num_classes: Replace the classifier by one with this many outputs.
        image_size: Size of the model's input in pixels: 224, or height and width as 240x320.
        channels: The number of channels of an image: 1 for grey, 3 for RGB, or any other.
        output: The output that holds the logits, where the model has several: its name or its position.
        extra_input: A constant for a further input of the model: a number, or a list in JSON. Repeatable.
        mean: Mean of each channel for normalisation, for example 0.485,0.456,0.406.
        std: Standard deviation of each channel for normalisation.

    """

    weights: Annotated[str | None, typer.Option(metavar="FILE|default")] = None
    num_classes: Annotated[int | None, typer.Option(metavar="N")] = None
    image_size: Annotated[str | None, typer.Option(metavar="N|HxW")] = None
    channels: Annotated[int | None, typer.Option(metavar="N")] = None
    output: Annotated[str | None, typer.Option(metavar="NAME|INDEX")] = None
    extra_input: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE")] = None
    mean: Annotated[str | None, typer.Option(metavar="M,M,M")] = None
    std: Annotated[str | None, typer.Option(metavar="S,S,S")] = None

    def __post_init__(self) -> None:
        # A wrong text is refused here, before the data are read.
        self._arguments()

    def load(self, spec: str) -> "LoadedModel":
        """Load the model that the command line names."""
        with needs_extra("design"):
            from isplit import api
        return api.load_model(spec, **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        """Return the options as arguments of `load_model`."""
        fields = {
            "channels": self.channels,
            "mean": parse_numbers(self.mean, "--mean"),
            "std": parse_numbers(self.std, "--std"),
        }
        return {
            "weights": self.weights,
            "num_classes": self.num_classes,
            "image_size": parse_image_size(self.image_size),
            "preprocessing": {name: value for name, value in fields.items() if value is not None},
            "output": self.output,
            "extra_inputs": parse_extra_inputs(self.extra_input),
        }


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Where the data are, and which of them count.

    Args:
        split: Use only this part or folder of the data.
        data_root: The directory of torchvision's data sets.

    """

    split: Annotated[str | None, typer.Option(metavar="PART")] = None
    data_root: Annotated[Path | None, typer.Option(metavar="DIR")] = None

    def open(self, data: str, *, seed: int) -> "Dataset":
        """Open the data that the command line names."""
        with needs_extra("design"):
            from isplit import api
        return api.open_data(data, split=self.split, seed=seed, data_root=self.data_root)


@dataclass(frozen=True, kw_only=True)
class CutChoice:
    """The cuts that a verb is for.

    Args:
        cut: The name of a cut, or "planned" for the split that `isplit plan` chose. Repeatable.
        cuts: Several cuts at once: "all", "candidates", or names with commas.

    """

    cut: Annotated[list[str] | None, typer.Option(metavar="C")] = None
    cuts: Annotated[str | None, typer.Option(metavar="all|candidates|A,B")] = None

    @property
    def words(self) -> list[str]:
        """What was given, one word each."""
        words = [*(self.cut or ()), *(self.cuts or "").split(",")]
        return [word.strip() for word in words if word.strip()]

    def require(self) -> None:
        """Check that a cut was named.

        Raises:
            InputError: none was.

        """
        if not self.words:
            msg = "name at least one cut: --cut NAME, or --cuts all"
            raise InputError(msg)

    def planned(
        self, study: Path, budget: "BudgetChoice", *, to_train: bool = False
    ) -> "tuple[CutChoice, BudgetChoice]":
        """Return the choice with the plan's split in the place of "planned"; others are returned as they are.

        Args:
            study: The study's directory.
            budget: The budget that was given; the plan's is taken where none was.
            to_train: As for `planned_split`.

        Raises:
            StudyError, InputError: as `planned_split`; or other cuts were named beside it.

        """
        if PLANNED not in self.words:
            return self, budget
        if len(self.words) > 1:
            msg = f"--cut is {', '.join(self.words)}: {PLANNED!r} stands alone, because it brings its own budget"
            raise InputError(msg)
        cut, chosen = planned_split(study, to_train=to_train)
        if budget.read() is None:
            budget = BudgetChoice(bytes=chosen.payload_bytes, ratio=chosen.element_ratio)
        return CutChoice(cut=[cut]), budget

    def names(self, study: "Study", *, group: str | None) -> tuple[str, ...]:
        """Return the names of the cuts, in the order of computation; none where no cut was named.

        Raises:
            StudyError: the study has no such cut.

        """
        return study.cut_names(self.words, group=group)


def given_budgets(payload_bytes: Iterable[int], element_ratios: Iterable[float]) -> tuple[Budget, ...]:
    """Return the budgets that repeated --bytes and --ratio give; errors are those of `given_budget`."""
    by_bytes = [given_budget(payload_bytes=count) for count in payload_bytes]
    return (*by_bytes, *(given_budget(element_ratio=ratio) for ratio in element_ratios))


def given_budget(*, payload_bytes: int | None = None, element_ratio: float | None = None) -> Budget:
    """Return the budget that --bytes or --ratio gives.

    Raises:
        InputError: no payload can meet it; the message begins with the option.

    """
    option = f"--bytes is {payload_bytes}" if element_ratio is None else f"--ratio is {element_ratio:g}"
    try:
        budget = Budget(payload_bytes=payload_bytes, element_ratio=element_ratio)
    except InputError as error:
        msg = f"{option}: give a number above 0"
        raise InputError(msg) from error
    try:
        return read_budget(budget)
    except InputError as error:
        msg = f"{option}: {error}"
        raise InputError(msg) from error


@dataclass(frozen=True, kw_only=True)
class BudgetChoice:
    """The size of a payload, in one of two ways.

    Args:
        bytes: Mean payload of an image in bytes, header included.
        ratio: Send one in R of the tensor's elements, with 8 bits each.

    """

    bytes: Annotated[int | None, typer.Option(metavar="N")] = None
    ratio: Annotated[float | None, typer.Option(metavar="R")] = None

    def read(self) -> Budget | None:
        """Return the budget; None where none was given.

        Raises:
            InputError: both were given, or no payload can meet the budget.

        """
        if self.bytes is not None and self.ratio is not None:
            msg = "--bytes and --ratio are two kinds of budget: give one of them"
            raise InputError(msg)
        if self.bytes is None and self.ratio is None:
            return None
        return given_budget(payload_bytes=self.bytes, element_ratio=self.ratio)

    def require(self) -> Budget:
        """Return the budget.

        Raises:
            InputError: none or both were given, or no payload can meet the budget.

        """
        budget = self.read()
        if budget is None:
            msg = "give one budget: --bytes N or --ratio R"
            raise InputError(msg)
        return budget


@dataclass(frozen=True, kw_only=True)
class RayChoice:
    """Where cuts are trained at the same time.

    Args:
        ray_address: With --ray, HOST:PORT of the cluster.
        ray: Train one cut per task on Ray: at ADDRESS, else on the cluster that runs here, else on a new one.

    """

    ray_address: Annotated[str | None, typer.Argument(metavar="ADDRESS")] = None
    ray: bool = False

    def __post_init__(self) -> None:
        if self.ray_address and not self.ray:
            msg = f"got {self.ray_address!r} after the study: a Ray cluster's address needs --ray"
            raise InputError(msg)


@dataclass(frozen=True, kw_only=True)
class MovedInputs:
    """Where a study's inputs are now, and whether code that the study names may run.

    Args:
        allow_code: Run the Python code that the study names as its model or data. A study from somebody else can name
            any file, so allow this only for code that you trust.
        model: The model, named again. Naming it here allows its code.
        weights: The model's weights, if they have moved since `isplit analyze`.
        data: The data, if they have moved since `isplit analyze`. Naming it here allows its code.
        data_root: The directory of torchvision's data sets.

    """

    allow_code: bool = False
    model: Annotated[str | None, typer.Option(metavar="MODEL")] = None
    weights: Annotated[str | None, typer.Option(metavar="FILE")] = None
    data: Annotated[str | None, typer.Option(metavar="DATA")] = None
    data_root: Annotated[Path | None, typer.Option(metavar="DIR")] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The options as arguments of `open_study`, which are also fields of `FitRequest`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def open(self, study: Path) -> "Study":
        """Open a study with its model and data."""
        with needs_extra("design"):
            from isplit import api
        return api.open_study(study, **self.arguments)


CutOptions = Annotated[CutChoice, Options("Cuts and budget")]
BudgetOptions = Annotated[BudgetChoice, Options("Cuts and budget")]
ModelOptions = Annotated[ModelChoice, Options(MODEL_PANEL)]
DataOptions = Annotated[DataChoice, Options(DATA_PANEL)]
RayOptions = Annotated[RayChoice, Options("Ray")]
MovedOptions = Annotated[MovedInputs, Options("The study's inputs")]
