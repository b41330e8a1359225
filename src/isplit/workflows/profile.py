"""Measure the machine that this code runs on, with a bundle or a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isplit.errors import InputError, needs_extra
from isplit.plan.devices import this_machine
from isplit.progress import Progress, silent
from isplit.records import BundleRecord, ProfileRecord, StudyRecord, read_shared
from isplit.records.profile import LONGEST_NAME
from isplit.runtime.bundle import Bundle
from isplit.runtime.profile.measure import profile_bundle
from isplit.runtime.profile.settings import ProfileSettings
from isplit.workflows.profile_study import profile_study

if TYPE_CHECKING:
    from isplit.design.study import Study


def profile(
    source: "Bundle | Study | str | Path",
    *,
    name: str = "device",
    title: str | None = None,
    pictures: Sequence[str | Path] = (),
    settings: ProfileSettings | None = None,
    scale: float = 1.0,
    progress: Progress = silent,
) -> ProfileRecord:
    """Measure how fast this machine runs a model's parts, for `isplit.plan`.

    A bundle is measured with onnxruntime alone: preprocessing, every head, entropy coding, every tail, the whole model,
    image compression, the remaining cost of a request, and the peak memory of every placement. The parts run in turn,
    round by round. With a study, which needs torch, only the whole model and a few heads run. The time of every head is
    computed from them, and the field `correction` says how accurate these times are.

    Args:
        source: A bundle, a study, or the directory of one. It may also be the file of a profile, which is then scaled
            or renamed without being measured again.
        name: The profile's name.
        title: The machine's name for people. None takes the name of its processor.
        pictures: Image files or folders to measure with. Without any, images are drawn.
        settings: The settings of the measurement.
        scale: A factor for all times, to describe a machine that takes that many times as long.
        progress: Called with the name of the work, how much of it is done, and how much there is in all.

    Raises:
        InputError: there is no bundle or profile, the name is too long, or the scale is not a positive number.
        BundleError: the bundle cannot be opened.
        EngineError: onnxruntime failed.

    Examples:
        >>> quick = isplit.ProfileSettings(runs=6, memory=False)
        >>> record = isplit.profile("bundle", name="my board", settings=quick)
        >>> record.source, [head.end for head in record.heads]
        ('measured', ['pool2'])

    """
    _check(name, scale)
    if isinstance(source, (str, Path)) and Path(source).is_file():
        record = read_shared(ProfileRecord, Path(source), command="isplit profile")
        record = record.model_copy(update={"name": name, "title": title or record.title})
    else:
        opened = _open(Path(source)) if isinstance(source, (str, Path)) else source
        if isinstance(opened, Bundle):
            record = profile_bundle(
                opened, name=name, title=title, pictures=pictures, settings=settings, progress=progress
            )
        else:
            record = profile_study(
                opened, name=name, title=title, pictures=pictures, settings=settings, progress=progress
            )
        record = record.model_copy(update={"rates": this_machine().rates})
    if scale == 1:
        return record
    return record.scaled(scale, name=name).model_copy(update={"title": record.title})


def _check(name: str, scale: float) -> None:
    """Refuse a name or a factor that a profile cannot have."""
    if not 1e-6 < scale < 1e6:
        msg = f"scale is {scale}; give a factor from 10^-6 to 10^6: 1.3 takes 1.3 times as long"
        raise InputError(msg)
    if not 1 <= len(name) <= LONGEST_NAME:
        msg = f"name is {name[:20]!r}, with {len(name)} characters; give 1 to {LONGEST_NAME}"
        raise InputError(msg)


def is_study(directory: Path) -> bool:
    """Say whether a directory is a study and not a bundle."""
    return (directory / StudyRecord.file_name).is_file() and not (directory / BundleRecord.file_name).is_file()


def _open(directory: Path) -> "Bundle | Study":
    """Open a bundle or a study."""
    if not is_study(directory):
        return Bundle.open(directory)
    with needs_extra("design"):
        from isplit.design.study import open_study
    return open_study(directory)
