"""Run every placement of a bundle on labelled images over a link, and compare the results with the plan."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from isplit.errors import InputError
from isplit.plan.links import load_link
from isplit.progress import Progress, silent
from isplit.records import (
    BundleRecord,
    LinkRecord,
    PlacementRun,
    PlannedPlacement,
    PlanRecord,
    RunsRecord,
    read_shared,
)
from isplit.runtime.bench.device_process import DeviceTask, run_device
from isplit.runtime.bench.images import LabelledImages, read_labelled_images
from isplit.runtime.bench.proxy import ProxyShape, proxied
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.device import LOCAL, REMOTE, placements_of
from isplit.runtime.edge.security import Tls
from isplit.runtime.link import open_link
from isplit.runtime.served import served
from isplit.setting_checks import check_ranges, check_types

_COUNTED_IMAGES = 10
_RANGES = {"images": (1, 10_000_000), "warm_up": (0, 10_000_000), "pause_ms": (0, 60_000), "threads": (1, 256)}


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """Set how `bench` measures a bundle.

    Args:
        images: The largest number of images, spread evenly over the classes. None takes all images.
        warm_up: The number of images that every placement classifies first, without being counted.
        pause_ms: The pause between two images, in milliseconds.
        threads: The threads of onnxruntime on the device, and on a server that is started for the measurement.

    Examples:
        >>> isplit.BenchSettings(images=100).warm_up
        5

    """

    images: int | None = None
    warm_up: int = 5
    pause_ms: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        check_ranges(self, _RANGES)


@dataclass(frozen=True, kw_only=True)
class ServerAccess:
    """Hold the address (HOST:PORT) of a running server, and the token and certificates for it, as for `EdgeClient`."""

    address: str
    token: str | None = None
    tls: Tls | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        check_types(self)


def bench(
    bundle: Bundle | str | Path,
    folder: str | Path,
    *,
    server: ServerAccess | str | None = None,
    link: str | Path | LinkRecord | None = None,
    placements: Sequence[str] = (),
    plan: PlanRecord | str | Path | None = None,
    settings: BenchSettings | None = None,
    progress: Progress = silent,
) -> RunsRecord:
    """Measure every placement of a bundle on labelled images: accuracy, latency in parts, bytes, processor and memory.

    Each placement runs in a process of its own. With a link and without a server, the server is started on this
    machine, and network namespaces with the link's rates, delay and loss join it to the device. Where namespaces cannot
    be made, or where a server runs already, a proxy on this machine limits the rates and adds the delay, but loses
    nothing. The record says which of the two was used.

    Args:
        bundle: The bundle, or its directory.
        folder: A folder with a subfolder of images for each class.
        server: A server with this bundle. None starts a server on this machine.
        link: The link, in any form that `isplit.plan` takes. None takes the network as it is.
        placements: The placements to measure, in this order. None given takes all of the bundle.
        plan: A plan, or its file. Its latencies are shown beside the measured ones.
        settings: The settings of the measurement, such as the number of images.
        progress: Called with the name of the work, how much of it is done, and how much there is in all.

    Raises:
        InputError: there is no such folder, placement or link.
        BundleError: the bundle cannot be opened.
        ServerError: the server cannot be used.

    Examples:
        >>> quick = isplit.BenchSettings(images=6, warm_up=1)
        >>> runs = isplit.bench("bundle", "photos/test", settings=quick)
        >>> [run.placement for run in runs.runs]
        ['pool2', 'remote', 'local']

    """
    settings = settings or BenchSettings()
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    images = read_labelled_images(Path(folder), opened.record.group.classes, limit=settings.images)
    known = placements_of(opened.record)
    chosen = tuple(placements) or known
    if unknown := [name for name in chosen if name not in known]:
        msg = f"placement is {unknown[0]!r}, which this bundle does not have; choose among {', '.join(known)}"
        raise InputError(msg)
    planned = _read_plan(plan, opened.record)
    shape = None if link is None else load_link(link, name="link")
    access = ServerAccess(address=server) if isinstance(server, str) else server
    runs: list[PlacementRun] = []
    with _reached(opened, access, shape, settings) as path:
        for number, placement in enumerate(chosen):
            progress("placements", number, len(chosen))
            run = _measure(opened, path, placement, images, settings)
            runs.append(run.model_copy(update=_expectation(planned_placement(planned, placement, opened.record))))
        progress("placements", len(chosen), len(chosen))
        return RunsRecord(link=path.words, link_bits_per_s=path.bits_per_s, shaping=path.shaping, runs=tuple(runs))


def _measure(
    bundle: Bundle, path: "_Path", placement: str, images: LabelledImages, settings: BenchSettings
) -> PlacementRun:
    task = replace(path.task, images=images.paths, placement=placement)
    result = run_device(task, prefix=path.prefix)
    run = PlacementRun.from_answers(placement, result.answers, classes=images.classes)
    up, down = _wire_bytes(bundle, path, placement, images.paths, settings)
    update = {
        "wire_up_bytes": up,
        "wire_down_bytes": down,
        "device_cpu_ms": result.cpu_ms,
        "device_peak_bytes": result.peak_bytes,
    }
    return run.model_copy(update=update)


def _expectation(planned: PlannedPlacement | None) -> dict[str, float | None]:
    """Return what a plan expects of a placement, as fields of its run."""
    if planned is None:
        return {}
    accuracy = planned.accuracy and planned.accuracy.accuracy
    return {"predicted_ms": planned.latency_ms, "predicted_accuracy": accuracy}


@dataclass(frozen=True, kw_only=True)
class _Path:
    """Hold how the device's process reaches the server: its task, the prefix of its command, and the link in words.

    `counting` opens another proxy, which counts bytes without limiting them, where the server can be reached that way.
    """

    task: DeviceTask
    words: str
    prefix: tuple[str, ...] = ()
    bits_per_s: int | None = None
    shaping: Literal["namespaces", "proxy"] | None = None
    direct: str | None = None


@contextmanager
def _reached(
    bundle: Bundle, access: ServerAccess | None, link: LinkRecord | None, settings: BenchSettings
) -> Generator[_Path]:
    """Make the link, and start a server where none is given, until the block ends."""
    task = DeviceTask(
        bundle=str(bundle.directory),
        images=(),
        placement=LOCAL,
        threads=settings.threads,
        warm_up=settings.warm_up,
        pause_ms=settings.pause_ms,
    )
    options = ("--threads", str(settings.threads))
    if access is not None:
        task = replace(task, token=access.token, tls=access.tls, insecure=access.insecure)
        direct = None if task.tls else access.address
        if link is None:
            words = f"over the network to {access.address}"
            yield _Path(task=replace(task, server=access.address), words=words, direct=direct)
            return
        if task.tls:
            msg = "link and TLS do not go together with a server that runs already: the proxy has no certificate"
            raise InputError(msg)
        with proxied(access.address, _proxy_shape(link)) as (address, _):
            yield _shaped(replace(task, server=address), link, "proxy", direct=direct)
        return
    if link is None:
        with served(bundle.directory, options=options) as address:
            yield _Path(task=replace(task, server=address), words="over loopback", direct=address)
        return
    with (
        open_link(
            rate_bits_per_s=int(link.up_bits_per_s),
            down_bits_per_s=int(link.down_bits_per_s),
            rtt_ms=link.rtt_ms,
            loss_up=link.loss_up,
            loss_down=link.loss_down,
        ) as shaped_link,
        served(bundle.directory, host=shaped_link.host, options=options) as address,
    ):
        task = replace(task, server=address, insecure=True)
        if shaped_link.rate_bits_per_s is not None:
            yield _shaped(task, link, "namespaces", prefix=shaped_link.prefix, direct=address)
            return
        with proxied(address, _proxy_shape(link)) as (proxy, _):
            reason = f" (no namespaces: {shaped_link.reason})"
            yield _shaped(replace(task, server=proxy), link, "proxy", direct=address, reason=reason)


def _shaped(
    task: DeviceTask,
    link: LinkRecord,
    shaping: Literal["namespaces", "proxy"],
    *,
    direct: str | None,
    prefix: tuple[str, ...] = (),
    reason: str = "",
) -> _Path:
    how = "network namespaces and the kernel's rate limit" if shaping == "namespaces" else "a proxy of isplit"
    rates = f"{link.up_bits_per_s / 1e6:g} Mbit/s up, {link.down_bits_per_s / 1e6:g} Mbit/s down, {link.rtt_ms:g} ms"
    loss = f", {link.loss_up:.1%} of packets lost" if link.loss_up and shaping == "namespaces" else ""
    return _Path(
        task=task,
        words=f"over {rates}{loss}, made by {how}{reason}",
        prefix=prefix,
        bits_per_s=int(link.up_bits_per_s),
        shaping=shaping,
        direct=direct,
    )


def _proxy_shape(link: LinkRecord) -> ProxyShape:
    return ProxyShape(up_bits_per_s=link.up_bits_per_s, down_bits_per_s=link.down_bits_per_s, rtt_ms=link.rtt_ms)


def _wire_bytes(
    bundle: Bundle, path: _Path, placement: str, images: Sequence[str], settings: BenchSettings
) -> tuple[float | None, float | None]:
    """Count the bytes of some images in both directions through a proxy that neither limits nor delays."""
    if placement == LOCAL:
        return 0.0, 0.0
    if path.direct is None:
        return None, None
    counted_images = images[:_COUNTED_IMAGES]
    with (
        proxied(path.direct) as (address, counted),
        EdgeClient(
            bundle,
            address,
            placement=placement,
            fallback=False,
            token=path.task.token,
            threads=settings.threads,
            provider="cpu",
        ) as client,
    ):
        client.classify(images[0])
        before = replace(counted)
        for image in counted_images:
            client.classify(image)
        return (
            (counted.up_bytes - before.up_bytes) / len(counted_images),
            (counted.down_bytes - before.down_bytes) / len(counted_images),
        )


def _read_plan(plan: PlanRecord | str | Path | None, bundle: BundleRecord) -> PlanRecord | None:
    if plan is None or isinstance(plan, PlanRecord):
        record = plan
    else:
        record = read_shared(PlanRecord, Path(plan), command="isplit plan")
    if record is not None and record.model_fingerprint != bundle.model_fingerprint:
        msg = f"the plan is of another model ({record.model}) than the bundle: plan the study that it was exported from"
        raise InputError(msg)
    return record


def planned_placement(plan: PlanRecord | None, placement: str, bundle: BundleRecord) -> PlannedPlacement | None:
    """Return the plan's row of a bundle's placement."""
    rows = () if plan is None else plan.placements
    matching = [row for row in rows if _is_of(row, placement, bundle)]
    if placement == REMOTE:
        # Of several networks that were trained on images of one setting, a bundle has the most accurate.
        matching.sort(key=lambda row: -row.accuracy.accuracy if row.accuracy else 0.0)
    return next(iter(matching), None)


def _is_of(row: PlannedPlacement, placement: str, bundle: BundleRecord) -> bool:
    if placement == LOCAL:
        return row.kind == "local"
    if placement == REMOTE:
        assert bundle.remote is not None  # the placement is one of the bundle's
        wanted, setting = bundle.remote.recommended, row.compression
        is_trained = row.accuracy is not None and row.accuracy.source == "trained"
        same = setting is not None and (
            (setting.format, setting.quality, setting.scale) == (wanted.format, wanted.quality, wanted.scale)
        )
        return same and is_trained == bundle.remote.trained
    return row.kind == "split" and row.cut == placement and row.budget == bundle.cut(placement).budget
