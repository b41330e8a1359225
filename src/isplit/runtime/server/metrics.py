"""Count the server's events for Prometheus, in a registry of its own, because several servers may share a process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

STAGES = ("decode", "queue", "infer", "server")
UNKNOWN_MODEL = ""
"""The label of requests that name no hosted model: a caller must not be able to create new series."""

_Series = tuple[Counter, Counter, Histogram, dict[str, Histogram]]
"""The series of one model: requests answered, images, batches, and the seconds of each stage."""


class Metrics:
    """The server's counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[str, _Series] = {}
        self.requests = Counter(
            "isplit_requests", "Infer requests by gRPC status.", ["model", "status"], registry=self.registry
        )
        self.images = Counter("isplit_images", "Images answered.", ["model"], registry=self.registry)
        self.stage_seconds = Histogram(
            "isplit_stage_seconds",
            "Seconds per answered request and stage; server is all of it.",
            ["model", "stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_images = Histogram(
            "isplit_batch_images",
            "Size of the batch that a request was computed in.",
            ["model"],
            buckets=_IMAGES,
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
