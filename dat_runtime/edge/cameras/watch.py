"""All cameras of a node: started, asked in turn, watched by their frames, started again."""

import os
import selectors
import socket
import threading
import time
from collections.abc import Sequence

from dat_runtime.edge.cameras.camera import Camera
from dat_runtime.edge.cameras.process import CameraProcess
from dat_runtime.edge.cameras.settings import CameraFrame, CameraSettings
from dat_runtime.edge.counts import Counts

SILENCE = 10.0
"""Seconds without a frame after which a camera counts as dead, connected or not."""

_AHEAD = 2
"""Frames that are fetched before anyone asks: one is ready while another is on its way."""

_ANSWER = 1.0
"""Seconds after which a camera that does not answer keeps no other one from being asked."""

_LOOK = 0.1
"""Seconds between two looks at who is silent, and who is to be started."""

_AWAY = 1.0
"""Seconds between two looks after which it is the node that was away, not the cameras."""

_END = 2.0
"""Seconds that killed processes get to be gone."""


class Cameras:
    """The newest frame of each camera, in turn.

    Each camera is read by a process of its own, which may hang or die with whatever it decodes; it
    is killed and started again when no frame comes for `silence` seconds. Frames stay where they
    were decoded until their turn: what the node holds does not grow with the number of cameras, and
    one that is replaced before its turn was never converted or copied.

    Counts `frames_taken`, `frames_replaced`, `frames_dropped` (by reason), `frames_rescaled` and
    `camera_restarts` (by reason), each by camera.

    Raises:
        ValueError: two cameras have one name.
    """

    def __init__(
        self, cameras: Sequence[CameraSettings], counts: Counts, *, silence: float = SILENCE
    ):
        if len({camera.name for camera in cameras}) < len(cameras):
            raise ValueError("two cameras have one name")
        self._cameras = [Camera(settings, counts, silence) for settings in cameras]
        self._counts = counts
        self._turn = 0
        self._ready: dict[str, CameraFrame] = {}  # the first in is the first out
        self._changed = threading.Condition()
        self._stopping = False
        self._fault: BaseException | None = None
        self._killed: list[CameraProcess] = []
        self._looked_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        # It alone touches the processes. The kernel kills them when this thread ends.
        self._thread = threading.Thread(target=self._run, name="cameras", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def next(self, timeout: float) -> CameraFrame | None:
        """The newest frame of the camera whose turn it is; `None` when none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._is_over, timeout)
            if self._fault is not None:
                raise RuntimeError("cameras are not watched any more") from self._fault
            if not self._ready:
                return None
            frame = self._ready.pop(next(iter(self._ready)))
        self._counts.add("frames_taken", camera=frame.camera)
        self._ring()
        return frame

    def states(self) -> dict[str, str]:
        """By name: "starting", "live", "ended", or "down: " and why."""
        return {camera.settings.name: camera.state for camera in self._cameras}

    @property
    def finished(self) -> bool:
        """Whether every camera is a file or folder at its end, and its last frame was taken."""
        return not self._ready and all(camera.state == "ended" for camera in self._cameras)

    def stop(self) -> None:
        """End all processes, within seconds; nothing is left of them."""
        with self._changed:
            self._stopping = True
            self._ready.clear()
            self._changed.notify_all()
        self._ring()
        if self._thread.is_alive():
            self._thread.join(2 * _END)
        elif self._thread.ident is None:
            self._end()

    @property
    def _is_over(self) -> bool:
        return self._stopping or self._fault is not None or self.finished

    def _ring(self) -> None:
        """Let the thread see at once what has changed."""
        try:
            self._button.send(b"!")
        except OSError:
            return  # rung often enough already, or stopped

    def _run(self) -> None:
        try:
            self._looked_at = time.monotonic()
            while not self._stopping:
                self._hear()
                now = time.monotonic()
                if now - self._looked_at >= _LOOK:
                    self._look(now)
                self._ask(now)
        except BaseException as error:
            self._fault = error
            raise
        finally:
            self._end()
            with self._changed:
                self._changed.notify_all()

    def _hear(self) -> None:
        """Take in what the processes say."""
        for key, _ in self._selector.select(_LOOK):
            if key.data is None:
                self._bell.recv(4096)
                continue
            camera: Camera = key.data
            frame = camera.read(time.monotonic())
            if frame is not None:
                self._keep(frame)
            self._part_from(camera)

    def _keep(self, frame: CameraFrame) -> None:
        with self._changed:
            if self._stopping:
                return
            if frame.camera in self._ready:
                self._counts.add("frames_replaced", camera=frame.camera)
            self._ready[frame.camera] = frame  # in the place of the one before, if there is one
            self._changed.notify()

    def _look(self, now: float) -> None:
        """Kill what is silent, start what is due."""
        away = now - self._looked_at - _LOOK
        self._looked_at = now
        for camera in self._cameras:
            if away > _AWAY:
                camera.excuse(away)
            camera.look(now)
            self._part_from(camera)
        self._killed = [process for process in self._killed if not process.has_ended()]
        # As many at once as there are cores: all together would be ready late.
        free = (os.cpu_count() or 1) - sum(camera.is_starting for camera in self._cameras)
        due = [camera for camera in self._cameras if camera.is_due(now)]
        for camera in due[: max(free, 0)]:
            camera.start(now)
            if camera.process is not None:
                self._selector.register(camera.process, selectors.EVENT_READ, camera)

    def _part_from(self, camera: Camera) -> None:
        process = camera.give_up(time.monotonic())
        if process is not None:
            self._selector.unregister(process)
            process.kill()
            self._killed.append(process)
        if self.finished:
            with self._changed:
                self._changed.notify_all()

    def _ask(self, now: float) -> None:
        """Ask those whose turn it is, as far as there is room for their frames."""
        since = now - _ANSWER
        asked = sum(c.is_asked(since) and c.settings.name not in self._ready for c in self._cameras)
        room = _AHEAD - len(self._ready) - asked
        number = len(self._cameras)
        for index in range(self._turn, self._turn + number):
            camera = self._cameras[index % number]
            if not camera.has_newer:
                continue
            if camera.settings.name in self._ready:
                camera.ask(now)  # it waits for too long: a newer one takes its place
            elif room > 0:
                camera.ask(now)
                room -= 1
                self._turn = (index + 1) % number

    def _end(self) -> None:
        for camera in self._cameras:
            if camera.process is not None:
                self._selector.unregister(camera.process)
                camera.process.kill()
                self._killed.append(camera.process)
                camera.process = None
        deadline = time.monotonic() + _END
        while self._killed and time.monotonic() < deadline:
            self._killed = [process for process in self._killed if not process.has_ended()]
            time.sleep(0.005)
        self._selector.close()
        self._bell.close()
        self._button.close()
