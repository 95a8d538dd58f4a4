"""Whether a version does its work as the one before did: measured at work, judged by rules.

Counted are frames that the gate looked at, answers of the MLLM and how long both took. The limits
are wide on purpose: the canary frames found what is plainly broken, and traffic differs from one
hour to the next.
"""

import threading
from collections import deque
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from dat_runtime.fields import checked, number, optional, whole
from dat_runtime.schema import judge
from dat_runtime.types import Size

ENOUGH_FRAMES = 50
"""Looks of the gate, and..."""

ENOUGH_ANSWERS = 10
"""...questions to the MLLM, before anything is said of a version."""

MOST_FAILED = 0.05
"""Share of frames on which the detector may fail."""

LESS_COMPLIANT = 0.2
"""By how much the share of compliant answers may be lower than before."""

LESS_ANSWERED = 0.5
"""By how much the share of answered questions may be lower than before."""

SLOWER = 2.0
"""How many times slower gate and MLLM may be, and..."""

SLACK = 0.05
"""...seconds on top: a gate of 2 ms that takes 5 is none to give back."""

LEAST_COMPLIANT = 0.5
"""Where nothing is known of the version before."""

_LATEST = 512
"""Durations of which the median is taken."""


@dataclass(frozen=True)
class Measured:
    """What a version did.

    Attributes:
        frames, failures: looks of the gate, and those on which the detector failed.
        look_s: median seconds of a look; `None` before the first one.
        questions, answers, compliant: to the MLLM, those answered, those within the contract.
        answer_s: median seconds to an answer; `None` before the first one.
    """

    frames: int = 0
    failures: int = 0
    look_s: float | None = None
    questions: int = 0
    answers: int = 0
    compliant: int = 0
    answer_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> "Measured":
        """Raises: ValueError: names the field that is wrong."""
        return cls(**checked(value, _MEASURED, "baseline"))

    @property
    def share_compliant(self) -> float | None:
        """Of the answers; `None` while there are too few."""
        return self.compliant / self.answers if self.answers >= ENOUGH_ANSWERS else None

    @property
    def share_answered(self) -> float | None:
        """Of the questions; `None` while there are too few."""
        return self.answers / self.questions if self.questions >= ENOUGH_ANSWERS else None


_MEASURED = {
    "frames": whole(0),
    "failures": whole(0),
    "look_s": optional(number(0)),
    "questions": whole(0),
    "answers": whole(0),
    "compliant": whole(0),
    "answer_s": optional(number(0)),
}


class Tally:
    """Measures a version at work; safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = self._failures = 0
        self._questions = self._answers = self._compliant = 0
        self._looks: deque[float] = deque(maxlen=_LATEST)
        self._waits: deque[float] = deque(maxlen=_LATEST)

    def looked(self, seconds: float, failed: bool = False) -> None:
        """The gate looked at a frame."""
        with self._lock:
            self._frames += 1
            self._failures += failed
            self._looks.append(seconds)

    def asked(self) -> None:
        """The MLLM was asked, and was neither full nor about to stop."""
        with self._lock:
            self._questions += 1

    def answered(self, seconds: float, compliant: bool) -> None:
        """An answer came, in time or late."""
        with self._lock:
            self._answers += 1
            self._compliant += compliant
            self._waits.append(seconds)

    def measured(self) -> Measured:
        """All of it until now."""
        with self._lock:
            return Measured(
                frames=self._frames,
                failures=self._failures,
                look_s=median(self._looks) if self._looks else None,
                questions=self._questions,
                answers=self._answers,
                compliant=self._compliant,
                answer_s=median(self._waits) if self._waits else None,
            )


def complaint(now: Measured, before: Measured | None) -> str | None:
    """Why a version is to be given back, in words; `None` while nothing speaks against it.

    Args:
        before: of the version that it replaced; `None` where nothing is known.
    """
    before = before or Measured()
    if now.frames >= ENOUGH_FRAMES and now.failures > MOST_FAILED * now.frames:
        return f"the gate failed on {now.failures} of {now.frames} frames"
    return _of_answers(now, before) or _of_latency(now, before)


def _of_answers(now: Measured, before: Measured) -> str | None:
    share, expected = now.share_compliant, before.share_compliant
    least = LEAST_COMPLIANT if expected is None else expected - LESS_COMPLIANT
    if share is not None and share < least:
        was = "" if expected is None else f", {expected:.0%} before"
        return f"{share:.0%} of {now.answers} answers were compliant{was}"
    answered, expected = now.share_answered, before.share_answered
    if answered is not None and expected is not None and answered < expected - LESS_ANSWERED:
        return f"{answered:.0%} of {now.questions} questions were answered, {expected:.0%} before"
    return None


def _of_latency(now: Measured, before: Measured) -> str | None:
    if min(now.frames, before.frames) >= ENOUGH_FRAMES:
        words = slower("a look of the gate", now.look_s, before.look_s)
        if words is not None:
            return words
    if min(now.answers, before.answers) >= ENOUGH_ANSWERS:
        return slower("an answer of the MLLM", now.answer_s, before.answer_s)
    return None


def slower(what: str, now: float | None, before: float | None) -> str | None:
    """That something takes much longer than before, in words; `None` where it does not.

    Args:
        now, before: seconds; `None` where it was not measured.
    """
    if now is None or before is None or now <= SLOWER * before + SLACK:
        return None
    return f"{what} takes {1000 * now:.0f} ms, {1000 * before:.0f} ms before"


def is_compliant(text: str, frame: Size) -> bool:
    """Whether an answer with boxes in a frame keeps to the contract (Table 2)."""
    verdict = judge(text, frame.width, frame.height)
    return verdict.schema and verdict.rule and not verdict.violation
