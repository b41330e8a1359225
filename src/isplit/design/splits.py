"""Splits on disk: where the files of a split are, how they are saved and loaded, and which one of a cut is meant."""

from copy import deepcopy
from dataclasses import dataclass
from math import prod
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import load, save
from torch import nn

from isplit.codec.codec import Codec
from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.coding import LatentQuantiser
from isplit.design.bottleneck.spec import build_bottleneck, read_design
from isplit.design.class_subsets import ALL
from isplit.design.graph import split
from isplit.design.settings import SplitFilter
from isplit.design.study import Study, StudyView
from isplit.errors import InputError, StudyError
from isplit.records import Budget, Cut, SplitRecord
from isplit.records.arrays import pack_arrays, unpack_arrays
from isplit.records.split_files import (
    LARGEST_CODEC_BYTES,
    SPLITS,
    read_split_files,
    split_records,
    write_split_files,
)


@dataclass(frozen=True, eq=False)
class BuiltSplit:
    """A bottleneck at a cut with its quantiser and codec, and a head or tail of its own where that was trained."""

    cut: Cut
    bottleneck: Bottleneck
    codec: Codec
    tail: nn.Module | None = None
    head: nn.Module | None = None

    @property
    def quantiser(self) -> LatentQuantiser:
        """The codec's quantiser, for latents in torch."""
        return LatentQuantiser(self.codec.quantiser, self.codec.channel_axis)

    def symbols(self, crossing: torch.Tensor) -> torch.Tensor:
        """Map what crosses to the symbols N×latent_shape that the device sends."""
        return self.quantiser.symbols(self.bottleneck.encode(crossing))

    def decode(self, symbols: torch.Tensor) -> torch.Tensor:
        """Map symbols back to what crosses; `ModelGraph.lay_out` gives it the memory layout of the model's own."""
        return self.bottleneck.decode(self.quantiser.values(symbols))


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenSplit:
    """A split as it will be exported; head and tail are the model's own where they were not trained."""

    record: SplitRecord
    built: BuiltSplit
    head: nn.Module
    tail: nn.Module


def split_directory(study: Path, *, cut: str, group: str, design: str, budget: Budget, trained: bool) -> Path:
    """Return the folder of a split's files; two different splits never share one, whatever their classes are called."""
    name = f"{group}/{cut}"
    safe = "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in name)
    if group != ALL:
        safe += f"-{crc32(name.encode()):08x}"  # without it "a b" and "a_b" would share a folder
    state = "trained" if trained else "closed-form"
    return study / SPLITS / f"{safe}@{budget.tag}-{design}-{state}"


def save_split(directory: Path, record: SplitRecord, built: BuiltSplit) -> SplitRecord:
    """Write a split (its bottleneck, its codec, and the sides that were trained) and return its record.

    The record then names the files. Whenever this is stopped, the folder holds the old split or the new one, whole.

    Raises:
        StudyError: a file cannot be written.

    """
    modules = {"bottleneck": built.bottleneck, "model.tail": built.tail, "model.head": built.head}
    tensors = {
        f"{prefix}.{name}": value.contiguous()
        for prefix, module in modules.items()
        if module is not None
        for name, value in module.state_dict().items()
    }
    return write_split_files(directory, record, weights=save(tensors), codec=pack_arrays(built.codec.to_arrays()))


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedSplit:
    """What `save_split` wrote: the record, the bottleneck, the codec, and the model's trained tensors by name."""

    record: SplitRecord
    bottleneck: Bottleneck
    codec: Codec
    tensors: dict[str, torch.Tensor]

    def at(self, cut: Cut) -> BuiltSplit:
        """Return the split at its cut, with the model's own head and tail."""
        return BuiltSplit(cut, self.bottleneck, self.codec)


def read_split(directory: Path, *, design: str | type[Bottleneck] | None = None) -> SavedSplit:
    """Read what `save_split` wrote.

    Args:
        directory: The split's folder.
        design: The user's own design, which a split of one needs: a record alone never has code run.

    Raises:
        StudyError: a file is missing or damaged, or the split is of a design of the user's own that is not given.

    """
    files = read_split_files(directory)
    record, again = files.record, SplitRecord.remedy.format(directory=directory)
    try:
        tensors = load(files.weights)
        codec = Codec.from_arrays(unpack_arrays(files.codec, directory / "codec", limit_bytes=LARGEST_CODEC_BYTES))
        weights = _below("bottleneck.", tensors)
        if record.bottleneck.source is None:
            _check_shapes(directory, record, weights)
        bottleneck = _rebuilt(directory, record, design)
        bottleneck.load_state_dict(weights)
    except StudyError:
        raise
    except Exception as error:  # safetensors and torch raise errors of every kind
        msg = f"the split {directory} is damaged ({type(error).__name__}: {error}); {again}"
        raise StudyError(msg) from error
    if prod(bottleneck.latent_shape) != prod(codec.shape):
        msg = f"the split {directory} is damaged (weights and codec do not fit); {again}"
        raise StudyError(msg)
    bottleneck.eval()
    return SavedSplit(record=record, bottleneck=bottleneck, codec=codec, tensors=_below("model.", tensors))


def _check_shapes(directory: Path, record: SplitRecord, weights: dict[str, torch.Tensor]) -> None:
    """Compare a recorded bottleneck with its weights before memory is allocated for it.

    Raises:
        StudyError: names or shapes differ.

    """
    with torch.device("meta"):
        described = _rebuilt(directory, record, None).state_dict()
    shapes, recorded = ({name: value.shape for name, value in state.items()} for state in (weights, described))
    if shapes != recorded:
        name = next(name for name in {**shapes, **recorded} if shapes.get(name) != recorded.get(name))
        again = SplitRecord.remedy.format(directory=directory)
        msg = f"the split {directory} is damaged (split.json describes other weights: {name} differs); {again}"
        raise StudyError(msg)


def _rebuilt(directory: Path, record: SplitRecord, design: str | type[Bottleneck] | None) -> Bottleneck:
    try:
        return build_bottleneck(record.bottleneck, record.budget, design=design)
    except InputError as error:
        msg = f"the split {directory} cannot be rebuilt: {error}"
        raise StudyError(msg) from error


def load_split(study: Study, directory: Path, *, design: str | type[Bottleneck] | None = None) -> BuiltSplit:
    """Rebuild the split that `fit` or `predict` saved: the same weights in the same memory layout.

    Sides that were not trained are None: they are the model's own.

    Args:
        study: The study that the split belongs to.
        directory: The split's folder.
        design: The user's own design, which a split of one needs.

    Raises:
        StudyError: files are missing or damaged, or the split was made from another model or is of a design of the
            user's own that is not given.

    """
    saved = read_split(directory, design=design)
    record, bottleneck = saved.record, saved.bottleneck
    if record.model != study.model.source.fingerprint:
        msg = f"the split {directory} was made from another model than the study's: make it again"
        raise StudyError(msg)
    (cut,) = study.cuts((record.cut,))
    sides = split(study.graph, cut.name)
    bottleneck.requires_grad_(False)
    return BuiltSplit(
        cut,
        bottleneck,
        saved.codec,
        tail=_trained_side(sides.tail, _below("tail.", saved.tensors), directory),
        head=_trained_side(sides.head, _below("head.", saved.tensors), directory),
    )


def choose_split(view: StudyView, cut: str, *, split_filter: SplitFilter) -> ChosenSplit:
    """Load the one split of a cut that the filter selects: a trained one if there is one, else the closed form.

    Raises:
        StudyError: the study has none, or several and nothing says which; or it is of another model.

    """
    study = view.study
    study.cuts((cut,))  # refuses an unknown cut in words of its own
    directory, record = _find(view, cut, split_filter)
    own_design = split_filter.design if record.bottleneck.source is not None else None
    built, sides = load_split(study, directory, design=own_design), split(study.graph, cut)
    return ChosenSplit(record=record, built=built, head=built.head or sides.head, tail=built.tail or sides.tail)


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _trained_side(module: nn.Module, tensors: dict[str, torch.Tensor], directory: Path) -> nn.Module | None:
    if not tensors:
        return None
    copied = deepcopy(module)
    try:
        copied.load_state_dict(tensors)
    except RuntimeError as error:
        msg = f"the split {directory} is damaged ({error}); {SplitRecord.remedy.format(directory=directory)}"
        raise StudyError(msg) from error
    return copied.eval().requires_grad_(False)


def _find(view: StudyView, cut: str, split_filter: SplitFilter) -> tuple[Path, SplitRecord]:
    records = split_records(view.directory).items()
    of_cut = [pair for pair in records if pair[1].cut == cut and pair[1].group == view.name]
    fitting = [pair for pair in of_cut if _fits(pair[1], split_filter)]
    trained = [pair for pair in fitting if pair[1].training is not None]
    selected = fitting if split_filter.closed_form else trained or fitting
    if len(selected) == 1:
        return selected[0]
    if selected:
        names = ", ".join(f"{_describe(record)}" for _, record in selected)
        msg = f"{cut} has several splits: {names}; say which by its budget, its design, or `closed_form=True`"
    elif of_cut:
        names = ", ".join(_describe(record) for _, record in of_cut)
        msg = f"{cut} has no split {_describe_filter(split_filter)}; it has: {names}"
    else:
        budget = _option(split_filter.budget) if split_filter.budget else "--bytes N"
        subset = "" if view.is_default else f" --group {view.name!r}"
        msg = (
            f"{view.directory} has no split at {cut} for {view.name}: run `isplit predict {view.directory} --cut {cut} "
            f"{budget}{subset}` for the closed form, or `isplit fit` with the same options to train one"
        )
    raise StudyError(msg)


def _fits(record: SplitRecord, split_filter: SplitFilter) -> bool:
    return (
        (split_filter.budget is None or record.budget == split_filter.budget)
        and (split_filter.design is None or record.bottleneck.design == _design_name(split_filter.design))
        and not (split_filter.closed_form and record.training is not None)
    )


def _design_name(design: str | type) -> str:
    """Return the name that a design has in records; the code of a design of the user's own is run for it."""
    return "pca" if design == "pca" else read_design(design).name


def _describe(record: SplitRecord) -> str:
    state = "closed form" if record.training is None else "trained"
    return f"{_words(record.budget)}, {record.bottleneck.design}, {state}"


def _describe_filter(split_filter: SplitFilter) -> str:
    parts = [
        f"a budget of {_words(split_filter.budget)}" if split_filter.budget else "",
        f"the design {_design_name(split_filter.design)}" if split_filter.design else "",
        "a closed form" if split_filter.closed_form else "",
    ]
    return "with " + " and ".join(part for part in parts if part)


def _words(budget: Budget) -> str:
    """Return a budget in words."""
    if budget.payload_bytes is not None:
        return f"{budget.payload_bytes} bytes"
    return f"one in {budget.element_ratio:g} elements"


def _option(budget: Budget) -> str:
    if budget.payload_bytes is not None:
        return f"--bytes {budget.payload_bytes}"
    return f"--ratio {budget.element_ratio:g}"
