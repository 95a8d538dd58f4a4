"""A camera's rules, by a clock of the test's own; what its process says is written here."""

import numpy as np
import pytest

from dat_runtime.draw import Image
from dat_runtime.edge.cameras.camera import Camera
from dat_runtime.edge.cameras.settings import CameraFrame, CameraSettings
from dat_runtime.edge.cameras.wire import Kind, Message, Word
from dat_runtime.edge.counts import Counts

SILENCE = 10.0
IMAGE = np.zeros((2, 3, 3), np.uint8)


class Process:
    """Says what it is told to say."""

    def __init__(self, settings: CameraSettings):
        self.said: list[tuple[Message, Image | None]] = []
        self.ends: Exception | None = None
        self.asked = 0

    def read(self) -> list[tuple[Message, Image | None]]:
        if self.ends is not None:
            raise self.ends
        said, self.said = self.said, []
        return said

    def ask(self) -> None:
        self.asked += 1


class Told:
    """A camera that was started at 0, and a shorthand for what its process says."""

    def __init__(self) -> None:
        self.counts = Counts()
        settings = CameraSettings("c", "rtsp://host/", 5)
        self.camera = Camera(settings, self.counts, SILENCE, Process)
        self.camera.start(0.0)

    def hear(self, now: float, kind: Kind, number: int = 0, word: Word = Word.NOTHING):
        """What comes of a message at that time."""
        is_frame = kind == Kind.FRAME
        message = Message(kind, word, number, 3 * is_frame, 2 * is_frame, 1e9, 5.0)
        self.camera.process.said.append((message, IMAGE if is_frame else None))
        return self.camera.read(now)

    def dead_at(self, start: float, end: float) -> float | None:
        """The first tenth of a second in which it is found silent."""
        for tenth in range(round(start * 10), round(end * 10)):
            self.camera.look(tenth / 10)
            if self.camera.failure:
                return tenth / 10
        return None


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.mark.parametrize("sign", [Kind.ALIVE, Kind.OFFER])
def test_a_sign_of_life_is_good_for_the_silence(told: Told, sign: Kind) -> None:
    told.hear(1.0, sign, 1)
    assert told.dead_at(1, 30) == pytest.approx(11.1)
    assert told.camera.failure == "silent"


def test_damaged_frames_are_no_sign_of_life(told: Told) -> None:
    told.hear(1.0, Kind.ALIVE)
    for second in range(2, 11):
        told.hear(float(second), Kind.DROPPED, 7, Word.DAMAGED)
    assert told.dead_at(10, 30) == pytest.approx(11.1)
    assert told.counts.of("frames_dropped", camera="c", reason="damaged") == 63


def test_a_process_may_take_its_time_to_stand_ready_but_not_for_ever(told: Told) -> None:
    assert told.camera.is_starting
    assert told.dead_at(0, 60) == pytest.approx(30.1)


def test_a_frame_that_was_asked_for_must_come(told: Told) -> None:
    told.hear(1.0, Kind.OFFER, 1)
    told.camera.ask(2.0)
    told.hear(11.9, Kind.OFFER, 2)
    assert told.dead_at(11, 30) == pytest.approx(12.1)


def test_the_time_in_which_the_node_was_away_is_not_held_against_it(told: Told) -> None:
    told.hear(1.0, Kind.OFFER, 1)
    told.camera.excuse(100.0)
    assert told.dead_at(100, 200) == pytest.approx(111.1)


def test_frames_that_nobody_took_are_counted(told: Told) -> None:
    for number in (1, 2, 3):
        told.hear(1.0, Kind.OFFER, number)
    told.camera.ask(1.1)
    frame = told.hear(1.2, Kind.FRAME, 3)
    assert frame == CameraFrame("c", IMAGE, 1e9, 1.2), "not from the future"
    assert told.counts.of("frames_replaced", camera="c") == 2
    told.hear(1.3, Kind.OFFER, 5)
    told.hear(1.4, Kind.FAILED, word=Word.BROKE_OFF)
    told.camera.give_up(1.5)
    assert told.counts.of("frames_replaced", camera="c") == 4
    assert told.counts.of("camera_restarts", camera="c", reason="broke off") == 1


def test_one_that_works_is_kept_and_one_that_is_gone_is_nothing_to_look_at(told: Told) -> None:
    told.hear(1.0, Kind.OFFER, 1)
    assert told.camera.give_up(1.0) is None
    told.hear(1.1, Kind.FAILED, word=Word.BROKE_OFF)
    assert told.camera.give_up(1.1) is not None
    assert told.camera.give_up(1.2) is None
    told.camera.look(1e6)
    assert told.camera.failure is None
    assert not told.camera.is_starting
    assert not told.camera.has_newer
    assert told.counts.of("camera_restarts", camera="c", reason="broke off") == 1


def test_it_is_asked_when_there_is_something_newer(told: Told) -> None:
    assert not told.camera.has_newer
    told.hear(1.0, Kind.OFFER, 1)
    assert told.camera.has_newer
    told.camera.ask(1.1)
    assert told.camera.process.asked == 1
    assert not told.camera.has_newer
    assert told.camera.is_asked(since=1.0)
    assert not told.camera.is_asked(since=1.1)
    told.hear(1.2, Kind.FRAME, 1)
    assert not told.camera.has_newer
    assert not told.camera.is_asked(since=0.0)


@pytest.mark.parametrize("number", [0, 1])
def test_a_frame_that_nobody_asked_for_is_a_fault(told: Told, number: int) -> None:
    told.hear(1.0, Kind.OFFER, 1)
    if number == 0:  # asked for, but older than the one before
        told.camera.ask(1.0)
    assert told.hear(1.1, Kind.FRAME, number) is None
    assert told.camera.failure == "cannot be read"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (EOFError(), "its process died"),
        (ValueError(), "cannot be read"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_why_it_is_down_is_said(told: Told, error: Exception, words: str) -> None:
    process = told.camera.process
    process.ends = error
    told.camera.read(1.0)
    assert told.camera.give_up(1.0) is process
    assert told.camera.state == f"down: {words}"
    assert told.camera.process is None


def test_a_file_has_ended_when_its_last_frame_was_taken(told: Told) -> None:
    told.hear(1.0, Kind.OFFER, 1)
    told.hear(1.0, Kind.ENDED)
    assert told.camera.state == "live"
    assert told.dead_at(1, 60) is None, "a gate may be slow"
    told.camera.ask(60.0)
    told.hear(60.1, Kind.FRAME, 1)
    assert told.camera.state == "ended"
    assert told.camera.give_up(60.2) is not None
    assert not told.camera.is_due(1e9)
    assert told.counts.of("camera_restarts", camera="c", reason="") == 0


def pauses(lives: list[tuple[float, bool]]) -> list[float]:
    """The pauses after tries that took so long, and gave frames or not."""
    told, now, found = Told(), 0.0, []
    for life, gives_frames in lives:
        if gives_frames:
            told.hear(now, Kind.OFFER, 1)
        now += life
        told.hear(now, Kind.FAILED, word=Word.UNREACHABLE)
        told.camera.give_up(now)
        failed = now
        while not told.camera.is_due(now) and now < failed + 1000:
            now += 0.01
        found.append(now - failed)
        told.camera.start(now)
    return found


def test_pauses_double_up_to_a_minute() -> None:
    found = pauses([(0.1, False)] * 12)
    for number, pause in enumerate(found):
        longest = min(0.5 * 2**number, 60)
        assert longest / 2 - 0.02 <= pause <= longest + 0.02
    assert max(found[:5]) <= 10


def test_half_of_a_pause_is_random() -> None:
    assert len({round(pauses([(0.1, False)])[0], 2) for _ in range(30)}) > 5


def test_one_that_flaps_is_tried_again_within_seconds() -> None:
    assert max(pauses([(1.0, True)] * 12)) <= 8.02


def test_after_a_steady_while_earlier_failures_are_forgotten() -> None:
    assert pauses([(0.1, False)] * 6 + [(31, True)])[-1] <= 0.52
    assert pauses([(0.1, False)] * 6 + [(29, True)])[-1] > 0.52


def test_it_stays_down_until_a_frame_comes(told: Told) -> None:
    told.hear(1.0, Kind.FAILED, word=Word.NOT_FOUND)
    told.camera.give_up(1.0)
    told.camera.start(3.0)
    told.hear(3.1, Kind.ALIVE)
    assert told.camera.state == "down: not found"
    told.hear(3.2, Kind.OFFER, 1)
    assert told.camera.state == "live"


def test_a_system_that_starts_no_process_is_tried_again() -> None:
    def refuse(settings: CameraSettings) -> Process:
        raise OSError("no more processes")

    camera = Camera(CameraSettings("c", "a.mp4", 5), Counts(), SILENCE, refuse)
    camera.start(0.0)
    assert camera.state == "down: no process could be started"
    assert not camera.is_due(0.2)
    assert camera.is_due(0.6)


def test_one_that_was_never_started_is_due_and_says_nothing() -> None:
    camera = Camera(CameraSettings("c", "a.mp4", 5), Counts(), SILENCE, Process)
    assert camera.is_due(0.0)
    assert (camera.state, camera.failure, camera.process) == ("starting", None, None)
    assert camera.read(1.0) is None
    camera.ask(1.0)
    assert not camera.is_asked(0.0)


def test_rescaled_frames_are_counted_and_a_sign_of_life(told: Told) -> None:
    told.hear(5.0, Kind.RESCALED, 3)
    assert told.counts.of("frames_rescaled", camera="c") == 3
    assert not told.camera.is_starting
