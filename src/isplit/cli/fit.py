"""isplit fit: train splits of a study, and say what it brought."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isplit.cli import console
from isplit.errors import InputError, needs_extra
from isplit.records import Budget, Measurement, SplitRecord

if TYPE_CHECKING:
    from isplit.design.settings import FitSettings

DEFAULT_MODEL_RATE = 2e-5

BytesOption = Annotated[
    int | None, typer.Option("--bytes", metavar="N", help="Mean payload per image in bytes, header included.")
]
RatioOption = Annotated[
    float | None, typer.Option("--ratio", metavar="R", help="Send one in R of the tensor's elements, 8 bits each.")
]
GroupOption = Annotated[str | None, typer.Option(help="A class subset of the study; default: the study's classes.")]
EpochsOption = Annotated[int, typer.Option(help="Epochs of task loss and distillation, at most.")]
FeatureEpochsOption = Annotated[
    int | None, typer.Option(help="Epochs on the features before that; default: 0 from the closed form, else 1.")
]
ImagesOption = Annotated[int | None, typer.Option(help="Images of the fit part to train on; default: all.")]
SelectImagesOption = Annotated[int | None, typer.Option(help="Images of the select part to stop by; default: all.")]
BatchSizeOption = Annotated[int, typer.Option(help="Images per step.")]
BottleneckRateOption = Annotated[
    float | None,
    typer.Option(help="Learning rate of the bottleneck; default: 0.01 of its size if linear, else 0.001."),
]
ModelRateOption = Annotated[float, typer.Option(help="Learning rate of the model's own layers.")]
DistillationOption = Annotated[float, typer.Option(help="Weight of the whole model's answers, 0 to 1.")]
TemperatureOption = Annotated[float, typer.Option(help="Of the distillation.")]
PatienceOption = Annotated[int, typer.Option(help="Stop after so many epochs without a better accuracy.")]
FlipOption = Annotated[bool, typer.Option("--flip", help="Mirror images at random.")]
FeaturesOption = Annotated[
    str, typer.Option(help="Where features are kept: auto, memory, disk, keep (for the next run) or recompute.")
]
MemoryOption = Annotated[float, typer.Option(help="Memory that features may take, in GiB.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
SeedOption = Annotated[int, typer.Option(help="Of random initial values and the order of the images.")]
MovedWeightsOption = Annotated[str | None, typer.Option(help="Where the weights are now, if they have moved.")]
MovedDataOption = Annotated[str | None, typer.Option(help="Where the data are now, if they have moved.")]
RayAddressArgument = Annotated[
    str | None, typer.Argument(metavar="[ADDRESS]", help="With --ray: HOST:PORT of the cluster.")
]
RayOption = Annotated[
    bool, typer.Option("--ray", help="One task per cut on Ray: at ADDRESS, else on the cluster here, else a new one.")
]
DataRootOption = Annotated[Path | None, typer.Option(help="Where torchvision's data sets are.")]


def fit(
    study: console.StudyArgument,
    ray_address: RayAddressArgument = None,
    cut: Annotated[list[str] | None, typer.Option("--cut", metavar="C", help="Where to split. Repeatable.")] = None,
    cuts: Annotated[str | None, typer.Option("--cuts", metavar="all|candidates|A,B", help="Several at once.")] = None,
    bytes: BytesOption = None,
    ratio: RatioOption = None,
    design: Annotated[str, typer.Option(help="linear, undercomplete or identity.")] = "linear",
    start: Annotated[
        str | None, typer.Option(help="closed-form or random; default: closed-form for linear, else random.")
    ] = None,
    group: GroupOption = None,
    train_head: Annotated[bool, typer.Option("--train-head", help="The layers before the cut learn too.")] = False,
    freeze: Annotated[
        list[str] | None, typer.Option(help="encoder, decoder or tail: does not learn. Repeatable.")
    ] = None,
    epochs: EpochsOption = 3,
    feature_epochs: FeatureEpochsOption = None,
    images: ImagesOption = None,
    select_images: SelectImagesOption = None,
    batch_size: BatchSizeOption = 64,
    bottleneck_rate: BottleneckRateOption = None,
    model_rate: ModelRateOption = DEFAULT_MODEL_RATE,
    distillation: DistillationOption = 0.9,
    temperature: TemperatureOption = 4.0,
    patience: PatienceOption = 2,
    flip: FlipOption = False,
    features: FeaturesOption = "auto",
    memory_gib: MemoryOption = 4.0,
    precision: PrecisionOption = "auto",
    seed: SeedOption = 0,
    ray: RayOption = False,
    weights: MovedWeightsOption = None,
    data: MovedDataOption = None,
    data_root: DataRootOption = None,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Train the split of STUDY at one cut or several, and measure it on the test part.

    A run that was stopped goes on after its last whole epoch. What was trained with the same settings is not trained
    again.
    """
    budget = read_budget(bytes, ratio)
    check_ray(ray_address, ray=ray)
    frozen = set(freeze or ())
    if unknown := frozen - {"encoder", "decoder", "tail"}:
        msg = f"--freeze is {sorted(unknown)[0]!r}; choose encoder, decoder or tail"
        raise InputError(msg)
    settings = make_settings(
        train_head=train_head,
        **{f"train_{side}": side not in frozen for side in ("encoder", "decoder", "tail")},
        epochs=epochs,
        feature_epochs=feature_epochs,
        images=images,
        select_images=select_images,
        batch_size=batch_size,
        bottleneck_rate=bottleneck_rate,
        model_rate=model_rate,
        distillation=distillation,
        temperature=temperature,
        patience=patience,
        flip=flip,
        features=features,
        memory_gib=memory_gib,
        precision=precision,
        seed=seed,
    )
    from isplit import api

    opened = api.open_study(study, weights=weights, data=data, data_root=data_root)
    names = opened.cut_names([*(cut or ()), *(cuts or "").split(",")], group=group)
    if not names:
        msg = "name at least one cut: --cut NAME, or --cuts all"
        raise InputError(msg)
    with console.progress_bars(quiet=quiet or json) as progress:
        if ray:
            request = api.FitRequest(
                directory=study.absolute(),
                budget=budget,
                settings=settings,
                weights=weights,
                data=data,
                data_root=data_root,
                group=group,
                design=design,  # type: ignore[arg-type] - fit checks both
                start=start,  # type: ignore[arg-type]
            )
            records = list(api.fit_on_ray(request, names, address=ray_address, progress=progress))
            _show(records, json=json, quiet=quiet)
            api.write_report(study)
            return
        records = []
        for name in names:
            record = api.fit(
                opened,
                name,
                budget,
                group=group,
                design=design,  # type: ignore[arg-type] - fit checks both
                start=start,  # type: ignore[arg-type]
                settings=settings,
                progress=progress,
            )
            records.append(record)
            _show([record], json=False, quiet=quiet or json)
    if json:
        _show(records, json=True, quiet=quiet)


def _show(records: list[SplitRecord], *, json: bool, quiet: bool) -> None:
    """Print one record or a list of them as JSON, else a line for each."""
    if json:
        texts = [record.to_json().rstrip() for record in records]
        typer.echo(texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]")
    elif not quiet:
        for record in records:
            typer.echo(describe(record))


def check_ray(address: str | None, *, ray: bool) -> None:
    """Refuse an address that nothing would use.

    Raises:
        InputError: an address without --ray.

    """
    if address and not ray:
        msg = f"got {address!r} after the study: a Ray cluster's address needs --ray"
        raise InputError(msg)


def read_budget(count: int | None, ratio: float | None) -> Budget:
    """Read --bytes or --ratio.

    Raises:
        InputError: none or both.

    """
    if (count is None) == (ratio is None):
        msg = "give one budget: --bytes N or --ratio R"
        raise InputError(msg)
    return Budget(payload_bytes=count, element_ratio=ratio)


def make_settings(**values: Any) -> "FitSettings":
    """Return settings, checked."""
    with needs_extra("design"):
        from isplit import api
    return api.FitSettings(**values)


def describe(record: SplitRecord) -> str:
    """Say in one line what training brought, on the test part."""
    training, measured = record.training, record.measurement
    assert training is not None
    before = f"{show_accuracy(training.before)} closed form -> " if training.before is not None else ""
    difference = measured.against_whole
    bytes_ = measured.payload_bytes
    return (
        f"{record.cut} @{record.budget.tag} {record.bottleneck.design}: {before}{show_accuracy(measured)} trained; "
        f"whole {measured.whole.accuracy:.1%}, difference {100 * difference.difference:+.1f} ± "
        f"{100 * difference.stderr:.1f} points; {bytes_.mean:.0f} bytes (p95 {bytes_.p95:.0f}); epoch "
        f"{training.best_epoch} of {training.epochs}, {training.images} images, {training.seconds:.0f} s"
    )


def show_accuracy(measured: Measurement) -> str:
    """Write an accuracy with its interval, in per cent."""
    found = measured.accuracy
    return f"{found.accuracy:.1%} ({100 * found.low:.1f}–{100 * found.high:.1f})"
