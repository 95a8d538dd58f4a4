"""Which frames are wanted, and when a file's are due. Pure: it is told the time."""

_LONGEST_GAP = 60.0
"""Seconds. Longer gaps between two time stamps of a file are taken for damage, not waited for."""


class Throttle:
    """Picks `fps` frames a second, evenly, out of a source that may have more."""

    def __init__(self, fps: float):
        self._period = 1 / fps
        self._due = float("-inf")
        self._before = float("-inf")

    def wants(self, stamp: float) -> bool:
        """Whether the frame of this time stamp (seconds, rising) is one of them."""
        gap, self._before = stamp - self._before, stamp
        # The frame nearest to its time: waiting for the next would halve the rate of a source that
        # has just as many frames as are wanted, and some of them early.
        early = self._due - stamp
        if early > min(gap, self._period) / 2:
            return False
        # Counted from when it was due: of 25 frames a second every 2.5th is wanted for 10. After a
        # gap there is nothing to make up for.
        self._due = self._period + (self._due if -early < self._period else stamp)
        return True


class Playback:
    """Time stamps of a file as seconds since its start, rising, whatever the file says."""

    def __init__(self, step: float):
        """`step`: seconds between two frames where the file does not say."""
        self._step = step
        self._last: float | None = None
        self._now = 0.0

    def seconds(self, stamp: float | None) -> float:
        """When the next frame is due; `stamp` is what the file says, in seconds."""
        if stamp is None:
            self._now += self._step
            return self._now
        gap = 0.0 if self._last is None else stamp - self._last
        self._last = stamp
        self._now += gap if 0 <= gap <= _LONGEST_GAP else self._step
        return self._now
