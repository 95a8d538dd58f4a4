"""The live demo, whole: an alert and its picture are there, and everything ends."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.cascade import Routing
from dat_runtime.draw import MAX_PIXELS
from dat_runtime.manifest import VERSIONS
from export import demo_live
from export.demo_live import main
from export.live.scenes import Album, Still


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_with_a_bundle_its_gate_looks_at_the_cameras(bundle_folder: Path) -> None:
    """The gate sees a severe accident in the middle of every frame."""
    command = [sys.executable, "-m", "export.demo_live", "--listen", "127.0.0.1:0"]
    options = ["--cameras", "1", "--seconds", "8", "--bundle", str(bundle_folder)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert f"the gate of {bundle_folder}" in done.stdout
    assert "first picture after" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_alert_and_its_picture_come_and_all_ends_when_it_is_told_to() -> None:
    command = [sys.executable, "-m", "export.demo_live", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--cameras", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if "first picture" in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        errors = process.stderr.read()
    assert "Traceback" not in errors
    for what in ("first alert", "first picture"):
        seconds = re.search(rf"{what} after ([\d.]+) s", text)
        assert seconds is not None, text
        assert float(seconds[1]) < 60
    assert text.endswith("[live] ended\n")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--cameras", "0"], "--cameras is 0, expected 1 to 8"),
        (["--cameras", "9"], "--cameras is 9, expected 1 to 8"),
        (["--rate", "0"], "--rate is 0, expected kB/s above 0"),
        (["--rate", "nan"], "--rate is nan, expected kB/s above 0"),
    ],
)
def test_what_no_link_or_cameras_are_is_said(
    wrong: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(wrong) == 1
    assert capsys.readouterr().err == f"error: {words}\n"


def test_the_options_and_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[tuple[object, ...]] = []

    def show(folder: Path, *given: object) -> None:
        assert folder.is_dir()
        assert folder.name.startswith("dat-live-")
        shown.append((folder, *given[:-1]))
        if len(shown) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(demo_live, "_show", show)
    assert main([]) == 0
    more = ["--bundle", "b", "--cameras", "8", "--rate", "0.5", "--listen", "h:1", "--seconds", "9"]
    assert main(more) == 0
    assert [given[1:] for given in shown] == [
        (None, 6, 50_000.0, "127.0.0.1:8080", None),
        (Path("b"), 8, 500.0, "h:1", 9.0),
    ]
    assert not any(Path(str(folder)).exists() for folder, *_ in shown)
    assert capsys.readouterr().out == "[live] ended\n" * 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_leaves_the_signals_as_they_are() -> None:
    inside: list[object] = []

    def work() -> None:
        with demo_live._interrupted_by(signal.SIGTERM):
            inside.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert inside == [before]


@pytest.mark.parametrize("bundle", [None, Path("made/bundle")])
def test_cameras_link_receiver_and_node_are_put_together(
    bundle: Path | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[tuple[object, ...]] = []
    image = np.zeros((8, 8, 3), np.uint8)
    turns = [[Still(image, ())], [Still(image + 200, ())]]

    def context(name: str, gives: object) -> Callable[..., object]:
        @contextmanager
        def entered(*given: object, **named: object) -> Iterator[object]:
            done.append((name, *given, named))
            yield gives
            done.append((name, "ended"))

        return entered

    def render(folder: Path, cameras: int) -> list[list[Still]]:
        assert (folder, cameras) == (tmp_path / "scenes", 2)
        return turns

    page = SimpleNamespace(port=7, url="http://page")
    monkeypatch.setattr(demo_live, "render", render)
    videos: list[tuple[Path, object]] = []
    monkeypatch.setattr(demo_live, "write_video", lambda path, s, rng: videos.append((path, s)))
    monkeypatch.setattr(demo_live, "receiver", context("receiver", page))
    monkeypatch.setattr(demo_live, "thin_link", context("link", 8))
    monkeypatch.setattr(demo_live, "mllm", context("mllm", "http://mllm"))
    monkeypatch.setattr(demo_live, "_node", context("node", None))
    monkeypatch.setattr(demo_live, "_watch", lambda *given: done.append(("watch", *given)))
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        demo_live._show(tmp_path, bundle, 2, 500.0, "h:1", 9.0, stack)
    names = [str(step[0]) for step in done]
    order = ["receiver", "link", "mllm", "node"]
    assert names == [*order, "watch", *reversed(order)]
    assert videos == [
        (tmp_path / "north.mp4", turns[0]),
        (tmp_path / "south.mp4", turns[1]),
    ]
    assert done[0][1:] == (f"sqlite:///{tmp_path}/receiver.db", {"listen": "h:1"})
    assert done[1][1:] == (7, 500.0, 0.04, {})
    assert done[4] == ("watch", "http://page", 9.0)
    settings, gate = done[3][1:3]
    assert settings == tmp_path / "node.yaml"
    assert (gate is None) is (bundle is not None)
    by = f"the gate of {bundle}" if bundle else "a stand-in for a gate (there is no --bundle)"
    assert capsys.readouterr().out.splitlines() == [
        "[live] rendering scenes for 2 cameras",
        f"[live] {by}; a stand-in for the MLLM; a link of 0.5 kB/s",
        "[live] open http://page   (Ctrl-C ends it)",
    ]
    told = json.loads((tmp_path / "node.yaml").read_text())
    assert told == {
        "node": "demo-1",
        "bundle": str(tmp_path / (bundle or "")),
        "cameras": [
            {"name": name, "source": str(tmp_path / f"{name}.mp4"), "fps": 5, "loop": True}
            for name in ("north", "south")
        ],
        "mllm": {"url": "http://mllm", "model": "recorded", "concurrency": 2, "timeout": 20},
        "uplink": {"url": "http://127.0.0.1:8", "initial_bytes_per_s": 50_000},
        "spool": {"path": str(tmp_path / "spool.sqlite")},
    }


def test_the_stand_in_s_gate_states_the_versions_of_this_library() -> None:
    album = Album([Still(np.zeros((8, 8, 3), np.uint8), ())])
    gate = demo_live._recorded_gate(album)
    assert gate.versions == {"bundle": None, **VERSIONS, "mllm": "recorded"}
    assert (gate.max_pixels, gate.routing) == (MAX_PIXELS, Routing())
    assert gate.detector.detect(np.zeros((8, 8, 3), np.uint8)) == ()


def test_a_node_runs_in_a_thread_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    given: list[tuple[object, ...]] = []
    threads: list[threading.Thread] = []

    def run() -> None:
        threads.append(threading.current_thread())
        ended.wait(20)

    node = SimpleNamespace(node=SimpleNamespace(run=run, stop=ended.set))

    def assemble(*told: object) -> SimpleNamespace:
        given.append(told)
        return node

    monkeypatch.setattr(demo_live, "read_node", lambda path: f"read {path}")
    monkeypatch.setattr(demo_live, "assemble", assemble)
    gate: Any = object()
    with demo_live._node(Path("node.yaml"), gate):
        assert not ended.is_set()
    assert given == [("read node.yaml", gate)]
    assert ended.is_set()
    assert (threads[0].name, threads[0].daemon, threads[0].is_alive()) == ("node", True, False)


def test_the_first_alert_and_picture_are_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        now[0] += seconds

    there = iter(
        [set(), {"first alert"}, {"first alert"}, {"first alert", "first picture"}]
        + [{"first alert", "first picture"}] * 9
    )
    asked: list[str] = []

    def look(address: str) -> set[str]:
        asked.append(address)
        return next(there)

    monkeypatch.setattr(demo_live, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=nap))
    monkeypatch.setattr(demo_live, "_there", look)
    demo_live._watch("http://page", 3.0)
    assert capsys.readouterr().out == (
        "[live] first alert after 0.1 s\n[live] first picture after 0.3 s\n"
    )
    assert naps == [0.1, 0.1, 0.1, 1.0, 1.0, 1.0]
    assert set(asked) == {"http://page"}


@pytest.mark.parametrize(
    ("events", "there"),
    [
        ([], set()),
        ([{"visuals": []}], {"first alert"}),
        ([{"visuals": []}, {"visuals": ["roi"]}], {"first alert", "first picture"}),
    ],
)
def test_what_is_there_is_asked_of_the_receiver(
    events: list[object], there: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, float]] = []

    def open_url(url: str, timeout: float) -> io.BytesIO:
        asked.append((url, timeout))
        return io.BytesIO(json.dumps({"events": events}).encode())

    monkeypatch.setattr(demo_live.urllib.request, "urlopen", open_url)
    assert demo_live._there("http://page") == there
    assert asked == [("http://page/v1/events?limit=100", 10)]
