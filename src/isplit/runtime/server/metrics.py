"""Count the server's events for Prometheus, in a registry of its own, because several servers may share a process."""

import time
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

STAGES = ("decode", "queue", "infer", "server")
UNKNOWN_MODEL = ""
"""The label of requests that name no hosted model: a caller must not be able to create new series."""

_Series = tuple[Counter, Counter, "Distribution", dict[str, "Distribution"]]
"""The series of one model: requests answered, images, batches, and the seconds of each stage."""


class Distribution:
    """Counts values by the smallest bound that is not below them; the last bound is infinity."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.created_s = time.time()

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Distributions(Collector):
    """A histogram of Prometheus whose series are `Distribution`s: an observation takes a fifth of the time of its own.

    The series belong to the event loop's thread. A reader in another thread may miss what is counted meanwhile.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: list[str],
        *,
        bounds: tuple[float, ...],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation, self._labels, self._bounds = name, documentation, labels, bounds
        self._series: dict[tuple[str, ...], Distribution] = {}
        registry.register(self)

    def labels(self, *values: str) -> Distribution:
        """Return the series with these values of the labels."""
        return self._series.setdefault(values, Distribution(self._bounds))

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Return the histogram without its series, so that the registry knows its name."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return the histogram as it is now."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        names = [*map(float, self._bounds), "+Inf"]
        for values, series in list(self._series.items()):
            counts = list(accumulate(series.counts))
            buckets = [(str(name), count) for name, count in zip(names, counts, strict=True)]
            family.add_metric(values, buckets, series.total)
            family.add_sample(f"{self._name}_created", dict(zip(self._labels, values, strict=True)), series.created_s)
        return [family]


class Metrics:
    """The server's counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[str, _Series] = {}
        self.requests = Counter(
            "isplit_requests", "Infer requests by gRPC status.", ["model", "status"], registry=self.registry
        )
        self.images = Counter("isplit_images", "Images answered.", ["model"], registry=self.registry)
        self.stage_seconds = Distributions(
            "isplit_stage_seconds",
            "Seconds per answered request and stage; server is all of it.",
            ["model", "stage"],
            bounds=_SECONDS,
            registry=self.registry,
        )
        self.batch_images = Distributions(
            "isplit_batch_images",
            "Size of the batch that a request was computed in.",
            ["model"],
            bounds=_IMAGES,
            registry=self.registry,
        )
        self.waiting_images = Gauge(
            "isplit_waiting_images", "Images admitted and not yet computed.", ["model"], registry=self.registry
        )
        self.refusals = Counter(
            "isplit_refusals", "Calls, connections and requests that were refused.", ["reason"], registry=self.registry
        )
        self.connections = Gauge("isplit_connections", "Open connections.", ["kind"], registry=self.registry)
        self.receiving_calls = Gauge(
            "isplit_receiving_calls", "Calls whose message has not arrived in full.", registry=self.registry
        )
        self.message_bytes = Gauge(
            "isplit_message_bytes", "Memory taken for messages that are not computed yet.", registry=self.registry
        )
        self.certificate_ends = Gauge(
            "isplit_certificate_end_seconds",
            "When the certificate expires, in seconds since 1970; 0 without TLS.",
            registry=self.registry,
        )
        self.draining = Gauge("isplit_draining", "1 once the server takes no new requests.", registry=self.registry)

    def answered(self, model: str, *, images: int, batch_size: int, stages_ms: dict[str, float]) -> None:
        """Count an answer and the time of its stages."""
        # Finding a series by its labels takes longer than counting.
        if model not in self._series:
            self._series[model] = self._find(model)
        requests, answered, batches, stages = self._series[model]
        requests.inc()
        answered.inc(images)
        batches.observe(batch_size)
        for stage, milliseconds in stages_ms.items():
            stages[stage].observe(milliseconds / 1e3)

    def refused(self, model: str, status: str) -> None:
        """Count a request that got no answer."""
        self.requests.labels(model, status).inc()

    def _find(self, model: str) -> _Series:
        return (
            self.requests.labels(model, "OK"),
            self.images.labels(model),
            self.batch_images.labels(model),
            {stage: self.stage_seconds.labels(model, stage) for stage in STAGES},
        )
