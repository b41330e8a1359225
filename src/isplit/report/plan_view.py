"""Show a plan: its answer, its table, and the numbers from which the page computes other plans.

The page repeats the planner's cost model (isplit.plan.evaluate and isplit.plan.transfer) with the record's own
numbers: the time that each placement takes on the device and on the server, and the bytes that it sends. Sliders
change the rate and the round trip of the link, the speed of the device, and limits.
"""

from dataclasses import asdict, dataclass
from math import log10

from isplit.plan.packets import LINUX_TCP, UDP_HEADER_BYTES
from isplit.records import PlannedPlacement, PlanRecord
from isplit.report.figures.plan import KIND_SHADES
from isplit.report.packed import pack
from isplit.report.tables import NOTHING, Cell, Column, Row, Table
from isplit.report.text import minus

FOLLOWED_LIMITS = {"max_latency_ms", "max_accuracy_loss"}
"""The limits that the page checks again; all others stay as the plan found them."""

PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("device", "run-device", ("preprocess", "head", "encode", "finish")),
    ("link", "run-link", ("up", "down")),
    ("server", "run-server", ("queue", "decode", "tail", "middle")),
)
"""The parts of a latency bar: name, style, and the parts of the record that belong to it."""

_LIMIT_WORDS = {
    "max_latency_ms": "latency",
    "max_p95_latency_ms": "p95 latency",
    "max_device_memory_bytes": "device memory",
    "max_device_energy_mj": "device energy",
    "max_wire_bytes": "bytes per image",
    "max_bytes_per_day": "bytes per day",
    "min_accuracy": "accuracy",
    "max_accuracy_loss": "loss of accuracy",
    "min_images_per_s": "images per second",
    "max_device_mac_share": "MACs on the device",
    "hide_image": "the server sees the image",
    "hide_answer": "the server sees the answer",
    "capacity": "capacity",
    "link_message": "message size",
}


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A slider of the page: what it changes, and its position in the unit that the script expects."""

    name: str
    label: str
    low: float
    high: float
    step: float
    position: float


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """The content of a plan's section."""

    record: PlanRecord
    sliders: tuple[Slider, ...]
    table: Table
    data: str


def plan_view(record: PlanRecord, *, cut_numbers: dict[str, int]) -> PlanView:
    """Return the content of the section for a plan."""
    return PlanView(
        record=record, sliders=_sliders(record), table=_table(record, cut_numbers), data=pack(_numbers(record))
    )


def _sliders(record: PlanRecord) -> tuple[Slider, ...]:
    """Return the sliders at the positions of the plan; limits without a value are at the upper end."""
    link, limits = record.links[0], record.limits
    latency = limits.max_latency_ms
    loss = limits.max_accuracy_loss
    rate = log10(link.up_bits_per_s)
    trip = log10(link.rtt_ms + 1)
    return (
        Slider(name="rate", label="Uplink", low=min(3.0, rate), high=max(9.5, rate), step=0.01, position=rate),
        Slider(name="rtt", label="Round trip", low=0.0, high=max(3.0, trip), step=0.01, position=trip),
        Slider(name="speed", label="Device speed", low=-1.5, high=1.5, step=0.01, position=0.0),
        Slider(
            name="latency", label="Latency at most", low=0.0, high=4.02, step=0.01,
            position=4.02 if latency is None else min(max(log10(latency), 0.0), 4.0),
        ),
        Slider(
            name="loss", label="Accuracy lost at most", low=0.0, high=20.1, step=0.1,
            position=20.1 if loss is None else min(100 * loss, 20.0),
        ),
    )  # fmt: skip


def _numbers(record: PlanRecord) -> dict[str, object]:
    link = record.links[0]
    return {
        "objective": record.objective,
        "transport": record.transport,
        "warm": record.warm_connection,
        "max_latency_ms": record.limits.max_latency_ms,
        "max_accuracy_loss": record.limits.max_accuracy_loss,
        "chosen": record.answer.chosen,
        "link": {
            "up": link.up_bits_per_s,
            "down": link.down_bits_per_s,
            "rtt": link.rtt_ms,
            "loss_up": link.loss_up,
            "loss_down": link.loss_down,
            "mtu": link.mtu_bytes,
            "duty": 1.0 if link.duty_cycle is None else link.duty_cycle,
        },
        "tcp": asdict(LINUX_TCP) | {"udp_header_bytes": UDP_HEADER_BYTES},
        "parts": [[name, style] for name, style, _ in PARTS],
        "shades": KIND_SHADES,
        "placements": [_placement_numbers(placement) for placement in record.placements],
    }


def _placement_numbers(placement: PlannedPlacement) -> dict[str, object]:
    parts = placement.latency.model_dump()
    sums = {name: sum(parts[part] for part in names) for name, _, names in PARTS}
    accuracy = placement.accuracy
    return {
        "name": placement.name,
        "kind": placement.kind,
        "sends": placement.kind not in ("local", "segmented"),
        "device": sums["device"],
        "server": sums["server"],
        "up": placement.wire_up_bytes,
        "down": placement.wire_down_bytes,
        "spread": placement.latency_p95_ms - placement.latency_ms,
        "energy": placement.device_energy_mj,
        "server_per_s": placement.throughput.server,
        "accuracy": None if accuracy is None else accuracy.accuracy,
        "loss": None if accuracy is None or accuracy.difference is None else -accuracy.difference,
        "judged_loss": None if accuracy is None else accuracy.judged_loss,
        "source": None if accuracy is None else accuracy.source,
        "considered": placement.worth_considering,
        "broken": [name for name in placement.violates if name not in FOLLOWED_LIMITS],
    }


def _table(record: PlanRecord, cut_numbers: dict[str, int]) -> Table:
    columns = (
        Column(title="Placement", style="cut"),
        Column(title="Latency", unit="ms", style="number"),
        Column(title="Latency", unit="p95, ms", style="number"),
        Column(title="Accuracy", unit="%", style="number"),
        Column(title="Against whole", unit="points", style="number"),
        Column(title="Known from"),
        Column(title="Bytes up", unit="on the wire", style="number"),
        Column(title="Bytes down", unit="on the wire", style="number"),
        Column(title="Device MACs", unit="% of all", style="number"),
        Column(title="Device memory", unit="MiB", style="number"),
        Column(title="Device energy", unit="mJ", style="number"),
        Column(title="Images", unit="per second", style="number"),
        Column(title="Breaks", style="found"),
    )
    rows = tuple(_row(placement, record, cut_numbers) for placement in record.placements)
    table = Table(columns=columns, rows=rows)
    return (
        table if any(placement.device_energy_mj is not None for placement in record.placements) else table.without({10})
    )


def _row(placement: PlannedPlacement, record: PlanRecord, cut_numbers: dict[str, int]) -> Row:
    accuracy = placement.accuracy
    source = None if accuracy is None else accuracy.source
    broken = ", ".join(_LIMIT_WORDS[name] for name in placement.violates)
    if not placement.worth_considering:
        broken = ", ".join(filter(None, (broken, "leaves the server next to nothing")))
    cells = (
        Cell(text=placement.name, value=placement.name),
        _number(placement.latency_ms, 1),
        _number(placement.latency_p95_ms, 1),
        _number(None if accuracy is None else 100 * accuracy.accuracy, 1),
        _number(None if accuracy is None or accuracy.difference is None else 100 * accuracy.difference, 1),
        Cell(text=source or NOTHING, value=source),
        _number(placement.wire_up_bytes, 0),
        _number(placement.wire_down_bytes, 0),
        _number(100 * placement.device_mac_share, 1),
        _number(None if placement.device_memory_bytes is None else placement.device_memory_bytes / 1024**2, 1),
        _number(placement.device_energy_mj, 1),
        _number(placement.throughput.images_per_s, 1),
        Cell(text=broken, value=broken),
    )
    return Row(
        cells=cells,
        cut=None if placement.cut is None else cut_numbers.get(placement.cut),
        candidate=placement.name == record.answer.chosen,
    )


def _number(value: float | None, decimals: int) -> Cell:
    if value is None:
        return Cell(text=NOTHING, value=None)
    return Cell(text=minus(f"{value:,.{decimals}f}"), value=value)
