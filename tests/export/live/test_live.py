"""What stands in for cameras, a model and a link in the live demo does what it says."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import httpx
import numpy as np

from dat_runtime.chat import read, request
from dat_runtime.draw import boxed_image, encode_png, resize, size_of
from dat_runtime.schema import check
from dat_runtime.types import Accident, Box, Size
from export.live.scenes import FPS, SECONDS_EACH, Album, Still, write_video
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
