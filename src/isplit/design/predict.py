"""How accurate will a split be? Every cut with the closed-form bottleneck, real payloads, and no training.

moments at all cuts ─> solve ─> latents ─> rank, step and tables for each budget ─> answers on the select part
(fit part, one pass)            (fit part, other images)                           (one pass; tails of all cuts)
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import chain
from math import prod

import torch

from isplit.codec.quantise import Quantiser
from isplit.design.batches import iter_batches
from isplit.design.bottleneck.allocation import Allocation, allocate_bytes, fixed_rank, smallest_budget, useful_ranks
from isplit.design.bottleneck.build import linear_spec, save_split, split_directory
from isplit.design.bottleneck.collect import CutMoments, collect_latents, collect_moments
from isplit.design.bottleneck.linear import SHRINKAGE, LinearBottleneck, LinearMap, Solution
from isplit.design.evaluate import BuiltSplit, evaluate_splits, measure
from isplit.design.groups import GroupLogits
from isplit.design.importance import fast_bf16
from isplit.design.remote import measure_remote
from isplit.design.study import OpenStudy
from isplit.errors import InputError
from isplit.records import (
    Budget,
    CurveRecord,
    Cut,
    Measurement,
    Precision,
    Prediction,
    PredictionsRecord,
    RemoteImage,
    SplitRecord,
)

Progress = Callable[[str, int, int], None]

# Floats of latents per cut from which ranks, steps and tables are found.
_MAX_LATENTS = 2**22


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """How `predict` works.

    Args:
        statistics_images: Images of the fit part for the moments; as many others make the entropy coder's tables.
        images: Images of the select part that the accuracy is measured on; None for all.
        remote_images: Of these, how many the compressed-image baseline is measured on; 0 leaves it out.
        weighted: False for plain PCA instead of importance (S = I), for comparison.
        precision: "auto" takes bf16 where the CPU multiplies it in hardware, for the moments only.
        batch_size: Images per pass.

    """

    statistics_images: int = 1000
    images: int | None = 1000
    remote_images: int | None = 300
    weighted: bool = True
    precision: Precision | str = "auto"
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (("statistics_images", 1), ("images", 1), ("remote_images", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                msg = f"{name} is {value}; give at least {least}"
                raise InputError(msg)
        if self.precision not in ("auto", "fp32", "bf16"):
            msg = f"precision is {self.precision!r}; choose one of auto, fp32, bf16"
            raise InputError(msg)


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A closed-form split with what its record needs to know about where it came from."""

    split: BuiltSplit
    budget: Budget
    weighted: bool
    statistics_images: int
    samples_per_dimension: float

    @property
    def bottleneck(self) -> LinearBottleneck:
        """The linear bottleneck."""
        assert isinstance(self.split.bottleneck, LinearBottleneck)
        return self.split.bottleneck


def predict(
    study: OpenStudy,
    budgets: Sequence[Budget],
    *,
    cuts: tuple[str, ...] = (),
    group: str | None = None,
    settings: PredictSettings | None = None,
    progress: Progress = lambda what, done, total: None,
) -> PredictionsRecord:
    """Measure every cut's closed-form split at every budget, on the select part, and write predictions.json.

    The splits themselves are kept in the study: `fit` starts from them, and `export` takes them as they are. What was
    predicted before for other budgets, cuts or classes stays in the record.

    Args:
        study: From `open_study`.
        budgets: At least one.
        cuts: Names; none for all cuts of the curve.
        group: A class subset of the study; None for all classes.
        settings: How much and how.
        progress: Called as work goes on.

    Raises:
        InputError: a budget below the smallest payload, an unknown cut or subset.

    """
    settings = settings or PredictSettings()
    check_budgets(budgets)
    started = time.perf_counter()
    chosen, classes = study.cuts(cuts), study.group(group)
    closed = closed_forms(study, budgets, chosen, classes, settings, progress=progress)
    images = study.images("select", classes, limit=settings.images)
    found = evaluate_splits(
        study,
        [one.split for one in closed],
        group=classes,
        images=images,
        progress=lambda done, total: progress("accuracy of the splits", done, total),
    )
    predictions: list[Prediction] = []
    for number, one in enumerate(closed):
        measurement = measure(study, one.split, found, number, group=classes, part="select")
        save_closed_form(study, one, classes, measurement)
        predictions.append(_prediction(study, one, classes, measurement))
    remote = _remote(study, classes, settings, progress)
    record = _merged(study, predictions, remote, settings, len(images), time.perf_counter() - started)
    record.save(study.directory)
    return record


def check_budgets(budgets: Sequence[Budget]) -> None:
    """Refuse budgets that no payload can meet.

    Raises:
        InputError: none, one that is too small, or one that is neither bytes nor a ratio.

    """
    if not budgets:
        msg = "give at least one budget: --bytes N or --ratio N"
        raise InputError(msg)
    for budget in budgets:
        if (budget.payload_bytes is None) == (budget.element_ratio is None):
            msg = "a budget is either bytes or an element ratio: give one of the two"
            raise InputError(msg)
        if budget.payload_bytes is not None and budget.payload_bytes < smallest_budget():
            msg = (
                f"a budget of {budget.payload_bytes} bytes is below the smallest payload, {smallest_budget()} bytes "
                "with its header: give more"
            )
            raise InputError(msg)
        if budget.element_ratio is not None and not 1 <= budget.element_ratio < float("inf"):
            msg = f"an element ratio of {budget.element_ratio:g} sends more than everything: give 1 or more"
            raise InputError(msg)


def closed_forms(
    study: OpenStudy,
    budgets: Sequence[Budget],
    cuts: Sequence[Cut],
    group: GroupLogits,
    settings: PredictSettings,
    *,
    progress: Progress = lambda what, done, total: None,
) -> list[ClosedForm]:
    """Build the closed-form split of every cut for every budget: cuts in their order, and budgets in theirs."""
    every = study.images("fit", group, limit=None)
    first, others = every[: settings.statistics_images], every[settings.statistics_images :]
    others = (others if len(others) >= min(len(first), 200) else every)[: settings.statistics_images]
    labels = torch.from_numpy(group.label_map)
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and fast_bf16())
    moments = collect_moments(
        study.graph,
        cuts,
        iter_batches(study.data, first, study.model.preprocessing, batch_size=settings.batch_size),
        images=len(first),
        objective=lambda logits, raw: group.decision(logits, labels[raw], "correct"),
        precision="bf16" if bf16 else "fp32",
        progress=lambda done: progress("statistics", done, len(first)),
    )
    solutions: dict[str, list[Solution]] = {}
    candidates: dict[str, list[LinearMap]] = {}
    for number, cut in enumerate(cuts):
        solutions[cut.name] = moments[cut.name].solve(weighted=settings.weighted)
        candidates[cut.name] = _candidates(solutions[cut.name], cut, budgets)
        progress("closed forms", number + 1, len(cuts))
    batches = iter_batches(study.data, others, study.model.preprocessing, batch_size=settings.batch_size)
    latents = collect_latents(study.graph, candidates, moments, batches, max_values=_MAX_LATENTS)
    built: list[ClosedForm] = []
    for number, cut in enumerate(cuts):
        of_cut = moments[cut.name]
        samples = of_cut.samples_per_dimension
        for budget in budgets:
            split = _build(study, cut, of_cut, solutions[cut.name], latents[cut.name], budget)
            built.append(ClosedForm(split, budget, settings.weighted, len(first), samples))
        progress("rank and step", number + 1, len(cuts))
    return built


def _candidates(solutions: Sequence[Solution], cut: Cut, budgets: Sequence[Budget]) -> list[LinearMap]:
    """Return maps of as many latents as the largest budget could possibly use."""
    ranks = [0] * len(solutions)
    for budget in budgets:
        wanted = _ranks_of_ratio(solutions, cut, budget) if budget.element_ratio else useful_ranks(solutions, budget)
        ranks = [max(pair) for pair in zip(ranks, wanted, strict=True)]
    return [solution.keep(rank) for solution, rank in zip(solutions, ranks, strict=True)]


def _ranks_of_ratio(solutions: Sequence[Solution], cut: Cut, budget: Budget) -> list[int]:
    """Share the elements that a ratio allows out among the maps, the most important latents first; at least one."""
    assert budget.element_ratio is not None
    elements = prod(cut.shape) / budget.element_ratio
    offers = sorted(
        (
            (-float(value), number)
            for number, solution in enumerate(solutions)
            for value in solution.eigenvalues.tolist()
            if value > 0
        ),
    )
    ranks, used = [0] * len(solutions), 0
    for _, number in offers:
        vectors = solutions[number].layout.vectors
        if used and used + vectors > elements * (1 + 1e-9):
            break
        ranks[number] += 1
        used += vectors
    return ranks if any(ranks) else [1] * len(solutions)


def _build(
    study: OpenStudy,
    cut: Cut,
    moments: CutMoments,
    solutions: Sequence[Solution],
    latents: Sequence[torch.Tensor],
    budget: Budget,
) -> BuiltSplit:
    """Choose rank and step, and make the tables from the latents' own histograms."""
    if budget.element_ratio:
        allocation = fixed_rank(latents, _ranks_of_ratio(solutions, cut, budget))
        return _with_tables(study, cut, moments, solutions, latents, allocation)
    assert budget.payload_bytes is not None
    wanted = float(budget.payload_bytes)
    # The estimate from the histogram is within a byte or two; real payloads decide.
    while True:
        allocation = allocate_bytes(latents, wanted)
        built = _with_tables(study, cut, moments, solutions, latents, allocation)
        real = float(built.codec.payload_bytes(_symbols(built, latents, allocation)[:200].numpy()).mean())
        if real <= budget.payload_bytes or wanted <= smallest_budget():
            return built
        wanted = max(float(smallest_budget()), wanted - (real - budget.payload_bytes) - 0.25)


def _with_tables(
    study: OpenStudy,
    cut: Cut,
    moments: CutMoments,
    solutions: Sequence[Solution],
    latents: Sequence[torch.Tensor],
    allocation: Allocation,
) -> BuiltSplit:
    maps = [solution.keep(places) for solution, places in zip(solutions, allocation.kept, strict=True)]
    bottleneck = LinearBottleneck(maps, prefix=moments.prefix)
    bottleneck.quantiser = Quantiser.common(allocation.step, levels=allocation.levels)
    bottleneck.requires_grad_(False).eval()
    images = len(latents[0])
    symbols = bottleneck.symbols(bottleneck.join_latents(_kept(latents, allocation)))
    codec = bottleneck.codec(
        model=study.model.source.fingerprint, cut=cut.name, counts=bottleneck.count_symbols(symbols), images=images
    )
    return BuiltSplit(cut, bottleneck, codec)


def _kept(latents: Sequence[torch.Tensor], allocation: Allocation) -> list[torch.Tensor]:
    return [part[:, places] for part, places in zip(latents, allocation.kept, strict=True)]


def _symbols(built: BuiltSplit, latents: Sequence[torch.Tensor], allocation: Allocation) -> torch.Tensor:
    bottleneck = built.bottleneck
    assert isinstance(bottleneck, LinearBottleneck)
    return bottleneck.symbols(bottleneck.join_latents(_kept(latents, allocation)))


def save_closed_form(study: OpenStudy, one: ClosedForm, group: GroupLogits, measurement: Measurement) -> None:
    """Write a closed-form split into its directory of the study."""
    spec = linear_spec(one.bottleneck, weighted=one.weighted)
    name = group.group.name
    directory = split_directory(
        study.directory, cut=one.split.cut.name, group=name, design=spec.design, budget=one.budget, trained=False
    )
    record = SplitRecord(
        isplit_version=metadata.version("isplit"),
        versions=study.versions,
        model=study.model.source.fingerprint,
        cut=one.split.cut.name,
        group=name,
        budget=one.budget,
        bottleneck=spec,
        statistics_images=one.statistics_images,
        samples_per_dimension=one.samples_per_dimension,
        shrinkage=SHRINKAGE,
        training=None,
        seed=study.record.seed,
        measurement=measurement,
    )
    save_split(directory, record, one.bottleneck, one.split.codec)


def _prediction(study: OpenStudy, one: ClosedForm, group: GroupLogits, measurement: Measurement) -> Prediction:
    cut = one.split.cut
    return Prediction(
        cut=cut.name,
        group=group.group.name,
        budget=one.budget,
        design="linear" if one.weighted else "pca",
        cui=_importance(study, group.group.name).get(cut.name),
        bytes=cut.bytes,
        measurement=measurement,
    )


def _importance(study: OpenStudy, group: str) -> dict[str, float | None]:
    """Return the curve of a group's classes: cut to importance; empty where it was not drawn."""
    curve = CurveRecord.load(study.directory)
    for subset in curve.subsets:
        if subset.name == group:
            return {point.cut: point.cui for point in subset.points}
    return {point.cut: point.cui for point in curve.points} if group == study.record.groups[0].name else {}


def _remote(
    study: OpenStudy, group: GroupLogits, settings: PredictSettings, progress: Progress
) -> tuple[RemoteImage, ...]:
    """Measure the compressed image, unless it was measured on as many images before."""
    if settings.remote_images == 0:
        return ()
    images = study.images("select", group, limit=settings.remote_images)
    known = _known(study)
    before = tuple(one for one in known.remote if one.group == group.group.name) if known else ()
    if before and before[0].payload_bytes.images >= len(images):
        return before
    return tuple(
        measure_remote(
            study,
            group=group,
            images=images,
            part="select",
            progress=lambda done, total: progress("compressed images", done, total),
        )
    )


def _known(study: OpenStudy) -> PredictionsRecord | None:
    if not (study.directory / PredictionsRecord.file_name).exists():
        return None
    return PredictionsRecord.load(study.directory)


def _merged(
    study: OpenStudy,
    predictions: Sequence[Prediction],
    remote: Sequence[RemoteImage],
    settings: PredictSettings,
    images: int,
    seconds: float,
) -> PredictionsRecord:
    """Put new rows in the place of old ones for the same split, and keep the others."""

    def key(one: Prediction) -> tuple[object, ...]:
        return one.group, one.cut, one.budget.tag, one.design

    known = _known(study)
    rows = {key(one): one for one in chain(known.predictions if known else (), predictions)}
    depth = {cut.name: cut.depth for cut in study.graph_record.cuts}
    groups = {one.group for one in remote}
    kept = [one for one in known.remote if one.group not in groups] if known else []
    return PredictionsRecord(
        calibration=None,
        statistics_images=settings.statistics_images,
        images=images,
        seconds=seconds,
        predictions=tuple(sorted(rows.values(), key=lambda one: (one.group, depth[one.cut], one.budget.tag))),
        remote=(*kept, *remote),
    )
