"""A node's steps one by one: what it counts, logs and waits for; all its parts are made up."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.alert import Origin
from dat_runtime.cascade import Band, Routing
from dat_runtime.edge import node as module
from dat_runtime.edge.asking import Outcome
from dat_runtime.edge.cameras.settings import CameraFrame
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node import Gate, Node, _measure, _Work
from dat_runtime.edge.offloading.offloading import FINISHES
from dat_runtime.edge.spool import SpoolError
from dat_runtime.errors import ModelError
from dat_runtime.offload_table import Row
from dat_runtime.types import Box, Detection, Size

IMAGE = np.zeros((90, 160, 3), np.uint8)
SIZE = Size(160, 90)
FRAME = CameraFrame("north", IMAGE, 1.8e9, 50.0)


def seen(confidence: float) -> Detection:
    return Detection(Box(10, 10, 40, 60, SIZE), "severe", confidence)


class Parts:
    """What a node is made of: notes in order what is done with it."""

    def __init__(self, *looks: Any, offloading: bool = False, asking: bool = False):
        self.steps: list[Any] = []
        self.looks, self.counts = list(looks), Counts()
        self.waiting, self.idle, self.finished = [0, 0, 0], True, True
        self.healthy, self.states = True, {"north": "live"}
        self.error: Exception | None = None
        step = self.steps.append
        parts = self

        class Uplink:
            def start(self) -> None:
                step("uplink starts")

            def stop(self, timeout: float) -> None:
                step(("uplink stops", timeout))

            def offer(self, event: Any, camera: str) -> None:
                step(("offer", event, camera))

            @property
            def state(self) -> Any:
                names = ("alerts_waiting", "visuals_waiting", "questions_waiting")
                return SimpleNamespace(**dict(zip(names, parts.waiting, strict=True)))

        class Spool:
            problem = "the disk fails"

            @property
            def healthy(self) -> bool:
                return parts.healthy

            def put(self, event: Any, camera: str) -> None:
                step(("put", event, camera))
                if parts.error is not None:
                    raise parts.error

            def close(self) -> None:
                step("spool closes")

        class Cameras:
            def start(self) -> None:
                step("cameras start")

            def stop(self) -> None:
                step("cameras stop")

            def states(self) -> dict[str, str]:
                return parts.states

            def next(self, timeout: float) -> CameraFrame | None:
                step(("next", timeout))
                return FRAME if parts.looks else None

            @property
            def finished(self) -> bool:
                return parts.finished

        class Detector:
            def detect(self, image: Any) -> Any:
                assert image is IMAGE
                look = parts.looks.pop(0)
                if isinstance(look, Exception):
                    raise look
                return tuple(look)

        class Asking:
            def stop(self) -> None:
                step("asking stops")

            def take(self, assessor: Any) -> None:
                step(("asking takes", assessor))

            def ask(self, make: Any, done: Any) -> None:
                step(("ask", make, done))

        class Offloading:
            @property
            def idle(self) -> bool:
                return parts.idle

            def start(self) -> None:
                step("offloading starts")

            def stop(self) -> None:
                step("offloading stops")

            def choose(self, size: Size, most: int) -> Any:
                step(("choose", size, most))
                return parts.row

            def take(self, frame: Any) -> None:
                step(("take", frame))

        self.row: Row | None = None
        self.gate = Gate(Detector(), Routing(), {"bundle": "b"}, 12_544)
        made: Any = (Cameras(), Asking() if asking else None, Spool(), Uplink(), self.counts)
        self.node = Node("n1", self.gate, *made, Offloading() if offloading else None)

    def counted(self) -> dict[str, int]:
        return {
            " ".join([name, *(value for _, value in labels)]): n
            for (name, labels), n in self.counts.snapshot().items()
        }


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """No thread of a node outlives its test."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("event"):
            thread.join(5)


def test_a_node_runs_from_its_start_to_the_end_of_its_cameras(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts([], offloading=True, asking=True)
    monkeypatch.setattr(module.time, "monotonic", lambda: 500.0)
    parts.node.run()
    assert parts.steps == [
        "uplink starts",
        "offloading starts",
        "cameras start",
        ("next", 0.5),
        ("next", 0.5),
        "cameras stop",
        "asking stops",
        "offloading stops",
        ("uplink stops", 2.0),
        "spool closes",
    ]
    assert parts.counted() == {"frames north drop": 1}


def test_a_node_that_is_stopped_looks_no_more_and_ends_all_the_same() -> None:
    parts = Parts([], [])
    parts.node.stop()
    parts.node.run()
    steps = [step if isinstance(step, str) else step[0] for step in parts.steps]
    assert steps[1:] == ["cameras start", "cameras stop", "uplink stops", "spool closes"]
    crashed = Parts(KeyError("a defect"))
    with pytest.raises(KeyError):
        crashed.node.run()
    assert crashed.steps[-1] == "spool closes"


@pytest.mark.parametrize(("took", "left"), [(0.0, 2.0), (3.0, 1.5), (4.4, 0.2), (9.0, 0.2)])
def test_what_is_left_of_the_end_is_the_uplinks(
    monkeypatch: pytest.MonkeyPatch, took: float, left: float
) -> None:
    parts, now = Parts(), [500.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        parts.node._builders, "shutdown", lambda wait: now.__setitem__(0, 500.0 + took)
    )
    parts.node._end()
    assert parts.steps[1] == ("uplink stops", pytest.approx(left))


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_what_waits_at_the_end_of_all_files_is_sent_for_a_while(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    parts, now = Parts(offloading=True), [500.0]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += 1.0
        if place < 3 and len(waits) == 3:
            parts.waiting[place] = 0

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(parts.node._stopping, "wait", wait)
    if place < 3:
        parts.waiting[place] = 1
    else:
        parts.idle = False
    parts.node._finish()
    assert waits == [0.05] * (3 if place < 3 else 10)
    assert not parts.node._in_hand.acquire(blocking=False)  # all places are its own


def test_who_is_asked_to_stop_waits_no_longer() -> None:
    parts = Parts()
    parts.waiting[0] = 1
    parts.node.stop()
    began = time.monotonic()
    parts.node._finish()
    assert time.monotonic() - began < 5


def test_all_that_keeps_a_node_from_being_well_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, now = Parts(), [500.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    parts.node._looked_at = 500.0
    assert parts.node.problems() == []
    now[0] = 510.0
    assert parts.node.looks
    now[0] = 510.1
    assert not parts.node.looks
    parts.node._failures = 20
    parts.healthy, parts.states = False, {"a": "down: silent", "b": "down: died"}
    assert parts.node.problems() == [
        "the gate has not looked for more than 10 s",
        "the gate fails on every frame",
        "the spool cannot keep events: the disk fails",
        "no camera gives frames",
    ]
    now[0], parts.healthy, parts.node._failures = 500.0, True, 19
    for state in ("starting", "live", "ended"):
        parts.states = {"a": "down: silent", "b": state}
        assert parts.node.problems() == []
    parts.states = {}
    assert parts.node.problems() == ["no camera gives frames"]


def test_a_detector_that_fails_is_counted_measured_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = Parts(*[ModelError("NaN")] * 21, ValueError("no picture"), [], ModelError("NaN"))
    with caplog.at_level(logging.ERROR):
        for _ in range(24):
            parts.node._look(FRAME)
    assert [record.getMessage() for record in caplog.records] == [
        "the gate fails on every frame: NaN"
    ]
    assert parts.counted() == {"frames_failed north": 23, "frames north drop": 1}
    assert parts.node._failures == 1
    measured = parts.gate.tally.measured()
    assert (measured.frames, measured.failures) == (24, 23)


def test_another_gate_begins_with_no_failures_and_its_own_router() -> None:
    parts = Parts(asking=True)
    parts.node._failures = 7
    other = replace(parts.gate, routing=Routing(0.3), versions={"bundle": "c"})
    taken = [parts.node.take(parts.gate, "first"), parts.node.take(other, "second")]  # type: ignore[arg-type]
    assert not any(event.is_set() for event in taken)
    parts.node._take_what_came()
    assert all(event.is_set() for event in taken)
    assert parts.steps == [("asking takes", "first"), ("asking takes", "second")]
    assert parts.node._gate is other
    assert parts.node._router is other.routing
    assert parts.node._failures == 0
    parts.node._take_what_came()  # nothing came
    assert len(parts.steps) == 2


def told(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is to become an event, and how."""
    built: list[Any] = []
    monkeypatch.setattr(
        node, "_build", lambda work, outcome, release: built.append((work, outcome, release))
    )
    return built


def work_of(parts: Parts, **how: Any) -> _Work:
    return replace(_Work("e", parts.gate, FRAME, (seen(0.3),), (seen(0.9),)), **how)


def test_a_sure_gate_tells_alone_and_without_an_mllm_it_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts()
    built = told(parts.node, monkeypatch)
    work = work_of(parts)
    parts.node._tell(work, "report")
    parts.node._tell(work, "ask")
    none = Outcome(None, SIZE, "no MLLM is configured")
    assert built == [(work, None, True), (work, none, True)]


def test_a_frame_that_is_too_long_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    for how in ({"asking": True}, {"offloading": True}):
        parts = Parts(**how)
        built = told(parts.node, monkeypatch)
        long = replace(FRAME, image=np.zeros((100, 2_200, 3), np.uint8))
        work = work_of(parts, frame=long)
        parts.node._tell(work, "ask")
        assert built == [(work, Outcome(None, Size(2_200, 100), "side ratio"), True)]
        assert parts.counted() == {"questions_degraded side ratio": 1}
        assert parts.steps == []


CODE = Row("code", "code", 500, 0.8, offload_point=1, channels=8)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "the encoder is full"),
        (Row("gate", "edge", 0, 0.2), "the link is too slow for more than the gate's answer"),
        (CODE, "the cloud finishes"),
    ],
)
def test_a_weak_node_says_how_its_answer_is_finished(
    monkeypatch: pytest.MonkeyPatch, row: Row | None, words: str
) -> None:
    parts = Parts(offloading=True)
    parts.row = row
    built = told(parts.node, monkeypatch)
    work = work_of(parts)
    parts.node._tell(work, "ask")
    finished = replace(work, row=CODE) if row is CODE else work
    assert built == [(finished, Outcome(None, SIZE, words), True)]
    assert parts.steps == [("choose", SIZE, 12_544)]


def test_an_outcome_becomes_an_event_and_a_late_one_frees_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(asking=True)
    built = told(parts.node, monkeypatch)
    asked: list[Any] = []
    monkeypatch.setattr(module, "question", lambda *about: asked.append(about) or "a question")
    work = work_of(parts)
    parts.node._tell(work, "ask")
    ((_, make, done),) = parts.steps
    assert make() == "a question"
    assert asked == [(IMAGE, work.kept, 12_544, parts.gate.family)]
    first, late = Outcome(None, SIZE, "slow"), Outcome("{}", SIZE, None, late=True)
    done(first)
    done(late)
    assert built == [(work, first, True), (work, late, False)]
    assert parts.gate.tally.measured().questions == 1
    assert parts.gate.tally.measured().answers == 1


def test_where_many_frames_are_in_hand_the_gate_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()
    told(parts.node, monkeypatch)
    for _ in range(32):
        parts.node._tell(work_of(parts), "report")
    assert parts.counted() == {}
    threading.Timer(0.05, parts.node._in_hand.release).start()
    parts.node._tell(work_of(parts), "report")
    assert parts.counted() == {"gate_waited": 1}


def test_a_place_is_free_again_after_the_event_and_after_a_defect(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    parts.node._in_hand = threading.Semaphore(0)
    error: list[Exception] = []

    def make(work: _Work, outcome: Any) -> None:
        if error:
            raise error[0]

    monkeypatch.setattr(parts.node, "_make", make)
    parts.node._build(work_of(parts), None, release=True)
    assert parts.node._in_hand.acquire(timeout=10)
    error.append(KeyError("a defect"))
    parts.node._build(work_of(parts), None, release=True)
    assert parts.node._in_hand.acquire(timeout=10)
    parts.node._build(work_of(parts), None, release=False)
    parts.node._builders.shutdown(wait=True)
    assert not parts.node._in_hand.acquire(blocking=False)
    assert parts.counted() == {"alerts_lost defect": 2}
    assert caplog.messages == ["event e could not be made"] * 2
    parts.node._build(work_of(parts), None, release=False)  # shut down
    assert parts.counted()["answers_dropped stopping"] == 1


class Made:
    """An event that was made of what it was given."""

    def __init__(self, *about: Any, **how: Any):
        self.about, self.how = about, how
        self.id, self.priority, self.source = about[0], 0.75, "gate"
        self.alert = SimpleNamespace(degraded=how["degraded"], conflict=False)
        self.assessment = SimpleNamespace(severity="severe")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    found: list[Made] = []

    def event(*about: Any, **how: Any) -> Made:
        found.append(Made(*about, **how))
        return found[-1]

    monkeypatch.setattr(module, "event_of", event)
    return found


def answered(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the incidents hear of answers."""
    heard: list[Any] = []
    monkeypatch.setattr(parts.node._incidents, "answered", lambda *about: heard.append(about))
    return heard


@pytest.mark.parametrize(
    ("outcome", "degraded", "size", "heard"),
    [
        (None, None, SIZE, [("north", "e", True)]),
        (Outcome("{}", Size(56, 28), None), None, Size(56, 28), [("north", "e", True)]),
        (Outcome(None, Size(1, 1), "slow"), "slow", Size(1, 1), [("north", "e", False)]),
        (Outcome(None, SIZE, FINISHES), FINISHES, SIZE, [("north", "e", True)]),
        (Outcome(None, SIZE, "no MLLM is configured"), "no MLLM is configured", SIZE, []),
        (Outcome(None, SIZE, "side ratio"), "side ratio", SIZE, []),
    ],
)
def test_an_event_is_kept_offered_and_counted(
    made: list[Made],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: Outcome | None,
    degraded: str | None,
    size: Size,
    heard: list[Any],
) -> None:
    parts = Parts()
    said = answered(parts, monkeypatch)
    work = work_of(parts)
    with caplog.at_level(logging.INFO, "dat_runtime.edge"):
        parts.node._make(work, outcome)
    (event,) = made
    answer = None if outcome is None else outcome.answer
    assert event.about == ("e", IMAGE, work.found, answer, size, 1.8e9)
    assert event.how == {
        "origin": Origin("n1", "north", {"bundle": "b"}),
        "degraded": degraded,
        "revision": 0,
        "least_priority": 0.0,
    }
    assert parts.steps == [("put", event, "north"), ("offer", event, "north")]
    assert said == heard
    expected = {"alerts north gate": 1} | ({"alerts_degraded north": 1} if degraded else {})
    assert parts.counted() == expected
    words = "camera north: severe, says the gate (e)"
    assert [record.getMessage() for record in caplog.records] == [words]
    # A later frame takes no lower priority.
    assert parts.node._revisions.least_priority("e", 51.0) == 0.75


def test_a_conflict_between_gate_and_mllm_is_counted(
    made: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts()

    def event(*about: Any, **how: Any) -> Made:
        found = Made(*about, **how)
        found.alert.conflict = True
        return found

    monkeypatch.setattr(module, "event_of", event)
    parts.node._make(work_of(parts), None)
    assert parts.counted() == {"alerts north gate": 1, "alerts_in_conflict north": 1}


def test_where_nobody_says_anything_there_is_no_event(
    made: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts()
    said = answered(parts, monkeypatch)
    parts.node._make(work_of(parts, found=()), Outcome(None, SIZE, "slow"))
    assert (parts.steps, made, said) == ([], [], [("north", "e", False)])
    assert parts.counted() == {"frames_unanswered north": 1}
    parts.node._make(work_of(parts, found=()), Outcome("{}", SIZE, None))
    assert len(made) == 1


def test_a_frame_that_was_overtaken_makes_no_event(made: list[Made]) -> None:
    parts = Parts()
    later = replace(FRAME, taken=60.0)
    parts.node._make(work_of(parts, frame=later), None)
    parts.node._make(work_of(parts), None)
    parts.node._make(work_of(parts), Outcome("{}", SIZE, None, late=True))
    counted = parts.counted()
    assert counted["alerts_dropped overtaken"] == counted["answers_dropped overtaken"] == 1
    assert len(made) == 1


def test_an_event_that_is_not_kept_is_worth_telling_again(
    made: list[Made], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(offloading=True)
    parts.error = SpoolError("no room")
    said = answered(parts, monkeypatch)
    parts.node._make(work_of(parts, row=CODE), None)
    assert [step[0] for step in parts.steps] == ["put"]
    assert said == [("north", "e", False)]
    assert "event e is lost: no room" in caplog.text
    assert parts.counted() == {}


def test_what_the_receiver_finishes_gets_the_frame_and_a_number_of_its_own(
    made: list[Made],
) -> None:
    parts = Parts(offloading=True)
    work = work_of(parts, row=CODE)
    parts.node._make(work, Outcome(None, SIZE, FINISHES))
    (event,) = made
    *_, (_, frame) = parts.steps
    about = (frame.event, frame.camera, frame.image, frame.kept, frame.max_pixels, frame.row)
    assert about == (event, "north", IMAGE, work.kept, 12_544, CODE)
    parts.node._make(work_of(parts, frame=replace(FRAME, taken=60.0)), None)
    assert made[1].how["revision"] == 2
    assert made[1].how["least_priority"] == 0.75
    without = Parts(offloading=True)
    without.node._make(work_of(without), None)
    assert [step[0] for step in without.steps] == ["put", "offer"]


@pytest.mark.parametrize(
    ("outcome", "asked", "answers", "compliant"),
    [
        (Outcome(None, SIZE, "full", of_the_mllm=False), 0, 0, 0),
        (Outcome(None, SIZE, "slow"), 1, 0, 0),
        (Outcome("no JSON", SIZE, None), 1, 1, 0),
        (Outcome("no JSON", SIZE, None, late=True), 0, 1, 0),
    ],
)
def test_what_an_outcome_says_of_a_version(
    outcome: Outcome, asked: int, answers: int, compliant: int
) -> None:
    tally = Parts().gate.tally
    _measure(tally, outcome, 0.5)
    measured = tally.measured()
    assert (measured.questions, measured.answers, measured.compliant) == (asked, answers, compliant)


def test_a_frame_that_is_news_is_told_with_what_was_kept_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts([seen(0.9), seen(0.1)], [seen(0.9)], asking=True)
    works: list[Any] = []
    monkeypatch.setattr(parts.node, "_tell", lambda *about: works.append(about))
    parts.node._look(FRAME)
    parts.node._look(replace(FRAME, taken=50.2))  # no news
    ((work, decision),) = works
    assert (work.gate, work.frame, decision) == (parts.gate, FRAME, "ask")
    assert work.kept == work.found == (seen(0.9),)
    assert work.row is None
    assert parts.counted() == {"frames north ask": 2}


def works_of(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is told of one frame: decision, D⁺, and what the event is about."""
    works: list[Any] = []
    monkeypatch.setattr(parts.node, "_tell", lambda work, decision: works.append((decision, work)))
    parts.node._look(FRAME)
    return [(decision, work.kept, work.found) for decision, work in works]


@pytest.mark.parametrize(
    ("routing", "looks", "told"),
    [
        # A band may ask about a frame without a kept box: the best one says where it looks.
        (Routing(0.25, Band(0.05, None)), [seen(0.1), seen(0.07)], [("ask", (), ())]),
        (Routing(0.6, Band(0.05, None)), [seen(0.5)], [("ask", (), ())]),
        (Routing(0.25, Band(0.05, None)), [], []),
        (Routing(0.25, Band(0.5, None)), [seen(0.3)], []),  # dropped, whatever was kept
        (
            Routing(0.25, Band(0.25, 0.4)),
            [seen(0.5), seen(0.3)],
            [("report", (seen(0.5), seen(0.3)), (seen(0.5), seen(0.3)))],
        ),
    ],
)
def test_what_a_look_comes_to(
    monkeypatch: pytest.MonkeyPatch, routing: Routing, looks: list[Detection], told: list[Any]
) -> None:
    parts = Parts(looks)
    parts.node._use(replace(parts.gate, routing=routing))
    found = works_of(parts, monkeypatch)
    assert [(decision, kept) for decision, kept, _ in found] == [
        (decision, kept) for decision, kept, _ in told
    ]
    for (_, _, of), (_, _, expected) in zip(found, told, strict=True):
        assert set(of) == set(expected)


def test_each_look_is_measured_by_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts([], ModelError("NaN"))
    now, looked = [500.0], []

    def monotonic() -> float:
        now[0] += 0.25
        return now[0]

    monkeypatch.setattr(module.time, "monotonic", monotonic)
    monkeypatch.setattr(
        parts.gate.tally, "looked", lambda seconds, failed=False: looked.append((seconds, failed))
    )
    for _ in range(2):
        parts.node._look(FRAME)
    assert looked == [(0.25, False), (0.25, True)]


def test_all_events_are_made_before_the_spool_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()

    def make(work: _Work, outcome: Any) -> None:
        time.sleep(0.1)
        parts.steps.append("made")

    monkeypatch.setattr(parts.node, "_make", make)
    parts.node._build(work_of(parts), None, release=True)
    parts.node._end()
    assert parts.steps[1] == "made"
    assert parts.steps[-1] == "spool closes"


def test_a_late_answer_about_a_told_frame_is_its_next_revision(made: list[Made]) -> None:
    parts = Parts()
    parts.node._make(work_of(parts), Outcome(None, SIZE, "slow"))
    parts.node._make(work_of(parts), Outcome("{}", SIZE, None, late=True))
    parts.node._make(work_of(parts), Outcome("{}", SIZE, None))
    assert [event.how["revision"] for event in made] == [0, 1]
    assert parts.counted()["alerts_dropped overtaken"] == 1
