"""A version tried on canary frames: the parts of the worker, and what its parent asks of it."""

import io
import json
import multiprocessing
import os
import resource
import stat
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.cascade import Band, Routing
from dat_runtime.draw import size_of
from dat_runtime.edge.node_settings import MllmSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.edge.updates import trial
from dat_runtime.edge.updates.probation import Measured, Tally
from dat_runtime.edge.updates.trial import (
    BROKEN,
    MOST_FRAMES,
    MOST_QUESTIONS,
    NO_FRAMES,
    SHIPPED_FRAME,
    TrialError,
    Tried,
    canary_frames,
    try_version,
)
from dat_runtime.endpoint import AssessmentError
from dat_runtime.errors import ConfigError, ManifestError, ModelError
from dat_runtime.event import question
from dat_runtime.family import QWEN2_5_VL
from dat_runtime.stage import Stage
from dat_runtime.types import Box, Detection, Size

FRAME = np.zeros((90, 160, 3), np.uint8)
FOUND = (
    Detection(Box(0, 0, 9, 9, Size(160, 90)), "severe", 0.5),
    Detection(Box(50, 0, 90, 9, Size(160, 90)), "moderate", 0.15),
    Detection(Box(0, 50, 9, 90, Size(160, 90)), "moderate", 0.05),
)
KEPT = FOUND[:2]
COMPLIANT = json.dumps(
    {
        "count": 1,
        "severity": "severe",
        "level": 1,
        "score": 0.9,
        "accidents": [{"bbox": [0, 0, 130, 80], "severity": "severe"}],
        "summary": "",
    }
)


def node(mllm: MllmSettings | None = None, canary: Path | None = None) -> Any:
    updates = None if canary is None else SimpleNamespace(canary=canary)
    return SimpleNamespace(mllm=mllm, updates=updates)


def test_the_canary_frames_are_a_folder_s_first_pictures_or_the_shipped_one(tmp_path: Path) -> None:
    assert canary_frames(node()) == (SHIPPED_FRAME,)
    assert SHIPPED_FRAME.is_file()
    settings = node(canary=tmp_path)
    words = rf"^{tmp_path}: updates\.canary: there is no JPEG or PNG picture in it$"
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=words):
        canary_frames(settings)
    names = [f"{i:02}.png" for i in range(MOST_FRAMES)]
    for name in [*reversed(names), "00.JPG", "z.jpeg"]:
        (tmp_path / name).touch()
    found = canary_frames(settings)
    assert [path.name for path in found] == ["00.JPG", *names[: MOST_FRAMES - 1]]
    assert canary_frames(SimpleNamespace(mllm=None, updates=SimpleNamespace(canary=None))) == (
        SHIPPED_FRAME,
    )


# What the worker is asked, and what becomes of its word


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in Python's place that keeps what it gets and says `said` with status `code`."""
    program = tmp_path / "python"
    program.write_text(
        f'#!/bin/sh\necho "$PATH" > {tmp_path}/path\nPATH=/usr/bin:/bin\ncd {tmp_path}\n'
        'echo "$@" > arguments\nenv > environment\ncat > job\necho noise >&2\ncat said\n'
        "exit $(cat code)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "code").write_text("0")
    (tmp_path / "said").write_text(json.dumps({"seen": 3, "measured": Measured(4).as_json()}))
    monkeypatch.setattr(sys, "executable", str(program))
    return tmp_path


def test_a_trial_is_a_process_of_its_own_with_nothing_of_the_node_s_but_its_path(
    worker: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib")
    monkeypatch.setenv("PATH", "/own:/usr/bin")
    monkeypatch.chdir(worker)
    tried = try_version(Path("bundle"), [Path("a.jpg"), Path("/b.png")], node(), "dat")
    assert tried == Tried(Measured(4), 3)
    assert json.loads((worker / "job").read_text()) == {
        "bundle": str(worker / "bundle"),
        "frames": [str(worker / "a.jpg"), "/b.png"],
        "mllm": None,
        "parent": os.getpid(),
    }
    arguments = (worker / "arguments").read_text().split()
    assert arguments == ["-P", "-B", "-m", "dat_runtime.edge.updates.trial"]
    environment = dict(
        line.split("=", 1) for line in (worker / "environment").read_text().splitlines()
    )
    root = Path(trial.__file__).resolve().parents[3]
    assert environment["PYTHONPATH"] == str(root)
    assert environment["LD_LIBRARY_PATH"] == "/usr/lib"
    assert (environment["ORT_DISABLE_TELEMETRY"], environment["OMP_NUM_THREADS"]) == ("1", "1")
    assert "OPENAI_API_KEY" not in environment
    assert (worker / "path").read_text() == "/own:/usr/bin\n"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("key", [None, "secret"])
def test_the_mllm_is_asked_where_the_node_has_one_and_a_model_is_named(
    worker: Path, key: str | None
) -> None:
    (worker / "key").write_text(f" {key}\n")
    mllm = MllmSettings("http://h/v1", "dat", timeout=7.0, key_file=worker / "key" if key else None)

    def asked(mllm: MllmSettings, model: str | None) -> object:
        try_version(worker, [worker], node(mllm), model)
        return json.loads((worker / "job").read_text())["mllm"]

    told = {"url": "http://h/v1", "model": "dat-1", "key": key, "timeout": 7.0}
    assert asked(mllm, "dat-1") == told
    assert asked(mllm, None) is None
    assert asked(MllmSettings(recorded=worker), "dat-1") is None


def test_a_trial_has_its_own_time_and_that_of_the_questions(
    worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def said(job: str, seconds: float) -> str:
        given.append(seconds)
        return (worker / "said").read_text()

    monkeypatch.setattr(trial, "_said", said)
    mllm = MllmSettings("http://h/v1", "dat", timeout=7.0)
    try_version(worker, [worker], node(mllm), "dat")
    try_version(worker, [worker], node(mllm), None)
    assert given == [300.0 + 8 * 7.0, 300.0]


@pytest.mark.parametrize(
    ("said", "code", "error", "words"),
    [
        ("a.jpg: damaged\n", NO_FRAMES, ConfigError, r"updates\.canary: a\.jpg: damaged"),
        ("a" * 501, NO_FRAMES, ConfigError, rf"updates\.canary: {'a' * 500}"),
        ("gate.onnx: broken\n", BROKEN, TrialError, r"gate\.onnx: broken"),
        ("", BROKEN, TrialError, "the trial ended with 1"),
        ("half a word", 137, TrialError, "the trial ended with 137"),
        ("{", 0, TrialError, r"the trial said '\{' \(Expecting property name .*\)"),
        ("x" * 201, 0, TrialError, rf"the trial said '{'x' * 200}' \(.*\)"),
        ('{"seen": 1}', 0, TrialError, r"the trial said .* \(measured is missing\)"),
        ('{"seen": -1, "measured": {}}', 0, TrialError, r".* \(seen is -1, expected a whole .*\)"),
        ('{"seen": 1, "measured": {}}', 0, TrialError, r".* \(baseline: frames is missing\)"),
    ],
)
def test_what_a_trial_says_is_checked(
    worker: Path, said: str, code: int, error: type[Exception], words: str
) -> None:
    (worker / "said").write_text(said)
    (worker / "code").write_text(str(code))
    with pytest.raises(error, match=f"^{words}$"):
        try_version(worker, [worker], node(), None)


def test_a_word_may_have_a_megabyte_and_no_more(worker: Path) -> None:
    said = (worker / "said").read_text()
    (worker / "said").write_text(said + " " * ((1 << 20) - len(said)))
    assert try_version(worker, [worker], node(), None).seen == 3
    (worker / "said").write_text(said + " " * ((1 << 20) + 1 - len(said)))
    with pytest.raises(TrialError, match=r"^the trial ended with 0$"):
        try_version(worker, [worker], node(), None)


def test_a_trial_that_does_not_end_is_ended_with_all_that_it_started(worker: Path) -> None:
    program = worker / "python"
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\nsleep 60 &\necho $! > {worker}/pid\nwait\n")
    with pytest.raises(TrialError, match=r"^the trial did not end in 1 s$"):
        trial._said("{}", 1.0)
    child = int((worker / "pid").read_text())
    deadline = time.monotonic() + 20
    while runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_trial_ends_with_whoever_asked_for_it(
    worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def interrupted(process: Any, *_: object) -> None:
        started.append(process.pid)
        raise KeyboardInterrupt

    (worker / "python").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(trial.subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trial._said("{}", 20.0)
    assert not runs(started[0])


def runs(process: int) -> bool:
    try:
        stated = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stated.rpartition(")")[2].split()[0] not in "ZX"


# The worker


def test_a_worker_says_what_it_found_or_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []
    found: list[object] = [Tried(Measured(1), 1)]

    def tried(bundle: Path, frames: list[np.ndarray], mllm: object) -> Tried:
        given.append((bundle, [frame.shape for frame in frames], mllm))
        if isinstance(found[0], Tried):
            return found[0]
        raise found[0]  # type: ignore[misc]

    def said(**changes: object) -> tuple[int, str]:
        frame = str(SHIPPED_FRAME)
        job = {"bundle": "b", "frames": [frame], "mllm": {"url": "u"}, "parent": 7} | changes
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(job)))
        return trial.main(), capsys.readouterr().out

    parents: list[int] = []
    monkeypatch.setattr(trial, "_bound", parents.append)
    monkeypatch.setattr(trial, "_try", tried)
    code, told = said()
    assert (code, json.loads(told)) == (0, {"seen": 1, "measured": Measured(1).as_json()})
    assert given == [(Path("b"), [read_frame(SHIPPED_FRAME).shape], {"url": "u"})]
    assert parents == [7]
    found[0] = ModelError("broken", "gate.onnx")
    assert said() == (BROKEN, "gate.onnx: broken\n")
    found[0] = MemoryError()
    assert said() == (BROKEN, "out of memory\n")
    code, told = said(frames=[str(tmp_path / "none.jpg")])
    assert (code, told.count("\n")) == (NO_FRAMES, 1)
    assert told.startswith(f"{tmp_path}/none.jpg: ")


def limits(parent: int, pipe: Any) -> None:
    trial._bound(parent)
    names = ("RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_AS")
    pipe.send([resource.getrlimit(getattr(resource, name)) for name in names])
    import ctypes

    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG
    pipe.send(number.value)


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_a_worker_has_little_time_and_memory_and_ends_with_its_parent() -> None:
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    child = fork.Process(target=limits, args=(os.getpid(), theirs))
    child.start()
    assert ours.poll(20)
    assert ours.recv() == [(0, 0), (300, 300), (4 << 30, 4 << 30)]
    assert ours.poll(20)
    assert ours.recv() == 9
    child.join(20)
    orphan = fork.Process(target=limits, args=(1, theirs))
    orphan.start()
    orphan.join(20)
    assert (orphan.exitcode, ours.poll(0)) == (0, False)


def test_a_worker_s_limits_are_set_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    limits: list[tuple[int, tuple[int, int]]] = []
    calls: list[tuple[object, ...]] = []
    library = SimpleNamespace(prctl=lambda *given: calls.append(given))
    monkeypatch.setattr(resource, "setrlimit", lambda *given: limits.append(given))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: calls.append((name,)) or library)
    trial._bound(os.getppid())
    usual = [(resource.RLIMIT_CORE, (0, 0)), (resource.RLIMIT_CPU, (300, 300))]
    assert limits == [*usual, (resource.RLIMIT_AS, (4 << 30, 4 << 30))]
    assert calls == [(None,), (1, 9)]
    with pytest.raises(SystemExit) as end:
        trial._bound(os.getppid() + 1)
    assert end.value.code == 0
    limits.clear()
    calls.clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    trial._bound(os.getppid() + 1)
    assert (limits, calls) == (usual, [])


class Detector:
    """Detects the same in every frame, or fails."""

    def __init__(self, found: tuple[Detection, ...] | None, low: float = 0.25):
        self._found = found
        self.settings = SimpleNamespace(keep=0.1, routing=Routing(0.1, Band(low, None)))

    def detect(self, _: np.ndarray) -> tuple[Detection, ...]:
        if self._found is None:
            raise ModelError("NaN")
        return self._found


class Assessor:
    """Gives an answer, or none, and keeps what it was asked."""

    def __init__(self, answer: str | None):
        self._answer = answer
        self.asked: list[tuple[bytes, str, str]] = []

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        self.asked.append((png, system, prompt))
        if self._answer is None:
            raise AssessmentError("away")
        return self._answer


SHOWN = (112 * 112, QWEN2_5_VL)


def looked(detector: Any, assessor: Any = None, frame: np.ndarray = FRAME) -> tuple[bool, Measured]:
    tally = Tally()
    seen = trial._look(detector, frame, SHOWN, tally, assessor)
    return seen, tally.measured()


def test_a_look_is_counted_with_its_time_whether_the_gate_answers_or_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(trial.time, "monotonic", lambda: next(clock))
    assert looked(Detector(FOUND)) == (True, Measured(1, 0, 2.5))
    clock = iter([10.0, 12.5])
    assert looked(Detector(None), Assessor(COMPLIANT)) == (False, Measured(1, 1, 2.5))


@pytest.mark.parametrize(("low", "seen"), [(0.5, True), (0.501, False)])
def test_a_frame_is_seen_where_its_gate_does_not_drop_it(low: float, seen: bool) -> None:
    assert looked(Detector(FOUND, low))[0] is seen


@pytest.mark.parametrize(
    ("answer", "told"), [(COMPLIANT, (1, 1)), ("I see nothing", (1, 0)), (None, (0, 0))]
)
def test_the_mllm_is_asked_as_at_work_and_its_answers_are_counted(
    answer: str | None, told: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 10.0, 12.5])
    monkeypatch.setattr(trial.time, "monotonic", lambda: next(clock))
    assessor = Assessor(answer)
    _, measured = looked(Detector(FOUND), assessor)
    assert (measured.questions, measured.answers, measured.compliant) == (1, *told)
    assert measured.answer_s == (None if answer is None else 2.5)
    asked = question(FRAME, KEPT, *SHOWN)
    assert assessor.asked == [(asked.png, asked.system, asked.prompt)]


def test_a_frame_that_is_too_long_for_the_mllm_is_not_shown_to_it() -> None:
    assessor = Assessor(COMPLIANT)
    long = np.zeros((1, 250, 3), np.uint8)
    assert trial.is_too_long(size_of(long))
    _, measured = looked(Detector(FOUND), assessor, long)
    assert (measured.frames, measured.questions, assessor.asked) == (1, 0, [])


def test_a_trial_looks_at_every_frame_and_asks_about_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[tuple[str, ...], dict[str, object]]] = []
    assessor = Assessor(COMPLIANT)

    def endpoint(*values: str, **named: object) -> Assessor:
        made.append((values, named))
        return assessor

    looks: list[tuple[int, ...]] = []

    class Counted(Detector):
        def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
            looks.append(image.shape)
            return FOUND

    bundle = tmp_path / "bundle"
    monkeypatch.setattr(trial, "EndpointAssessor", endpoint)
    loads = {bundle / "gate": Counted(FOUND)}
    monkeypatch.setattr(trial, "YoloDetector", SimpleNamespace(load=loads.__getitem__))
    with Stage(bundle, kind="bundle", inputs={}, config={"max_pixels": 12_544}) as folder:
        (folder / "a").write_text("a")
    frames = [FRAME] * (MOST_QUESTIONS + 2)
    mllm = {"url": "u", "model": "m", "key": "k", "timeout": 7.0}
    tried = trial._try(bundle, frames, mllm)
    assert tried.seen == 10
    assert (tried.measured.frames, tried.measured.questions, tried.measured.compliant) == (10, 8, 8)
    assert made == [(("u", "m"), {"api_key": "k", "timeout": 7.0})]
    assert len(looks) == 11  # the first one is not counted
    asked = question(FRAME, KEPT, 12_544, QWEN2_5_VL)
    assert assessor.asked == [(asked.png, asked.system, asked.prompt)] * 8
    tried = trial._try(bundle, frames, None)
    assert (tried.measured.frames, tried.measured.questions) == (10, 0)
    with Stage(bundle, kind="gate", inputs={}, config={"max_pixels": 12_544}) as folder:
        (folder / "a").write_text("a")
    with pytest.raises(ManifestError, match="holds 'gate', expected 'bundle'"):
        trial._try(bundle, frames, None)
