"""The device in Prometheus' words.

    registry = make_registry(read_state)     # a function that answers a DeviceState
    render_metrics(registry)                 # bytes for /metrics

Names begin with ``visionloop_``; ``deploy/prometheus`` holds rules and ``deploy/grafana`` a board
that use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from visionloop.serving.edge.device_state import DeviceState

__all__ = ["CONTENT_TYPE", "make_registry", "render_metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def make_registry(read_state: Callable[[], DeviceState]) -> CollectorRegistry:
    """A registry that asks for the state at every scrape."""
    registry = CollectorRegistry()
    registry.register(_DeviceCollector(read_state))
    return registry


def render_metrics(registry: CollectorRegistry) -> bytes:
    """The text form."""
    return generate_latest(registry)


class _DeviceCollector(Collector):
    def __init__(self, read_state: Callable[[], DeviceState]) -> None:
        self._read_state = read_state

    def describe(self) -> list[Metric]:
        """Nothing is asked before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        state = self._read_state()
        yield from _device(state)
        yield from _cameras(state)
        yield from _outbox(state)


def _device(state: DeviceState) -> Iterator[Metric]:
    info = {"site": state.site, "device": state.device, "model": state.model}
    info |= {"release": str(state.release), "package": state.package, "form": state.form}
    yield InfoMetricFamily("visionloop_agent", "What runs here", value=info)
    yield _gauge("visionloop_uptime_seconds", "Since the agent started", state.started_s)
    yield _gauge(
        "visionloop_degradation_level", "0 is everything, 6 is motion rules alone", state.level
    )
    yield _gauge(
        "visionloop_clock_synchronised", "1 if the wall clock can be trusted", state.clock_ok
    )
    pressure = GaugeMetricFamily(
        "visionloop_pressure", "Share of a limit; 1 is too much", labels=["cause"]
    )
    for cause, share in state.pressures.items():
        pressure.add_metric([cause], share)
    yield pressure
    service = GaugeMetricFamily(
        "visionloop_service_seconds", "Work a frame, of late", labels=["quantile"]
    )
    for quantile, seconds in state.service_s.items():
        service.add_metric([f"{quantile:g}"], seconds)
    yield service
    length = GaugeMetricFamily("visionloop_queue_length", "What waits", labels=["queue"])
    bound = GaugeMetricFamily("visionloop_queue_bound", "What may wait", labels=["queue"])
    for name, (now, most) in state.queues.items():
        length.add_metric([name], now)
        bound.add_metric([name], most)
    yield length
    yield bound
    for name, count in state.counts.items():
        yield CounterMetricFamily(f"visionloop_{name}", "Since the agent started", value=count)


def _cameras(state: DeviceState) -> Iterator[Metric]:
    def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"visionloop_camera_{name}", text, labels=["camera", *labels])

    def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"visionloop_camera_{name}", text, labels=["camera", *labels])

    up = gauge("up", "1 if pictures come")
    age = gauge("frame_age_seconds", "Since the last processed frame")
    health = gauge("health", "1 if the condition is raised", "condition")
    minutes = counter("minutes", "Camera-minutes, good and bad", "state", "cause")
    packets = counter("packets", "Received since its process began to read it")
    replaced = counter("frames_replaced", "By a newer one, before they were analysed")
    damaged = counter("frames_damaged", "Not decodable")
    frames = counter("frames", "Analysed since the start")
    events = counter("events", "Events of rules since the start")
    faults = counter("faults", "Connections that broke since the start")
    for name, one in state.cameras.items():
        up.add_metric([name], one.state in ("idle", "active"))
        if one.frame_age_s is not None:
            age.add_metric([name], one.frame_age_s)
        for condition, is_raised in one.health.items():
            health.add_metric([name, condition], is_raised)
        minutes.add_metric([name, "good", ""], one.minutes.good)
        for cause, count in one.minutes.bad.items():
            minutes.add_metric([name, "bad", cause], count)
        packets.add_metric([name], one.packets)
        replaced.add_metric([name], one.replaced)
        damaged.add_metric([name], one.damaged)
        frames.add_metric([name], one.frames)
        events.add_metric([name], one.events)
        faults.add_metric([name], one.faults)
    yield from (up, age, health, minutes, packets, replaced, damaged, frames, events, faults)


def _outbox(state: DeviceState) -> Iterator[Metric]:
    depth = state.outbox
    waiting = GaugeMetricFamily("visionloop_outbox_waiting", "Events that wait", labels=["sink"])
    for name, count in depth.waiting.items():
        waiting.add_metric([name], count)
    yield waiting
    yield _gauge("visionloop_outbox_bytes", "Size of all events in the outbox", depth.bytes)
    yield _gauge("visionloop_outbox_oldest_seconds", "Age of the oldest", depth.oldest_s)
    yield _gauge(
        "visionloop_outbox_durable",
        "0 if events are kept in memory",
        state.outbox_state != "memory",
    )
    dropped = CounterMetricFamily(
        "visionloop_outbox_dropped", "Dropped because it was full", labels=["priority"]
    )
    for priority, count in depth.dropped.items():
        dropped.add_metric([str(priority)], count)
    yield dropped
    yield CounterMetricFamily("visionloop_outbox_refused", "Refused by a sink", value=depth.refused)
    up = GaugeMetricFamily("visionloop_sink_up", "1 if the last batch was taken", labels=["sink"])
    sent = CounterMetricFamily("visionloop_sink_sent", "Events that it holds", labels=["sink"])
    failed = CounterMetricFamily("visionloop_sink_failures", "Failed batches", labels=["sink"])
    for name, sink in state.sinks.items():
        up.add_metric([name], sink.is_up)
        sent.add_metric([name], sink.sent)
        failed.add_metric([name], sink.failures)
    yield from (up, sent, failed)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))
