"""Measure everything of a bundle on this machine, with onnxruntime alone, and record it as a profile."""

import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.bands import Picture
from isplit.errors import EngineError, InputError, ServerError
from isplit.progress import Progress, silent
from isplit.records import (
    CodecTime,
    Compression,
    CutPlacement,
    Execution,
    ImageTime,
    ModelPartTime,
    PlacementMemory,
    Power,
    ProfileRecord,
    TimeFigure,
    compared_compressions,
)
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.device import placements_of
from isplit.runtime.profile.machine import available_memory_bytes, describe_machine, runtime_versions
from isplit.runtime.profile.memory import measure_memory
from isplit.runtime.profile.meters import measure_energy, open_meter
from isplit.runtime.profile.parts import BundleParts, ModelFile, PartKey
from isplit.runtime.profile.pictures import load_pictures
from isplit.runtime.profile.request import measure_request
from isplit.runtime.profile.rounds import Rounds, time_in_rounds
from isplit.runtime.profile.settings import ProfileSettings
from isplit.runtime.session import Session

_SHARE_OF_MEMORY = 0.4
"""The share of free memory that models timed together may take, by their size on disk; onnxruntime may need twice
that.
"""


@dataclass(kw_only=True)
class PartTimes:
    """The times of ONNX files and of all other parts, and how they were run."""

    times: dict[PartKey, TimeFigure] = field(default_factory=dict[PartKey, TimeFigure])
    loads: dict[PartKey, TimeFigure] = field(default_factory=dict[PartKey, TimeFigure])
    weight_bytes: dict[PartKey, int] = field(default_factory=dict[PartKey, int])
    groups: int = 0


def profile_bundle(
    bundle: Bundle,
    *,
    name: str,
    title: str | None = None,
    pictures: Sequence[str | Path] = (),
    settings: ProfileSettings | None = None,
    compressions: Sequence[Compression] | None = None,
    progress: Progress = silent,
) -> ProfileRecord:
    """Measure the machine that this runs on with a bundle's parts.

    Args:
        bundle: A bundle with any number of cuts.
        name: The profile's name.
        title: The machine's name for people; None for its processor's.
        pictures: Image files or folders to measure with; none draws some.
        settings: How to measure.
        compressions: Image settings to time; None for those of `isplit predict` and the bundle's own.
        progress: Called as work goes on.

    Raises:
        BundleError: onnxruntime cannot load a file.
        EngineError: a model or a process of the measurement failed.
        InputError, DataError: the pictures cannot be used.

    """
    settings = settings or ProfileSettings()
    begun_s = time.perf_counter()
    loaded, described = load_pictures(pictures, bundle.record.preprocessing)
    parts = BundleParts(bundle, loaded, settings)
    chosen = _compressions(bundle) if compressions is None else tuple(compressions)
    timed = time_parts(parts.models(), parts.others(chosen), settings, progress=progress)
    not_measured: dict[str, str] = {}
    memory = _memory(bundle, settings, not_measured, progress=progress) if settings.memory else ()
    request = _request(bundle, loaded, settings, not_measured)
    machine, provider = describe_machine(), _provider(bundle, settings)
    tags = {cut.name: _tag(cut, not_measured) for cut in bundle.record.cuts}
    seconds = time.perf_counter() - begun_s
    return ProfileRecord(
        isplit_version=version("isplit"),
        versions=runtime_versions(),
        name=name,
        title=title or machine.processor,
        source="measured",
        machine=machine,
        execution=execution_of(timed, settings, provider=provider, pictures=described, seconds=seconds),
        model=bundle.name,
        model_fingerprint=bundle.record.model_fingerprint,
        preprocess=timed.times.get(PartKey(kind="preprocess")),
        request=request,
        whole=timed.times.get(PartKey(kind="whole")),
        heads=tuple(_part(timed, PartKey(kind="head", cut=cut), tag) for cut, tag in tags.items()),
        tails=tuple(_part(timed, PartKey(kind="tail", cut=cut), tag) for cut, tag in tags.items()),
        codecs=tuple(_codec(timed, cut, tag) for cut, tag in tags.items()),
        images=tuple(image_time(timed, compression) for compression in chosen),
        memory=memory,
        power=_power(bundle, parts.pixels, settings, not_measured),
        not_measured=not_measured,
    )


def execution_of(
    timed: PartTimes, settings: ProfileSettings, *, provider: str, pictures: str, seconds: float
) -> Execution:
    """Return how parts were timed, for the profile."""
    return Execution(
        provider=provider,
        threads=settings.threads,
        warm_up_runs=settings.warm_up_runs,
        runs=max(figure.runs for figure in timed.times.values()),
        interleaved=True,
        groups=timed.groups,
        seconds=seconds,
        pictures=pictures,
    )


def _codec(timed: PartTimes, cut: str, tag: str) -> CodecTime:
    encode, decode = (timed.times[PartKey(kind=kind, cut=cut)] for kind in ("encode", "decode"))
    return CodecTime(cut=cut, budget=tag, encode=encode, decode=decode)


def image_time(timed: PartTimes, compression: Compression) -> ImageTime:
    """Return the times of compressing an image with one setting and of reading it again, for the profile."""
    encode, decode = (timed.times[PartKey(kind=kind, compression=compression)] for kind in ("compress", "restore"))
    return ImageTime(**compression.model_dump(), encode=encode, decode=decode)


def time_parts(
    models: Iterable[ModelFile],
    others: dict[PartKey, Callable[[], object]],
    settings: ProfileSettings,
    *,
    progress: Progress = silent,
    memory_bytes: float | None = None,
) -> PartTimes:
    """Time ONNX files and other parts in turn; models that do not fit in memory together are timed in groups.

    Args:
        models: The files.
        others: Everything else; it is timed with the first group.
        settings: How often, and with how many threads.
        progress: Called as work goes on.
        memory_bytes: What the files of one group may take together; None for a share of what is free.

    Raises:
        BundleError: onnxruntime cannot load a file.
        EngineError: onnxruntime failed.

    """
    limit = _SHARE_OF_MEMORY * available_memory_bytes() if memory_bytes is None else memory_bytes
    result = PartTimes()
    groups = _grouped(list(models), limit)
    result.groups = len(groups)
    rounds = Rounds(runs=settings.runs, warm_up_runs=settings.warm_up_runs, seconds=settings.seconds)
    for number, group in enumerate(groups):
        what = "timing" if len(groups) == 1 else f"timing, group {number + 1} of {len(groups)}"
        runs: dict[PartKey, Callable[[], object]] = dict(others) if number == 0 else {}
        for model in group:
            runs[model.key], result.loads[model.key] = model.open(settings)
            result.weight_bytes[model.key] = model.weight_bytes
        result.times |= time_in_rounds(
            runs, rounds, progress=lambda done, total, what=what: progress(what, done, total)
        )
    return result


def _grouped(models: list[ModelFile], limit: float) -> list[list[ModelFile]]:
    """Put models into groups, in order, so that each takes at most `limit` bytes or is one model alone."""
    groups: list[list[ModelFile]] = [[]]
    held = 0.0
    for model in models:
        size = model.weight_bytes
        if groups[-1] and held + size > limit:
            groups.append([])
            held = 0.0
        groups[-1].append(model)
        held += size
    return groups


def _compressions(bundle: Bundle) -> tuple[Compression, ...]:
    """Return the settings that `isplit predict` measures, and the one that the bundle recommends."""
    chosen = list(compared_compressions())
    remote = bundle.record.remote
    if remote is None:
        return ()
    recommended = Compression(
        format=remote.recommended.format, quality=remote.recommended.quality, scale=remote.recommended.scale
    )
    return tuple(chosen if recommended in chosen else [*chosen, recommended])


def _tag(cut: CutPlacement, not_measured: dict[str, str]) -> str:
    if cut.budget is not None:
        return cut.budget.tag
    not_measured[f"budget of {cut.name}"] = (
        "the bundle is from an older version, which did not note the budget; its mean payload stands for it"
    )
    return f"{cut.payload_bytes_mean:.0f}B"


def _part(timed: PartTimes, key: PartKey, budget: str) -> ModelPartTime:
    return ModelPartTime(
        start=key.cut if key.kind == "tail" else None,
        end=key.cut if key.kind == "head" else None,
        budget=budget,
        time=timed.times[key],
        weight_bytes=timed.weight_bytes[key],
        load=timed.loads[key],
    )


def _provider(bundle: Bundle, settings: ProfileSettings) -> str:
    """Return the provider that the models really run on."""
    path = bundle.head_path(bundle.record.cuts[0].name) if bundle.record.cuts else bundle.local_path
    path = path or bundle.remote_path
    assert path is not None  # a bundle has at least one placement
    return Session(path, threads=settings.threads, provider=settings.provider).choice.name


def _memory(
    bundle: Bundle, settings: ProfileSettings, not_measured: dict[str, str], *, progress: Progress
) -> tuple[PlacementMemory, ...]:
    figures: list[PlacementMemory] = []
    placements = placements_of(bundle.record)
    for number, placement in enumerate(placements):
        progress("memory", number, len(placements))
        try:
            figures.append(
                measure_memory(bundle.directory, placement, threads=settings.threads, provider=settings.provider)
            )
        except EngineError as error:
            not_measured[f"memory of {placement}"] = str(error)
    progress("memory", len(placements), len(placements))
    return tuple(figures)


def _power(
    bundle: Bundle, pixels: Sequence[NDArray[np.uint8]], settings: ProfileSettings, not_measured: dict[str, str]
) -> Power | None:
    """Return the meter's figures, or else the stated watts, or else None with the reason."""
    if settings.energy:
        try:
            return _metered(bundle, pixels, settings)
        except OSError as error:
            not_measured["energy"] = f"no meter: {error.strerror or error}"
    else:
        not_measured["energy"] = "it was not asked for"
    if settings.watts is None:
        return None
    return Power(meter="stated", active_w=settings.watts, idle_w=settings.idle_watts)


def _metered(bundle: Bundle, pixels: Sequence[NDArray[np.uint8]], settings: ProfileSettings) -> Power:
    meter = open_meter(accelerator=settings.provider in ("cuda", "tensorrt"))
    idle = measure_energy(meter, lambda: time.sleep(0.1))
    energy_mj: dict[str, float] = {}
    watts: list[float] = []
    paths = {cut.name: bundle.head_path(cut.name) for cut in bundle.record.cuts}
    if bundle.local_path is not None:
        paths["local"] = bundle.local_path
    for placement, path in paths.items():
        session = Session(path, threads=settings.threads, provider=settings.provider)
        session.run(pixels[0][None])
        reading = measure_energy(meter, lambda session=session: session.run(pixels[0][None]))
        energy_mj[placement] = reading.energy_mj
        watts.append(reading.watts)
    if not watts or max(watts) <= 0:
        msg = "the meter counted nothing"
        raise OSError(msg)
    active_w = sorted(watts)[len(watts) // 2]
    return Power(meter=meter.kind, active_w=active_w, idle_w=min(max(idle.watts, 0.0), active_w), energy_mj=energy_mj)


def _request(
    bundle: Bundle, pictures: Sequence[Picture], settings: ProfileSettings, not_measured: dict[str, str]
) -> TimeFigure | None:
    if not bundle.record.cuts and bundle.record.remote is None:
        not_measured["request"] = "the bundle has nothing for a server"
        return None
    files: list[bytes] = []
    for picture in pictures:
        if not isinstance(picture, Image.Image):
            not_measured["request"] = f"no image file holds {bundle.record.preprocessing.channels} channels"
            return None
        file = io.BytesIO()
        picture.convert("RGB").save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    try:
        return measure_request(bundle, files, settings)
    except (EngineError, ServerError, InputError, OSError) as error:
        not_measured["request"] = str(error)
        return None
