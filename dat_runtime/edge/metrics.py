"""A node's metrics, health and status over HTTP: `/metrics`, `/healthz`, `/readyz`, `/status`.

For the machine itself and whoever may watch it: it listens where `metrics.listen` says.
"""

import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from dat_runtime.edge.counts import Counts, Labels, Series
from dat_runtime.errors import ConfigError

Status = Mapping[str, Any]
"""What a node says of itself, as JSON."""

PREFIX = "dat_node_"
"""Of every metric's name."""


class MetricsServer:
    """Serves until it is stopped.

    Args:
        status: the status now; `problems` in it are why the node is not healthy.

    Raises:
        ConfigError: the address cannot be listened on, or prometheus_client is not installed.
    """

    def __init__(self, listen: tuple[str, int], counts: Counts, status: Callable[[], Status]):
        exposition = _exposition(counts, status)

        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0  # of a client that asks nothing

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._say(200, exposition(), "text/plain; version=0.0.4; charset=utf-8")
                elif path in ("/healthz", "/readyz"):
                    problems = status()["problems"]
                    self._say_json(503 if problems else 200, {"problems": problems})
                elif path == "/status":
                    self._say_json(200, status())
                else:
                    self._say_json(404, {"error": "not here"})

            def _say_json(self, code: int, value: Any) -> None:
                self._say(code, json.dumps(value).encode(), "application/json")

            def _say(self, code: int, content: bytes, kind: str) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: whoever asks knows what was asked."""

        try:
            self._server = _Server(listen, Handler)
        except OSError as error:
            raise ConfigError(
                f"metrics.listen {listen[0]}:{listen[1]}: {error.strerror or error}"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics")
        self._thread.daemon = True

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return address_of(str(host), port)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, listen: tuple[str, int], handler: type[BaseHTTPRequestHandler]):
        self.address_family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        super().__init__(listen, handler)

    def server_bind(self) -> None:
        """Not `HTTPServer`'s: it looks its own name up, which takes long while the link is away."""
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away before their answer are nothing to tell of."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def address_of(host: str, port: int) -> str:
    """Where a node's metrics are, IPv6 too."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _exposition(counts: Counts, status: Callable[[], Status]) -> Callable[[], bytes]:
    """What gives the metrics in Prometheus' text form."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    except ImportError:
        raise ConfigError(
            "metrics need a package: pip install 'dat-runtime[node]', or leave `metrics` out"
        ) from None

    class Collector:
        def collect(self) -> Iterable[Metric]:
            for name, series in _by_name(counts.snapshot()).items():
                keys = sorted({key for labels in series for key, _ in labels})
                family = CounterMetricFamily(PREFIX + name, name.replace("_", " "), labels=keys)
                for labels, value in series.items():
                    stated = dict(labels)
                    family.add_metric([stated.get(key, "") for key in keys], value)
                yield family
            told = status()
            for name, gauge in _gauges(told):
                yield GaugeMetricFamily(PREFIX + name, name.replace("_", " "), value=gauge)
            cameras = GaugeMetricFamily(PREFIX + "cameras", "cameras by state", labels=["state"])
            # "down: silent" counts as down: the reasons are in the status.
            states = Counter(state.partition(":")[0] for state in told["cameras"].values())
            for state, number in sorted(states.items()):
                cameras.add_metric([state], number)
            yield cameras

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return lambda: generate_latest(registry)


def _by_name(counts: Mapping[Series, int]) -> dict[str, dict[Labels, int]]:
    """The series of each counter."""
    found: dict[str, dict[Labels, int]] = {}
    for (name, labels), value in sorted(counts.items()):
        found.setdefault(name, {})[labels] = value
    return found


def _gauges(status: Status) -> Iterable[tuple[str, float]]:
    """The numbers of a status, by their place in it."""
    yield "healthy", float(not status["problems"])
    for part in ("uplink", "waiting", "spool", "bundle"):
        for name, value in status[part].items():
            if isinstance(value, int | float):
                yield f"{part}_{name}", float(value)
