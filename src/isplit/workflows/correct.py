"""Put what a benchmark measured into the profile of its device."""

from isplit.errors import InputError
from isplit.records import (
    BundleRecord,
    CodecTime,
    ModelPartTime,
    PlacementRun,
    ProfileRecord,
    RunsRecord,
    TimeFigure,
)
from isplit.runtime.edge.device import LOCAL


def check_profile(profile: ProfileRecord, bundle: BundleRecord) -> None:
    """Refuse to correct a profile that was measured with another model than the bundle's.

    Raises:
        InputError: the profile belongs to another model.

    """
    if profile.model_fingerprint not in (None, bundle.model_fingerprint):
        msg = f"the profile {profile.name!r} is of another model ({profile.model}) than the bundle"
        raise InputError(msg)


def corrected_profile(profile: ProfileRecord, runs: RunsRecord, bundle: BundleRecord) -> ProfileRecord:
    """Return the device's profile with its times replaced by those that a benchmark measured.

    The device's times are those of preprocessing, heads, encoders and the whole model. The 95th percentiles keep their
    ratio to the medians. Times of parts that did not run stay as they are.

    Raises:
        InputError: the profile belongs to another model.

    """
    check_profile(profile, bundle)
    by_placement = {run.placement: run for run in runs.runs}
    heads: dict[tuple[str | None, str | None], ModelPartTime] = {
        (part.end, part.budget): part for part in profile.heads
    }
    codecs: dict[tuple[str, str], CodecTime] = {(entry.cut, entry.budget): entry for entry in profile.codecs}
    for cut in bundle.cuts:
        run = by_placement.get(cut.name)
        if run is None or cut.budget is None:
            continue
        key = (cut.name, cut.budget.tag)
        if "head" in run.part_ms:
            before = heads.get(key)
            time = _measured(run, "head", before and before.time)
            heads[key] = (
                before.model_copy(update={"time": time})
                if before
                else ModelPartTime(start=None, end=cut.name, budget=cut.budget.tag, time=time)
            )
        if "encode" in run.part_ms and key in codecs:
            codecs[key] = codecs[key].model_copy(update={"encode": _measured(run, "encode", codecs[key].encode)})
    update: dict[str, object] = {"heads": tuple(heads.values()), "codecs": tuple(codecs.values())}
    local = by_placement.get(LOCAL)
    if local is not None and "local" in local.part_ms:
        update["whole"] = _measured(local, "local", profile.whole)
    first = next(iter(runs.runs))
    if "preprocess" in first.part_ms:
        update["preprocess"] = _measured(first, "preprocess", profile.preprocess)
    update["model_fingerprint"] = bundle.model_fingerprint
    update["model"] = profile.model or bundle.name
    return profile.model_copy(update=update)


def _measured(run: PlacementRun, part: str, before: TimeFigure | None) -> TimeFigure:
    spread = before.p95_ms / before.median_ms if before is not None and before.median_ms > 0 else 1.0
    return TimeFigure(median_ms=run.part_ms[part], p95_ms=run.part_ms[part] * spread, runs=run.images)
