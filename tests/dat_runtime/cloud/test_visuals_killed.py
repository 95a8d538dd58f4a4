"""Visuals by curl against a receiver of its own process: parts, a broken connection, SIGKILL."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pytest

from dat_runtime.draw import encode_jpeg
from export.live import processes
from tests.dat_runtime.cloud.conftest import alert

CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")

NOISE = np.random.default_rng(2).integers(0, 255, (1_200, 1_600, 3), np.uint8)
JPEG = encode_jpeg(NOISE, 90)
"""About two megabytes: more than what a receiver syncs at a time."""

BYTES = ("-H", "Tus-Resumable: 1.0.0", "-H", "Content-Type: application/offset+octet-stream")


class Receiver:
    """`dat-runtime receive`, started again and again on the same port and store."""

    def __init__(self, folder: Path, running: ExitStack):
        self.folder = folder
        self.listen = f"127.0.0.1:{processes.free_port()}"
        self.url = f"http://{self.listen}"
        self._running = running

    def start(self) -> None:
        store = f"sqlite:///{self.folder}/r.db"
        started = processes.receiver(store, "--workers", "1", listen=self.listen)
        self.process = self._running.enter_context(started)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with ExitStack() as running:
        receiver = Receiver(tmp_path, running)
        receiver.start()
        yield receiver


def curl(*arguments: str, body: bytes | None = None) -> tuple[int, dict[str, str]]:
    """Status, and headers by lower-case name."""
    assert CURL is not None
    command = [CURL, "-s", "-o", "/dev/null", "-D", "-", "--max-time", "20", *arguments]
    head = subprocess.run(command, input=body, stdout=subprocess.PIPE).stdout.decode().strip()
    first, *lines = head.split("\r\n\r\n")[-1].split("\r\n")  # the last, after 100 Continue
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers


def post_alert(receiver: Receiver) -> None:
    status, _ = curl(
        *("-H", "Content-Type: application/cloudevents+json"),
        *("--data", json.dumps(alert()), f"{receiver.url}/v1/events"),
    )
    assert status == 201


def create(receiver: Receiver) -> str:
    """The address of the upload of `JPEG`, new or as it is."""

    def told(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    status, headers = curl(
        *("-X", "POST", "-H", "Tus-Resumable: 1.0.0", "-H", f"Upload-Length: {len(JPEG)}"),
        *("-H", f"Upload-Metadata: event {told('n1-000001')},kind {told('box')}"),
        f"{receiver.url}/v1/visuals",
    )
    assert status in (200, 201)
    return urljoin(f"{receiver.url}/v1/visuals", headers["location"])


def offset(where: str) -> int:
    status, headers = curl("--head", "-H", "Tus-Resumable: 1.0.0", where)
    assert status == 200
    return int(headers["upload-offset"])


def patch(where: str, at: int, content: bytes) -> int:
    arguments = ("-X", "PATCH", *BYTES, "-H", f"Upload-Offset: {at}", "--data-binary", "@-")
    status, headers = curl(*arguments, where, body=content)
    assert status == 204
    return int(headers["upload-offset"])


def begin(where: str, at: int, content: bytes) -> "subprocess.Popen[bytes]":
    """A PATCH in chunks, of which only the beginning has been handed to curl."""
    assert CURL is not None
    sending = subprocess.Popen(
        [CURL, "-s", "-X", "PATCH", "-T", "-", *BYTES, "-H", f"Upload-Offset: {at}", where],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert sending.stdin is not None
    sending.stdin.write(content)
    sending.stdin.flush()
    return sending


def cut_off(sending: "subprocess.Popen[bytes]") -> None:
    sending.kill()
    assert sending.stdin is not None
    sending.stdin.close()
    sending.wait(10)


def until_on_disk(receiver: Receiver, size: int) -> None:
    folder = receiver.folder / "visuals"
    for _ in range(1_000):
        if any(path.stat().st_size >= size for path in folder.rglob("*") if path.is_file()):
            return
        time.sleep(0.01)
    raise AssertionError("the bytes did not come")


def shown(receiver: Receiver) -> bytes:
    assert CURL is not None
    address = f"{receiver.url}/v1/events/n1-000001/visuals/box"
    return subprocess.run([CURL, "-s", "-f", address], capture_output=True).stdout


def test_in_three_parts_past_a_broken_connection(receiver: Receiver) -> None:
    post_alert(receiver)
    where = create(receiver)
    assert patch(where, 0, JPEG[:700_001]) == 700_001
    sending = begin(where, 700_001, JPEG[700_001:1_100_000])
    until_on_disk(receiver, 1_000_000)
    cut_off(sending)
    for _ in range(200):
        at = offset(where)
        if at > 700_001:
            break
        time.sleep(0.05)
    assert 1_000_000 <= at <= 1_100_000
    assert shown(receiver) == b""
    assert create(receiver) == where
    assert patch(where, at, JPEG[at:]) == len(JPEG)
    assert shown(receiver) == JPEG


@pytest.mark.slow
def test_past_sigkill_of_the_receiver(receiver: Receiver) -> None:
    """What was acknowledged is there afterwards, byte for byte, however often it dies."""
    post_alert(receiver)
    where = create(receiver)
    at = 0
    for _ in range(3):
        acknowledged = patch(where, at, JPEG[at : at + 100_000])
        sending = begin(where, acknowledged, JPEG[acknowledged : acknowledged + 300_000])
        until_on_disk(receiver, acknowledged + 200_000)
        receiver.process.kill()
        cut_off(sending)
        receiver.start()
        at = offset(where)
        assert at >= acknowledged
        assert shown(receiver) == b""
    assert patch(where, at, JPEG[at:]) == len(JPEG)
    receiver.process.kill()
    receiver.start()
    assert shown(receiver) == JPEG


def test_a_body_without_end_takes_neither_memory_nor_disk(receiver: Receiver) -> None:
    post_alert(receiver)
    where = create(receiver)
    arguments = ("-X", "PATCH", "-T", "/dev/zero", *BYTES, "-H", "Upload-Offset: 0", where)
    begun = time.monotonic()
    assert CURL is not None
    for _ in range(3):
        subprocess.run([CURL, "-s", "--max-time", "60", *arguments], capture_output=True)
    assert time.monotonic() - begun < 60
    assert receiver.process.peak_bytes() < 200_000_000
    files = [path for path in (receiver.folder / "visuals").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= len(JPEG)
