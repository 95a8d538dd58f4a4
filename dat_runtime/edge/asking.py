"""Questions to the MLLM that keep nobody waiting: so many at once, and an outcome in time.

`concurrency` questions are under way; one that comes while all are hears at once that the MLLM is
full. Nothing queues: behind a slow MLLM a queue makes every answer late, one after the other, while
without one those that do come are in time (docs/decisions/016-incidents-and-asking.md).
"""

import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dat_runtime.edge.assess import Assessor
from dat_runtime.edge.counts import Counts
from dat_runtime.endpoint import AssessmentError, AssessmentRefused
from dat_runtime.event import Question
from dat_runtime.types import Size

FULL = "the MLLM is full"
STOPPING = "the node is stopping"
CHANGING = "the MLLM takes another adapter"

_MAX_WORDS = 200
"""Characters of a reason, as an alert carries it (`alert.read_alert`)."""

_UNASKED = Size(1, 1)

log = logging.getLogger("dat_runtime.edge")


@dataclass(frozen=True)
class Outcome:
    """How a question ended, as far as is known.

    Attributes:
        answer: the MLLM's text, boxes in pixels of `frame`; `None` when there is none (yet).
        frame: the size of the image that was sent; means nothing without an answer.
        degraded: why there is no answer, at most 200 characters; `None` when there is one.
        late: the answer comes after an outcome without one.
        of_the_mllm: the question reached it: it was neither full nor away, nor did the node stop.
    """

    answer: str | None
    frame: Size
    degraded: str | None
    late: bool = False
    of_the_mllm: bool = True


Done = Callable[[Outcome], None]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A question under way, asked at a time of `time.monotonic`."""

    assessor: Assessor
    make_question: Callable[[], Question]
    done: Done
    at: float


class Asking:
    """Asks an assessor about frames, from threads of its own.

    Args:
        assessor: whom to ask; `None`: nobody until `take`.
        concurrency: questions under way at once, as many as the MLLM answers at full speed.
        wait: seconds from `ask` to the first outcome, at most.
        timeout: seconds after which a late answer is of no more use. The assessor is expected to
            keep to it: a question that never ends keeps its place.
    """

    def __init__(
        self,
        assessor: Assessor | None,
        concurrency: int,
        wait: float,
        timeout: float,
        counts: Counts,
    ):
        self._assessor = assessor
        self._concurrency = concurrency
        self._wait = wait
        self._timeout = timeout
        self._counts = counts
        self._lock = threading.Condition()
        self._busy: Counter[Assessor] = Counter()
        self._delivering = 0
        self._stopped = False
        # Those without an outcome, and when they are due. All wait for the same time: the first in
        # is the first to be due.
        self._untold: dict[_Asked, float] = {}
        self._work: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        for run in [self._keep_time, *[self._answer_all] * concurrency]:
            threading.Thread(target=run, name="asking", daemon=True).start()

    def take(self, assessor: Assessor | None) -> None:
        """Ask another one from now on. Questions under way end with whom they began."""
        with self._lock:
            self._assessor = assessor

    def wait_until_free(self, assessor: Assessor, seconds: float) -> bool:
        """Whether no question to an assessor is under way, waiting for the last of them."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._busy[assessor], seconds)

    def ask(self, make_question: Callable[[], Question], done: Done) -> None:
        """Ask about a frame; never blocks.

        Args:
            make_question: called in another thread, since a PNG takes its time.
            done: called once within `wait`, and once more if an answer comes later than that but
                within `timeout`. In this thread when nothing can be asked, else in another: it
                should hand the outcome on and return.
        """
        self._counts.add("questions")
        with self._lock:
            assessor, busy = self._assessor, self._busy.total()
            if self._stopped:
                reason, cause = STOPPING, "stopping"
            elif assessor is None:
                reason, cause = CHANGING, "changing"
            elif busy >= self._concurrency:
                reason, cause = f"{FULL}: {busy} questions are under way", "full"
            else:
                asked = _Asked(assessor, make_question, done, time.monotonic())
                self._busy[assessor] += 1
                self._untold[asked] = asked.at + self._wait
                self._work.put(asked)
                self._lock.notify_all()
                return
        self._counts.add("questions_degraded", cause=cause)
        done(Outcome(None, _UNASKED, reason, of_the_mllm=False))

    def stop(self, timeout: float = 1.0) -> None:
        """Give every question without an outcome one, now; no outcome comes after this returns.

        Args:
            timeout: seconds to wait for calls of `done` that have begun.
        """
        with self._lock:
            self._stopped = True
            left = [asked for asked in list(self._untold) if self._claim(asked)]
            self._lock.notify_all()
        for _ in range(self._concurrency):
            self._work.put(None)
        for asked in left:
            self._deliver(asked, Outcome(None, _UNASKED, STOPPING, of_the_mllm=False), "stopping")
        with self._lock:
            self._lock.wait_for(lambda: not self._delivering, timeout)

    def _keep_time(self) -> None:
        """Say of each question that is due that there is no answer yet."""
        words = f"no answer of the MLLM in {self._wait:g} s"
        while (asked := self._next_due()) is not None:
            self._deliver(asked, Outcome(None, _UNASKED, words), "slow")
            del asked  # its picture would stay until the next one

    def _next_due(self) -> _Asked | None:
        """The next question that waited long enough, once it has; `None` at the end."""
        with self._lock:
            while not self._stopped:
                due = next(iter(self._untold.values()), math.inf)
                left = due - time.monotonic()
                if left <= 0:
                    asked = next(iter(self._untold))
                    self._claim(asked)
                    return asked
                self._lock.wait(None if left == math.inf else left)
            return None

    def _answer_all(self) -> None:
        while (asked := self._work.get()) is not None:
            outcome, cause = self._answered(asked)
            with self._lock:
                self._busy[asked.assessor] -= 1
                self._busy += Counter()  # forgets those who are asked nothing
                self._lock.notify_all()
                first = self._claim(asked)
                late = not first and outcome.answer is not None
                useful = time.monotonic() - asked.at <= self._timeout and not self._stopped
                if late and useful:
                    self._delivering += 1
            if first:
                self._deliver(asked, outcome, cause)
            elif late and useful:
                self._deliver(asked, Outcome(outcome.answer, outcome.frame, None, late=True), None)
            elif late:
                self._counts.add("answers_dropped", reason="too late")
            del asked, outcome  # a picture each, which would stay until the next question

    def _answered(self, asked: _Asked) -> tuple[Outcome, str | None]:
        """What the MLLM says, and the cause when it says nothing."""
        try:
            question = asked.make_question()
        except Exception as error:  # a frame that cannot be drawn, or a defect: the gate tells it
            log.exception("a question could not be made")
            return _without("no question could be made", error), "no question"
        try:
            text = asked.assessor.assess(question.png, question.system, question.prompt)
        except AssessmentRefused as error:
            return _without("refused", error), "refused"
        except AssessmentError as error:
            return _without("no answer", error), "failed"
        except Exception as error:  # a defect, and no reason to lose the event or this thread
            log.exception("a question failed")
            return _without("no answer", error), "failed"
        return Outcome(text, question.frame, None), None

    def _claim(self, asked: _Asked) -> bool:
        """Whether the caller, who holds the lock, is to give out the first outcome."""
        if asked not in self._untold:
            return False
        del self._untold[asked]
        self._delivering += 1
        return True

    def _deliver(self, asked: _Asked, outcome: Outcome, cause: str | None) -> None:
        if cause is not None:
            self._counts.add("questions_degraded", cause=cause)
        elif outcome.late:
            self._counts.add("answers_late")
        else:
            self._counts.add("answers")
        try:
            asked.done(outcome)
        except Exception:  # a defect of the caller, and no reason to lose the next outcome
            log.exception("an outcome could not be handed on")
        finally:
            with self._lock:
                self._delivering -= 1
                self._lock.notify_all()


def _without(what: str, error: Exception) -> Outcome:
    return Outcome(None, _UNASKED, f"{what}: {error}"[:_MAX_WORDS])
