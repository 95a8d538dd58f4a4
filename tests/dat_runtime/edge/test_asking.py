"""Bounded questions to an MLLM that answers, is slow, is full, hangs, refuses or dies."""

import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from dat_runtime.edge import asking as module
from dat_runtime.edge.asking import Asking, Outcome
from dat_runtime.edge.assess import EndpointAssessor
from dat_runtime.edge.counts import Counts
from dat_runtime.endpoint import AssessmentError, AssessmentRefused
from dat_runtime.event import Question
from dat_runtime.types import Size

FRAME = Size(112, 56)
QUESTION = Question(b"png", "system", "prompt", FRAME)


class Mllm:
    """An assessor that does what it is told, and knows how many ask it at once."""

    def __init__(self, answer: Callable[[], str]):
        self._answer = answer
        self._lock = threading.Lock()
        self._now = self.most = 0

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            return self._answer()
        finally:
            with self._lock:
                self._now -= 1


class Told:
    """Collects the outcomes of one question and when they came."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.outcomes: list[tuple[float, Outcome]] = []
        self._came = threading.Condition()

    def __call__(self, outcome: Outcome) -> None:
        with self._came:
            self.outcomes.append((time.monotonic() - self.began, outcome))
            self._came.notify_all()

    def wait(self, number: int = 1) -> list[Outcome]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.outcomes) >= number, 60)
            return [outcome for _, outcome in self.outcomes]


def raises(error: Exception) -> Callable[[], str]:
    def answer() -> str:
        raise error

    return answer


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set at the end, so that no thread of a hanging MLLM outlives its test."""
    event = threading.Event()
    yield event
    event.set()


def hanging(released: threading.Event) -> Callable[[], str]:
    def answer() -> str:
        released.wait(20)
        return "at last"

    return answer


def ask(asking: Asking) -> Told:
    told = Told()
    asking.ask(lambda: QUESTION, told)
    return told


def test_an_answer_comes_with_the_frame_that_was_asked_about() -> None:
    counts = Counts()
    asking = Asking(Mllm(lambda: "yes"), 2, 5, 10, counts)
    assert ask(asking).wait() == [Outcome("yes", FRAME, None)]
    asking.stop()
    assert counts.of("answers") == counts.of("questions") == 1


def test_a_hanging_mllm_costs_the_wait_and_no_more(released: threading.Event) -> None:
    counts = Counts()
    asking = Asking(Mllm(hanging(released)), 4, 1, 10, counts)
    asked = [ask(asking) for _ in range(50)]
    outcomes = [told.wait()[0] for told in asked]
    assert [o.degraded for o in outcomes[:4]] == ["no answer of the MLLM in 1 s"] * 4
    assert {o.degraded for o in outcomes[4:]} == {"the MLLM is full: 4 questions are under way"}
    assert all(o.answer is None and not o.late for o in outcomes)
    assert max(told.outcomes[0][0] for told in asked) < 5
    assert max(told.outcomes[0][0] for told in asked[4:]) < 0.9, "the others hear it at once"
    assert counts.of("questions_degraded", cause="slow") == 4
    assert counts.of("questions_degraded", cause="full") == 46
    asking.stop()


def test_a_server_that_hangs_and_one_that_is_down_keep_nobody() -> None:
    """Over real connections: 50 callers hear in time whatever the server does."""
    listener = socket.create_server(("127.0.0.1", 0))  # accepted by the kernel, read by nobody
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    asking = Asking(EndpointAssessor(url, "dat", timeout=20), 4, 1, 20, Counts())
    asked = [ask(asking) for _ in range(50)]
    assert all(told.wait()[0].degraded for told in asked)
    times = sorted(told.outcomes[0][0] for told in asked)
    assert times[-1] < 5
    assert times[45] < 0.9, "46 of them at once"
    asking.stop()
    listener.close()
    down = Asking(EndpointAssessor(url, "dat", timeout=20), 4, 5, 20, Counts())
    told = ask(down)
    assert "ConnectError" in str(told.wait()[0].degraded)
    assert told.outcomes[0][0] < 4, "no wait for what is refused"
    down.stop()


def test_a_late_answer_comes_once_after_the_first_outcome(released: threading.Event) -> None:
    counts = Counts()
    asking = Asking(Mllm(hanging(released)), 1, 0.05, 10, counts)
    told = ask(asking)
    assert told.wait()[0].degraded is not None
    released.set()
    first, second = told.wait(2)
    assert (first.late, second) == (False, Outcome("at last", FRAME, None, late=True))
    assert counts.of("answers_late") == 1
    asking.stop()
    assert len(told.outcomes) == 2


def test_an_answer_past_the_timeout_is_of_no_more_use(released: threading.Event) -> None:
    counts = Counts()
    asking = Asking(Mllm(hanging(released)), 1, 0.05, 0.1, counts)
    told = ask(asking)
    told.wait()
    time.sleep(0.1)
    released.set()
    assert wait_for(lambda: counts.of("answers_dropped", reason="too late") == 1)
    assert len(told.outcomes) == 1
    asking.stop()


def wait_for(holds: Callable[[], bool]) -> bool:
    for _ in range(6_000):
        if holds():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("error", "words", "cause"),
    [
        (AssessmentRefused("content filter"), "refused: content filter", "refused"),
        (AssessmentError("status 503: 'busy'"), "no answer: status 503: 'busy'", "failed"),
        (ZeroDivisionError("a defect"), "no answer: a defect", "failed"),
        (AssessmentError("x" * 500), f"no answer: {'x' * 189}", "failed"),
    ],
)
def test_an_error_is_an_outcome_at_once_in_its_own_words(
    error: Exception, words: str, cause: str
) -> None:
    counts = Counts()
    asking = Asking(Mllm(raises(error)), 1, 30, 60, counts)
    for _ in range(3):  # the thread lives on
        assert ask(asking).wait() == [Outcome(None, Size(1, 1), words)]
    assert counts.of("questions_degraded", cause=cause) == 3
    asking.stop()


def test_a_question_that_cannot_be_made_is_an_outcome() -> None:
    def broken() -> Question:
        raise ValueError("side ratio above 20: 2200 x 100")

    asking, told = Asking(Mllm(lambda: "yes"), 1, 30, 60, Counts()), Told()
    asking.ask(broken, told)
    (outcome,) = told.wait()
    assert outcome.degraded == "no question could be made: side ratio above 20: 2200 x 100"
    asking.stop()


def test_the_question_is_made_in_another_thread_and_the_caller_is_not_kept() -> None:
    threads = []
    goes_on = threading.Event()

    def slow_question() -> Question:
        threads.append(threading.get_ident())
        assert goes_on.wait(5), "its caller was kept"
        return QUESTION

    asking, told = Asking(Mllm(lambda: "yes"), 1, 5, 60, Counts()), Told()
    asking.ask(slow_question, told)
    goes_on.set()
    assert told.wait() == [Outcome("yes", FRAME, None)]
    assert threads != [threading.get_ident()]
    asking.stop()


def test_no_more_are_under_way_than_the_mllm_can_do() -> None:
    mllm = Mllm(lambda: time.sleep(0.01) or "yes")
    asking = Asking(mllm, 3, 30, 60, Counts())
    done = [ask(asking) for _ in range(30) if not time.sleep(0.002)]
    assert all(told.wait() for told in done)
    assert mllm.most == 3
    asking.stop()


def test_a_place_is_free_before_its_outcome_is_told() -> None:
    """Whoever asks again on hearing an outcome finds a place."""
    asking = Asking(Mllm(lambda: "yes"), 1, 30, 60, Counts())
    second = Told()
    asking.ask(lambda: QUESTION, lambda _: asking.ask(lambda: QUESTION, second))
    assert second.wait() == [Outcome("yes", FRAME, None)]
    asking.stop()


def test_a_caller_that_fails_on_an_outcome_loses_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(_: Outcome) -> None:
        raise ZeroDivisionError

    asking = Asking(Mllm(lambda: "yes"), 1, 30, 60, Counts())
    asking.ask(lambda: QUESTION, fails)
    assert wait_for(lambda: "an outcome could not be handed on" in caplog.text)
    assert ask(asking).wait() == [Outcome("yes", FRAME, None)]
    asking.stop()


def test_the_end_tells_everyone_and_says_nothing_afterwards(released: threading.Event) -> None:
    asking = Asking(Mllm(hanging(released)), 2, 30, 60, Counts())
    asked = [ask(asking) for _ in range(2)]
    began = time.monotonic()
    asking.stop()
    assert time.monotonic() - began < 10
    for told in asked:
        assert told.outcomes[0][1].degraded == "the node is stopping"
    assert ask(asking).wait()[0].degraded == "the node is stopping"
    released.set()
    time.sleep(0.1)
    assert [len(told.outcomes) for told in asked] == [1, 1]
    asking.stop()  # twice is no harm


def test_the_end_waits_for_outcomes_that_are_being_told() -> None:
    """The node closes its spool after `stop`."""
    handed_on: list[Outcome] = []
    began = threading.Event()

    def slow(outcome: Outcome) -> None:
        began.set()
        time.sleep(0.2)
        handed_on.append(outcome)

    asking = Asking(Mllm(lambda: "yes"), 1, 30, 60, Counts())
    asking.ask(lambda: QUESTION, slow)
    assert began.wait(20)
    asking.stop(timeout=5)
    assert len(handed_on) == 1


@pytest.mark.parametrize("wait", [30, 0.02])
def test_no_picture_stays_in_memory_after_its_outcome(wait: float) -> None:
    class Picture:
        pixels = np.zeros((1080, 1920, 3), np.uint8)

    asking = Asking(Mllm(lambda: time.sleep(0.1) or "yes"), 1, wait, 60, Counts())
    picture = Picture()
    kept = weakref.ref(picture)
    told = Told()
    asking.ask(lambda held=picture: QUESTION, told)  # type: ignore[misc]
    del picture
    told.wait(1 if wait == 30 else 2)
    assert wait_for(lambda: gc.collect() >= 0 and kept() is None)
    asking.stop()


def test_no_picture_stays_in_memory_behind_a_question_that_hangs(
    released: threading.Event,
) -> None:
    class Picture:
        pixels = np.zeros((1080, 1920, 3), np.uint8)

    began = threading.Event()

    def first() -> str:
        began.set()
        return hanging(released)()

    answers = iter([first])
    asking = Asking(Mllm(lambda: next(answers, lambda: "yes")()), 2, 30, 60, Counts())
    ask(asking)
    assert began.wait(20)
    kept = []
    for _ in range(5):
        picture = Picture()
        kept.append(weakref.ref(picture))
        told = Told()
        asking.ask(lambda held=picture: QUESTION, told)  # type: ignore[misc]
        del picture
        told.wait()
    assert wait_for(lambda: gc.collect() >= 0 and not any(picture() for picture in kept))
    asking.stop()


def test_a_question_under_way_ends_with_whom_it_began_and_the_next_one_asks_another(
    released: threading.Event,
) -> None:
    before, after = Mllm(hanging(released)), Mllm(lambda: "new")
    asking = Asking(before, 2, 30, 60, Counts())
    first = ask(asking)
    asking.take(after)
    assert ask(asking).wait()[0].answer == "new"
    assert not asking.wait_until_free(before, 0.05)
    assert asking.wait_until_free(after, 5)
    released.set()
    assert first.wait()[0].answer == "at last"
    assert asking.wait_until_free(before, 5)
    assert (before.most, after.most) == (1, 1)
    asking.stop()


def test_while_there_is_nobody_to_ask_the_gate_tells_at_once_and_the_mllm_is_not_blamed() -> None:
    counts = Counts()
    asking = Asking(None, 2, 30, 60, counts)
    (outcome,) = ask(asking).wait()
    assert outcome.degraded == "the MLLM takes another adapter"
    assert not outcome.of_the_mllm
    asking.take(Mllm(lambda: "yes"))
    assert ask(asking).wait()[0].answer == "yes"
    asking.stop()
    assert counts.of("questions_degraded", cause="changing") == 1


def counted(counts: Counts) -> dict[str, int]:
    return {
        " ".join([name, *(value for _, value in labels)]): n
        for (name, labels), n in counts.snapshot().items()
    }


def without(reason: str, of_the_mllm: bool) -> Outcome:
    return Outcome(None, Size(1, 1), reason, False, of_the_mllm)


def test_as_many_threads_ask_as_questions_may_be_under_way_and_one_keeps_the_time() -> None:
    before = set(threading.enumerate())
    asking = Asking(None, 3, 30, 60, Counts())
    made = set(threading.enumerate()) - before
    assert [(thread.name, thread.daemon) for thread in made] == [("asking", True)] * 4
    asking.stop()
    assert wait_for(lambda: not any(thread.is_alive() for thread in made))


def test_each_outcome_without_an_answer_says_why_and_whether_the_mllm_is_to_blame(
    released: threading.Event,
) -> None:
    counts = Counts()
    asking = Asking(Mllm(hanging(released)), 1, 30, 60, counts)
    under_way = ask(asking)
    full = "the MLLM is full: 1 questions are under way"
    assert ask(asking).wait() == [without(full, False)]
    asking.take(None)
    assert ask(asking).wait() == [without("the MLLM takes another adapter", False)]
    asking.stop()
    assert under_way.wait() == [without("the node is stopping", False)]
    assert ask(asking).wait() == [without("the node is stopping", False)]
    assert counted(counts) == {
        "questions": 4,
        "questions_degraded full": 1,
        "questions_degraded changing": 1,
        "questions_degraded stopping": 2,
    }
    released.set()
    assert wait_for(lambda: counts.of("answers_dropped", reason="too late") == 1)


def test_an_answer_that_is_late_is_counted_once_as_such(released: threading.Event) -> None:
    counts = Counts()
    asking = Asking(Mllm(hanging(released)), 1, 0.02, 60, counts)
    told = ask(asking)
    assert told.wait() == [without("no answer of the MLLM in 0.02 s", True)]
    released.set()
    told.wait(2)
    asking.stop()
    expected = {"questions": 1, "questions_degraded slow": 1, "answers_late": 1}
    assert counted(counts) == expected


def test_one_that_fails_late_says_nothing_more(released: threading.Event) -> None:
    def fail() -> str:
        released.wait(20)
        raise AssessmentError("at last")

    counts = Counts()
    mllm = Mllm(fail)
    asking = Asking(mllm, 1, 0.02, 60, counts)
    told = ask(asking)
    told.wait()
    released.set()
    assert asking.wait_until_free(mllm, 10)
    asking.stop()
    assert len(told.outcomes) == 1
    assert counted(counts) == {"questions": 1, "questions_degraded slow": 1}


@pytest.mark.parametrize(("passed", "outcomes"), [(0.0, 2), (60.0, 2), (60.1, 1)])
def test_an_answer_is_of_use_up_to_its_timeout(
    released: threading.Event, monkeypatch: pytest.MonkeyPatch, passed: float, outcomes: int
) -> None:
    counts, told = Counts(), Told()
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    mllm = Mllm(hanging(released))
    asking = Asking(mllm, 1, 0.0, 60, counts)  # due at once
    asking.ask(lambda: QUESTION, told)
    told.wait()
    now[0] += passed
    released.set()
    assert asking.wait_until_free(mllm, 10)
    asking.stop()
    assert len(told.outcomes) == outcomes
    assert counts.of("answers_dropped", reason="too late") == 2 - outcomes


@pytest.mark.parametrize("makes", [True, False])
def test_a_defect_is_logged_where_it_is(caplog: pytest.LogCaptureFixture, makes: bool) -> None:
    def broken() -> Question:
        raise KeyError("a defect")

    counts, told = Counts(), Told()
    asking = Asking(Mllm(raises(KeyError("a defect"))), 1, 30, 60, counts)
    asking.ask((lambda: QUESTION) if makes else broken, told)
    (outcome,) = told.wait()
    asking.stop()
    said, cause, words = (
        ("a question failed", "failed", "no answer")
        if makes
        else ("a question could not be made", "no question", "no question could be made")
    )
    assert [record.getMessage() for record in caplog.records] == [said]
    assert caplog.records[0].exc_info
    assert outcome == without(f"{words}: 'a defect'", True)
    assert counted(counts) == {"questions": 1, f"questions_degraded {cause}": 1}
