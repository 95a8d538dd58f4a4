"""What the kernel says of the connections, as the path wants to know it."""

from dat_runtime.edge.uplink.sender import Sender
from dat_runtime.planning.path import Path

LONGEST_LOOK = 0.01
"""Seconds between two looks at most, while bytes are in flight."""


class Meter:
    """Tells a path what a sender wrote and what of it arrived since it was last asked."""

    def __init__(self, sender: Sender, path: Path):
        self._sender = sender
        self._path = path
        self._looked_at = 0.0
        self._written = 0
        self._acknowledged = 0

    def read(self, now: float) -> None:
        """Look: after a write, and every few milliseconds while bytes are in flight."""
        progress = self._sender.progress()
        written = progress.acknowledged + progress.in_flight
        # What was written since the last look counts from then: a round trip is never too short.
        since = self._looked_at
        if written < self._written:  # a connection broke, with all that was in flight on it
            self._path.lost()
            self._path.sent(now, progress.in_flight)
        else:
            self._path.sent(since, written - self._written)
            arrived = progress.acknowledged - self._acknowledged
            if arrived > 0 or progress.beyond:
                told = progress.round_trip
                self._path.acknowledged(now, arrived, told, beyond=progress.beyond)
        if progress.unsent:  # the kernel holds back: what arrives says less than the path can do
            self._path.idle()
        self._looked_at = now
        self._written, self._acknowledged = written, progress.acknowledged
