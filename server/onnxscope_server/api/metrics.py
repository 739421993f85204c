"""Counters of the server, in Prometheus' format over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Stoppable(Protocol):
    """An HTTP server in a thread of its own."""

    def shutdown(self) -> None:
        """Ends it."""

    def server_close(self) -> None:
        """Gives its port back."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the metrics are served."""

    port: int
    server: Stoppable

    def close(self) -> None:
        """Stops serving."""
        self.server.shutdown()
        self.server.server_close()


@dataclass(frozen=True, slots=True)
class _Read(Collector):
    """A counter that is read when somebody looks."""

    name: str
    text: str
    read: Callable[[], float]

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields what it stands at."""
        yield CounterMetricFamily(self.name, self.text, value=self.read())


class Metrics:
    """What operators watch. A registry of its own: an embedding process may have several servers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._calls = Counter("onnxscope_calls", "Calls that ended.", ("method", "reason"), registry=self._registry)
        self._seconds = Histogram(
            "onnxscope_call_seconds",
            "Seconds from a call's start to its end.",
            ("method",),
            registry=self._registry,
        )
        # by method and reason: finding them takes longer than counting
        self._known: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def observe(self, method: str, reason: str, seconds: float) -> None:
        """Counts a call that ended; reason is OK or that of its error."""
        known = self._known.get((method, reason))
        if known is None:
            known = self._calls.labels(method, reason), self._seconds.labels(method)
            self._known[method, reason] = known
        calls, taken = known
        calls.inc()
        taken.observe(seconds)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Adds a gauge that is read when somebody looks."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Adds a counter that is kept elsewhere and read when somebody looks."""
        self._registry.register(_Read(name, text, read))

    def serve(self, host: str, port: int) -> Endpoint:
        """Serves the metrics over HTTP.

        Raises:
            OSError: the port is taken.
        """
        server, _ = start_http_server(port, addr=host, registry=self._registry)
        return Endpoint(server.server_port, server)
