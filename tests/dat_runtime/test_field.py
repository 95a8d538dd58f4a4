"""The field from camera to acknowledged event: a real node and a real receiver, as processes."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import yaml

from dat_runtime.prompt import PROMPT_VERSION

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
SEVERE = {
    "count": 1,
    "severity": "severe",
    "level": 1,
    "score": 0.9,
    "accidents": [{"bbox": [0, 0, 84, 56], "severity": "severe"}],
    "summary": "A car lies on its roof.",
}


@contextmanager
def process(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A command of the wheel, ended at the end; its words go to the test's own output."""
    command = [sys.executable, "-m", "dat_runtime.cli", *map(str, arguments)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()


def line_of(running: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The first line that the pattern finds; fails when the process ends before."""
    assert running.stdout is not None
    for line in running.stdout:
        found = re.search(pattern, line)
        if found:
            return found
    raise AssertionError(f"ended with {running.wait()} before {pattern!r}")


def until(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `look` gives once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about")


@contextmanager
def receiver(folder: Path, listen: str = "127.0.0.1:0") -> Iterator[str]:
    tokens = folder / "tokens"
    tokens.write_text(f"n1\t{TOKEN}\noperator\t{TOKEN[::-1]}\n")
    store = f"sqlite:///{folder / 'events.sqlite'}"
    with process("receive", "--listen", listen, "--store", store, "--tokens", tokens) as running:
        yield line_of(running, r"listening on (http://\S+)")[1]


def operator(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN[::-1]}"})


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    picture = np.random.default_rng(1).integers(0, 256, (90, 160, 3), np.uint8)
    for i in range(8):
        cv2.imwrite(str(folder / f"{i}.jpg"), picture)
    (folder / "3.jpg").write_bytes((folder / "2.jpg").read_bytes()[:400])  # cut off
    return folder


@pytest.fixture
def node_yaml(tmp_path: Path, bundle_folder: Path, frames: Path) -> Callable[..., Path]:
    """Writes a node.yaml that sends to an address; keywords replace its parts."""

    def write(address: str, **parts: object) -> Path:
        (tmp_path / "token").write_text(TOKEN + "\n")
        (tmp_path / "token").chmod(0o600)
        (tmp_path / "answer.json").write_text(json.dumps(SEVERE))
        node = {
            "node": "n1",
            "bundle": str(bundle_folder),
            "cameras": [
                {"name": name, "source": str(frames), "fps": 5} for name in ("north", "south")
            ],
            "mllm": {"recorded": "answer.json", "concurrency": 2},  # both cameras see it at once
            "uplink": {"url": address, "token_file": "token", "initial_bytes_per_s": 100_000},
            "spool": {
                "path": "spool.sqlite",
                "max_bytes": 10_000_000,
                "alert_reserve_bytes": 1_000_000,
            },
        }
        path = tmp_path / "node.yaml"
        path.write_text(yaml.safe_dump(node | parts))
        return path

    return write


def test_an_accident_in_front_of_a_camera_is_an_event_with_its_picture_at_the_receiver(
    tmp_path: Path, node_yaml: Callable[..., Path]
) -> None:
    with receiver(tmp_path) as address, process("edge", "run", node_yaml(address)) as node:
        with operator(address) as client:
            events = until(lambda: _events(client, 2))
            assert {event["source"] for event in events} == {
                "/nodes/n1/cameras/north",
                "/nodes/n1/cameras/south",
            }
            data = until(lambda: _answered(client, events[0]["id"]))
            assert (data["source"], data["degraded"], data["conflict"]) == ("mllm", None, False)
            assert data["frame"] == {"width": 160, "height": 90}
            assert data["answer"]["summary"] == SEVERE["summary"]
            assert data["versions"]["prompt"] == PROMPT_VERSION
            picture = until(lambda: _visual(client, events[0]["id"]))
            image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
            x1, y1, x2, y2 = data["roi"]
            assert image.shape[:2] in ((y2 - y1, x2 - x1), (90, 160))
        assert node.wait(timeout=60) == 0  # both folders came to their end


def _events(client: httpx.Client, number: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = client.get("/v1/events").json()["events"]
    return events if len(events) >= number else []


def _answered(client: httpx.Client, id: str) -> Any:
    """What is known of an event once the MLLM has spoken: on a busy machine it may be late."""
    data = client.get(f"/v1/events/{id}").json()["data"]
    return data if data["source"] == "mllm" else None


def _visual(client: httpx.Client, id: str) -> bytes:
    for kind in ("roi", "box"):
        answer = client.get(f"/v1/events/{id}/visuals/{kind}")
        if answer.status_code == 200:
            return answer.content
    return b""


def test_sigterm_ends_a_node_at_once_with_everything_in_its_spool_for_the_next_start(
    tmp_path: Path, node_yaml: Callable[..., Path]
) -> None:
    with receiver(tmp_path) as address:
        pass  # nobody listens there any more
    path = node_yaml(address, metrics={"listen": "127.0.0.1:0"})
    with process("edge", "run", path) as node:
        status = line_of(node, r"on (http://\S+)")[1] + "/status"
        until(lambda: httpx.get(status).json()["waiting"]["alerts"] == 2)
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=5) == 0
    port = address.rpartition(":")[2]
    (tmp_path / "frames").rename(tmp_path / "away")
    (tmp_path / "frames").mkdir()
    running = process("edge", "run", path)
    with receiver(tmp_path, f"127.0.0.1:{port}"), running, operator(address) as client:
        until(lambda: _events(client, 2))


def test_a_hanging_mllm_leaves_the_gate_to_tell_the_event_within_its_time(
    tmp_path: Path, node_yaml: Callable[..., Path]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging, receiver(tmp_path) as address:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/v1"
        mllm = {"url": url, "model": "m", "concurrency": 1, "timeout": 20}
        with process("edge", "run", node_yaml(address, mllm=mllm)), operator(address) as client:
            events = until(lambda: _events(client, 2))
            reasons = sorted(event["data"]["degraded"] for event in events)
            assert [reason[:20] for reason in reasons] == [
                "no answer of the MLL",
                "the MLLM is full: 1 ",
            ]
            assert all(event["data"]["source"] == "gate" for event in events)


def test_check_names_what_is_wrong_and_status_asks_the_running_node(
    tmp_path: Path, node_yaml: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from dat_runtime.cli import main

    path = node_yaml("http://127.0.0.1:9", metrics={"listen": "127.0.0.1:0"})
    assert main(["edge", "check", str(path)]) == 0
    told = capfd.readouterr().out
    assert "ok    bundle: moderate and severe at 64 px" in told
    assert "note  uplink: 127.0.0.1:9 does not accept connections now" in told
    (tmp_path / "token").chmod(0o644)
    (tmp_path / "answer.json").unlink()
    path = node_yaml("http://127.0.0.1:9", cameras=[{"name": "a", "source": "nowhere.mp4"}])
    (tmp_path / "token").chmod(0o644)
    assert main(["edge", "check", str(path)]) == 1
    told = capfd.readouterr().out
    assert "WRONG camera a: " in told
    assert "chmod 600" in told
    assert "2 to mend" in told
    with process(
        "edge", "run", node_yaml("http://127.0.0.1:9", metrics={"listen": "127.0.0.1:0"})
    ) as node:
        port = line_of(node, r"on http://127.0.0.1:(\d+)")[1]
        path = node_yaml("http://127.0.0.1:9", metrics={"listen": f"127.0.0.1:{port}"})
        assert main(["edge", "status", str(path)]) == 0
    told = capfd.readouterr().out
    assert "NOT CONNECTED" in told
    assert main(["edge", "status", str(path)]) == 1
    assert "no node answers" in capfd.readouterr().err


def test_metrics_and_health_are_served_beside_the_node(
    node_yaml: Callable[..., Path],
) -> None:
    path = node_yaml("http://127.0.0.1:9", metrics={"listen": "127.0.0.1:0"})
    with process("edge", "run", path) as node:
        address = line_of(node, r"on (http://\S+)")[1]
        expected = (
            'dat_node_alerts_total{camera="north",source="mllm"} 1.0',
            'dat_node_frames_dropped_total{camera="north",reason=',
            "dat_node_waiting_alerts 2.0",
        )
        until(lambda: all(line in httpx.get(f"{address}/metrics").text for line in expected))
        health = httpx.get(f"{address}/healthz")
        assert (health.status_code, health.json()) == (200, {"problems": []})
        assert httpx.get(f"{address}/elsewhere").status_code == 404
        os.kill(node.pid, signal.SIGTERM)
        assert node.wait(timeout=5) == 0


def test_a_node_goes_on_without_a_reader_of_its_output(
    tmp_path: Path, node_yaml: Callable[..., Path]
) -> None:
    with process("edge", "run", node_yaml("http://127.0.0.1:9")) as node:
        assert node.stdout is not None
        node.stdout.close()  # as `| head -1` does
        until(lambda: _kept(tmp_path / "spool.sqlite") == 2)
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=5) == 0


def _kept(spool: Path) -> int:
    """How many events a spool holds, looked at from beside it."""
    if not spool.exists():
        return 0
    with contextlib.closing(sqlite3.connect(spool)) as connection:
        try:
            (number,) = connection.execute("SELECT count(*) FROM events").fetchone()
        except sqlite3.OperationalError:  # it is being made
            return 0
    return int(number)


def test_systemd_is_told_that_the_node_is_ready_and_well_until_it_hangs(
    tmp_path: Path, node_yaml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with process("edge", "run", node_yaml("http://127.0.0.1:9")) as node:
            assert [systemd.recv(100) for _ in range(3)] == [b"READY=1"] + 2 * [b"WATCHDOG=1"]
            node.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
            systemd.settimeout(2)
            with contextlib.suppress(TimeoutError):  # what was said before
                assert not [systemd.recv(100) for _ in range(5)]
            node.send_signal(signal.SIGCONT)
            systemd.settimeout(20)
            assert systemd.recv(100) == b"WATCHDOG=1"


@pytest.mark.slow
def test_what_a_killed_node_had_on_its_disk_arrives_once(
    tmp_path: Path, node_yaml: Callable[..., Path], frames: Path
) -> None:
    path = node_yaml("http://127.0.0.1:9")
    rng = np.random.default_rng(4)
    kept: set[str] = set()
    for _ in range(4):
        with process("edge", "run", path) as node:
            line_of(node, "node n1")
            time.sleep(rng.uniform(0.1, 1.5))
            node.kill()
            node.wait()
        with sqlite3.connect(tmp_path / "spool.sqlite") as spool:
            kept |= {id for (id,) in spool.execute("SELECT id FROM events")}
        spool.close()
    assert len(kept) >= 3
    for picture in frames.iterdir():
        picture.unlink()
    with (
        receiver(tmp_path) as address,
        operator(address) as client,
        process("edge", "run", node_yaml(address)),
    ):
        events = until(lambda: _events(client, len(kept)))
    assert sorted(event["id"] for event in events) == sorted(kept)
