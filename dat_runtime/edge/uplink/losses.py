"""Whether a path loses packets, by what TCP had to send again."""

from dat_runtime.edge.uplink.sender import Progress

MEMORY = 800
"""Packets after which those until then count half. Of 400 a path that loses two in a hundred seemed
to lose none for a quarter of the time, and an alert without a copy was lost then."""

LEAST_RESENT, LEAST_SHARE = 3, 0.0075
"""So many, and so many of all, from which on a copy of an alert is worth its bytes."""


class Losses:
    """How many of the latest packets were sent again."""

    def __init__(self) -> None:
        self._seen = (0, 0)
        self._packets = self._resent = 0.0

    def read(self, progress: Progress) -> None:
        """Count what was sent since the last look."""
        packets, resent = progress.packets, progress.resent
        if packets >= self._seen[0]:
            self._packets += packets - self._seen[0]
            # It falls where the other end says that it had a packet already.
            self._resent = max(0.0, self._resent + resent - self._seen[1])
        # Else a connection has ended, and took its count with it.
        self._seen = packets, resent
        if self._packets > MEMORY:
            self._packets, self._resent = self._packets / 2, self._resent / 2

    @property
    def is_lossy(self) -> bool:
        return self._resent >= max(LEAST_RESENT, LEAST_SHARE * self._packets)
