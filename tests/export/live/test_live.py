"""What stands in for cameras, a model and a link in the live demo does what it says."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import av
import httpx
import numpy as np
import pytest

from dat_runtime.chat import read, request
from dat_runtime.draw import boxed_image, encode_jpeg, encode_png, resize, size_of
from dat_runtime.errors import DataError
from dat_runtime.schema import check
from dat_runtime.types import Accident, Box, Size
from export.live import stand_in
from export.live import thin_link as link
from export.live.processes import free_port
from export.live.scenes import FPS, SECONDS_EACH, Album, Still, render, write_video
from export.live.stand_in import RecordedGate, mllm
from export.live.thin_link import thin_link

UNIT = Size(1, 1)
CRASH = Accident(Box(0.25, 0.5, 0.5, 0.75, UNIT), "severe")


def still(seed: int, *accidents: Accident) -> Still:
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Still(np.kron(blocks, np.ones((40, 40, 1), np.uint8)), accidents)


STILLS = [still(1, CRASH), still(2), still(3, CRASH)]


def test_a_video_shows_its_stills_one_after_the_other(tmp_path: Path) -> None:
    write_video(tmp_path / "north.mp4", STILLS, np.random.default_rng(0))
    album = Album(STILLS)
    with av.open(str(tmp_path / "north.mp4")) as video:
        frames = [frame.to_ndarray(format="bgr24") for frame in video.decode(video=0)]
    assert len(frames) == 3 * FPS * SECONDS_EACH
    counts = [len(album.accidents(frame)) for frame in frames]
    assert counts == [1] * 20 + [0] * 20 + [1] * 20


def test_a_still_is_known_again_resized_and_drawn_into_and_no_other_picture_is() -> None:
    gate = RecordedGate(Album(STILLS))
    (found,) = gate.detect(STILLS[0].image)
    assert found.box == Box(80, 160, 160, 240, Size(320, 320))
    assert found.severity == "severe"
    drawn = boxed_image(resize(STILLS[0].image, Size(224, 196)), [found])
    assert gate.detect(drawn)[0].box == Box(56, 98, 112, 147, Size(224, 196))
    assert gate.detect(still(9).image) == ()


def test_the_mllm_answers_as_a_server_does_in_pixels_of_its_picture() -> None:
    frame = resize(STILLS[2].image, Size(224, 224))
    with mllm(Album(STILLS)) as url:
        asked = request("recorded", encode_png(frame), "system", "prompt")
        answer = httpx.post(f"{url}/chat/completions", json=asked)
    reply = read(answer.status_code, answer.content)
    size = size_of(frame)
    verdict = check(reply[0], size.width, size.height)
    assert verdict.rule
    assert not verdict.violation
    assert json.loads(reply[0])["accidents"] == [
        {"bbox": [56, 112, 112, 168], "severity": "severe"}
    ]


@contextmanager
def echo() -> Iterator[int]:
    """A server that says how many bytes came, once they end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                count = 0
                while content := connection.recv(65_536):
                    count += len(content)
                connection.sendall(str(count).encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def test_a_thin_link_lets_so_many_bytes_through_and_loses_none() -> None:
    with echo() as port, thin_link(port, 200_000, 0.05) as near:
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", near), timeout=20) as connection:
            connection.sendall(bytes(100_000))
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b"100000"
        assert time.monotonic() - begun > 0.5 + 0.1 - 0.05  # 100 kB at 200 kB/s, and both ways


def test_scenes_are_rendered_by_their_own_command_and_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frame(path: Path, shade: int, label: str | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(np.full((32, 32, 3), shade, np.uint8)))
        if label is not None:
            beside = path.parent.parent / "labels" / f"{path.stem}.txt"
            beside.parent.mkdir(exist_ok=True)
            beside.write_text(label)

    ran: list[list[str]] = []

    def run(command: list[str], **options: object) -> SimpleNamespace:
        ran.append(command)
        assert options == {"capture_output": True, "text": True}
        images = tmp_path / "accidents-detection/train/images"
        for i in range(3):
            frame(images / f"a{i}.jpg", 10 * i, f"{i % 2} 0.5 0.25 0.5 0.25\n")
        frame(images / "b.jpg", 100, "")
        for i in range(3):
            frame(tmp_path / f"x/data/y/Non Accident/{i}.jpg", 200 + 10 * i)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    turns = render(tmp_path, 2)
    assert ran == [
        [
            *(sys.executable, "-m", "data.prep.scenes", "--out", str(tmp_path), "--val", "1"),
            *("--test", "1", "--train", "6", "--negatives", "6"),
        ]
    ]
    shades = [[int(still.image.mean().round(-1)) for still in shown] for shown in turns]
    assert shades == [[0, 200, 20, 220], [210, 10]]
    box = Box(0.25, 0.125, 0.75, 0.375, UNIT)
    assert [still.accidents for still in turns[0]] == [
        *((Accident(box, "moderate"),), (), (Accident(box, "moderate"),), ())
    ]
    assert turns[1][1].accidents == (Accident(box, "severe"),)


def test_scenes_that_cannot_be_rendered_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(returncode=1, stderr=" " + "y" * 9 + "x" * 300 + " \n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    words = f"^{tmp_path}: the scenes cannot be rendered: {'x' * 300}$"
    with pytest.raises(DataError, match=words):
        render(tmp_path, 1)


def test_the_surest_is_found_first_and_a_picture_of_nothing_has_nothing() -> None:
    other = Accident(Box(0, 0, 0.25, 0.25, UNIT), "moderate")
    shown = still(5, other, CRASH)
    found = RecordedGate(Album([shown, still(6)])).detect(shown.image)
    assert [(one.severity, one.confidence) for one in found] == [("severe", 0.9), ("moderate", 0.6)]
    said = json.loads(stand_in.answer(Album([shown, still(6)]), encode_png(still(6).image)))
    assert (said["count"], said["summary"]) == (0, "No accident.")
    said = json.loads(stand_in.answer(Album([shown, still(6)]), encode_png(shown.image)))
    assert (said["count"], said["severity"]) == (2, "severe")
    assert said["summary"].startswith("A severe collision")


def test_one_in_four_answers_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(stand_in, "time", SimpleNamespace(sleep=naps.append))
    asked = request("recorded", encode_png(STILLS[1].image), "system", "prompt")
    with mllm(Album(STILLS)) as url, httpx.Client() as client:
        for _ in range(8):
            reply = client.post(f"{url}/chat/completions", json=asked)
        assert reply.headers["content-type"] == "application/json"
        assert reply.json()["choices"][0]["finish_reason"] == "stop"
        assert reply.json()["choices"][0]["message"]["role"] == "assistant"
    assert naps == [0.3, 0.3, 0.3, 2.5] * 2
    with pytest.raises(httpx.ConnectError):
        httpx.post(url, json=asked)


def test_a_bucket_lets_bytes_pass_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))

    monkeypatch.setattr(link, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(link, "asyncio", SimpleNamespace(sleep=sleep))
    bucket = link._Bucket(1000.0)
    for at, count in ((100.0, 500), (100.0, 250), (100.5, 100), (200.0, 100)):
        now[0] = at
        with suppress(StopIteration):
            bucket.take(count).send(None)
    assert slept == [0.5, 0.75, 0.35, 0.1]


def test_a_link_whose_far_end_is_away_closes_the_near_one() -> None:
    with (
        thin_link(free_port(), 1e6, 0.0) as near,
        socket.create_connection(("127.0.0.1", near), timeout=20) as connection,
    ):
        assert connection.recv(10) == b""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", near), timeout=20)
