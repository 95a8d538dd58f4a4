"""Which frames are wanted, and when a file's are due. Pure: it is told the time."""

_LONGEST_GAP = 5.0
"""Seconds. Longer gaps between two time stamps of a file are taken for damage, not waited for."""


_FARTHEST_BEHIND = 1.0
"""Seconds."""


_WAIT = 0.005
"""Seconds. A packet that took longer to come was waited for: the stream is at its newest."""

_BEHIND = 1.0
"""Seconds of decoding without waiting, after which a stream is behind."""


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
    """When the frames of a file are due, by its own time stamps, whatever they say.

    Time stamps that go back, as where the file starts again, or jump ahead count as one step.
    """

    def __init__(self, start: float):
        """`start`: when the first frame is due, in seconds of the caller's clock."""
        self._due = start
        self._stamp: float | None = None
        self._is_first = True

    def due(self, stamp: float | None, step: float, now: float) -> float:
        """When the next frame is due.

        Args:
            stamp: what the file says, in seconds; `None` when it says nothing.
            step: seconds between two frames by the rate that the file states.
            now: who is behind by more than a second lets the file wait, rather than race after it.
        """
        gap = step
        if (
            stamp is not None
            and self._stamp is not None
            and 0 <= stamp - self._stamp <= _LONGEST_GAP
        ):
            gap = stamp - self._stamp
        self._stamp = stamp
        if not self._is_first:
            self._due = max(self._due + gap, now - _FARTHEST_BEHIND)
        self._is_first = False
        return self._due


class CatchUp:
    """Which packets of a live stream to leave out, where it is decoded more slowly than it comes.

    A decoder that never had to wait for a while is behind. Packets are left out until one must be
    waited for, and on to the next that needs none before it.
    """

    def __init__(self, now: float):
        self._waited_at = now
        self._skips = False

    def skips(self, asked_at: float, came_at: float, is_key: bool) -> bool:
        """Whether to leave out a packet that was asked for, and came, at these times (seconds)."""
        if came_at - asked_at > _WAIT:
            self._waited_at = came_at
        is_behind = came_at - self._waited_at > _BEHIND
        if is_behind:
            self._skips = True
        elif is_key:
            self._skips = False
        return self._skips
