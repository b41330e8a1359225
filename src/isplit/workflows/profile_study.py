"""Measure this machine with a study's model: the time up to every cut, without running every head.

whole model, operator by operator ─> time of each segment between two cuts ┐
a few whole heads ─> what a head costs beside its segments ────────────────┴─> time of every head
"""

import itertools
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isplit.codec.bands import Picture
from isplit.codec.image import preprocess
from isplit.errors import needs_extra
from isplit.plan.compute import ModelShape, machine_times
from isplit.plan.devices import this_machine
from isplit.progress import Progress, silent
from isplit.records import (
    ModelPartTime,
    ProfileRecord,
    SegmentCorrection,
    compared_compressions,
)
from isplit.runtime.profile.machine import describe_machine, runtime_versions
from isplit.runtime.profile.measure import PartTimes, execution_of, image_time, time_parts
from isplit.runtime.profile.parts import ModelFile, PartKey, picture_parts
from isplit.runtime.profile.pictures import load_pictures
from isplit.runtime.profile.rounds import summarise
from isplit.runtime.profile.settings import ProfileSettings
from isplit.runtime.profile.trace import TracedModel, sum_by_segment
from isplit.runtime.session import Session

if TYPE_CHECKING:
    from isplit.design.profile_parts import ProfileParts
    from isplit.design.study import Study

HEADS_RUN = 4
"""The number of whole heads that are run: three are fitted, and one checks the fit. With more of them, the times of
other heads were no more accurate (measured with MobileNetV2, ResNet-18 and ResNet-50).
"""

FEWEST_CUTS = 16
"""Below this number of cuts, every head is run, because the shortcut would take more time than it saves."""

TRACED_EVERY = 3
"""The whole model is traced in each warm-up run and then in every third round. With a trace in every round the times of
other heads were as accurate, and took as long as another head (MobileNetV2 and ResNet-50, November 2026).
"""

_LONGEST_FITTED = 0.6
"""The longest head that is run takes about this share of the time of the last head, since the whole model is fitted
too.
"""

Values = NDArray[np.float64]


def profile_study(
    study: "Study",
    *,
    name: str,
    title: str | None = None,
    pictures: Sequence[str | Path] = (),
    settings: ProfileSettings | None = None,
    progress: Progress = silent,
    every_head: bool = False,
) -> ProfileRecord:
    """Measure this machine with a study's model, at all cuts of its curve.

    The profiler of onnxruntime times the operators of the whole model, and their times are added up between cuts. A few
    whole heads run in turn with the model: a correction is fitted to some of them, and the others check it.

    Args:
        study: The study. Its model is exported, which needs torch.
        name: The profile's name.
        title: The machine's name for people. None takes the name of its processor.
        pictures: Image files or folders to measure with. Without any, images are drawn.
        settings: The settings of the measurement. Memory and energy are measured only with bundles.
        progress: Called as work goes on.
        every_head: Whether to run every head, as is always done where operators cannot be timed (on an accelerator).

    Raises:
        ModelError, EngineError, InputError, DataError: the model cannot be exported or fails, or a picture is unusable.

    """
    settings = settings or ProfileSettings()
    begun_s = time.perf_counter()
    shape = ModelShape.from_graph(study.graph_record)
    cuts = [cut.name for cut in sorted(study.cuts(), key=lambda cut: cut.depth)]
    fitted, checked = choose_heads(shape, cuts)
    every_head = every_head or settings.provider != "cpu" or len(cuts) < FEWEST_CUTS
    heads = cuts if every_head else [cut for cut in cuts if cut in (*fitted, *checked)]
    loaded, described = load_pictures(pictures, study.model.preprocessing)
    progress("export", 0, 1)
    with TemporaryDirectory(prefix="isplit-profile-") as scratch:
        timed, segments_ms, provider = _measure(
            study, Path(scratch), (cuts, heads), loaded, settings=settings, trace=not every_head, progress=progress
        )
    machine, correction = describe_machine(), None
    if segments_ms is not None:
        correction = fit_correction(shape, cuts, timed, segments_ms, fitted=fitted, checked=checked)
    return ProfileRecord(
        isplit_version=version("isplit"),
        versions=runtime_versions(),
        name=name,
        title=title or machine.processor,
        source="measured",
        machine=machine,
        execution=execution_of(
            timed, settings, provider=provider, pictures=described, seconds=time.perf_counter() - begun_s
        ),
        model=study.record.model.spec,
        model_fingerprint=study.record.model.fingerprint,
        correction=correction,
        not_measured={"entropy coding, requests, memory and energy": "they are measured of a bundle"},
        **_figures(timed, cuts, heads, segments_ms),
    )


def choose_heads(shape: ModelShape, cuts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choose the heads to which a correction is fitted, and those that check it.

    Heads are spread evenly over the logarithm of their estimated time, because relative errors count. They end before
    the last one, since long heads cost the most and the whole model, which is fitted as well, says as much. The
    correction is also fitted to the head whose output is largest for its time, because it tells the cost of writing a
    tensor. A head from the middle of the others checks the fit, if there are others.

    Args:
        shape: The model.
        cuts: The cuts, in the order of computation.

    """
    times = machine_times(this_machine(), shape, model_fingerprint=None)
    places = [shape.index(cut) for cut in cuts]
    estimated_ms = np.maximum(times.prefix_ms[places], 1e-9)
    largest_output = int(np.argmax(shape.tensor_bytes[places] / estimated_ms))
    chosen = [largest_output]
    aims = np.geomspace(estimated_ms[0], max(_LONGEST_FITTED * estimated_ms[-1], estimated_ms[0]), HEADS_RUN - 1)
    for aim in aims:
        left = [number for number in range(len(cuts)) if number not in chosen]
        if left:
            chosen.append(min(left, key=lambda number, aim=aim: abs(float(np.log(estimated_ms[number] / aim)))))
    spread = sorted(chosen[1:])
    middle = len(spread) // 2
    checked = spread[middle : middle + 1]  # a single cut leaves none
    return (
        tuple(cuts[number] for number in sorted(chosen) if number not in checked),
        tuple(cuts[number] for number in checked),
    )


def _measure(
    study: "Study",
    scratch: Path,
    cuts_and_heads: tuple[Sequence[str], Sequence[str]],
    pictures: Sequence[Picture],
    *,
    settings: ProfileSettings,
    trace: bool,
    progress: Progress,
) -> tuple[PartTimes, Values | None, str]:
    """Export the model, and time it, its heads, preprocessing and image compression in turn.

    Returns:
        The times; the milliseconds of each segment in each traced run (None without `trace`); and the provider.

    """
    with needs_extra("design"):
        from isplit.design.profile_parts import export_profile_parts
    cuts, heads = cuts_and_heads
    parts = export_profile_parts(study, scratch, cuts, heads=heads)
    progress("export", 1, 1)
    preprocessing = study.model.preprocessing
    images = [preprocess(picture, preprocessing)[None] for picture in pictures]
    others = picture_parts(pictures, preprocessing, compared_compressions())
    timed, segments_ms = time_heads(
        parts, images, settings, scratch=scratch, others=others, trace=trace, progress=progress
    )
    provider = Session(parts.whole, threads=settings.threads, provider=settings.provider).choice.name
    return timed, segments_ms, provider


def time_heads(
    parts: "ProfileParts",
    images: Sequence[NDArray[np.uint8]],
    settings: ProfileSettings,
    *,
    scratch: Path,
    others: dict[PartKey, Callable[[], object]],
    trace: bool,
    progress: Progress = silent,
) -> tuple[PartTimes, Values | None]:
    """Time the whole model, its heads and other parts in turn.

    Args:
        parts: The ONNX files of the model and of its heads.
        images: Pixels 1×H×W×C.
        settings: The settings of the measurement.
        scratch: A directory for the files that the profiler of onnxruntime writes.
        others: Functions that run the other parts, such as preprocessing.
        trace: Whether to time the segments as well.
        progress: Called as work goes on.

    Returns:
        The times, and the milliseconds of each segment in each traced run (segments×runs; None without `trace`).

    """
    files = [ModelFile(key=PartKey(kind="whole"), path=parts.whole, inputs=images)]
    files += [
        ModelFile(key=PartKey(kind="head", cut=cut), path=path, inputs=images) for cut, path in parts.heads.items()
    ]
    if not trace:
        return time_parts(files, others, settings, progress=progress), None
    traced = TracedModel(parts.whole, scratch, threads=settings.threads)
    endless, rounds = itertools.cycle(images), itertools.count(-settings.warm_up_runs)

    def run_traced() -> None:
        number = next(rounds)
        if number < 0 or number % TRACED_EVERY == 0:
            traced.run(next(endless))

    timed = time_parts(files, others | {PartKey(kind="trace"): run_traced}, settings, progress=progress)
    segments = parts.segments_of_operators(traced.optimised)
    sums_ms, _ = sum_by_segment(traced.finish(), segments, count=len(parts.staged.cuts) + 1)
    return timed, sums_ms[:, settings.warm_up_runs :]


def fit_correction(
    shape: ModelShape,
    cuts: Sequence[str],
    timed: PartTimes,
    segments_ms: Values,
    *,
    fitted: Sequence[str],
    checked: Sequence[str],
) -> SegmentCorrection:
    """Fit the times of heads to the sums of their segments and to the bytes of their outputs, by least squares.

    The whole model counts as one more head. Relative errors are minimised, so that the shortest head matters as much as
    the longest.
    """
    sums_ms = np.cumsum(np.median(segments_ms, axis=1))
    place = {cut: number for number, cut in enumerate(cuts)}

    def row(cut: str) -> tuple[float, float, float]:
        output_bytes = float(shape.tensor_bytes[shape.index(cut)])
        return float(sums_ms[place[cut]]), output_bytes, timed.times[PartKey(kind="head", cut=cut)].median_ms

    whole_ms = timed.times[PartKey(kind="whole")].median_ms
    rows = [*map(row, fitted), (float(sums_ms[-1]), float(shape.tensor_bytes[-1]), whole_ms)]
    factor, offset_ms, output_ms_per_mb = _least_squares(np.array(rows))
    correction = SegmentCorrection(
        factor=factor,
        offset_ms=offset_ms,
        output_ms_per_mb=output_ms_per_mb,
        fitted_heads=tuple(fitted),
        checked_heads=tuple(checked),
        median_error_share=0.0,
        max_error_share=0.0,
    )
    errors = [
        abs(correction.head_ms(sum_ms, output_bytes) / head_ms - 1)
        for sum_ms, output_bytes, head_ms in map(row, checked)
    ]
    return correction.model_copy(
        update={"median_error_share": float(np.median(errors)), "max_error_share": float(max(errors))}
    )


def _least_squares(rows: Values) -> tuple[float, float, float]:
    """Return the non-negative factor, offset and cost of an output MB with the least relative errors.

    Every subset of the three figures is fitted with the others at 0, and the best fit without a negative figure is
    taken. For so few figures this is exact (Lawson and Hanson, 1974, chapter 23).

    Args:
        rows: A row for each head (n×3): the sum of its segments in ms, its output in bytes, and its time in ms.

    """
    heads_ms = rows[:, 2]
    columns = np.stack([rows[:, 0], np.ones(len(rows)), rows[:, 1] / 1e6], axis=1) / heads_ms[:, None]
    best, best_error = np.array([float(heads_ms.sum() / rows[:, 0].sum()), 0.0, 0.0]), np.inf
    for used in ([0], [0, 1], [0, 2], [0, 1, 2]):
        solution = np.zeros(3)
        solution[used] = np.linalg.lstsq(columns[:, used], np.ones(len(rows)), rcond=None)[0]
        error = float(np.square(columns @ solution - 1).sum())
        if solution[0] > 0 and solution.min() >= 0 and error < best_error:
            best, best_error = solution, error
    return float(best[0]), float(best[1]), float(best[2])


def _figures(timed: PartTimes, cuts: Sequence[str], heads: Sequence[str], segments_ms: Values | None) -> dict[str, Any]:
    """Return the times as fields of a profile."""
    return {
        "preprocess": timed.times[PartKey(kind="preprocess")],
        "whole": timed.times[PartKey(kind="whole")],
        "heads": tuple(_head(timed, cut) for cut in heads),
        "segments": () if segments_ms is None else _segments(cuts, segments_ms),
        "images": tuple(image_time(timed, compression) for compression in compared_compressions()),
    }


def _head(timed: PartTimes, cut: str) -> ModelPartTime:
    key = PartKey(kind="head", cut=cut)
    return ModelPartTime(
        start=None, end=cut, time=timed.times[key], weight_bytes=timed.weight_bytes[key], load=timed.loads[key]
    )


def _segments(cuts: Sequence[str], segments_ms: Values) -> tuple[ModelPartTime, ...]:
    return tuple(
        ModelPartTime(start=start, end=end, time=summarise([float(value) for value in times_ms]))
        for start, end, times_ms in zip((None, *cuts), (*cuts, None), segments_ms, strict=True)
    )
