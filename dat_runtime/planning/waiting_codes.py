"""The codes that wait in a live queue; `planning.codes` says where they stand among visuals."""

import itertools
from dataclasses import dataclass

from dat_runtime.planning.pending import PendingEvent, score
from dat_runtime.planning.row import Row

LOOKED_AT = 128
"""Codes at most that are looked at for the densest of enough priority, however many wait."""


@dataclass(eq=False, slots=True)
class WaitingCode:
    """A code of `size` bytes, of which `sent` are gone."""

    event: PendingEvent
    size: int
    number: int
    """Its place in the order of `add`."""
    sent: int = 0

    @property
    def left(self) -> int:
        return self.size - self.sent


class WaitingCodes:
    """One code an event at most, and which of them goes next."""

    def __init__(self) -> None:
        self._codes: dict[str, WaitingCode] = {}
        self._by_density: Row[WaitingCode] = Row()
        self._by_priority: Row[WaitingCode] = Row()

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, event: PendingEvent, size: int, number: int, offset: int) -> None:
        """Queue the code of an event, from `offset` on; it replaces an older one."""
        self.remove(event.id)
        if offset < size or not size:
            code = WaitingCode(event, size, number, offset)
            self._codes[event.id] = code
            self._join(code)

    def first(self, priority: float) -> WaitingCode | None:
        """The densest code of so much priority or more.

        Where it is not among the `LOOKED_AT` densest of all, the one of the most priority.
        """
        best = next(iter(self._by_priority), None)
        if best is None or best.event.priority < priority:
            return None
        densest = itertools.islice(self._by_density, LOOKED_AT)
        return next((code for code in densest if code.event.priority >= priority), best)

    def sent(self, event_id: str, offset: int, size: int) -> bool:
        """So many bytes from `offset` on are gone; whether they end the code.

        Bytes of a code that was removed or replaced meanwhile are passed over.
        """
        code = self._codes.get(event_id)
        if code is None or code.sent != offset:
            return False
        self._leave(code)
        code.sent += size
        if code.sent < code.size:
            self._join(code)
            return False
        del self._codes[event_id]
        return True

    def remove(self, event_id: str) -> None:
        """Take out the code of an event, if one waits."""
        code = self._codes.pop(event_id, None)
        if code is not None:
            self._leave(code)

    def _join(self, code: WaitingCode) -> None:
        self._by_density.add(-score(code.event.priority, code.left), code.number, code)
        self._by_priority.add(-code.event.priority, code.number, code)

    def _leave(self, code: WaitingCode) -> None:
        self._by_density.remove(-score(code.event.priority, code.left), code.number)
        self._by_priority.remove(-code.event.priority, code.number)
