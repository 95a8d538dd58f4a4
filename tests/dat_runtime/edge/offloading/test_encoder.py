"""The encoder in its process: right bits, and no graph that hangs, swells or breaks the node."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime import manifest
from dat_runtime.draw import encode_seen
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.offloading import encoder as module
from dat_runtime.edge.offloading.child import ANSWER
from dat_runtime.edge.offloading.encoder import Encoder
from dat_runtime.edge.offloading.node_codec import open_codec
from dat_runtime.edge.offloading.pixels import patches_of
from dat_runtime.errors import ConfigError, ManifestError, ModelError
from dat_runtime.offload import MAX_BYTES, CodeUnit, pack, unpack
from dat_runtime.types import Size
from tests.dat_runtime.edge.offloading.small_codec import (
    COLUMNS,
    MEAN,
    STD,
    of_a_terabyte,
    without_end,
    write_codec,
)

PICTURE = np.random.default_rng(2).integers(0, 256, (56, 56, 3), np.uint8)
JPEG = encode_seen(PICTURE)


def encoder_of(folder: Path, counts: Counts, seconds: float = 20.0) -> Encoder:
    return Encoder(folder, open_codec(folder), seconds, counts)


def test_the_bits_are_those_of_the_graph_on_the_processors_patches(tmp_path: Path) -> None:
    encoder = encoder_of(write_codec(tmp_path / "codec"), Counts())
    try:
        unit = unpack(encoder.unit(JPEG))
        seen = np.asarray(cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        patches = patches_of(seen, np.array(MEAN, np.float32), np.array(STD, np.float32))
        assert (unit.grid, unit.spatial) == ((4, 4), False)
        assert np.array_equal(unit.bits, (patches @ COLUMNS > 0).T)
        with pytest.raises(ModelError, match="no encoder for 84 x 56 pixels"):
            encoder.unit(encode_seen(np.zeros((56, 84, 3), np.uint8)))
        with pytest.raises(ModelError, match="no picture"):
            encoder.unit(b"\xff\xd8no")
        assert unpack(encoder.unit(JPEG)).channels == 8  # it still runs
    finally:
        encoder.stop()


@pytest.mark.slow  # Transformers takes seconds to import
@pytest.mark.timeout(600)
def test_patches_lie_as_the_models_processor_lays_them() -> None:
    processing = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl")
    processor = processing.Qwen2VLImageProcessor(
        size={"shortest_edge": 56 * 56, "longest_edge": 56 * 84}
    )
    picture = np.random.default_rng(3).integers(0, 256, (56, 84, 3), np.uint8)
    expected = processor(images=[picture[:, :, ::-1].copy()], return_tensors="np")
    mean = np.array(processor.image_mean, np.float32)
    found = patches_of(picture, mean, np.array(processor.image_std, np.float32))
    assert found.shape == expected["pixel_values"].shape == (24, 1176)
    assert np.abs(found - expected["pixel_values"]).max() < 2e-6


def test_one_that_hangs_is_killed_and_started_again_after_a_pause(
    tmp_path: Path, children: Callable[[], list[int]]
) -> None:
    counts = Counts()
    encoder = encoder_of(write_codec(tmp_path / "codec", without_end()), counts, seconds=0.5)
    try:
        encoder.start()
        (child,) = children()
        began = time.monotonic()
        with pytest.raises(ModelError, match="did not answer in time"):
            encoder.unit(JPEG)
        assert time.monotonic() - began < 5
        assert child not in children()
        with pytest.raises(ModelError, match="failed a moment ago"):
            encoder.unit(JPEG)
        assert counts.of("encoder_failed", reason="it hangs") == 1
        assert counts.of("encoder_restarts") == 1
        time.sleep(1.1)
        encoder.start()
        assert children()
    finally:
        encoder.stop()
    assert not children()


def test_one_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    folder = write_codec(tmp_path / "codec", without_end())
    (tmp_path / "seen.jpg").write_bytes(JPEG)
    script = (
        "import sys, os, pathlib\n"
        "from dat_runtime.edge.counts import Counts\n"
        "from dat_runtime.edge.offloading.encoder import Encoder\n"
        "from dat_runtime.edge.offloading.node_codec import open_codec\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "encoder = Encoder(folder, open_codec(folder), 60, Counts())\n"
        "encoder.start()\n"
        "print(encoder._child.pid, flush=True)\n"
        "encoder.unit(pathlib.Path(sys.argv[2]).read_bytes())\n"
    )
    line = [sys.executable, "-c", script, str(folder), str(tmp_path / "seen.jpg")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    deadline = time.monotonic() + 20
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_one_that_swells_or_is_no_graph_fails_by_name(tmp_path: Path) -> None:
    counts = Counts()
    for name, graph, words in (
        ("swells", of_a_terabyte(), "encoder"),
        ("none", b"no graph", "INVALID_PROTOBUF|Protobuf parsing failed"),
    ):
        encoder = encoder_of(write_codec(tmp_path / name, graph), counts)
        try:
            with pytest.raises(ModelError, match=words):
                encoder.unit(JPEG)
        finally:
            encoder.stop()


class Pipe:
    """In the place of a child: says what a test wants, and hears what it is asked."""

    def __init__(self, said: bytes, *, ends: bool = True):
        asked, self._stdin = os.pipe()
        self._stdout, says = os.pipe()
        self.stdin = os.fdopen(self._stdin, "wb", 0)
        self.stdout = os.fdopen(self._stdout, "rb", 0)
        self.asked, self.says = os.fdopen(asked, "rb", 0), os.fdopen(says, "wb", 0)
        os.set_blocking(asked, False)
        self.says.write(said)
        if ends:
            self.says.close()
        self.killed = self.waited = 0
        self.pid = 1

    def poll(self) -> int | None:
        return 1 if self.killed else None

    def kill(self) -> None:
        self.killed += 1

    def wait(self) -> None:
        self.waited += 1

    def end(self) -> None:
        for file in (self.asked, self.says, self.stdin, self.stdout):
            file.close()


@pytest.fixture
def talking(tmp_path: Path) -> Iterator[Callable[..., tuple[Encoder, Pipe, Counts]]]:
    """Encoders whose child says this."""
    folder = write_codec(tmp_path / "codec", b"graph")
    pipes: list[Pipe] = []

    def make(said: bytes, seconds: float = 5.0, *, ends: bool = True) -> Any:
        counts = Counts()
        encoder = encoder_of(folder, counts, seconds)
        pipes.append(Pipe(said, ends=ends))
        encoder._child = pipes[-1]  # type: ignore[assignment]
        return encoder, pipes[-1], counts

    yield make
    for pipe in pipes:
        pipe.end()


def unit_of(encoder: Encoder, channels: int = 8, id: str | None = None) -> bytes:
    bits = np.zeros((channels, 16), bool)
    return pack(CodeUnit(id or encoder._codec.description.id, (4, 4), False, bits))


Talking = Callable[..., tuple[Encoder, Pipe, Counts]]


def test_a_picture_is_asked_about_with_its_length_and_its_unit_comes_back(
    talking: Talking,
) -> None:
    encoder, pipe, counts = talking(b"", ends=False)
    content = unit_of(encoder)
    pipe.says.write(ANSWER.pack(True, len(content)) + content)
    encoder._failures = 3
    assert encoder.unit(b"picture") == content
    assert pipe.asked.read() == b"\x00\x00\x00\x07picture"
    assert (encoder._failures, counts.snapshot()) == (0, {})
    assert list(encoder.sizes) == [Size(56, 56)]


def test_an_answer_may_come_in_parts_and_ends_where_the_next_begins(talking: Talking) -> None:
    encoder, pipe, _ = talking(b"", ends=False)
    content = unit_of(encoder)
    whole = ANSWER.pack(True, len(content)) + content
    rest = threading.Timer(0.05, pipe.says.write, [whole[3:] + whole])
    pipe.says.write(whole[:3])
    rest.start()
    assert encoder.unit(b"one") == content
    assert encoder.unit(b"two") == content
    rest.join()
    assert pipe.asked.read() == b"\0\0\0\3one\0\0\0\3two"


@pytest.mark.parametrize(
    ("channels", "id", "words"),
    [
        (2, None, "the encoder gives no code: a code unit of other channels than its codec has"),
        (8, "0" * 16, "the encoder gives no code: "),
    ],
)
def test_what_is_no_unit_of_the_codec_is_told_and_counted(
    talking: Talking, channels: int, id: str | None, words: str
) -> None:
    encoder, pipe, counts = talking(b"", ends=False)
    content = unit_of(encoder, channels, id)
    pipe.says.write(ANSWER.pack(True, len(content)) + content)
    with pytest.raises(ModelError) as caught:
        encoder.unit(b"picture")
    assert str(caught.value).startswith(words)
    assert counts.snapshot() == {("encoder_failed", (("reason", "no bits"),)): 1}
    assert pipe.killed == 0


def test_a_refusal_is_told_in_one_line_that_moves_no_cursor(talking: Talking) -> None:
    words = b"no  encoder\n for \x1b[2J \xff pixels"
    encoder, pipe, counts = talking(ANSWER.pack(False, len(words)) + words)
    with pytest.raises(ModelError) as caught:
        encoder.unit(b"picture")
    assert str(caught.value) == "the encoder: no encoder for \\x1b[2J \ufffd pixels"
    assert counts.snapshot() == {("encoder_failed", (("reason", "refused"),)): 1}
    assert pipe.killed == 0


@pytest.mark.parametrize(
    ("said", "ends", "words", "reason"),
    [
        (b"", True, "the encoder's process ended", "it ended"),
        (ANSWER.pack(True, 4) + b"abc", True, "the encoder's process ended", "it ended"),
        (ANSWER.pack(True, 4) + b"abc", False, "the encoder did not answer in time", "it hangs"),
        (
            ANSWER.pack(True, MAX_BYTES + 1),
            False,
            f"the encoder's process answers with {MAX_BYTES + 1:,} bytes",
            "it hangs",
        ),
    ],
    ids=["none", "half", "late", "large"],
)
def test_a_process_that_ends_hangs_or_talks_without_end_is_killed(
    talking: Talking, said: bytes, ends: bool, words: str, reason: str
) -> None:
    encoder, pipe, counts = talking(said, 0.05, ends=ends)
    with pytest.raises(ModelError) as caught:
        encoder.unit(b"picture")
    assert str(caught.value) == words
    assert counts.of("encoder_failed", reason=reason) == counts.of("encoder_restarts") == 1
    assert (pipe.killed, pipe.waited, encoder._child) == (1, 1, None)
    assert pipe.stdin.closed
    assert pipe.stdout.closed


def test_a_process_that_takes_no_picture_is_killed_in_time(talking: Talking) -> None:
    encoder, pipe, _ = talking(b"", 0.05, ends=False)
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"^the encoder did not take a picture in time$"):
        encoder.unit(bytes(1_000_000))  # a pipe holds 64 KiB
    assert time.monotonic() - began < 5
    assert pipe.killed == 1


def test_after_each_failure_in_a_row_the_pause_is_twice_as_long_up_to_a_minute(
    talking: Talking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder, _, _ = talking(b"")
    monkeypatch.setattr(module.time, "monotonic", lambda: 1_000.0)
    pauses = []
    for _ in range(8):
        encoder._failed("it hangs")
        pauses.append(encoder._not_before - 1_000.0)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert caplog.messages[1] == "the encoder: it hangs; again in 2 s"
    encoder._failures = 5_000
    encoder._failed("it hangs")
    assert encoder._not_before == 1_060.0
    encoder._not_before = 1_000.0
    started: list[Pipe] = []

    def popen(*_: Any, **__: Any) -> Pipe:
        started.append(Pipe(b""))
        return started[-1]

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    with pytest.raises(ModelError, match="ended"):
        encoder.start()  # the pause is over
    started[0].end()
    encoder._not_before = 1_000.1
    with pytest.raises(ModelError, match=r"^the encoder failed a moment ago$"):
        encoder.start()
    assert len(started) == 1


def test_where_no_process_can_be_started_it_is_a_failure_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an OSError it ended the thread that makes questions, before its first one."""
    counts = Counts()
    encoder = encoder_of(write_codec(tmp_path / "codec", b"graph"), counts)

    def popen(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    with pytest.raises(ModelError, match=r"cannot be started: .*Cannot allocate memory$"):
        encoder.unit(JPEG)
    assert counts.of("encoder_failed", reason="no start") == 1
    with pytest.raises(ModelError, match=r"^the encoder failed a moment ago$"):
        encoder.start()


def test_a_process_is_started_with_its_codec_and_reads_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_codec(tmp_path / "codec", b"graph")
    counts = Counts()
    encoder = encoder_of(folder, counts)
    started: list[tuple[Any, Any]] = []
    said = [ANSWER.pack(True, 0), ANSWER.pack(False, 8) + b"no graph"]
    pipes: list[Pipe] = []

    def popen(command: Any, **options: Any) -> Pipe:
        started.append((command, options))
        pipes.append(Pipe(said.pop(0)))
        return pipes[-1]

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setattr(module, "START_SECONDS", 0.5)
    encoder.start()
    encoder.start()  # it runs
    ((command, options),) = started
    assert command == [
        *(sys.executable, "-PBm", "dat_runtime.edge.offloading.child"),
        *(str(folder), "5", "1"),
    ]
    environment = options.pop("env")
    package = str(Path(module.__file__).parents[3])
    assert environment["PYTHONPATH"] == f"{package}{os.pathsep}/elsewhere"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["PATH"] == os.environ["PATH"]
    pipe, silent = subprocess.PIPE, subprocess.DEVNULL
    assert options == {
        "stdin": pipe,
        "stdout": pipe,
        "stderr": silent,
        "bufsize": 0,
        "start_new_session": True,
    }
    pipes[0].killed = 1  # it has ended meanwhile
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(ModelError, match=r"^the encoder: no graph$"):
        encoder.start()
    assert pipes[0].waited == 1
    assert started[1][1]["env"]["PYTHONPATH"] == package
    assert counts.of("encoder_failed", reason="no start") == 1
    assert pipes[1].killed == 1
    encoder.stop()
    for made in pipes:
        made.end()


def test_a_codec_that_was_changed_or_is_of_another_prompt_is_refused_by_name(
    tmp_path: Path,
) -> None:
    folder = write_codec(tmp_path / "codec")
    codec = json.loads((folder / "codec.json").read_text())
    (folder / "encoder-4x4.onnx").write_bytes(b"other")
    with pytest.raises(ManifestError, match=r"encoder-4x4\.onnx"):
        open_codec(folder)
    with pytest.raises(ConfigError, match="prompt 7 and patches of 14"):
        open_codec(write_codec(tmp_path / "prompt", prompt=7))
    with pytest.raises(ModelError, match="is missing"):
        open_codec(write_codec(tmp_path / "grids", grids=[[4, 4], [2, 2]]))
    with pytest.raises(ModelError, match=r"std is .*a number above 0"):
        open_codec(write_codec(tmp_path / "std", std=[0.2, 0.0, 0.2]))
    (tmp_path / "prompt" / "codec.json").write_text(json.dumps(codec | {"id": "0" * 16}))
    stated = json.loads((tmp_path / "prompt" / manifest.NAME).read_text())
    assert stated["kind"] == "codec"
