"""What the receiver counts, for Prometheus; with several workers, of all of them together."""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus_client knows that several processes count together."""


class Metrics:
    """The counters of one worker.

    Attributes:
        registry: where parts of the receiver register their own metrics. With several workers,
            gauges need a `multiprocess_mode`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.alerts = Counter(
            "dat_receiver_alerts_total",
            "Alerts that came, by what became of them.",
            ["outcome"],
            registry=self.registry,
        )
        self.visuals = Counter(
            "dat_receiver_visuals_total",
            "Visuals that came to their end: complete, or refused.",
            ["outcome"],
            registry=self.registry,
        )
        self.refused = Counter(
            "dat_receiver_refused_total",
            "Requests that were refused, by status.",
            ["status"],
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "dat_receiver_commit_seconds",
            "From an alert's arrival, read and checked, to the end of its commit.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
