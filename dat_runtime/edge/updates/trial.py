"""A version tried on canary frames by a worker of its own, before anything of the node changes.

    python -m dat_runtime.edge.updates.trial     the worker: its job on stdin, its word on stdout

The version at work is tried on the same frames: what is new is held to what is there.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dat_runtime
from dat_runtime import gate, manifest
from dat_runtime.draw import Image, is_too_long, size_of
from dat_runtime.edge.assess import Assessor, EndpointAssessor
from dat_runtime.edge.bundle import KIND
from dat_runtime.edge.cameras.pictures import SUFFIXES
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.node_settings import NodeSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.edge.updates.probation import (
    LEAST_COMPLIANT,
    LESS_COMPLIANT,
    Measured,
    Tally,
    is_compliant,
    slower,
)
from dat_runtime.endpoint import AssessmentError
from dat_runtime.errors import ConfigError, DatError
from dat_runtime.event import question
from dat_runtime.family import Family
from dat_runtime.fields import OBJECT, checked, whole
from dat_runtime.files import parse, read_text

SHIPPED_FRAME = Path(dat_runtime.__file__).with_name("demo") / "frame.jpg"
"""Tried where a node has no canary folder."""

MOST_FRAMES = 32
"""Canary frames that are looked at, and..."""

MOST_QUESTIONS = 8
"""...of those, that the MLLM is asked about, the first ones."""

MOST_SECONDS = 300.0
"""For a trial, beside the MLLM's own time."""

MOST_CPU_S = 300
MOST_MEMORY = 4 << 30
"""Bytes of address space. An engine maps a gigabyte before its first model."""

LEAST_SEEN = 0.5
"""Of the frames that the version at work does not drop, the share that a new one has to see."""

BROKEN, NO_FRAMES = 1, 2
"""How the worker ends when the version, or the frames, cannot be used."""

_MOST_BYTES = 1 << 20


class TrialError(DatError):
    """The trial itself failed: the version is broken, or takes more than a gate does."""


@dataclass(frozen=True)
class Tried:
    """What a version did on the canary frames.

    Attributes:
        seen: frames that its gate does not drop.
    """

    measured: Measured
    seen: int


def canary_frames(settings: NodeSettings) -> tuple[Path, ...]:
    """The frames of the node's canary folder in the order of their names, or the shipped one.

    Raises:
        ConfigError: the folder holds none.
    """
    folder = None if settings.updates is None else settings.updates.canary
    if folder is None:
        return (SHIPPED_FRAME,)
    frames = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not frames:
        raise ConfigError("updates.canary: there is no JPEG or PNG picture in it", folder)
    return tuple(frames[:MOST_FRAMES])


def try_version(
    bundle: Path, frames: Sequence[Path], settings: NodeSettings, model: str | None
) -> Tried:
    """Run a version's gate on frames, and ask the MLLM about them, in a child with limits.

    Args:
        model: to ask at the node's server; `None`: nobody is asked.

    Raises:
        TrialError: the version cannot be opened, or took too much time or memory.
        ConfigError: a canary frame cannot be read.
    """
    mllm, patience = settings.mllm, MOST_SECONDS
    job: dict[str, Any] = {
        "bundle": str(bundle.absolute()),
        "frames": [str(frame.absolute()) for frame in frames],
        "mllm": None,
        "parent": os.getpid(),
    }
    if mllm is not None and mllm.url is not None and model is not None:
        key = None if mllm.key_file is None else read_text(mllm.key_file, ConfigError).strip()
        job["mllm"] = {"url": mllm.url, "model": model, "key": key, "timeout": mllm.timeout}
        patience += MOST_QUESTIONS * mllm.timeout
    said = _said(json.dumps(job), patience)
    try:
        told = checked(parse(said), {"seen": whole(0), "measured": OBJECT}, "")
        return Tried(Measured.from_json(told["measured"]), told["seen"])
    except ValueError as error:
        raise TrialError(f"the trial said {said[:200]!r} ({error})") from None


def refusal(new: Tried, old: Tried | None) -> str | None:
    """Why a version is not taken, in words; `None` when it may be.

    Args:
        old: the version at work on the same frames; `None` where there is none.
    """
    now, before = new.measured, Measured() if old is None else old.measured
    if now.failures:
        return f"the gate failed on {now.failures} of {now.frames} canary frames"
    if old is not None and new.seen < LEAST_SEEN * old.seen:
        return f"the gate sees something on {new.seen} canary frames, {old.seen} before"
    words = slower("a look of the gate", now.look_s, before.look_s)
    if words is not None:
        return words
    return _refusal_of_answers(now, before)


def _refusal_of_answers(now: Measured, before: Measured) -> str | None:
    if not now.questions:
        return None
    if not now.answers:
        # With the version at work nobody answers either: the server is at fault, not the version.
        if before.questions and not before.answers:
            return None
        return f"the MLLM answered none of {now.questions} questions"
    least, was = LEAST_COMPLIANT, ""
    if before.answers:
        least = before.compliant / before.answers - LESS_COMPLIANT
        was = f", {before.compliant} of {before.answers} before"
    if now.compliant < least * now.answers:
        return f"{now.compliant} of {now.answers} canary answers were compliant{was}"
    return slower("an answer of the MLLM", now.answer_s, before.answer_s)


def _said(job: str, seconds: float) -> str:
    """What the worker says of a job."""
    package = str(Path(dat_runtime.__file__).resolve().parents[1])
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    worker = subprocess.Popen(
        [sys.executable, "-P", "-B", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, "PYTHONPATH": package, "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"},
        text=True,
        start_new_session=True,
    )
    with worker:
        try:
            said, _ = worker.communicate(job, seconds)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            raise TrialError(f"the trial did not end in {seconds:.0f} s") from None
        except BaseException:
            os.killpg(worker.pid, signal.SIGKILL)
            raise
    if worker.returncode == 0 and len(said) <= _MOST_BYTES:
        return said
    words = said.strip()[:500] if worker.returncode in (BROKEN, NO_FRAMES) else ""
    if worker.returncode == NO_FRAMES:
        raise ConfigError(f"updates.canary: {words}")
    raise TrialError(words or f"the trial ended with {worker.returncode}")


# The worker


def main() -> int:
    """One job; what is wrong goes to stdout too."""
    job = json.loads(sys.stdin.read())
    _bound(job["parent"])
    try:
        frames = [read_frame(Path(frame)) for frame in job["frames"]]
    except DatError as error:
        print(error)
        return NO_FRAMES
    try:
        tried = _try(Path(job["bundle"]), frames, job["mllm"])
    except (DatError, MemoryError) as error:
        print(str(error) or "out of memory")
        return BROKEN
    print(json.dumps({"seen": tried.seen, "measured": tried.measured.as_json()}))
    return 0


def _bound(parent: int) -> None:
    """Little time and memory, and an end with the parent's."""
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    if sys.platform != "linux":
        return
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        raise SystemExit(0)


def _try(bundle: Path, frames: Sequence[Image], mllm: dict[str, Any] | None) -> Tried:
    """Whoever asks for the trial has opened the bundle before, with all that is checked then."""
    detector = YoloDetector.load(bundle / "gate")
    stated = manifest.read(bundle, KIND)
    shown = stated.config["max_pixels"], stated.family
    assessor = None
    if mllm is not None:
        assessor = EndpointAssessor(
            mllm["url"], mllm["model"], api_key=mllm["key"], timeout=mllm["timeout"]
        )
    tally, seen = Tally(), 0
    detector.detect(frames[0])  # an engine's first look takes longer than all others
    for number, frame in enumerate(frames):
        asked = assessor if number < MOST_QUESTIONS else None
        seen += _look(detector, frame, shown, tally, asked)
    return Tried(tally.measured(), seen)


def _look(
    detector: YoloDetector,
    frame: Image,
    shown: tuple[int, Family],
    tally: Tally,
    assessor: Assessor | None,
) -> bool:
    """Whether the gate would not drop the frame."""
    settings = detector.settings
    began = time.monotonic()
    try:
        detections = detector.detect(frame)
    except DatError:
        tally.looked(time.monotonic() - began, failed=True)
        return False
    tally.looked(time.monotonic() - began)
    if assessor is not None and not is_too_long(size_of(frame)):
        asked = question(frame, gate.kept(detections, settings.keep), *shown)
        began = time.monotonic()
        tally.asked()
        try:
            text = assessor.assess(asked.png, asked.system, asked.prompt)
        except AssessmentError:
            pass  # a question without an answer, which the tally knows
        else:
            tally.answered(time.monotonic() - began, is_compliant(text, asked.frame))
    return settings.routing.decide(gate.trigger_score(detections)) != "drop"


if __name__ == "__main__":
    raise SystemExit(main())
