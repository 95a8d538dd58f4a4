"""TCP's window over the packets of one simulated connection, as the kernel's BBR has it."""

from collections import deque
from dataclasses import dataclass

from dat_runtime.planning.live import Chunk

FIRST_WINDOW = 10
"""Packets that TCP lets out before the first acknowledgement (RFC 6928)."""


@dataclass(eq=False)
class Packet:
    lane: str
    size: int
    end: Chunk | None
    """The chunk that ends with it."""
    turn: int = 0
    """Of all that was put on the link, in order."""
    arrived: bool = False


class Connection:
    """Packets of one lane, and TCP's window over them: what BBR has that `Path` meets.

    The window begins with ten packets and takes one more for each that arrives, while it is what
    holds the rest back, as in the startup of BBR, in which `tcp.forget_rate` keeps it. What stays
    below it never sees it.
    """

    def __init__(self) -> None:
        self.missing: deque[Packet] = deque()
        """What has not arrived with all before it, in order of writing."""
        self.unsent: deque[Packet] = deque()
        self._window = FIRST_WINDOW
        self._sent = 0
        self._was_full = False
        self._latest: Packet | None = None
        self._repaired_with: Packet | None = None
        self._before_loss = FIRST_WINDOW

    def next(self) -> Packet | None:
        """The next packet that the window lets out."""
        if not self.unsent:
            return None
        if self._sent >= self._window:
            self._was_full = True
            return None
        self._sent += 1
        self._latest = self.unsent.popleft()
        return self._latest

    def known(self) -> None:
        """One packet is known to have arrived."""
        self._sent -= 1
        if self._repaired_with is not None:
            if self._repaired_with not in self.missing:
                self._window, self._repaired_with = max(self._window, self._before_loss), None
            return
        if self._was_full:
            self._window += 1
        self._was_full = bool(self.unsent)

    def lost(self) -> None:
        """A loss is noticed: until all that was sent has arrived, a packet goes for each known.

        `bbr_set_cwnd_to_recover_or_restore` in net/ipv4/tcp_bbr.c.
        """
        if self._repaired_with is None and self._latest is not None:
            self._before_loss = self._window
            self._window, self._repaired_with = max(1, self._sent), self._latest
