"""How a first run is asked for and limited; no child is started here."""

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime import children
from dat_runtime.edge.gate_model import trial as module
from dat_runtime.edge.gate_model.trial import Trial, check_file, first_run, main
from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.types import SEVERITIES

SETTINGS = GateSettings(classes=SEVERITIES, imgsz=64)


def error_of(work: Any) -> str:
    with pytest.raises(ModelError) as caught:
        work()
    return str(caught.value)


class Child:
    """In the place of a process."""

    def __init__(self, command: list[str], **options: Any):
        self.command, self.options = command, options
        self.returncode: int | None = 0
        self.said, self.late = b"", False
        self.steps: list[Any] = []
        self.stdout = SimpleNamespace(close=lambda: self.steps.append("closed"))

    def communicate(self, timeout: float) -> tuple[bytes, None]:
        self.steps.append(timeout)
        if self.late:
            raise subprocess.TimeoutExpired("child", timeout)
        return self.said, None

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.steps.append("killed")

    def wait(self) -> None:
        self.steps.append("waited")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(module.subprocess, "Popen", Child)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return clock


def begun(path: Path = Path("gate.onnx"), *how: int) -> tuple[Trial, Any]:
    trial = Trial(path, 640, *how)
    return trial, trial._child


def test_a_child_is_told_the_model_its_side_and_its_seconds(now: list[float]) -> None:
    trial, child = begun()
    path = str(Path("gate.onnx").absolute())
    assert child.command == [sys.executable, "-PBm", module.__name__, path, "640", "60"]
    silent = subprocess.DEVNULL
    assert child.options == {
        "stdin": silent,
        "stdout": subprocess.PIPE,
        "stderr": silent,
        "env": children.environment(),
        "start_new_session": True,
    }
    assert begun(Path("gate.onnx"), 7)[1].command[-1] == "7"
    with trial as same:
        assert same is trial


@pytest.mark.parametrize(("passed", "left"), [(0.0, 120.0), (50.0, 70.0), (121.0, 0.0)])
def test_it_is_waited_for_from_its_beginning_on(
    now: list[float], passed: float, left: float
) -> None:
    trial, child = begun()
    now[0] += passed
    trial.demand()
    assert child.steps == [left]


def test_one_that_takes_too_long_is_told(now: list[float]) -> None:
    trial, child = begun()
    child.late = True
    assert error_of(trial.demand) == "gate.onnx: a first run did not end within 120 s"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b" gate.onnx: NaN \n", "gate.onnx: NaN"),
        (b"x" * 2_001, "x" * 2_000),
        (b"\xff", "\ufffd"),
        (
            b"\n",
            "gate.onnx: ended with -9; 7 s of processor time and 1024 MB are allowed",
        ),
    ],
    ids=["words", "many", "odd", "none"],
)
def test_one_that_fails_is_told_in_its_words(now: list[float], said: bytes, words: str) -> None:
    trial, child = begun(Path("gate.onnx"), 7)
    child.returncode, child.said = -9, said
    whole = f"a first run in a process of its own failed: {words}"
    assert error_of(trial.demand) == whole


@pytest.mark.parametrize(("code", "steps"), [(None, ["killed"]), (0, [])])
def test_no_child_outlives_its_trial(now: list[float], code: int | None, steps: list[str]) -> None:
    trial, child = begun()
    child.returncode = code
    with trial:
        pass
    assert child.steps == [*steps, "waited", "closed"]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    found: dict[int, Any] = {}
    monkeypatch.setattr(resource, "setrlimit", lambda which, how: found.update({which: how}))
    files = {Path("/proc/self/statm"): "7 6 5 4"}
    monkeypatch.setattr(module.Path, "read_text", lambda path: files[path])
    return found


def test_processor_and_memory_are_limited_beyond_what_the_library_took(
    limits: dict[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    module._limit(100, 7)
    most = 7 * resource.getpagesize() + (1 << 30) + 600
    own = {resource.RLIMIT_CPU: (7, 7), resource.RLIMIT_CORE: (0, 0)}
    assert limits == {**own, resource.RLIMIT_AS: (most, most)}
    limits.clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    module._limit(100, 7)
    assert limits == own
    limits.clear()
    monkeypatch.setattr(module, "resource", None)
    module._limit(100, 7)
    assert limits == {}


class Engine:
    def __init__(self, answer: Any):
        self.answer, self.seen = answer, []

    def run(self, blob: Any) -> Any:
        self.seen.append(blob)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def answer(*scores: float) -> Any:
    found = np.full((1, 6, max(1, len(scores))), 9, np.float32)
    found[0, 4:] = 0
    found[0, 4, : len(scores)] = scores
    return found


def test_a_model_is_run_once_on_grey() -> None:
    engine: Any = Engine(answer(0.5))
    first_run(Path("gate.onnx"), 4, engine)
    (grey,) = engine.seen
    assert (grey.shape, grey.dtype) == ((1, 3, 4, 4), np.float32)
    assert np.unique(grey) == np.float32(114 / 255)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ((0.0, 1.0), None),
        ((-0.0009, 1.0009), None),
        ((0.0, 1.002), "scores are from 0 to 1.002, expected 0 to 1"),
        ((-0.002, 0.5), "scores are from -0.002 to 0.5, expected 0 to 1"),
    ],
)
def test_scores_are_shares_but_for_a_rounding(scores: tuple[float, ...], words: str | None) -> None:
    engine: Any = Engine(answer(*scores))
    if words is None:
        first_run(Path("gate.onnx"), 4, engine)
    else:
        assert error_of(lambda: first_run(Path("gate.onnx"), 4, engine)) == f"gate.onnx: {words}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (answer(float("nan")), "the model answers with NaN or infinity"),
        (np.full((1, 6, 1), np.inf, np.float32), "the model answers with NaN or infinity"),
        (RuntimeError("no memory"), "the model cannot run (no memory)"),
    ],
)
def test_a_model_that_does_not_answer_is_told(given: Any, words: str) -> None:
    engine: Any = Engine(given)
    assert error_of(lambda: first_run(Path("gate.onnx"), 4, engine)) == f"gate.onnx: {words}"


def test_an_answer_without_scores_is_none_that_harms() -> None:
    engine: Any = Engine(np.zeros((1, 4, 3), np.float32))
    first_run(Path("gate.onnx"), 4, engine)


def test_the_model_is_loaded_where_nobody_did(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    engine = Engine(answer(0.5))
    monkeypatch.setattr(
        module, "load_engine", lambda path, threads: asked.append((path, threads)) or engine
    )
    first_run(Path("gate.onnx"), 4)
    assert asked == [(Path("gate.onnx"), 1)]
    assert len(engine.seen) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, ""), (ModelError("no gate"), "no gate\n"), (MemoryError(), "out of memory\n"),
     (ImportError("no openvino"), "no openvino\n")],
)  # fmt: skip
def test_a_child_imports_its_library_before_its_limits_and_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception | None,
    said: str,
) -> None:
    steps: list[Any] = []

    def run(path: Path, side: int) -> None:
        steps.append((path, side))
        if error is not None:
            raise error

    monkeypatch.setattr(module, "silent_onnxruntime", lambda: steps.append("onnxruntime"))
    monkeypatch.setattr(module, "silent_openvino", lambda: steps.append("openvino"))
    monkeypatch.setattr(module, "stated_sizes", lambda path: {"a": 3, "b": 4})
    monkeypatch.setattr(module, "_limit", lambda *about: steps.append(about))
    monkeypatch.setattr(module, "first_run", run)
    for file, library in (("gate.onnx", "onnxruntime"), ("gate.xml", "openvino")):
        steps.clear()
        assert main([file, "640", "7"]) == (0 if error is None else 1)
        assert steps == [library, (7, 7), (Path(file), 640)]
        assert capsys.readouterr().out == said


def test_a_file_is_read_by_its_kind_and_no_further_than_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    for name in ("gate.onnx", "gate.xml", "gate.bin"):
        (tmp_path / name).write_bytes(b"1234567"[: len(name) - 4])
    monkeypatch.setattr(module, "_check_onnx", lambda *about: asked.append(about))
    monkeypatch.setattr(module, "check_ir", lambda *about: asked.append(about))
    read = module.read_bytes
    monkeypatch.setattr(
        module, "read_bytes", lambda *about, **how: asked.append(how) or read(*about, **how)
    )
    check_file(tmp_path / "gate.onnx", SETTINGS)
    check_file(tmp_path / "gate.xml", SETTINGS)
    assert asked == [
        {"most_bytes": 5},
        (b"12345", SETTINGS),
        {"most_bytes": 4},
        (b"1234", 64, 4),
    ]

    def refuse(*_: Any) -> None:
        raise ValueError("holds <body>")

    monkeypatch.setattr(module, "check_ir", refuse)
    path = tmp_path / "gate.xml"
    words = f"{path}: not a gate's model: holds <body>"
    assert error_of(lambda: check_file(path, SETTINGS)) == words
    # One that grew meanwhile is not read any further.
    monkeypatch.setattr(module, "stated_sizes", lambda path: {"gate.xml": 3, "gate.bin": 4})
    assert "larger than" in error_of(lambda: check_file(path, SETTINGS))


@pytest.mark.parametrize(
    ("shape", "given", "words"),
    [
        ((1, 3, 64, 64), (1, 6, 84), None),
        ((1, 3, 64, 96), (1, 6, 84), "input is [1, 3, 64, 96], expected [1, 3, 64, 64]"),
        ((1, 3, 64, 64), (1, 7, 84), "output is [1, 7, 84], expected [1, 6, n]"),
        ((1, 3, 64, 64), (1, 6), "output is [1, 6], expected [1, 6, n]"),
        ((1, 3, 64, 64), (2, 6, 84), "output is [2, 6, 84], expected [1, 6, n]"),
    ],
)
def test_a_graph_takes_the_picture_and_gives_its_classes(
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, ...],
    given: tuple[int, ...],
    words: str | None,
) -> None:
    graph = SimpleNamespace(input_shape=shape)
    monkeypatch.setattr(module, "read_graph", {b"model": graph}.__getitem__)
    monkeypatch.setattr(module, "check_graph", lambda of: given if of is graph else None)
    if words is None:
        module._check_onnx(b"model", SETTINGS)
    else:
        with pytest.raises(ValueError, match="put is") as caught:
            module._check_onnx(b"model", SETTINGS)
        assert str(caught.value) == words
