"""What the kernel says of the connections, as the path wants to know it."""

from dat_runtime.edge.uplink.sender import Sender
from dat_runtime.planning.path import Path


class Meter:
    """Tells a path what a sender wrote and what of it arrived since it was last asked."""

    def __init__(self, sender: Sender, path: Path):
        self._sender = sender
        self._path = path
        self._written = 0
        self._acknowledged = 0

    def read(self, now: float) -> None:
        """Look; to be called every few milliseconds while bytes are in flight."""
        progress = self._sender.progress()
        written = progress.acknowledged + progress.in_flight
        if written < self._written:  # a connection broke, with all that was in flight on it
            self._path.lost()
            self._path.sent(now, progress.in_flight)
        else:
            self._path.sent(now, written - self._written)
            arrived = progress.acknowledged - self._acknowledged
            if arrived > 0:
                self._path.acknowledged(now, arrived, progress.round_trip)
        if progress.unsent:  # the kernel holds back: what arrives says less than the path can do
            self._path.idle()
        self._written, self._acknowledged = written, progress.acknowledged
