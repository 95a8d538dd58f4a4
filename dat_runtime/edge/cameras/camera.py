"""One camera as the node sees it: its process, its state, and when it is to be started again."""

import random
from collections.abc import Callable

from dat_runtime.draw import Image
from dat_runtime.edge.cameras.process import CameraProcess
from dat_runtime.edge.cameras.settings import CameraFrame, CameraSettings
from dat_runtime.edge.cameras.wire import Kind, Message, Word
from dat_runtime.edge.counts import Counts

STARTING = 30.0
"""Seconds that a process may take until it stands ready: many at once share few cores."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds until the second try, which double with each that gives no frame; at most."""

FLAPPING_PAUSE = 8.0
"""Seconds, at most, where the last try gave frames."""

STEADY = 30.0
"""Seconds after which a try that gives frames makes the failures before it forgotten."""

SILENT, DIED, NO_PROCESS = "silent", "its process died", "no process could be started"


class Camera:
    """Is told the time, `time.monotonic`, by whoever runs it; raises nothing.

    Attributes:
        state: "starting", "live", "ended", or "down: " and why.
        process: what reads it now, if anything does.
        failure: why `process` is of no use any more, until `give_up` takes it away.
    """

    def __init__(
        self,
        settings: CameraSettings,
        counts: Counts,
        silence: float,
        start_process: Callable[[CameraSettings], CameraProcess] = CameraProcess,
    ):
        self.settings = settings
        self._start_process = start_process
        self.state = "starting"
        self.process: CameraProcess | None = None
        self.failure: str | None = None
        self._counts = counts
        self._silence = silence
        self._failures = 0
        self._start_at = 0.0
        self._forget()

    def _forget(self) -> None:
        """Nothing is known of a process that was not started yet."""
        self._started_at = 0.0
        self._alive_at: float | None = None  # it stands ready since, or gave a sign of life
        self._gave_frames = False
        self._is_ending = False
        self._offered = 0
        self._fetched = 0
        self._asked_at: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether it is time to start a process."""
        return self.process is None and self.state != "ended" and now >= self._start_at

    @property
    def is_starting(self) -> bool:
        return self.process is not None and self._alive_at is None

    def start(self, now: float) -> None:
        self._forget()
        self._started_at = now
        try:
            self.process = self._start_process(self.settings)
        except OSError:  # no memory, no descriptors, no more processes
            self._pause(now, NO_PROCESS)

    def look(self, now: float) -> None:
        """See whether it is silent: without a sign of life, or of the frame that was asked for."""
        if self.process is None or self.failure:
            return
        if self._alive_at is None:
            is_silent = now - self._started_at > STARTING
        elif self._asked_at is not None:
            is_silent = now - self._asked_at > self._silence
        else:
            is_silent = not self._is_ending and now - self._alive_at > self._silence
        if is_silent:
            self.failure = SILENT

    def excuse(self, seconds: float) -> None:
        """For so long the node itself did not listen: it was stopped, or had no processor."""
        self._started_at += seconds
        if self._alive_at is not None:
            self._alive_at += seconds
        if self._asked_at is not None:
            self._asked_at += seconds

    def read(self, now: float) -> CameraFrame | None:
        """Take in what its process says; the frame, when one came."""
        frame = None
        try:
            for message, image in self.process.read() if self.process else ():
                if image is not None:
                    frame = self._frame(message, image, now)
                self._hear(message, now)
        except EOFError:
            self.failure = DIED
        except ValueError:
            self.failure = Word.FAULT.text
        except MemoryError:
            self.failure = Word.NO_MEMORY.text
        if self._is_ending and self._fetched == self._offered:
            self.state = "ended"
        return frame

    def _hear(self, message: Message, now: float) -> None:
        match message.kind:
            case Kind.DROPPED:
                self._count("frames_dropped", message.number, reason=message.word.text)
                return  # damaged frames are no sign of life
            case Kind.RESCALED:
                self._count("frames_rescaled", message.number)
            case Kind.OFFER:
                self._offered = message.number
                self._gave_frames = True
                self.state = "live"
            case Kind.ENDED:
                self._is_ending = True
            case Kind.FAILED:
                self.failure = message.word.text
        self._alive_at = now

    def _frame(self, message: Message, image: Image, now: float) -> CameraFrame:
        if self._asked_at is None or not self._fetched < message.number:
            raise ValueError("a frame that nobody asked for")
        self._count("frames_replaced", message.number - self._fetched - 1)
        self._fetched, self._asked_at = message.number, None
        # The clocks of its process are the node's own; it only must not see into the future.
        taken = min(message.taken, now)
        return CameraFrame(self.settings.name, image, message.captured_at, taken)

    @property
    def has_newer(self) -> bool:
        """Whether there is a frame to ask for."""
        return self.process is not None and self._asked_at is None and self._offered > self._fetched

    def ask(self, now: float) -> None:
        if self.process is not None:
            self.process.ask()
            self._asked_at = now

    def is_asked(self, since: float) -> bool:
        """Whether it was asked after that moment and has not answered."""
        return self._asked_at is not None and self._asked_at > since

    def give_up(self, now: float) -> CameraProcess | None:
        """Its process, to be killed, when it failed or is at its end."""
        if self.process is None or not (self.failure or self.state == "ended"):
            return None
        process, self.process = self.process, None
        if self.state != "ended":
            self._count("frames_replaced", self._offered - self._fetched)
            self._pause(now, self.failure or "")
        return process

    def _pause(self, now: float, why: str) -> None:
        self._count("camera_restarts", 1, reason=why)
        self.state, self.failure = f"down: {why}", None
        if self._gave_frames and now - self._started_at > STEADY:
            self._failures = 0
        longest = FLAPPING_PAUSE if self._gave_frames else LONGEST_PAUSE
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 10), longest)
        self._failures += 1
        # Half of it is random, so that the cameras behind one switch do not come back at once.
        self._start_at = now + pause * random.uniform(0.5, 1.0)

    def _count(self, name: str, number: int, **labels: str) -> None:
        if number > 0:
            self._counts.add(name, number, camera=self.settings.name, **labels)
