"""A study: a directory of records for one model and data set, with the model and the data that it is about."""

import platform
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isplit.design.class_subsets import ClassSubset
from isplit.design.graph import ModelGraph
from isplit.design.inputs.data import Dataset, balanced_order, open_data
from isplit.design.inputs.models import LoadedModel
from isplit.design.recorded_inputs import load_recorded_model, recorded_spec
from isplit.design.study_directory import StudyInputs, refuse_mixed_records, remove_leftovers
from isplit.design.study_lock import study_lock
from isplit.errors import InputError, StudyError
from isplit.records import (
    Candidate,
    CandidatesRecord,
    ClassGroup,
    CurveRecord,
    Cut,
    GraphRecord,
    PartName,
    PredictionsRecord,
    Preprocessing,
    StudyRecord,
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Study:
    """A study, opened: its records, and the model and data set that they were made from.

    `analyze` and `open_study` return it, and every verb takes it.

    Attributes:
        directory: The folder of the records.
        record: study.json, what was analysed.
        graph_record: graph.json, every cut with its figures.
        graph: The captured model.
        model: The model with its preprocessing and where it came from.
        data: The data set with its parts fit, select and test.

    """

    directory: Path
    record: StudyRecord
    graph_record: GraphRecord
    graph: ModelGraph
    model: LoadedModel
    data: Dataset

    @property
    def curve(self) -> CurveRecord:
        """The importance curve, read from curve.json."""
        return CurveRecord.load(self.directory)

    @property
    def ranking(self) -> CandidatesRecord:
        """The rankings for all classes and for each subset, read from candidates.json."""
        return CandidatesRecord.load(self.directory)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The cuts worth trying, first choice first."""
        return self.ranking.candidates

    @property
    def predictions(self) -> PredictionsRecord | None:
        """The predictions made so far, read from predictions.json; None before `predict` has run."""
        if not (self.directory / PredictionsRecord.file_name).exists():
            return None
        return PredictionsRecord.load(self.directory)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the libraries that compute here and now."""
        return library_versions()

    def view(self, group: str | None = None) -> "StudyView":
        """Return the study as seen by one set of its classes: all of them, or the subset of that name.

        Raises:
            StudyError: the study has no such subset.

        """
        for known in self.record.groups:
            if group in (None, known.name):
                return StudyView(self, ClassSubset(known, self.data.classes, self.record.data.class_outputs))
        names = ", ".join(known.name for known in self.record.groups)
        msg = f"{self.directory} has no class subset {group!r}; it has: {names} (`isplit analyze --classes` makes more)"
        raise StudyError(msg)

    def cuts(self, names: Iterable[str] = ()) -> tuple[Cut, ...]:
        """Return the cuts of those names, or all cuts of the curve: default cuts with a spatial or token axis.

        Raises:
            StudyError: a name is not a cut with one crossing tensor.

        """
        names = tuple(names)
        known = {cut.name: cut for cut in self.graph_record.cuts if cut.channel_axis is not None}
        missing = [name for name in names if name not in known]
        if missing:
            msg = f"{self.directory} has no cut {missing[0]!r} with one crossing tensor; it has: {', '.join(known)}"
            raise StudyError(msg)
        if names:
            return tuple(known[name] for name in dict.fromkeys(names))
        return tuple(cut for cut in self.graph_record.curve_cuts if cut.name in known)

    def cut_names(self, words: Iterable[str], *, group: str | None = None) -> tuple[str, ...]:
        """Return the names of cuts, in the order of computation.

        Args:
            words: Names of cuts; "all" stands for those of the curve, "candidates" for those that `analyze` ranked.
                Empty words are left out.
            group: The class subset whose candidates are meant; None for the study's own classes.

        Raises:
            StudyError: an unknown name.
            InputError: no candidate can be split with one crossing tensor.

        """
        names: list[str] = []
        for word in (word.strip() for word in words):
            if word == "all":
                names.extend(cut.name for cut in self.cuts())
            elif word == "candidates":
                names.extend(self._candidate_names(group))
            elif word:
                names.append(word)
        return tuple(cut.name for cut in sorted(self.cuts(names), key=lambda cut: cut.depth)) if names else ()

    def _candidate_names(self, group: str | None) -> list[str]:
        ranking = self.ranking
        of_subset = {subset.name: subset.candidates for subset in ranking.subsets}
        known = {cut.name for cut in self.graph_record.cuts if cut.channel_axis is not None}
        candidates = of_subset.get(group or "", ranking.candidates)
        names = [candidate.cut for candidate in candidates if candidate.cut in known]
        if not names:
            msg = f"{self.directory} has no candidates with one crossing tensor: name cuts, or choose 'all'"
            raise InputError(msg)
        return names

    def _repr_html_(self) -> str:
        """Return the ranked candidates and the curve as HTML, which a notebook shows in place of the `repr`."""
        # Templates and figures are for notebooks; a study is opened much more often than shown.
        from isplit.report.fragments import study_html

        return study_html(self.record, self.graph_record, self.curve, self.ranking)

    def __repr__(self) -> str:
        source, base = self.record.model.spec, self.record.base_accuracy
        return (
            f"Study({str(self.directory)!r}: {source} on {self.record.data.spec}, {len(self.cuts())} cuts, "
            f"accuracy {base.accuracy:.1%} of {base.images} test images)"
        )


@dataclass(frozen=True, eq=False)
class StudyView:
    """A study as seen by one set of its classes: its images, its labels, and its part of the model's logits."""

    study: Study
    classes: ClassSubset

    @property
    def directory(self) -> Path:
        """The study's folder."""
        return self.study.directory

    @property
    def group(self) -> ClassGroup:
        """The set of classes as the study records it."""
        return self.classes.group

    @property
    def name(self) -> str:
        """The name of the set of classes."""
        return self.classes.group.name

    @property
    def graph(self) -> ModelGraph:
        """The captured model."""
        return self.study.graph

    @property
    def data(self) -> Dataset:
        """The data set, all classes of it."""
        return self.study.data

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the model's input."""
        return self.study.model.preprocessing

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model's weights."""
        return self.study.model.source.fingerprint

    @property
    def is_default(self) -> bool:
        """Whether these are the study's own classes rather than a further subset."""
        return self.group == self.study.record.groups[0]

    def images(self, part: PartName, *, limit: int | None = None) -> NDArray[np.int64]:
        """Return the indices of a part's images of these classes, class-balanced, so that every prefix is balanced."""
        return class_images(self.data, part, self.classes, seed=self.study.record.seed)[:limit]

    def labels(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class numbers (N), counted within these classes, of the images at these indices."""
        return self.classes.label_map[self.data.labels[images]]


def class_images(data: Dataset, part: PartName, classes: ClassSubset, *, seed: int) -> NDArray[np.int64]:
    """Return the indices of a part's images of some classes, in a seeded order whose every prefix is class-balanced."""
    members = data.parts[part]
    members = members[classes.label_map[data.labels[members]] >= 0]
    return balanced_order(data.labels, members, seed=seed)


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that figures depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        # torchvision takes seconds to import, and its version is read without.
        "torchvision": version("torchvision"),
        "numpy": np.__version__,
    }


def open_study(
    study: Study | str | Path,
    *,
    model: nn.Module | str | None = None,
    weights: str | None = None,
    data: str | None = None,
    data_root: str | Path | None = None,
    allow_code: bool = False,
) -> Study:
    """Load a study's model and data, and check that both are still what the study was made from.

    Args:
        study: The directory that `analyze` wrote; a `Study` is returned as it is.
        model: The model itself, or where it is now; needed where the study was made from a module in memory.
        weights: Where the weights are now, if they have moved.
        data: Where the data are now, if they have moved.
        data_root: Where torchvision's data sets are.
        allow_code: Whether Python code that the study names as its model or data may run. A study can come from anyone,
            so naming code in its records is not enough; naming it here again, as `model` or `data`, is.

    Raises:
        StudyError: the directory holds no study, the model or the data have changed since, or the study names code
            that was not allowed.
        InputError: the model or the data cannot be loaded.

    Examples:
        >>> study = isplit.open_study("study", allow_code=True)
        >>> study.cut_names(["all"])
        ('relu1', 'pool1', 'relu2', 'pool2', 'relu3')

    """
    if isinstance(study, Study):
        return study
    directory = Path(study)
    record, graph_record = StudyRecord.load(directory), GraphRecord.load(directory)
    model = model if model is not None else recorded_spec(directory, record.model.spec, "model", allow_code)
    data = data or recorded_spec(directory, record.data.spec, "data", allow_code)
    loaded = load_recorded_model(record, model, weights, directory)
    root = None if data_root is None else Path(data_root)
    dataset = open_data(data, split=record.data.split, seed=record.seed, data_root=root)
    axes = {cut.name: cut.channel_axis for cut in graph_record.cuts if cut.channel_axis is not None}
    graph = loaded.graph(channel_axes=axes)
    inputs = StudyInputs(loaded, dataset, tuple(record.data.class_outputs), record.groups, record.seed, graph.sha256)
    if changed := inputs.first_difference(record):
        msg = f"{directory}: {changed} changed since `isplit analyze`; run it again into another directory"
        raise StudyError(msg)
    return Study(directory=directory, record=record, graph_record=graph_record, graph=graph, model=loaded, data=dataset)


@contextmanager
def open_to_write(study: Study | str | Path) -> Generator[Study]:
    """Open a study and hold its lock for the length of a block; other processes may read it meanwhile.

    Args:
        study: The directory that `analyze` wrote, or a study that is open already.

    Raises:
        StudyError: another process writes into the study, and the message says which; the study was analysed again
            with other input since it was opened; or what `open_study` refuses.

    """
    directory = study.directory if isinstance(study, Study) else Path(study)
    StudyRecord.load(directory)  # a folder that holds no study gets no lock either
    with study_lock(directory):
        opened = open_study(study)
        record = StudyRecord.load(directory)
        identity = {"model", "data", "preprocessing", "graph_sha256", "seed"}
        now, then = (known.model_dump(mode="json", include=identity) for known in (record, opened.record))
        if now != then:
            msg = f"{directory} was analysed again with other input since it was opened: open it again"
            raise StudyError(msg)
        refuse_mixed_records(directory, record.model.fingerprint)
        with suppress(OSError):  # they do no harm
            remove_leftovers(directory)
        yield opened
