"""What people read of a running node, line by line."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.edge import status as module
from dat_runtime.edge.bundle import NOT_FIT
from dat_runtime.edge.status import (
    StatusError,
    lines,
    status,
    version_lines,
    versions_status,
)
from dat_runtime.edge.updates.switch import Looked, Probation, State
from dat_runtime.edge.updates.switch import as_json as as_json_of
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.errors import ConfigError
from dat_runtime.manifest import Manifest

TOLD: dict[str, Any] = {
    "node": "crossing-7",
    "version": "1.2.3",
    "problems": [],
    "bundle": {"version": "0123456789abcdef", "probation": False, "problem": None},
    "cameras": {"north": "live", "south": "down: silent"},
    "uplink": {
        "url": "https://alerts.example",
        "connected": True,
        "problem": "",
        "bytes_per_s": 123_456.0,
        "round_trip_s": 1.5004,
        "last_acknowledged_at": 1_799_999_970.0,
    },
    "waiting": {"alerts": 2, "visuals": 3, "questions": 4},
    "spool": {"bytes": 250_050_100, "max_bytes": 500_000_000},
    "dropped": {"the spool is full": 7, "expired": 1},
}


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "time", lambda: 1_800_000_000.4)


def changed(**parts: Mapping[str, Any] | Any) -> dict[str, Any]:
    """The status with some of its parts changed."""
    return TOLD | {
        name: TOLD[name] | part if isinstance(part, dict) and name in TOLD else part
        for name, part in parts.items()
    }


def test_a_node_that_is_well() -> None:
    assert list(lines(TOLD)) == [
        "node      crossing-7, dat-runtime 1.2.3",
        "bundle    0123456789abcdef",
        "camera    north: live",
        "camera    south: down: silent",
        "uplink    https://alerts.example: connected",
        "          carries 123.5 kB/s, round trip 1500 ms",
        "          last acknowledged 30 s ago",
        "waiting   2 alerts, 3 visuals",
        "spool     250.1 MB, 50% of what it may hold",
        "dropped   expired: 1",
        "dropped   the spool is full: 7",
    ]


def test_all_that_may_be_wrong_with_one_or_be_said_beside() -> None:
    told = changed(
        problems=["no camera gives frames", "the gate fails"],
        bundle={"probation": True, "problem": "the adapter is old", "not_fit": "never trained"},
        cameras={},
        uplink={
            "connected": False,
            "metered": True,
            "problem": "no network",
            "last_acknowledged_at": None,
        },
        offloads={"code": 5, "features": 6},
        dropped={},
    )
    told["cameras"] = {}
    told["dropped"] = {}
    assert list(lines(told)) == [
        "node      crossing-7, dat-runtime 1.2.3",
        "PROBLEM   no camera gives frames",
        "PROBLEM   the gate fails",
        "bundle    0123456789abcdef, on probation",
        "          NOT FIT FOR USE: never trained",
        "          the adapter is old",
        "uplink    https://alerts.example: NOT CONNECTED, events wait in the spool",
        "          metered: only alerts go, visuals and questions wait for another way",
        "          no network",
        "waiting   2 alerts, 3 visuals",
        "finished  by the receiver: code 5, features 6; 4 wait",
        "spool     250.1 MB, 50% of what it may hold",
    ]


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"round_trip_s": None}, "          carries 123.5 kB/s"),
        ({"round_trip_s": 0.0}, "          carries 123.5 kB/s, round trip 0 ms"),
        ({"bytes_per_s": 0.0}, None),
        ({"connected": False}, None),
    ],
)
def test_what_a_link_carries_is_said_where_it_was_measured(
    link: dict[str, Any], said: str | None
) -> None:
    carries = [line for line in lines(changed(uplink=link)) if "carries" in line]
    assert carries == ([] if said is None else [said])


def test_a_clock_that_was_set_back_makes_no_answer_of_the_future() -> None:
    told = changed(uplink={"last_acknowledged_at": 1_800_000_100.0})
    assert "          last acknowledged 0 s ago" in list(lines(told))


def test_versions_in_words() -> None:
    assert list(version_lines(State())) == ["current   none installed: node.yaml names the bundle"]
    state = State(
        current="a" * 16,
        previous="b" * 16,
        probation=Probation(1_800_000_000.5),
        blocked={"c" * 16: "it failed on the canary", "d" * 16: "it is slow"},
        looked=Looked(1_800_000_060.0, "no network", stale=True),
    )
    assert list(version_lines(state)) == [
        f"current   {'a' * 16}",
        "          on probation since 2027-01-15 08:00:00+00:00",
        f"previous  {'b' * 16}",
        f"blocked   {'c' * 16}: it failed on the canary",
        f"blocked   {'d' * 16}: it is slow",
        "updates   looked for at 2027-01-15 08:01:00+00:00: STALE, updates are blocked: no network",
    ]
    well = State(current="a" * 16, looked=Looked(1e18))
    assert list(version_lines(well))[1:] == [
        "updates   looked for at 1000000000000000000 s: all well"
    ]


@contextmanager
def answering(content: bytes) -> Iterator[str]:
    """A server that gives this to whoever asks for the status, as its `listen` has it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/status" else 404)
            self.end_headers()
            self.wfile.write(content if self.path == "/status" else b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str | None], Path]:
    def write(listen: str | None) -> Path:
        document: dict[str, Any] = {
            "node": "n1",
            "bundle": "bundle",
            "cameras": [{"name": "north", "source": "frames"}],
            "uplink": {"url": "http://127.0.0.1:9"},
            "spool": {"path": "s.sqlite"},
        }
        if listen is not None:
            document["metrics"] = {"listen": listen}
        path = tmp_path / "node.yaml"
        path.write_text(json.dumps(document))
        return path

    return write


Settings = Callable[[str | None], Path]


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["\x1b[2J"], 1)])
def test_the_status_is_asked_for_and_says_by_its_code_whether_all_is_well(
    settings: Settings, capsys: pytest.CaptureFixture[str], problems: list[str], code: int
) -> None:
    told = changed(problems=problems)
    with answering(json.dumps(told).encode()) as listen:
        assert status(settings(listen)) == code
    expected = [line.replace("\x1b", "\\x1b") for line in lines(told)]
    assert capsys.readouterr().out.splitlines() == expected


def test_a_node_that_serves_no_status_is_not_asked(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"node\.yaml: has no `metrics: \{listen: \.\.\.\}`: add"):
        status(settings(None))


@pytest.mark.parametrize("content", [b"[]", b'{"status": "up"}'])
def test_what_answers_and_is_no_node_is_named(settings: Settings, content: bytes) -> None:
    with answering(content) as listen, pytest.raises(StatusError) as caught:
        status(settings(listen))
    assert str(caught.value) == f"http://{listen}/status: what answers is not a node"


def test_where_nothing_answers_or_no_json_no_node_does(settings: Settings) -> None:
    with answering(b"<html>") as listen, pytest.raises(StatusError) as caught:
        status(settings(listen))
    assert str(caught.value).startswith(f"http://{listen}/status: no node answers (")
    with pytest.raises(StatusError, match=r"/status: no node answers \(.*refused"):
        status(settings(listen))


def test_a_node_that_takes_long_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    class Client:
        def __init__(self, **options: Any):
            assert options == {"trust_env": False, "timeout": 5.0}

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None:
            """It holds nothing."""

        def get(self, url: str) -> None:
            raise httpx.ReadTimeout("")

    monkeypatch.setattr(httpx, "Client", Client)
    with pytest.raises(StatusError, match=r"no node answers \(ReadTimeout\)"):
        status(settings("127.0.0.1:9"))


def state_of(folder: Path, state: State) -> None:
    versions = Versions(folder)
    versions.folder.mkdir(parents=True, exist_ok=True)
    versions.change(lambda _: state)


def versions_of(path: Path) -> list[str]:
    return list(version_lines(Versions(path.parent / "bundle").state()))


def test_versions_are_told_with_the_node_where_it_answers(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(json.dumps(TOLD).encode()) as listen:
        path = settings(listen)
        assert versions_status(path) == 0
        assert capsys.readouterr().out.splitlines() == [*versions_of(path), *lines(TOLD)]
        assert versions_status(path, as_json=True) == 0
        said = {"versions": as_json_of(State()), "node": TOLD}
        assert json.loads(capsys.readouterr().out) == said
    ill = changed(problems=["no camera gives frames"])
    with answering(json.dumps(ill).encode()) as listen:
        assert versions_status(settings(listen)) == 1


def test_a_silent_node_is_a_fault_and_one_that_cannot_be_asked_is_not(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings(None)
    assert versions_status(path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "node      it has no `metrics: {listen: ...}` to be asked at"
    )
    assert versions_status(settings("127.0.0.1:9")) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("node      http://127.0.0.1:9/status: no node answers (")
    assert versions_status(settings("127.0.0.1:9"), as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["node"] is None


@pytest.mark.parametrize(("stale", "code"), [(False, 0), (True, 1)])
def test_blocked_updates_are_a_fault(settings: Settings, stale: bool, code: int) -> None:
    path = settings(None)
    state_of(path.parent / "bundle", State(looked=Looked(1.8e9, "no network", stale)))
    assert versions_status(path) == code


def test_a_bundle_that_is_not_fit_says_so_whichever_is_at_work(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings(None)
    bundle = path.parent / "bundle"
    said = "          NOT FIT FOR USE: never trained"

    def unfit(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        manifest.write(folder, Manifest("bundle", {}, {NOT_FIT: "never trained"}, "0", {}, {}))

    assert versions_status(path) == 0
    assert said not in capsys.readouterr().out
    unfit(bundle)
    versions_status(path)
    assert said in capsys.readouterr().out.splitlines()
    version = "a" * 16
    folder = Versions(bundle).folder_of(version)
    folder.mkdir(parents=True)
    state_of(bundle, State(current=version))
    versions_status(path)
    assert said not in capsys.readouterr().out.splitlines()
    unfit(folder)
    versions_status(path)
    assert said in capsys.readouterr().out.splitlines()
