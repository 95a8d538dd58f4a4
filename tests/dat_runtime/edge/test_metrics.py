"""What Prometheus reads of a node."""

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dat_runtime.edge import metrics
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.metrics import MetricsServer, address_of
from dat_runtime.errors import ConfigError

STATUS: dict[str, Any] = {
    "problems": [],
    "cameras": {"a": "live", "b": "down: silent", "c": "live"},
    "uplink": {"connected": True, "url": "http://x", "bytes_per_s": 5.5, "round_trip_s": None},
    "waiting": {"alerts": 2, "visuals": 0},
    "spool": {"bytes": 10},
    "bundle": {"version": "0123456789abcdef", "probation": False, "blocked": 1, "stale": True},
}


@contextmanager
def served(counts: Counts, **changes: Any) -> Iterator[httpx.Client]:
    server = MetricsServer(("127.0.0.1", 0), counts, lambda: STATUS | changes)
    server.start()
    try:
        with httpx.Client(base_url=server.address) as client:
            yield client
    finally:
        server.stop()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def test_counts_of_one_name_are_one_family_whatever_their_labels() -> None:
    counts = Counts()
    counts.add("visuals_refused", reason="not a JPEG")
    counts.add("visuals_refused", 2, kind="roi")
    counts.add("visuals_refused", 4)
    with served(counts) as client:
        found = samples(client.get("/metrics").text)
    name = "dat_node_visuals_refused_total"
    assert {key[1]: value for key, value in found.items() if key[0] == name} == {
        (("kind", ""), ("reason", "not a JPEG")): 1,
        (("kind", "roi"), ("reason", "")): 2,
        (("kind", ""), ("reason", "")): 4,
    }


def test_the_status_is_told_in_gauges() -> None:
    with served(Counts()) as client:
        found = samples(client.get("/metrics").text)
    assert found["dat_node_healthy", ()] == 1
    assert found["dat_node_uplink_bytes_per_s", ()] == 5.5
    assert found["dat_node_uplink_connected", ()] == 1
    assert found["dat_node_waiting_alerts", ()] == 2
    assert found["dat_node_cameras", (("state", "live"),)] == 2
    assert found["dat_node_cameras", (("state", "down"),)] == 1
    assert ("dat_node_uplink_round_trip_s", ()) not in found


def test_a_problem_is_told_with_its_words() -> None:
    with served(Counts(), problems=["no camera gives frames"]) as client:
        health = client.get("/healthz")
        assert (health.status_code, health.json()["problems"]) == (503, ["no camera gives frames"])
        assert samples(client.get("/metrics").text)["dat_node_healthy", ()] == 0


def test_an_address_that_is_taken_is_named() -> None:
    with served(Counts()) as client:
        taken = "127.0.0.1", client.base_url.port or 0
        with pytest.raises(ConfigError, match=r"metrics.listen 127.0.0.1:\d+: Address already"):
            MetricsServer(taken, Counts(), lambda: STATUS)


def test_it_listens_on_ipv6_too() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = MetricsServer(("::1", 0), Counts(), lambda: STATUS)
    server.start()
    try:
        assert server.address.startswith("http://[::1]:")
        assert httpx.get(server.address + "/healthz").status_code == 200
    finally:
        server.stop()


def test_a_client_that_goes_away_is_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with served(Counts()) as client:
        for _ in range(5):
            gone = socket.create_connection(("127.0.0.1", client.base_url.port or 0))
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            gone.close()  # with a reset
        assert client.get("/healthz").status_code == 200
    assert capfd.readouterr().err == ""


def test_a_defect_keeps_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with served(Counts(), cameras=None) as client, pytest.raises(httpx.HTTPError):
        client.get("/metrics")
    assert "AttributeError" in capfd.readouterr().err


def test_no_name_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "getfqdn", asked)
    with served(Counts()) as client:
        assert client.get("/healthz").status_code == 200


PLAIN = "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "problems", "code", "kind", "said"),
    [
        ("/metrics?x=1", [], 200, PLAIN, None),
        ("/healthz", [], 200, "application/json", {"problems": []}),
        ("/readyz?x", ["a", "b"], 503, "application/json", {"problems": ["a", "b"]}),
        ("/healthz", ["a"], 503, "application/json", {"problems": ["a"]}),
        ("/status", ["a"], 200, "application/json", STATUS | {"problems": ["a"]}),
        ("/", [], 404, "application/json", {"error": "not here"}),
        ("/status/", [], 404, "application/json", {"error": "not here"}),
        ("/METRICS", [], 404, "application/json", {"error": "not here"}),
    ],
)
def test_what_is_said_where(
    path: str, problems: list[str], code: int, kind: str, said: Any
) -> None:
    with served(Counts(), problems=problems) as client:
        answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (code, kind)
    assert answer.headers["content-length"] == str(len(answer.content))
    if said is None:
        assert b"dat_node_healthy 1.0" in answer.content
    else:
        assert answer.json() == said


def test_all_that_is_counted_and_all_numbers_of_a_status_are_told_by_name() -> None:
    counts = Counts()
    counts.add("frames_taken", 3, camera="a")
    counts.add("alerts", 2)
    with served(counts) as client:
        text = client.get("/metrics").text
    assert samples(text) == {
        ("dat_node_frames_taken_total", (("camera", "a"),)): 3,
        ("dat_node_alerts_total", ()): 2,
        ("dat_node_healthy", ()): 1,
        ("dat_node_uplink_connected", ()): 1,
        ("dat_node_uplink_bytes_per_s", ()): 5.5,
        ("dat_node_waiting_alerts", ()): 2,
        ("dat_node_waiting_visuals", ()): 0,
        ("dat_node_spool_bytes", ()): 10,
        ("dat_node_bundle_probation", ()): 0,
        ("dat_node_bundle_blocked", ()): 1,
        ("dat_node_bundle_stale", ()): 1,
        ("dat_node_cameras", (("state", "live"),)): 2,
        ("dat_node_cameras", (("state", "down"),)): 1,
    }
    assert "# HELP dat_node_frames_taken_total frames taken\n" in text
    assert "# HELP dat_node_uplink_bytes_per_s uplink bytes per s\n" in text
    assert "# HELP dat_node_cameras cameras by state\n" in text


def test_without_its_library_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError) as caught:
        MetricsServer(("127.0.0.1", 0), Counts(), lambda: STATUS)
    words = "metrics need a package: pip install 'dat-runtime[node]', or leave `metrics` out"
    assert str(caught.value) == words


def test_an_address_is_written_as_http_wants_it() -> None:
    assert address_of("127.0.0.1", 9108) == "http://127.0.0.1:9108"
    assert address_of("::1", 9108) == "http://[::1]:9108"


def test_the_thread_has_a_name_holds_no_process_and_ends() -> None:
    server = MetricsServer(("127.0.0.1", 0), Counts(), lambda: STATUS)
    server.start()
    thread = server._thread
    assert (thread.name, thread.daemon) == ("metrics", True)
    server.stop()
    assert not thread.is_alive()


def test_an_error_without_words_of_the_system_is_told_by_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(listen: Any, handler: Any) -> None:
        assert handler.timeout == 5.0  # of a client that asks nothing
        raise OSError("no such address")

    monkeypatch.setattr(metrics, "_Server", fail)
    with pytest.raises(ConfigError) as caught:
        MetricsServer(("h", 9), Counts(), lambda: STATUS)
    assert str(caught.value) == "metrics.listen h:9: no such address"
