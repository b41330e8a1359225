"""Write what others take from a study: its bundle and its report, and the progress of a call."""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from isplit.design.export_settings import ExportSettings
from isplit.design.settings import SplitFilter
from isplit.design.study import Study
from isplit.errors import needs_extra
from isplit.progress import Progress, silent
from isplit.records import BundleRecord


def export(
    study: Study | str | Path,
    cuts: str | Sequence[str],
    *,
    out: str | Path = "bundle",
    group: str | None = None,
    split_filter: SplitFilter | None = None,
    settings: ExportSettings | None = None,
    progress: Progress | bool = False,
) -> BundleRecord:
    """Write a bundle with the splits of some cuts and the whole model, which runs without torch.

    Every file is run in onnxruntime beside torch first; where they differ, nothing is written.

    Args:
        study: A study, or its directory.
        cuts: One cut or several. Of each, the trained split is taken if there is one, else the closed form.
        out: The bundle's directory.
        group: A class subset of the study; None for all classes.
        split_filter: Selects the split where a cut has several.
        settings: What else goes in, and how it is checked.
        progress: True shows bars on standard error; a function is called as work goes on.

    Raises:
        InputError: an unknown cut or subset, no split or several, or a directory that is taken.
        ModelError: a part of the model has no ONNX.
        ExportError: the files give other answers than torch.

    Examples:
        >>> closed_form = isplit.SplitFilter(closed_form=True)
        >>> study = isplit.open_study("study", allow_code=True)
        >>> bundle = isplit.export(study, "pool2", out="bundle", split_filter=closed_form)
        >>> [placement.name for placement in bundle.cuts]
        ['pool2']

    """
    # onnx and onnxscript take as long to import as all the rest, and nothing else needs them.
    with needs_extra("design"):
        from isplit.design.export import export as write_bundle

    with shown(progress) as report:
        return write_bundle(
            study, cuts, out, group=group, split_filter=split_filter, settings=settings, progress=report
        )


def write_report(study: Study | str | Path) -> tuple[Path, ...]:
    """Draw a study's report.html and curve.svg again from its records, and return their paths.

    Args:
        study: A study, or its directory; neither the model nor the data are loaded.

    Raises:
        StudyError: a record is missing or damaged, or a file cannot be written.

    Examples:
        >>> [path.name for path in isplit.write_report("study")]
        ['report.html', 'curve.svg']

    """
    from isplit.report import write_report as write_report_files

    return write_report_files(study.directory if isinstance(study, Study) else Path(study))


@contextmanager
def report_redrawn(study: Study) -> Generator[None]:
    """Draw a study's report after the work in the block, which does not begin where a record of it is damaged."""
    from isplit.report import check_report

    check_report(study.directory)
    yield
    write_report(study)


def shown(progress: Progress | bool) -> AbstractContextManager[Progress]:
    """Return a context that gives the function to call as work goes on."""
    if progress is True:
        from isplit.progress_bars import ProgressBars

        return ProgressBars()
    return nullcontext(progress or silent)
