"""Metrics for Prometheus (docs/server.md says what each number means)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ternac.errors import TernacError
from ternac.host.server.job import Finished
from ternac.host.server.scheduler import Stats

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class Metrics:
    """Counters of one server in a registry of their own; the scheduler is asked when Prometheus reads."""

    def __init__(self, stats: Callable[[], Stats], sessions: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._requests = Counter("ternac_requests", "Responses.", ["path", "status"], registry=registry)
        self._tokens = Counter("ternac_tokens", "Tokens of finished texts.", ["kind"], registry=registry)
        self._texts = Counter("ternac_texts", "Texts, by how they ended.", ["end"], registry=registry)
        self._seconds = Histogram(
            "ternac_request_seconds",
            "From a request's arrival to the end of its response.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            "ternac_first_token_seconds",
            "From a text's arrival to its first tokens.",
            buckets=SECONDS,
            registry=registry,
        )
        self._connections = Counter(
            "ternac_connections_closed", "Connections that the server closed.", ["reason"], registry=registry
        )
        for reason in ("refused", "evicted", "slow_head", "stalled"):
            self._connections.labels(reason)
        registry.register(_Live(stats, sessions))

    def connection(self, reason: str) -> None:
        """Count a connection that the server closed: for want of room, or of patience."""
        self._connections.labels(reason).inc()

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a response; ``path`` is the route's, so that the number of labels is bounded."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def first(self, seconds: float) -> None:
        """Record the time to a text's first tokens."""
        self._first.observe(seconds)

    def finished(self, prompt: int, end: Finished) -> None:
        """Count a finished text."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(end.chosen)
        self._texts.labels(end.reason).inc()

    def failed(self, error: TernacError) -> None:
        """Count a failed text."""
        self._texts.labels(type(error).__name__).inc()

    def cancelled(self) -> None:
        """Count a cancelled text."""
        self._texts.labels("Cancelled").inc()

    def text(self) -> bytes:
        """Return the page that Prometheus reads."""
        return generate_latest(self.registry)


class _Live(Collector):
    def __init__(self, stats: Callable[[], Stats], sessions: Callable[[], int]) -> None:
        self._stats, self._sessions = stats, sessions

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for name, text, value in (
            ("ternac_queue_depth", "Requests that wait for a turn on a device.", stats.jobs - stats.running),
            ("ternac_running", "Requests in a slice on a device.", stats.running),
            ("ternac_sessions", "Sessions kept between requests.", self._sessions()),
            ("ternac_ready", "1: new requests are taken.", int(stats.ready)),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily(
            "ternac_moves", "Texts moved between devices while they ran.", value=stats.moves
        )
        up = GaugeMetricFamily("ternac_device_up", "1: the device is up.", labels=["device"])
        speed = GaugeMetricFamily(
            "ternac_device_tokens_per_second", "Tokens over seconds of the last slices.", labels=["device"]
        )
        held = GaugeMetricFamily("ternac_device_requests", "Requests that the device has.", labels=["device"])
        tokens = CounterMetricFamily("ternac_device_tokens", "Tokens fed on the device.", labels=["device"])
        losses = CounterMetricFamily("ternac_device_losses", "Times the device was lost.", labels=["device"])
        for device in stats.devices:
            label = [device.label]
            up.add_metric(label, int(device.up))
            speed.add_metric(label, device.tokens_per_second)
            held.add_metric(label, device.sessions)
            tokens.add_metric(label, device.tokens)
            losses.add_metric(label, device.losses)
        yield from (up, speed, held, tokens, losses)
