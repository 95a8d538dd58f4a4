"""The field from camera to acknowledged event: a real node and a real receiver, as processes."""

import contextlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from dat_runtime.prompt import PROMPT_VERSION
from export.live import processes
from export.live.processes import Process, operator, spooled, until, write_tokens

SEVERE = {
    "count": 1,
    "severity": "severe",
    "level": 1,
    "score": 0.9,
    "accidents": [{"bbox": [0, 0, 84, 56], "severity": "severe"}],
    "summary": "A car lies on its roof.",
}


@contextmanager
def receiver(folder: Path, listen: str = "127.0.0.1:0") -> Iterator[Process]:
    store = f"sqlite:///{folder / 'events.sqlite'}"
    with processes.receiver(store, "--tokens", write_tokens(folder), listen=listen) as process:
        yield process


def node(settings: Path) -> AbstractContextManager[Process]:
    return processes.running("edge", "run", settings)


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
        write_tokens(tmp_path)
        (tmp_path / "answer.json").write_text(json.dumps(SEVERE))
        cameras = [{"name": name, "source": str(frames), "fps": 5} for name in ("north", "south")]
        mllm = {"recorded": "answer.json", "concurrency": 2}  # both cameras see it at once
        parts = {"cameras": cameras, "mllm": mllm} | parts
        return processes.write_node(tmp_path, bundle_folder, address, **parts)

    return write


def test_an_accident_in_front_of_a_camera_is_an_event_with_its_picture_at_the_receiver(
    tmp_path: Path, node_yaml: Callable[..., Path]
) -> None:
    with receiver(tmp_path) as receiving, node(node_yaml(receiving.url)) as running:
        with operator(receiving.url) as client:
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
        assert running.wait(60) == 0  # both folders came to their end


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
    port = processes.free_port()
    path = node_yaml(f"http://127.0.0.1:{port}", metrics={"listen": "127.0.0.1:0"})
    with node(path) as running:
        status = running.url + "/status"
        until(lambda: httpx.get(status).json()["waiting"]["alerts"] == 2)
        assert running.end(20) == 0
    (tmp_path / "frames").rename(tmp_path / "away")
    (tmp_path / "frames").mkdir()
    again = receiver(tmp_path, f"127.0.0.1:{port}")
    with again as receiving, node(path), operator(receiving.url) as client:
        until(lambda: _events(client, 2))


def test_a_hanging_mllm_leaves_the_gate_to_tell_the_event_within_its_time(
    tmp_path: Path, node_yaml: Callable[..., Path]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging, receiver(tmp_path) as receiving:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/v1"
        mllm = {"url": url, "model": "m", "concurrency": 1, "timeout": 20}
        path = node_yaml(receiving.url, mllm=mllm)
        with node(path), operator(receiving.url) as client:
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
    with node(node_yaml("http://127.0.0.1:9", metrics={"listen": "127.0.0.1:0"})) as running:
        listen = f"127.0.0.1:{running.port}"
        path = node_yaml("http://127.0.0.1:9", metrics={"listen": listen})
        assert main(["edge", "status", str(path)]) == 0
    told = capfd.readouterr().out
    assert "NOT CONNECTED" in told
    assert main(["edge", "status", str(path)]) == 1
    assert "no node answers" in capfd.readouterr().err


def test_metrics_and_health_are_served_beside_the_node(
    node_yaml: Callable[..., Path],
) -> None:
    path = node_yaml("http://127.0.0.1:9", metrics={"listen": "127.0.0.1:0"})
    with node(path) as running:
        expected = (
            'dat_node_alerts_total{camera="north",source="mllm"} 1.0',
            'dat_node_frames_dropped_total{camera="north",reason=',
            "dat_node_waiting_alerts 2.0",
        )
        until(lambda: all(line in httpx.get(f"{running.url}/metrics").text for line in expected))
        health = httpx.get(f"{running.url}/healthz")
        assert (health.status_code, health.json()) == (200, {"problems": []})
        assert httpx.get(f"{running.url}/elsewhere").status_code == 404
        assert running.end(20) == 0


def test_a_node_goes_on_without_a_reader_of_its_output(
    tmp_path: Path, node_yaml: Callable[..., Path]
) -> None:
    line = processes.command_line("edge", "run", node_yaml("http://127.0.0.1:9"))
    with subprocess.Popen(line, cwd=processes.ROOT, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            running.stdout.close()  # as `| head -1` does
            until(lambda: len(spooled(tmp_path / "spool.sqlite")) == 2)
            running.terminate()
            assert running.wait(20) == 0
        finally:
            running.kill()


def test_systemd_is_told_that_the_node_is_ready_and_well_until_it_hangs(
    tmp_path: Path, node_yaml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with node(node_yaml("http://127.0.0.1:9")) as running:
            assert [systemd.recv(100) for _ in range(3)] == [b"READY=1"] + 2 * [b"WATCHDOG=1"]
            running.signal(signal.SIGSTOP)
            time.sleep(0.1)
            systemd.settimeout(2)
            with contextlib.suppress(TimeoutError):  # what was said before
                assert not [systemd.recv(100) for _ in range(5)]
            running.signal(signal.SIGCONT)
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
        with node(path) as running:
            running.line("node n1")
            time.sleep(rng.uniform(0.1, 1.5))
            running.kill()
        kept |= spooled(tmp_path / "spool.sqlite")
    assert len(kept) >= 3
    for picture in frames.iterdir():
        picture.unlink()
    with (
        receiver(tmp_path) as receiving,
        operator(receiving.url) as client,
        node(node_yaml(receiving.url)),
    ):
        events = until(lambda: _events(client, len(kept)))
    assert sorted(event["id"] for event in events) == sorted(kept)
