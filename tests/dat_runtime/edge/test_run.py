"""How a node is put together, told of, and ended; its parts are made up."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime import __version__
from dat_runtime.edge import run as module
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node_settings import (
    MllmSettings,
    NodeSettings,
    OffloadSettings,
    SpoolSettings,
)
from dat_runtime.edge.question import Question
from dat_runtime.edge.run import Assembly, assemble, chosen, dropped, notify, offloading_of, run
from dat_runtime.edge.spool import Usage
from dat_runtime.edge.uplink.settings import UplinkSettings, UplinkState
from dat_runtime.errors import ConfigError

SETTINGS = NodeSettings(
    "n1",
    Path("bundle"),
    (SimpleNamespace(name="north"), SimpleNamespace(name="south")),  # type: ignore[arg-type]
    (UplinkSettings("https://a.example", None, 7e5),),
    SpoolSettings(Path("s.sqlite"), 5_000_000, 400_000),
)
LINK = UplinkState("https://a.example", True, 5.5, 0.25, 1, 2, 1.7e9, "slow", 3, True)


class Parts:
    """The parts of a node, noted in order as they are started and ended."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.problems: list[str] = []
        self.states = {"north": "live", "south": "down: silent"}
        self.link = LINK
        self.looks = True
        self.not_fit: str | None = None

    def assembly(self, settings: NodeSettings = SETTINGS, counts: Counts | None = None) -> Assembly:
        step = self.steps.append
        parts = self

        class Node:
            def run(self) -> None:
                step("runs")

            def stop(self) -> None:
                step("is asked to stop")

            def problems(self) -> list[str]:
                return parts.problems

            @property
            def looks(self) -> bool:
                return parts.looks

        node = Node()
        cameras = SimpleNamespace(states=lambda: dict(self.states))
        spool = SimpleNamespace(usage=Usage(10, 11, 12, 13))

        class Uplink:
            @property
            def state(self) -> UplinkState:
                return parts.link

        follower = SimpleNamespace(
            status=lambda: {"version": "v", "not_fit": self.not_fit},
            start=lambda: step("follower starts"),
            stop=lambda: step("follower stops"),
        )
        made: Any = (settings, node, cameras, spool, Uplink(), counts or Counts(), follower)
        return Assembly(*made)


def test_a_status_holds_what_each_part_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "time", lambda: 1.8e9)
    parts, counts = Parts(), Counts()
    parts.problems = ["no camera gives frames"]
    counts.add("visuals_dropped", 4, reason="expired")
    counts.add("offloads", 5, kind="code")
    assert parts.assembly(counts=counts).status() == {
        "node": "n1",
        "version": __version__,
        "time": 1.8e9,
        "problems": ["no camera gives frames"],
        "cameras": {"north": "live", "south": "down: silent"},
        "uplink": {
            "url": "https://a.example",
            "connected": True,
            "metered": True,
            "problem": "slow",
            "bytes_per_s": 5.5,
            "round_trip_s": 0.25,
            "last_acknowledged_at": 1.7e9,
        },
        "waiting": {"alerts": 1, "visuals": 2, "questions": 3},
        "spool": {
            "bytes": 10,
            "alerts": 11,
            "visuals": 12,
            "questions": 13,
            "max_bytes": 5_000_000,
        },
        "dropped": {"visuals_dropped: expired": 4},
        "bundle": {"version": "v", "not_fit": None},
        "offloads": {"code": 5},
    }


def test_what_did_not_arrive_is_summed_over_cameras_by_what_and_why() -> None:
    counts = Counts()
    counts.add("frames_dropped", 1, camera="a", reason="damaged")
    counts.add("frames_dropped", 2, camera="b", reason="damaged")
    counts.add("frames_dropped", 4, camera="b", reason="late")
    for name in ("frames_failed", "alerts_lost", "questions_not_kept", "alerts_refused"):
        counts.add(name, 8)
    counts.add("alerts_superseded", 16)
    counts.add("alerts", 32, camera="a")
    counts.add("frames_dropped_by_hand", 64)
    assert dropped(counts) == {
        "frames_dropped: damaged": 3,
        "frames_dropped: late": 4,
        "frames_failed": 8,
        "alerts_lost": 8,
        "questions_not_kept": 8,
        "alerts_refused": 8,
        "alerts_superseded": 16,
    }


def test_ways_that_were_chosen_are_told_by_kind() -> None:
    counts = Counts()
    assert chosen(counts) == {}
    counts.add("offloads", 2, kind="code")
    counts.add("offloads", 3, kind="webp")
    counts.add("offloads_changed", 5, reason="no code")
    assert chosen(counts) == {"code": 2, "webp": 3}


class Made:
    """Makers of parts: what each was made of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.of: dict[str, tuple[Any, ...]] = {}
        self.how: dict[str, dict[str, Any]] = {}
        for name in ("Spool", "Cameras", "Asking", "Uplink", "Node", "Follower", "Versions",
                     "Controller", "Encoder", "Offloading"):  # fmt: skip
            monkeypatch.setattr(module, name, self._maker(name))
        self.at_work = SimpleNamespace(gate="gate", assessor="assessor", is_served=True)
        monkeypatch.setattr(module, "first", lambda *about: self._note("first", about))
        monkeypatch.setattr(module, "given", lambda *about: self._note("given", about))

    def _note(self, name: str, about: tuple[Any, ...]) -> Any:
        self.of[name] = about
        return self.at_work

    def _maker(self, name: str) -> Callable[..., Any]:
        def make(*about: Any, **how: Any) -> Any:
            self.of[name], self.how[name] = about, how
            return SimpleNamespace(made=name)

        return make


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


def kind(part: Any) -> Any:
    return getattr(part, "made", part)


def test_a_node_is_put_together_from_its_settings(made: Made) -> None:
    assembly = assemble(SETTINGS)
    counts = assembly.counts
    assert isinstance(counts, Counts)
    assert made.of["Spool"] == (Path("s.sqlite"), 5_000_000, 400_000, counts)
    assert made.of["Cameras"] == (SETTINGS.cameras, counts)
    assert made.of["Versions"] == (Path("bundle"),)
    assert [kind(part) for part in made.of["first"]] == [SETTINGS, "Versions"]
    assert "Asking" not in made.of
    assert [kind(part) for part in made.of["Uplink"]] == [SETTINGS.uplinks, "Spool", counts, "n1"]
    node = ["n1", "gate", "Cameras", None, "Spool", "Uplink", counts, None]
    assert [kind(part) for part in made.of["Node"]] == node
    follower = [SETTINGS, "Versions", "Node", None, made.at_work]
    assert [kind(part) for part in made.of["Follower"]] == follower
    assert assembly.settings is SETTINGS
    parts = (assembly.node, assembly.cameras, assembly.spool, assembly.uplink, assembly.follower)
    assert [kind(part) for part in parts] == ["Node", "Cameras", "Spool", "Uplink", "Follower"]


@pytest.mark.parametrize("served", [True, False])
def test_an_mllm_is_asked_as_its_settings_say_once_it_is_served(made: Made, served: bool) -> None:
    made.at_work.is_served = served
    mllm = MllmSettings("http://m", "dat", 3, 17.0)
    gate: Any = "another gate"
    assembly = assemble(replace(SETTINGS, mllm=mllm), gate)
    asked = "assessor" if served else None
    assert made.of["Asking"] == (asked, 3, 0.9, 17.0, assembly.counts)
    assert kind(made.of["Node"][3]) == kind(made.of["Follower"][3]) == "Asking"
    assert made.of["given"] == ("another gate", assembly.settings)


@pytest.mark.parametrize(
    ("why", "said"), [(None, {}), ("x" * 300, {"not_fit": "x" * 200})], ids=["fit", "unfit"]
)
def test_a_receiver_is_told_what_it_is_to_know(
    made: Made, monkeypatch: pytest.MonkeyPatch, why: str | None, said: dict[str, str]
) -> None:
    parts = Parts()
    parts.not_fit = why
    monkeypatch.setattr(module.time, "time", lambda: 1.8e9)
    status = parts.assembly().status
    monkeypatch.setattr(Assembly, "status", lambda self: status())
    assemble(SETTINGS)
    assert made.how["Uplink"]["status"]() == {
        "schema": 1,
        "uplink": {"bytes_per_s": 5.5, "round_trip_s": 0.25},
        "time": 1.8e9,
        "cameras": {"north": "live", "south": "down: silent"},
        "waiting": {"alerts": 1, "visuals": 2, "questions": 3},
        "dropped": {},
        **said,
    }


def test_a_weak_nodes_answers_are_finished_with_its_codec_and_table(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_of: list[Any] = []
    real = offloading_of
    monkeypatch.setattr(
        module, "offloading_of", lambda *about: made_of.extend(about) or real(*about)
    )
    monkeypatch.setattr(module, "open_codec", lambda folder: f"codec in {folder}")
    monkeypatch.setattr(module, "usable_rows", lambda table, codec: (table, codec))
    monkeypatch.setattr(module, "patience", lambda rows: 7.5)
    offload = OffloadSettings(Path("c"), Path("t.json"), max_latency=2.0)
    assembly = assemble(replace(SETTINGS, offload=offload))
    rows = (Path("t.json"), "codec in c")
    *about, state, ahead = made.of["Controller"]
    assert about == [rows, offload, 7e5]
    uplink: Any = assembly.uplink
    uplink.state, uplink.bytes_ahead = "the state", 99
    assert (state(), ahead()) == ("the state", 99)
    assert made.of["Encoder"] == (Path("c"), "codec in c", 7.5, assembly.counts)
    encoder, controller, _, counts = made.of["Offloading"]
    assert (kind(encoder), kind(controller), counts) == ("Encoder", "Controller", assembly.counts)
    assert kind(made.of["Node"][7]) == "Offloading"
    parts = [offload, assembly.settings, "Spool", "Uplink", assembly.counts]
    assert [kind(part) for part in made_of] == parts


@pytest.mark.parametrize("kept", [True, False])
def test_a_question_goes_to_the_uplink_where_the_spool_has_kept_it(
    made: Made, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    for name in ("open_codec", "usable_rows", "patience"):
        monkeypatch.setattr(module, name, lambda *_: None)
    put, asked = [], []
    spool: Any = SimpleNamespace(put_question=lambda question: put.append(question) or kept)
    uplink: Any = SimpleNamespace(ask=asked.append)
    offload = OffloadSettings(Path("c"), Path("t.json"), max_latency=2.0)
    offloading_of(offload, SETTINGS, spool, uplink, Counts())
    question = Question("e", "north", 0, 0.5, 1.0, "code", "Image.", b"x")
    assert made.of["Offloading"][2](question) is kept
    assert put == [question]
    assert asked == ([question] if kept else [])


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """The parts of the node that `run` runs; handlers of signals and logs stay as they are."""
    parts = Parts()
    handlers: dict[int, Any] = {}
    parts.handlers = handlers  # type: ignore[attr-defined]
    counts = Counts()
    counts.add("alerts", 2, camera="a")
    counts.add("alerts", 3, camera="b")
    counts.add("alerts_lost", 9)
    parts.counts = counts  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "read_node", {Path("node.yaml"): SETTINGS}.__getitem__)
    monkeypatch.setattr(module, "assemble", lambda settings: parts.assembly(settings, counts))
    monkeypatch.setattr(module.signal, "signal", lambda n, handler: handlers.update({n: handler}))
    monkeypatch.setattr(module, "_watch", lambda assembly: parts.steps.append("watch"))
    monkeypatch.setattr(module.logging, "basicConfig", lambda **how: parts.steps.append(how))
    return parts


class Server:
    address = "http://127.0.0.1:9108"

    def __init__(self, parts: Parts, fails: bool = False):
        self.parts, self.fails = parts, fails

    def __call__(self, listen: Any, counts: Any, status: Any) -> "Server":
        if self.fails:
            raise ConfigError("the address is taken")
        self.parts.steps.append((listen, counts))
        return self

    def start(self) -> None:
        self.parts.steps.append("server starts")

    def stop(self) -> None:
        self.parts.steps.append("server stops")


def test_a_node_runs_from_its_file_until_it_is_asked_to_stop(
    ran: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    level = logging.getLogger("httpx").level
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    try:
        assert run(Path("node.yaml")) == 0
        assert logging.getLogger("httpx").level == logging.WARNING
    finally:
        logging.getLogger("httpx").setLevel(level)
    how = ran.steps.pop(0)
    assert (how["level"], how["format"]) == (logging.INFO, "%(levelname)s %(message)s")
    ran.steps.remove("watch")
    assert ran.steps == ["follower starts", "runs", "follower stops"]
    assert capsys.readouterr().out.splitlines() == [
        "node n1: north, south -> https://a.example",
        "node n1 ended: 5 alerts, what is not sent is kept",
    ]
    handlers = ran.handlers  # type: ignore[attr-defined]
    assert set(handlers) == {signal.SIGTERM, signal.SIGINT}
    for handler in handlers.values():
        handler(signal.SIGTERM, None)
    assert ran.steps[3:] == ["is asked to stop"] * 2


def test_a_crash_stops_the_metrics_and_tells_against_a_version_on_probation(
    ran: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(Exception):
        pass

    def crash() -> None:
        raise Crash

    settings = replace(SETTINGS, metrics=("127.0.0.1", 9108))
    assembly = ran.assembly(settings)
    assembly.node.run = crash  # type: ignore[method-assign]
    monkeypatch.setattr(module, "read_node", lambda path: settings)
    monkeypatch.setattr(module, "assemble", lambda settings: assembly)
    monkeypatch.setattr(module, "MetricsServer", Server(ran))
    with pytest.raises(Crash):
        run(Path("node.yaml"))
    steps = [step for step in ran.steps if isinstance(step, str) and step != "watch"]
    assert steps == ["server starts", "follower starts", "server stops"]


def test_metrics_are_served_where_the_settings_ask_for_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = Parts()
    assert module._serve(parts.assembly()) is None
    assembly = parts.assembly(replace(SETTINGS, metrics=("127.0.0.1", 9108)))
    server = Server(parts)
    monkeypatch.setattr(module, "MetricsServer", server)
    assert module._serve(assembly) is server  # type: ignore[comparison-overlap]
    assert parts.steps == [(("127.0.0.1", 9108), assembly.counts), "server starts"]
    words = "metrics, health and status on http://127.0.0.1:9108\n"
    assert capsys.readouterr().out == words
    monkeypatch.setattr(module, "MetricsServer", Server(parts, fails=True))
    with pytest.raises(ConfigError, match="the address is taken"):
        module._serve(assembly)
    assert parts.steps[2:] == ["follower stops"]  # no fault of the version's


def test_a_line_that_nobody_reads_ends_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[int] = []

    def broken(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", broken)
    monkeypatch.setattr(module, "forget_output", lambda: forgotten.append(1))
    module._say("a line")
    assert forgotten == [1]


class Enough(Exception):
    """The watch has looked as often as the test wants."""


def watched(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, *changes: Callable[[], None]
) -> list[str]:
    """What systemd is told while these changes come, one a second."""
    left, told = list(changes), []

    def sleep(seconds: float) -> None:
        assert seconds == 1.0
        if not left:
            raise Enough
        left.pop(0)()

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module, "notify", told.append)
    with pytest.raises(Enough):
        module._watch(parts.assembly())
    return told


def test_what_came_and_went_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    parts.link = replace(LINK, connected=False, problem="")

    def link(**how: Any) -> Callable[[], None]:
        return lambda: setattr(parts, "link", replace(parts.link, **how))

    with caplog.at_level(logging.INFO, "dat_runtime.edge"):
        watched(
            parts,
            monkeypatch,
            lambda: None,
            lambda: parts.states.update(south="live"),
            link(problem="no \x1b route"),
            link(problem="another"),
            link(connected=True, problem=""),
        )
    assert [record.getMessage() for record in caplog.records] == [
        "camera north: live",
        "camera south: down: silent",
        "uplink: connecting",
        "camera south: live",
        "uplink: not connected, events wait in the spool (no \\x1b route)",
        "uplink: connected",
    ]


def test_a_status_that_cannot_be_made_ends_no_node_by_its_watchdog(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    states = parts.states

    def fail() -> None:
        parts.states = None

    told = watched(parts, monkeypatch, fail, lambda: setattr(parts, "states", states))
    assert told == ["READY=1", *["WATCHDOG=1"] * 3]
    assert caplog.messages.count("the node's state cannot be told") == 1


def test_systemd_is_told_that_the_node_is_well_while_its_gate_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts()
    told = watched(
        parts,
        monkeypatch,
        lambda: setattr(parts, "looks", False),
        lambda: setattr(parts, "looks", True),
    )
    assert told == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_what_it_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"dat-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        notify("READY=1")
        assert systemd.recv(99) == b"READY=1"


def test_where_systemd_does_not_ask_or_is_gone_the_node_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for address in (None, ""):
        if address is None:
            monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        else:
            monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")
    assert caplog.records == []
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    notify("READY=1")
    (record,) = caplog.records
    assert record.getMessage().startswith("systemd cannot be told: [Errno 2]")
