"""Whose turn it is, who is started and who is killed; no process is started here."""

import itertools
import os
import selectors
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.edge.cameras import watch as module
from dat_runtime.edge.cameras.settings import CameraFrame, CameraSettings
from dat_runtime.edge.cameras.watch import Cameras
from dat_runtime.edge.counts import Counts

IMAGE = np.zeros((2, 3, 3), np.uint8)


class Process:
    def __init__(self) -> None:
        self.killed, self.ended = 0, False

    def kill(self) -> None:
        self.killed += 1

    def has_ended(self) -> bool:
        return self.ended


class Camera:
    """In the place of a camera: its state is set, and what is done to it noted."""

    def __init__(self, name: str):
        self.settings = SimpleNamespace(name=name)
        self.state = "live"
        self.process: Process | None = None
        self.gives_up: Process | None = None
        self.has_newer = self.is_starting = self.due = False
        self.asked_at: float | None = None
        self.done: list[tuple[str, float]] = []
        self.frame: CameraFrame | None = None
        self.no_process = False

    def is_asked(self, since: float) -> bool:
        return self.asked_at is not None and self.asked_at > since

    def ask(self, now: float) -> None:
        self.done.append(("ask", now))

    def look(self, now: float) -> None:
        self.done.append(("look", now))

    def excuse(self, seconds: float) -> None:
        self.done.append(("excuse", seconds))

    def is_due(self, now: float) -> bool:
        assert isinstance(now, float)
        return self.due

    def start(self, now: float) -> None:
        self.done.append(("start", now))
        self.process = None if self.no_process else Process()

    def read(self, now: float) -> CameraFrame | None:
        self.done.append(("read", 0.0))
        return self.frame

    def give_up(self, now: float) -> Process | None:
        assert isinstance(now, float)
        process, self.gives_up = self.gives_up, None
        return process


class Selector:
    def __init__(self) -> None:
        self.registered: list[Any] = []
        self.ready: list[Any] = []
        self.closed = 0

    def register(self, file: Any, events: int, data: Any) -> None:
        assert events == selectors.EVENT_READ
        self.registered.append((file, data))

    def unregister(self, file: Any) -> None:
        self.registered = [one for one in self.registered if one[0] is not file]

    def select(self, timeout: float) -> list[Any]:
        assert timeout == 0.1
        return [(SimpleNamespace(data=data), 1) for data in self.ready]

    def close(self) -> None:
        self.closed += 1


class Watch:
    """Cameras of these names, never started."""

    def __init__(self, *names: str):
        self.counts = Counts()
        self.cameras = Cameras([CameraSettings(name, "a.mp4", 5) for name in names], self.counts)
        self.own = [Camera(name) for name in names]
        self.cameras._cameras = self.own  # type: ignore[assignment]
        self.cameras._selector.close()
        self.selector = Selector()
        self.cameras._selector = self.selector  # type: ignore[assignment]

    def asked(self) -> list[str]:
        """Whom it asks now."""
        before = [len(camera.done) for camera in self.own]
        self.cameras._ask(100.0)
        found = []
        for camera, n in zip(self.own, before, strict=True):
            found += [camera.settings.name for done in camera.done[n:] if done == ("ask", 100.0)]
        return found


@pytest.fixture
def watch() -> Iterator[Any]:
    made: list[Watch] = []

    def make(*names: str) -> Watch:
        made.append(Watch(*names))
        return made[-1]

    yield make
    for one in made:
        one.cameras._bell.close()
        one.cameras._button.close()


def frame(name: str) -> CameraFrame:
    return CameraFrame(name, IMAGE, 1e9, 5.0)


def test_two_are_asked_at_a_time_and_the_turn_goes_on(watch: Any) -> None:
    made = watch("a", "b", "c", "d", "e")
    for camera in made.own:
        camera.has_newer = True
    assert made.asked() == ["a", "b"]
    assert made.asked() == ["c", "d"]
    assert made.asked() == ["a", "e"]
    made.own[1].has_newer = False
    assert made.asked() == ["c", "d"]


def test_a_frame_that_waits_and_one_that_is_under_way_take_the_room(watch: Any) -> None:
    made = watch("a", "b", "c")
    for camera in made.own[1:]:
        camera.has_newer = True
    made.cameras._ready["a"] = frame("a")
    assert made.asked() == ["b"]
    made.own[1].asked_at, made.own[1].has_newer = 99.5, False
    assert made.asked() == []
    made.own[1].asked_at = 99.0  # it has not answered for a second: it keeps no other one
    assert made.asked() == ["c"]


def test_a_frame_that_waits_for_long_is_replaced_by_a_newer_one_beyond_the_room(watch: Any) -> None:
    made = watch("a", "b", "c")
    for camera in made.own:
        camera.has_newer = True
    made.cameras._ready = {"a": frame("a"), "b": frame("b")}
    assert made.asked() == ["a", "b"]
    assert made.cameras._turn == 0
    # Asked for a newer one, it takes no place twice.
    made.own[0].asked_at, made.own[0].has_newer = 100.0, False
    del made.cameras._ready["b"]
    assert made.asked() == ["b"]
    assert made.cameras._turn == 2


def test_the_frame_that_came_first_is_taken_first_and_counted(watch: Any) -> None:
    made = watch("a", "b")
    for name in ("b", "a", "b"):
        made.cameras._keep(frame(name))
    assert made.counts.of("frames_replaced", camera="b") == 1
    assert [made.cameras.next(0).camera for _ in "ba"] == ["b", "a"]
    assert made.cameras.next(0) is None
    assert made.counts.of("frames_taken", camera="b") == 1
    assert made.counts.of("frames_taken", camera="a") == 1
    assert len(made.cameras._bell.recv(99)) == 2  # the thread sees at once that there is room
    made.cameras._stopping = True
    made.cameras._keep(frame("a"))
    assert made.cameras._ready == {}


def test_who_waits_for_a_frame_waits_no_longer_than_asked(watch: Any) -> None:
    made = watch("a")
    began = time.monotonic()
    assert made.cameras.next(0.05) is None
    assert 0.04 < time.monotonic() - began < 5
    made.own[0].state = "ended"
    assert made.cameras.next(20) is None
    made.own[0].state = "live"
    made.cameras._fault = KeyError("a defect")
    with pytest.raises(RuntimeError, match=r"^cameras are not watched any more$") as caught:
        made.cameras.next(20)
    assert caught.value.__cause__ is made.cameras._fault
    assert time.monotonic() - began < 10


def test_all_are_finished_when_each_has_ended_and_its_last_frame_was_taken(watch: Any) -> None:
    made = watch("a", "b")
    made.own[0].state = "ended"
    assert not made.cameras.finished
    assert made.cameras.states() == {"a": "ended", "b": "live"}
    made.own[1].state = "ended"
    assert made.cameras.finished
    made.cameras._ready["a"] = frame("a")
    assert not made.cameras.finished


@pytest.mark.parametrize(("passed", "excused"), [(0.1, None), (1.1, None), (1.2, 1.1), (9.1, 9.0)])
def test_the_time_in_which_the_node_was_away_is_excused(
    watch: Any, passed: float, excused: float | None
) -> None:
    made = watch("a")
    made.cameras._looked_at = 100.0
    made.cameras._look(100.0 + passed)
    done = made.own[0].done
    assert done[-1] == ("look", 100.0 + passed)
    if excused is None:
        assert len(done) == 1
    else:
        assert done[0] == ("excuse", pytest.approx(excused))
    assert made.cameras._looked_at == 100.0 + passed


@pytest.mark.parametrize(
    ("cores", "starting", "started"), [(2, 0, 2), (2, 1, 1), (2, 3, 0), (None, 0, 1)]
)
def test_as_many_are_started_at_once_as_there_are_cores(
    watch: Any, monkeypatch: pytest.MonkeyPatch, cores: int | None, starting: int, started: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    made = watch("a", "b", "c", "d", "e", "f")
    for camera in made.own[:starting]:
        camera.is_starting = True
    for camera in made.own[3:]:
        camera.due = True
    made.cameras._looked_at = 100.0
    made.cameras._look(100.1)
    begun = [c.settings.name for c in made.own if ("start", 100.1) in c.done]
    assert begun == ["d", "e", "f"][:started]
    assert [data.settings.name for _, data in made.selector.registered] == begun
    assert [file for file, _ in made.selector.registered] == [
        camera.process for camera in made.own if camera.process
    ]


def test_one_that_could_not_be_started_is_not_listened_to(watch: Any) -> None:
    made = watch("a")
    made.own[0].due = made.own[0].no_process = True
    made.cameras._looked_at = 100.0
    made.cameras._look(100.1)
    assert made.selector.registered == []


def test_one_that_failed_is_killed_and_remembered_until_it_is_gone(watch: Any) -> None:
    made = watch("a")
    process = Process()
    made.selector.registered = [(process, made.own[0])]
    made.own[0].gives_up = process
    made.cameras._looked_at = 100.0
    made.cameras._look(100.1)
    assert (process.killed, made.selector.registered) == (1, [])
    assert made.cameras._killed == [process]
    process.ended = True
    made.cameras._look(100.2)
    assert made.cameras._killed == []


def test_what_processes_say_is_taken_in_and_those_that_failed_go(watch: Any) -> None:
    made = watch("a", "b")
    made.cameras._ring()
    made.own[0].frame = frame("a")
    made.own[1].gives_up = Process()
    made.selector.ready = [None, *made.own]
    made.cameras._hear()
    assert list(made.cameras._ready) == ["a"]
    assert [camera.done for camera in made.own] == [[("read", 0.0)]] * 2
    assert len(made.cameras._killed) == 1
    with pytest.raises(BlockingIOError):
        made.cameras._bell.recv(1)


def test_the_end_kills_all_and_waits_until_they_are_gone_but_not_for_ever(
    watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_END", 0.05)
    made = watch("a", "b")
    gone, stuck = Process(), Process()
    gone.ended = True
    made.own[0].process, made.cameras._killed = gone, [stuck]
    made.selector.registered = [(gone, made.own[0])]
    began = time.monotonic()
    made.cameras.stop()  # it was never started
    assert 0.04 < time.monotonic() - began < 5
    assert (gone.killed, made.own[0].process) == (1, None)
    assert made.cameras._killed == [stuck]
    assert (made.selector.registered, made.selector.closed) == ([], 1)
    assert made.cameras._bell.fileno() == made.cameras._button.fileno() == -1
    made.cameras._ring()  # nobody is there to hear it
    assert made.cameras.next(20) is None


def test_a_bell_that_nobody_hears_is_rung_often_enough(watch: Any) -> None:
    made = watch("a")
    for _ in range(5_000):
        made.cameras._ring()


def test_the_thread_has_a_name_and_holds_no_process(watch: Any) -> None:
    thread = watch("a").cameras._thread
    assert (thread.name, thread.daemon) == ("cameras", True)


def test_two_cameras_of_one_name_are_named() -> None:
    settings = CameraSettings("a", "a.mp4", 5)
    with pytest.raises(ValueError, match=r"^two cameras have one name$"):
        Cameras([settings, settings], Counts())


def test_each_camera_is_given_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(module, "Camera", lambda *about: made.append(about))
    settings, counts = CameraSettings("a", "a.mp4", 5), Counts()
    for cameras in (Cameras([settings], counts), Cameras([settings], counts, silence=3.0)):
        cameras._selector.close()
        cameras._bell.close()
        cameras._button.close()
    assert made == [(settings, counts, 10.0), (settings, counts, 3.0)]


def test_a_second_away_is_none_that_is_excused(watch: Any) -> None:
    made = watch("a")
    made.cameras._looked_at = 0.0
    made.cameras._look(1.1)  # a tenth of a second is between two looks anyway
    assert made.own[0].done == [("look", 1.1)]


def test_the_end_takes_no_longer_than_the_processes_do(watch: Any) -> None:
    made = watch("a")
    process = Process()
    made.cameras._killed = [process]
    threading.Timer(0.03, setattr, (process, "ended", True)).start()
    began = time.monotonic()
    made.cameras.stop()
    assert time.monotonic() - began < 0.9
    assert made.cameras._killed == []


def test_the_thread_looks_asks_and_ends_when_it_is_told(watch: Any) -> None:
    made = watch("a")
    made.own[0].has_newer = True
    select = made.selector.select

    def waiting(timeout: float) -> list[Any]:
        time.sleep(0.002)
        return select(timeout)

    made.selector.select = waiting
    made.cameras.start()
    deadline = time.monotonic() + 20
    while not {"ask", "look"} <= {what for what, _ in made.own[0].done}:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    looks = [at for what, at in made.own[0].done if what == "look"]
    assert all(later - at >= 0.1 for at, later in itertools.pairwise(looks))
    made.cameras.stop()
    assert not made.cameras._thread.is_alive()
    assert (made.cameras._fault, made.selector.closed) == (None, 1)


def test_a_defect_of_the_thread_is_told_to_who_waits(watch: Any) -> None:
    made = watch("a")
    error = KeyError("a defect")

    def fail(timeout: float) -> None:
        raise error

    made.selector.select = fail
    with pytest.raises(KeyError):
        made.cameras._run()
    assert made.cameras._fault is error
    assert made.selector.closed == 1
    with pytest.raises(RuntimeError, match="not watched any more"):
        made.cameras.next(20)
