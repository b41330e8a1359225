"""Record what many devices that share a link and a server would see: latencies, misses, drops, loads and energy."""

from typing import ClassVar, Literal

from pydantic import Field

from isplit.records.base import Amount, Count, Part, Seed, Share
from isplit.records.link import LinkRecord, Transport
from isplit.records.tables import TableRecord

Arrivals = Literal["periodic", "poisson", "trace"]
SimulationEngine = Literal["isplit", "ns3"]


class LatencySummary(Part):
    """A distribution of latencies in milliseconds, over `count` requests; NaN-free, None where nothing was answered.

    `histogram` counts requests in bins that start at `histogram_ms`; the last bin has no upper end.
    """

    count: int = Field(ge=0)
    mean_ms: Amount | None
    p50_ms: Amount | None
    p95_ms: Amount | None
    p99_ms: Amount | None
    max_ms: Amount | None
    histogram_ms: tuple[Amount, ...] = ()
    histogram: tuple[Count, ...] = ()


class Utilisation(Part):
    """The share of the simulated time in which a resource was busy; devices are the mean over all of them."""

    device: Amount
    up: Amount
    server: Amount
    down: Amount


class LossAccuracy(Part):
    """Accuracy when parts of latents are lost and zeroed, measured by running the tail on such latents."""

    packet_loss: Share
    lost_share: Share
    accuracy: Share
    low: Share
    high: Share
    images: Count


class ScenarioResult(Part):
    """One placement under one scenario.

    `requests` were made, `answered` came back, `dropped` were refused by a full queue, `lost` never arrived (UDP).
    `deadline_misses` counts those that came late, were dropped or lost. `mean_batch` is over the server's runs.
    `early_exit_share` of the requests were answered on the device. `placements` counts the requests by the placement
    that a controller chose.
    """

    placement: str
    requests: Count
    answered: Count
    dropped: Count
    lost: Count
    deadline_ms: Amount | None
    deadline_misses: Count
    latency: LatencySummary
    parts_mean_ms: dict[str, Amount]
    utilisation: Utilisation
    mean_batch: Amount
    packets: Count
    packets_lost: Count
    retransmissions: Count
    device_energy_mj_mean: Amount | None
    accuracy_under_loss: tuple[LossAccuracy, ...] = ()
    placements: dict[str, Count] = Field(default_factory=dict)
    early_exit_share: Share = 0.0
    switches: Count = 0


class Scenario(Part):
    """The simulated scenario: devices, their requests, the link, the server, and the seed that repeats it."""

    devices: int = Field(ge=1)
    arrivals: Arrivals
    period_ms: float = Field(gt=0)
    duration_s: float = Field(gt=0)
    transport: Transport
    packet_bytes: int = Field(gt=0)
    retransmission_timeout_ms: float = Field(gt=0)
    shared_uplink: bool
    max_batch: int = Field(ge=1)
    queue_capacity: int = Field(ge=1)
    workers: int = Field(ge=1)
    link: LinkRecord
    trace: str | None = None
    controller: str | None = None
    seed: Seed


class SimulationRecord(TableRecord):
    """simulation.json, "isplit.simulation/1": a scenario, and what each placement did in it."""

    schema_name: ClassVar[str] = "isplit.simulation/1"
    file_name: ClassVar[str] = "simulation.json"
    rows_field: ClassVar[str] = "results"

    isplit_version: str
    engine: SimulationEngine
    scenario: Scenario
    results: tuple[ScenarioResult, ...]
    estimated: bool
    seconds: Amount
    requests_per_minute: Amount
