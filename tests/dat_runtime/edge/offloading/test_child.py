"""The encoder's process from within: what it answers, and how it bounds itself."""

import io
import os
import resource
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.draw import encode_seen
from dat_runtime.edge.offloading import child as module
from dat_runtime.edge.offloading.child import ANSWER, HEAD, MEMORY, Encoders, main, serve
from dat_runtime.edge.offloading.pixels import patches_of
from dat_runtime.offload import unpack
from tests.dat_runtime.edge.offloading.small_codec import CHANNELS, MEAN, STD, write_codec

WIDE = np.random.default_rng(6).integers(0, 256, (56, 84, 3), np.uint8)


class Session:
    """In the place of a graph: notes what it is asked, and gives what the test wants."""

    def __init__(self, gives: Any) -> None:
        self.gives = gives
        self.asked: list[Any] = []

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="patches"), SimpleNamespace(name="other")]

    def run(self, outputs: None, inputs: dict[str, Any]) -> list[Any]:
        assert outputs is None
        self.asked.append(inputs)
        return [self.gives, "another output"]


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int]]:
    """Which graphs were opened, with how many threads; none is."""
    opened: list[tuple[Path, int]] = []

    def session(path: Path, threads: int) -> Session:
        opened.append((path, threads))
        return Session(np.zeros((CHANNELS, 24), np.uint8))

    monkeypatch.setattr(module, "_session", session)
    return opened


def encoders(folder: Path, gives: Any = None) -> Encoders:
    found = Encoders(write_codec(folder, b"graph", grids=[[4, 6]], images=[[84, 56]]), 3)
    if gives is not None:
        found._sessions[4, 6] = Session(gives)
    return found


def test_each_grid_has_its_graph(tmp_path: Path, sessions: list[tuple[Path, int]]) -> None:
    found = encoders(tmp_path / "codec")
    assert sessions == [(tmp_path / "codec" / "encoder-4x6.onnx", 3)]
    assert list(found._sessions) == [(4, 6)]


def test_the_bits_are_those_that_the_graph_gives_for_the_pictures_patches(
    tmp_path: Path, sessions: list[tuple[Path, int]]
) -> None:
    bits = np.random.default_rng(7).integers(0, 2, (CHANNELS, 24), np.uint8)
    found = encoders(tmp_path / "codec", bits)
    jpeg = encode_seen(WIDE)
    unit = unpack(found.unit(jpeg))
    assert (unit.grid, unit.spatial, unit.codec) == ((4, 6), False, found._description.id)
    assert np.array_equal(unit.bits, bits.astype(bool))
    (asked,) = found._sessions[4, 6].asked
    import cv2

    seen = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    expected = patches_of(seen, np.array(MEAN, np.float32), np.array(STD, np.float32))
    assert list(asked) == ["patches"]
    assert np.array_equal(asked["patches"], expected)


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        (np.zeros((CHANNELS, 24, 1), np.uint8), r"gives uint8 of \(8, 24, 1\), no bits"),
        (np.zeros((CHANNELS - 1, 24), np.uint8), r"gives uint8 of \(7, 24\), no bits"),
        (np.full((CHANNELS, 24), 2, np.uint8), r"gives uint8 of \(8, 24\), no bits"),
        (np.full((CHANNELS, 24), 1.5, np.float32), r"gives float32 of \(8, 24\), no bits"),
    ],
)
def test_what_are_no_bits_is_told(
    tmp_path: Path, sessions: list[tuple[Path, int]], gives: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        encoders(tmp_path / "codec", gives).unit(encode_seen(WIDE))


def test_a_picture_of_another_size_and_none_are_told(
    tmp_path: Path, sessions: list[tuple[Path, int]]
) -> None:
    found = encoders(tmp_path / "codec")
    for turned, words in ((WIDE.transpose(1, 0, 2), "56 x 84"), (WIDE[:28], "84 x 28")):
        with pytest.raises(ValueError, match=f"^no encoder for {words} pixels$"):
            found.unit(encode_seen(np.ascontiguousarray(turned)))
    with pytest.raises(ValueError, match=r"^no picture$"):
        found.unit(b"\xff\xd8no")


def test_a_graph_is_run_by_so_many_threads_that_do_not_spin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: list[tuple[str, str]] = []

    class Options:
        def add_session_config_entry(self, name: str, value: str) -> None:
            entries.append((name, value))

    def opened(path: Path, options: Any, providers: list[str]) -> Any:
        return path, vars(options), providers

    library = SimpleNamespace(SessionOptions=Options, InferenceSession=opened)
    monkeypatch.setattr(module, "silent_onnxruntime", lambda: library)
    numbers = {"intra_op_num_threads": 5, "inter_op_num_threads": 1, "log_severity_level": 4}
    path = tmp_path / "e.onnx"
    assert module._session(path, 5) == (path, numbers, ["CPUExecutionProvider"])
    assert entries == [("session.intra_op.allow_spinning", "0")]


class Answers:
    """Encoders that give the picture back, and fail where it says so."""

    def unit(self, jpeg: bytes) -> bytes:
        if jpeg == b"bad":
            raise RuntimeError("ü" * 300)
        return b"<" + jpeg + b">"


def test_each_picture_has_an_answer_until_the_parent_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_JPEG", 4)
    asked = b"".join(HEAD.pack(len(one)) + one for one in (b"one", b"bad", b"four"))
    answers = io.BytesIO()
    serve(Answers(), io.BytesIO(asked + HEAD.pack(5) + b"fives"[:4]), answers)  # type: ignore[arg-type]
    words = ("ü" * 250).encode()
    assert answers.getvalue() == (
        b"\x01\x00\x00\x00\x05<one>"
        + (b"\x00\x00\x00\x01\xf4" + words)
        + b"\x01\x00\x00\x00\x06<four>"
        + b"\x01\x00\x00\x00\x06<five>"  # no more than a picture may have is read
    )


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a process of its own would do to itself, noted in this one."""
    noted: dict[str, Any] = {"limits": {}, "nice": [], "threads": [], "watched": []}
    monkeypatch.setattr(os, "nice", noted["nice"].append)
    monkeypatch.setattr(
        resource, "setrlimit", lambda which, limits: noted["limits"].update({which: limits})
    )
    monkeypatch.setattr(module.cv2, "setNumThreads", noted["threads"].append)
    monkeypatch.setattr(
        module,
        "_end_with",
        lambda parent: noted["watched"].append((parent, threading.current_thread().daemon)),
    )
    return noted


def said_by(argv: list[str], asked: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[int, bytes]:
    """The exit code of `main`, and what it answers on its standard output."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(asked)))
    reading, writing = os.pipe()
    kept = os.dup(1)
    opened: list[Any] = []  # a process of its own would leave it to its end
    fdopen = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *how: opened.append(fdopen(*how)) or opened[-1])
    os.dup2(writing, 1)
    try:
        code = main(argv)
        os.write(1, b"chatter")  # goes to standard error by now
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(writing)
        for file in opened:
            file.close()
    with fdopen(reading, "rb") as file:
        os.set_blocking(reading, False)
        return code, file.read() or b""


def test_the_process_is_ready_then_answers_and_what_is_printed_is_no_answer(
    tmp_path: Path,
    sessions: list[tuple[Path, int]],
    process: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_codec(tmp_path / "codec", b"graph", grids=[[4, 6]], images=[[84, 56]])
    asked = HEAD.pack(2) + b"no"
    code, answers = said_by([str(folder), "1000", "3"], asked, monkeypatch)
    assert (code, answers) == (0, ANSWER.pack(True, 0) + ANSWER.pack(False, 10) + b"no picture")
    assert sessions == [(folder / "encoder-4x6.onnx", 3)]
    assert (process["nice"], process["threads"]) == ([19], [1])
    for _ in range(100):
        if process["watched"]:
            break
        threading.Event().wait(0.01)
    assert process["watched"] == [(os.getppid(), True)]
    taken = MEMORY + 3_000
    least, most = process["limits"][resource.RLIMIT_AS]
    assert taken < least == most < taken + (1 << 40)
    assert process["limits"][resource.RLIMIT_CORE] == (0, 0)


@pytest.mark.parametrize(
    ("error", "words"), [("", b"out of memory"), ("x" * 600, b"x" * 500), ("no graph", b"no graph")]
)
def test_a_codec_that_does_not_open_is_told_and_ends_the_process(
    process: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: str, words: bytes
) -> None:
    def fail(folder: Path, threads: int) -> None:
        assert (folder, threads) == (Path("/codec"), 1)
        raise MemoryError(error)

    monkeypatch.setattr(module, "Encoders", fail)
    said = said_by(["/codec", "0", "1"], b"", monkeypatch)
    assert said == (1, ANSWER.pack(False, len(words)) + words)


def test_the_memory_is_what_it_has_and_so_much_more(
    process: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.Path, "read_text", lambda path: "7 6 5 4 3 2 1")
    module._limit(100)
    most = 7 * resource.getpagesize() + (2 << 30) + 300
    assert process["limits"][resource.RLIMIT_AS] == (most, most)
    process["limits"].clear()
    monkeypatch.setattr(module, "resource", None)  # another system
    module._limit(100)
    assert process["limits"] == {}
    assert process["nice"] == [19, 19]


def test_it_ends_when_its_parent_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, slept = iter([7, 7, 1]), []

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(module.time, "sleep", slept.append)
    with pytest.raises(SystemExit) as caught:
        module._end_with(7)
    assert (caught.value.code, slept) == (1, [1.0, 1.0])
