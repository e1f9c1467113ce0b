"""Metrics of the HTTP server in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from visionloop.serving.http.state import ServerState

__all__ = ["Metrics"]

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts and durations, each server its own; gauges are read when somebody asks.

    Parameters
    ----------
    state : ServerState
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, state: ServerState) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "visionloop_http_requests",
            "Requests for predictions, by status of the answer",
            ["status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "visionloop_http_request_seconds",
            "From a request to its answer, for requests that were answered with 200",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._refusals = Histogram(
            "visionloop_http_refusal_seconds",
            "From a request to its 429",
            buckets=(0.001, 0.002, *SECONDS),
            registry=self._registry,
        )
        self._pictures = Histogram(
            "visionloop_http_batch_pictures",
            "Pictures in one call of the model",
            buckets=PICTURES,
            registry=self._registry,
        )
        self._batches = Histogram(
            "visionloop_http_batch_seconds",
            "Decoding and the model, by batch",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._phases = Counter(
            "visionloop_http_model_seconds",
            "Time of the lanes by what they did: pre-processing, model, post-processing",
            ["phase"],
            registry=self._registry,
        )
        self._failures = Counter(
            "visionloop_http_model_failures",
            "Requests for which the model gave no usable answer",
            registry=self._registry,
        )
        self._swaps = Counter(
            "visionloop_http_release_swaps",
            "Releases that took over while the server ran",
            registry=self._registry,
        )
        self._receiving = Gauge(
            "visionloop_http_receiving_bytes",
            "Of bodies that are being received",
            registry=self._registry,
        )
        self._receiving.set_function(lambda: state.bodies.receiving_bytes)
        self._registry.register(_StateCollector(state))

    def on_answer(self, status: int, seconds: float) -> None:
        """A request for predictions was answered."""
        self._requests.labels(str(status)).inc()
        if status == 200:
            self._seconds.observe(seconds)
        elif status == 429:
            self._refusals.observe(seconds)

    def on_batch(self, pictures: int, seconds: float, timings: Any) -> None:
        """A lane has answered a batch."""
        self._pictures.observe(pictures)
        self._batches.observe(seconds)
        for phase in ("pre", "infer", "post"):
            self._phases.labels(phase).inc(getattr(timings, phase) / 1e3)

    def on_failure(self) -> None:
        """The model gave no usable answer."""
        self._failures.inc()

    def on_swap(self) -> None:
        """Another release took over."""
        self._swaps.inc()

    def render(self) -> bytes:
        """The whole page."""
        return generate_latest(self._registry)


class _StateCollector(Collector):
    """What is true now."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Gauges, read from the state."""
        state = self._state
        lanes = state.lanes
        rows = {
            "ready": ("1 if load balancers may send requests", not state.not_ready),
            "release_problem": ("1 if the newest release cannot be used", bool(state.problem)),
            "queue_pictures": ("Pictures that wait", lanes.waiting_pictures),
            "queue_limit_pictures": ("Most pictures that may wait", state.params.queue_pictures),
            "lanes": ("Calls of the model at once", lanes.count),
        }
        for name, (text, value) in rows.items():
            gauge = GaugeMetricFamily(f"visionloop_http_{name}", text)
            gauge.add_metric([], float(value))
            yield gauge
        release = GaugeMetricFamily(
            "visionloop_http_release",
            "Number of the release that serves",
            labels=["model", "package"],
        )
        served = state.releases.used
        if served is not None:
            labels = [served.release.model, served.package.sha256[:12]]
            release.add_metric(labels, float(served.release.number))
        yield release
