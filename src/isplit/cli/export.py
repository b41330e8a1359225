"""isplit export: from a study's splits to a bundle that a device and a server run."""

from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich import box
from rich.table import Table

from isplit.cli import console
from isplit.errors import InputError, needs_extra
from isplit.records import Accuracy, Budget, BundleRecord, Design, ExportCheck, Int8Cost


def export(
    study: console.StudyArgument,
    cut: Annotated[list[str], typer.Option(help="A cut whose split goes into the bundle. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="BUNDLE", help="The directory to write.")],
    payload_bytes: Annotated[
        int | None, typer.Option("--bytes", help="The split of this budget: mean payload in bytes.")
    ] = None,
    ratio: Annotated[float | None, typer.Option(help="The split of this budget: 64 sends one element in 64.")] = None,
    design: Annotated[
        str | None, typer.Option(help=f"The split of this design: {', '.join(get_args(Design))}.")
    ] = None,
    closed_form: Annotated[
        bool, typer.Option("--closed-form", help="Take the closed form even where a trained split is there.")
    ] = False,
    group: Annotated[str | None, typer.Option(help="A class subset of the study; default: all classes.")] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name on the wire; default: its directory's.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Heads compute in eight bits; says what that costs.")] = False,
    triton: Annotated[
        bool, typer.Option("--triton", help="Also lay the tails out as a Triton model repository, in BUNDLE/triton.")
    ] = False,
    local: Annotated[bool, typer.Option(help="The device gets the whole model too.")] = True,
    remote: Annotated[bool, typer.Option(help="The server gets the whole model too, for compressed images.")] = True,
    images: Annotated[int, typer.Option(help="Images of the select part on which files are compared with torch.")] = 24,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference of a logit, as a share of the largest logit.")
    ] = 1e-3,
    weights: Annotated[str | None, typer.Option(help="Where the weights are now, if they have moved.")] = None,
    data: Annotated[str | None, typer.Option(help="Where the data are now, if they have moved.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where torchvision's data sets are.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Write splits of STUDY and the whole model as a bundle that runs without torch.

    Every file is run beside torch first; where their answers differ, nothing is written.
    """
    with needs_extra("design"):
        from isplit import api
    split_filter = api.SplitFilter(
        budget=_budget(payload_bytes, ratio), design=_design(design), closed_form=closed_form
    )
    settings = api.ExportSettings(
        name=name,
        local=local,
        remote=remote,
        int8=int8,
        triton=triton,
        images=images,
        tolerance=tolerance,
        overwrite=overwrite,
    )
    opened = api.open_study(study, weights=weights, data=data, data_root=data_root)
    with console.progress_bars(quiet=quiet or json) as progress:
        record = api.export(
            opened, cut, out=out, group=group, split_filter=split_filter, settings=settings, progress=progress
        )
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        _show(record, out)


def _budget(payload_bytes: int | None, ratio: float | None) -> Budget | None:
    if payload_bytes is not None and ratio is not None:
        msg = "--bytes and --ratio are two kinds of budget: give one of them"
        raise InputError(msg)
    if payload_bytes is None and ratio is None:
        return None
    return Budget(payload_bytes=payload_bytes, element_ratio=ratio)


def _design(text: str | None) -> Design | None:
    if text is not None and text not in get_args(Design):
        msg = f"--design is {text!r}; choose one of {', '.join(get_args(Design))}"
        raise InputError(msg)
    return cast("Design | None", text)


def _show(record: BundleRecord, out: Path) -> None:
    """Print a bundle's placements as a table, what they cost, and how near they are to torch."""
    size = sum(file.bytes for file in record.files.values())
    title = f"{record.name}: {len(record.group.classes)} classes, {size / 2**20:.1f} MiB"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("placement", "accuracy", "bytes", "head MACs", "logits differ by", "symbols differ"):
        table.add_column(column, justify="left" if column == "placement" else "right", no_wrap=True)
    if record.local:
        table.add_row("local", _share(record.local.accuracy), "0", "100%", *_checked(record.check))
    for cut in record.cuts:
        table.add_row(
            f"{cut.name} (int8)" if cut.int8 else cut.name,
            _share(cut.accuracy),
            f"{cut.payload_bytes_mean:.0f}",
            f"{cut.head_mac_share:.0%}",
            *_checked(cut.check, latents=True),
        )
    if record.remote:
        setting = record.remote.recommended
        scale = "" if setting.scale == 1 else f" at {setting.scale:g}"
        table.add_row(
            f"remote ({setting.format} {setting.quality or 'lossless'}{scale})",
            _share(setting.accuracy),
            f"{setting.payload_bytes_mean:.0f}",
            "0%",
            *_checked(record.check),
        )
    console.output().print(table, markup=False)
    for cut in record.cuts:
        if cut.int8_cost:
            typer.echo(_int8(cut.name, cut.int8_cost))
    if record.check and record.check.classes_answered == 1:
        typer.echo("warning: the model gives every image the same answer: that the files do too says little", err=True)
    typer.echo(f"bundle: {out}")


def _share(accuracy: Accuracy | None) -> str:
    return (
        "not measured" if accuracy is None else f"{accuracy.accuracy:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
    )


def _checked(check: ExportCheck | None, *, latents: bool = False) -> tuple[str, str]:
    """Return how far the files are from torch: logits, and the share of the latent's symbols."""
    if check is None:
        return "", ""
    return f"{check.logits_difference_max:.1e}", f"{check.latents_different_share:.3%}" if latents else ""


def _int8(cut: str, cost: Int8Cost) -> str:
    before, after = cost.float32_accuracy, cost.accuracy
    return (
        f"int8 head of {cut}: accuracy {after.accuracy:.1%} ({after.low:.1%} to {after.high:.1%}) instead of "
        f"{before.accuracy:.1%} on {after.images} images (difference {cost.against_float32.difference:+.1%}, standard "
        f"error {cost.against_float32.stderr:.1%}), the same answer to {cost.agreement:.1%}; "
        f"{cost.payload_bytes_mean:.0f} bytes instead of {cost.float32_payload_bytes_mean:.0f}; weights "
        f"{cost.head_bytes / 2**20:.1f} MiB instead of {cost.float32_head_bytes / 2**20:.1f} MiB"
    )
