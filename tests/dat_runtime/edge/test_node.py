"""The node's own decisions: what becomes an event, in which revision, and who tells it."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dat_runtime.cascade import Band, Routing
from dat_runtime.draw import Image, size_of
from dat_runtime.edge.asking import Asking
from dat_runtime.edge.cameras.settings import CameraFrame
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node import BLIND, NO_MLLM, Gate, Node
from dat_runtime.edge.offloading.offloading import FINISHES, FULL, TOO_SLOW, Frame
from dat_runtime.edge.spool import Spool, SpoolError
from dat_runtime.edge.uplink.settings import UplinkState
from dat_runtime.endpoint import AssessmentError
from dat_runtime.errors import ModelError
from dat_runtime.event import Event
from dat_runtime.offload_table import Row
from dat_runtime.types import Box, Detection, Size

PICTURE = np.zeros((90, 160, 3), np.uint8)
SEVERE = {
    "count": 1,
    "severity": "severe",
    "level": 1,
    "score": 0.9,
    "accidents": [{"bbox": [0, 0, 28, 28], "severity": "severe"}],
    "summary": "",
}


def seen(confidence: float, x: float = 10.0) -> Detection:
    return Detection(Box(x, 10, x + 30, 60, size_of(PICTURE)), "moderate", confidence)


class Script:
    """A detector that gives what was written for each frame; an error is raised."""

    def __init__(self, *looks: Sequence[Detection] | Exception):
        self._looks = iter(looks)

    def detect(self, image: Image) -> tuple[Detection, ...]:
        look = next(self._looks)
        if isinstance(look, Exception):
            raise look
        return tuple(look)


class Frames:
    """Cameras that give some frames, seconds apart, and end."""

    def __init__(self, number: int, apart: float = 1.0):
        self._taken = [1000.0 + i * apart for i in range(number)]

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """There is nothing to stop."""

    def states(self) -> dict[str, str]:
        return {"a": "live"}

    @property
    def finished(self) -> bool:
        return not self._taken

    def next(self, timeout: float) -> CameraFrame | None:
        if not self._taken:
            return None
        taken = self._taken.pop(0)
        return CameraFrame("a", PICTURE, 1_790_000_000 + taken, taken)


class Offered:
    """An uplink that keeps what it is offered."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def start(self) -> None:
        """There is no way to anywhere."""

    def stop(self, timeout: float) -> None:
        """There is nothing under way."""

    def offer(self, event: Event, camera: str) -> None:
        self.events.append(event)

    @property
    def state(self) -> UplinkState:
        return UplinkState("", False, 0.0, None, 0, 0, None)


class Slow:
    """An MLLM that answers after a while, or not at all."""

    def __init__(self, seconds: float, answer: str | None):
        self._seconds, self._answer = seconds, answer

    def assess(self, png: bytes, system: str, prompt: str) -> str:
        time.sleep(self._seconds)
        if self._answer is None:
            raise AssessmentError("none")
        return self._answer


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def spool(tmp_path: Path, counts: Counts) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.sqlite", 10_000_000, 1_000_000, counts)
    yield spool
    spool.close()


def ran(
    spool: Spool,
    counts: Counts,
    detector: Script,
    frames: Frames,
    mllm: Slow | None = None,
    routing: Routing = Routing(),  # noqa: B008 (frozen)
    wait: float = 0.5,
) -> list[Event]:
    """The events that a node offers to its uplink by the time its cameras have ended."""
    uplink = Offered()
    asking = None if mllm is None else Asking(mllm, 1, wait, 5.0, counts)
    node_of(spool, counts, detector, frames, uplink, asking, routing).run()
    return uplink.events


def node_of(
    spool: Spool,
    counts: Counts,
    detector: Script,
    frames: Frames,
    uplink: Offered,
    asking: Asking | None = None,
    routing: Routing = Routing(),  # noqa: B008 (frozen)
) -> Node:
    gate = Gate(detector, routing, {"bundle": "b"}, 12544)
    return Node("n1", gate, frames, asking, spool, uplink, counts)  # type: ignore[arg-type]


def test_what_the_mllm_says_is_the_event(spool: Spool, counts: Counts) -> None:
    mllm = Slow(0.0, json.dumps(SEVERE))
    (event,) = ran(spool, counts, Script([seen(0.5)]), Frames(1), mllm)
    assert (event.source, event.alert.revision, event.alert.degraded) == ("mllm", 0, None)
    assert event.alert.origin.node == "n1"
    assert event.alert.captured_at == 1_790_001_000
    assert counts.of("alerts", camera="a", source="mllm") == 1


def test_a_later_frame_that_shows_less_leaves_the_priority_of_the_event(
    spool: Spool, counts: Counts
) -> None:
    class Slowly(Frames):
        """Each frame is told before the next one comes."""

        def next(self, timeout: float) -> CameraFrame | None:
            time.sleep(0.3)
            return super().next(timeout)

    severe = replace(seen(0.5), severity="severe")
    script = Script([severe], [seen(0.5), seen(0.5, 20.0)])
    first, second = ran(spool, counts, script, Slowly(2, apart=10.0))
    assert second.id == first.id
    assert (first.assessment.severity, second.assessment.severity) == ("severe", "moderate")
    assert second.priority == first.priority > 0.7


def test_without_an_mllm_the_gate_tells_and_says_so(spool: Spool, counts: Counts) -> None:
    (event,) = ran(spool, counts, Script([seen(0.5)]), Frames(1))
    assert (event.source, event.alert.degraded) == ("gate", NO_MLLM)


def test_a_gate_that_is_sure_answers_itself_and_is_not_degraded(
    spool: Spool, counts: Counts
) -> None:
    routing = Routing(0.25, Band(0.25, 0.4))
    mllm = Slow(0.0, json.dumps(SEVERE))
    (event,) = ran(spool, counts, Script([seen(0.5)]), Frames(1), mllm, routing)
    assert (event.source, event.alert.degraded) == ("gate", None)


def test_an_answer_that_comes_late_is_the_next_revision(spool: Spool, counts: Counts) -> None:
    class Waiting(Frames):
        """The last frame is followed by a pause, in which the answer comes."""

        def next(self, timeout: float) -> CameraFrame | None:
            frame = super().next(timeout)
            if frame is None:
                time.sleep(1.0)
            return frame

        @property
        def finished(self) -> bool:
            return super().finished and counts.of("answers_late") == 1

    mllm = Slow(0.6, json.dumps(SEVERE))
    frames = Waiting(1)
    first, second = ran(spool, counts, Script([seen(0.5)]), frames, mllm, wait=0.1)
    assert (first.source, first.alert.revision) == ("gate", 0)
    assert (second.source, second.alert.revision, second.id) == ("mllm", 1, first.id)
    assert second.captured_at == first.captured_at


def test_an_event_that_could_not_be_kept_is_told_again_while_it_goes_on(
    spool: Spool, counts: Counts
) -> None:
    class Refusing:
        """Keeps nothing at first, as while others fill the disk."""

        refused = False

        def put(self, event: Event, camera: str) -> None:
            if not self.refused:
                self.refused = True
                raise SpoolError("no room")
            spool.put(event, camera)

        def close(self) -> None:
            spool.close()

    class Apart(Frames):
        def next(self, timeout: float) -> CameraFrame | None:
            time.sleep(0.2)  # the first one is refused before the second one comes
            return super().next(timeout)

    looks = Script([seen(0.5)], [seen(0.5)])
    (event,) = ran(Refusing(), counts, looks, Apart(2, apart=20.0))  # type: ignore[arg-type]
    assert event.captured_at == 1_790_001_020


def test_frames_of_one_accident_are_one_event(spool: Spool, counts: Counts) -> None:
    looks = [[seen(0.5, 10 + i % 3)] for i in range(20)]
    events = ran(spool, counts, Script(*looks), Frames(20, apart=0.1))
    assert len({event.id for event in events}) == 1
    assert len(events) == 1


def test_a_second_accident_elsewhere_is_an_event_of_its_own(spool: Spool, counts: Counts) -> None:
    both = [seen(0.5, 10), seen(0.6, 120)]
    events = ran(spool, counts, Script([seen(0.5)], both), Frames(2))
    # Two threads make events: one of another accident may be ready before.
    first, second = sorted(events, key=lambda event: event.captured_at)
    assert first.id != second.id
    assert [a.box.x1 for a in second.assessment.accidents] == [120]


def test_a_frame_on_which_the_detector_fails_is_counted_and_the_next_one_looked_at(
    spool: Spool, counts: Counts
) -> None:
    events = ran(spool, counts, Script(ModelError("NaN"), [seen(0.5)]), Frames(2))
    assert len(events) == 1
    assert counts.of("frames_failed", camera="a") == 1


def test_a_detector_that_fails_on_every_frame_is_a_problem_of_the_node(
    spool: Spool, counts: Counts
) -> None:
    def problems_after(looks: list[Sequence[Detection] | Exception]) -> list[str]:
        node = node_of(spool, counts, Script(*looks), Frames(len(looks)), Offered())
        node.run()
        return [problem for problem in node.problems() if "gate" in problem]

    fails: list[Sequence[Detection] | Exception] = [ModelError("NaN")]
    assert problems_after(BLIND * fails) == ["the gate fails on every frame"]
    assert problems_after(BLIND * fails + [[]]) == []
    assert problems_after((BLIND - 1) * fails) == []


def test_a_frame_without_a_kept_box_is_asked_about_where_the_band_says_so(
    spool: Spool, counts: Counts
) -> None:
    routing = Routing(0.25, Band(0.05, None))
    looks = Script([seen(0.1)])
    (event,) = ran(spool, counts, looks, Frames(1), Slow(0.0, json.dumps(SEVERE)), routing)
    assert event.source == "mllm"
    assert event.roi is None


def test_where_neither_gate_nor_mllm_says_anything_there_is_no_event(
    spool: Spool, counts: Counts
) -> None:
    routing = Routing(0.25, Band(0.05, None))
    assert ran(spool, counts, Script([seen(0.1)]), Frames(1), Slow(0.0, None), routing) == []
    assert counts.of("frames_unanswered", camera="a") == 1


def test_a_frame_that_is_too_long_for_the_mllm_is_told_by_the_gate(
    spool: Spool, counts: Counts
) -> None:
    class Long(Frames):
        def next(self, timeout: float) -> CameraFrame | None:
            frame = super().next(timeout)
            return frame and replace(frame, image=np.zeros((100, 2200, 3), np.uint8))

    mllm = Slow(0.0, json.dumps(SEVERE))
    (event,) = ran(spool, counts, Script([seen(0.5)]), Long(1), mllm)
    assert (event.source, event.alert.degraded) == ("gate", "side ratio")
    assert event.alert.frame == Size(2200, 100)


def test_what_is_dropped_makes_no_event(spool: Spool, counts: Counts) -> None:
    assert ran(spool, counts, Script([seen(0.2)], []), Frames(2)) == []
    assert counts.of("frames", camera="a", decision="drop") == 2


def test_gate_and_mllm_change_between_two_frames_and_each_event_states_its_own(
    spool: Spool, counts: Counts
) -> None:
    class Changing(Frames):
        """Before its last frame the node is told to work with another version."""

        def next(self, timeout: float) -> CameraFrame | None:
            if len(self._taken) == 2:
                other = Gate(Script([seen(0.5, 120)]), Routing(), {"bundle": "new"}, 12544)
                self.taken = node.take(other, Slow(0.0, json.dumps(SEVERE | {"summary": "new"})))
                assert not self.taken.is_set(), "this frame was taken by the one before"
            return super().next(timeout)

    old = Slow(0.3, json.dumps(SEVERE | {"summary": "old"}))
    cameras, uplink = Changing(2), Offered()
    asking = Asking(old, 2, 5.0, 5.0, counts)
    node = node_of(spool, counts, Script([seen(0.5, 10)]), cameras, uplink, asking)
    node.run()
    told = {e.assessment.summary: e.alert.origin.versions["bundle"] for e in uplink.events}
    assert told == {"old": "b", "new": "new"}
    assert cameras.taken.is_set()


def test_what_a_version_does_is_measured_of_that_version(spool: Spool, counts: Counts) -> None:
    detector = Script(ModelError("NaN"), [], [seen(0.5, 10)])
    gate = Gate(detector, Routing(), {"bundle": "b"}, 12544)
    asking = Asking(Slow(0.0, json.dumps(SEVERE)), 1, 5.0, 5.0, counts)
    cameras: Frames = Frames(3)
    Node("n1", gate, cameras, asking, spool, Offered(), counts).run()  # type: ignore[arg-type]
    measured = gate.tally.measured()
    assert (measured.frames, measured.failures) == (3, 1)
    assert (measured.questions, measured.answers, measured.compliant) == (1, 1, 1)


class Chosen:
    """An offloading whose controller has these rows in turn."""

    idle = True

    def __init__(self, *rows: Row | None):
        self._rows = iter(rows)
        self.frames: list[Frame] = []

    def start(self) -> None:
        """There is no encoder."""

    def stop(self) -> None:
        """There is nothing under way."""

    def choose(self, frame: Size, max_pixels: int) -> Row | None:
        return next(self._rows)

    def take(self, frame: Frame) -> None:
        self.frames.append(frame)


def test_a_weak_nodes_gate_tells_first_and_leaves_a_number_free_for_what_is_finished(
    spool: Spool, counts: Counts
) -> None:
    code = Row("code", "code", 500, 0.8, offload_point=1, channels=8)
    rows = (code, Row("gate", "edge", 0, 0.2), None)
    looks = [[seen(0.3)], [seen(0.6)], [seen(0.9)]]  # each is news: the gate is surer by 0.2
    uplink, offloading = Offered(), Chosen(*rows)
    gate = Gate(Script(*looks), Routing(), {"bundle": "b"}, 12544)
    Node("n1", gate, Frames(3, apart=20.0), None, spool, uplink, counts, offloading).run()  # type: ignore[arg-type]
    events = sorted(uplink.events, key=lambda e: e.alert.revision)  # two threads make them
    told = [(e.source, e.alert.revision, e.alert.degraded) for e in events]
    assert told == [("gate", 0, FINISHES), ("gate", 2, TOO_SLOW), ("gate", 3, FULL)]
    (frame,) = offloading.frames
    assert (frame.event.id, frame.row, frame.kept) == (events[0].id, code, (seen(0.3),))
