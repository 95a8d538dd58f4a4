"""Who gives way in the spool when room is short, and what it takes to let something go.

Questions of a weak node go first, then visuals: those of lowest priority, of equal ones the oldest.
Only when none is left, and what is reserved for alerts is used up, do alerts go, in the same order.
"""

import itertools
import math
from collections.abc import Iterator

from dat_runtime.edge.spool_database import PAGE, Database

PER_PAGE = PAGE - 35
"""Bytes of a large value that one page carries, at least."""

MOST_HOLES = 1000
"""Free places among the rows that are remembered."""

LOOKED_AT = 64
"""Of these, how many are looked at for one that is large enough."""

SPARE_PAGES = 16
"""Pages by which half-empty ones may exceed what alerts are granted."""


class Room:
    """The room for events, in pages, and how it is made.

    Args:
        pages: that events may use.
        visual_pages: that may be in use when a visual is added.

    Attributes:
        growing: false while others have filled the disk: then no visual is taken, because what
            passes through the log would use up the reserve.
        reserve_left: whether the database may still grow for alerts then.
    """

    def __init__(self, database: Database, pages: int, visual_pages: int):
        self._database = database
        self._pages, self._visual_pages = pages, visual_pages
        self.growing = self.reserve_left = True
        self._last_place = database.execute("SELECT max(number) FROM events").fetchone()[0] or 0
        self._holes: list[tuple[int, int]] = []
        """(bytes, number) of rows that are gone. A new row in the place of an old one makes no new
        page; at the end it would, while pages in the middle stand half empty."""

    def forget_places(self) -> None:
        """After a rollback the rows are there again."""
        self._holes.clear()

    def place(self, size: int) -> int:
        """The number for a new row with an alert of `size` bytes."""
        for back, (free, number) in enumerate(reversed(self._holes[-LOOKED_AT:]), 1):
            if free >= size:
                del self._holes[-back]
                return number
        # SQLite itself would give the place of the last row once more, which may be a hole here.
        self._last_place += 1
        return self._last_place

    @property
    def reason(self) -> str:
        """Why something has to go, as it is counted."""
        return "the spool is full" if self.growing else "the disk is full"

    # Making room

    def for_visual(self, size: int, priority: float) -> bool:
        """Let other visuals go for one; False when it is itself the one to go."""
        if not self.growing:
            return False
        need = size // PER_PAGE + 3
        lack = self._database.used() + need - self._visual_pages
        if lack > 0 and not _reaches(self._weaker_visuals(priority), lack * PAGE):
            return False  # without having let go any
        while self._database.used() + need > self._visual_pages:
            if not (self._drop_least_question() or self._drop_least_visual()):
                return False
        return True

    def for_question(self, size: int, priority: float) -> bool:
        """Let questions of no more priority go for one; False when it is itself the one to go."""
        if not self.growing:
            return False
        need = size // PER_PAGE + 3
        while self._database.used() + need > self._visual_pages:
            if not self._drop_least_question(priority):
                return False
        return True

    def for_alert(self, size: int, priority: float) -> bool:
        """Let visuals go for an alert, then others; False when it is itself the one to go."""
        need = size // PER_PAGE + 4
        there = self._pages if self.growing else min(self._pages, self._database.size() // PAGE)
        while self._database.used() + need > there:
            if not (self._drop_least_question() or self._drop_least_visual()):
                break
        most = self._pages if self.growing or self.reserve_left else there
        if self._database.used() + need <= most:
            return True
        # Rows are smaller than pages: bytes are counted, and rows take the places of others.
        if any(free >= size for free, _ in self._holes[-LOOKED_AT:]):
            return True
        freed = 0
        while freed < size or self._database.used() > self._pages + SPARE_PAGES:
            gone = self._drop_least_alert(priority)
            if gone is None:
                return False
            freed += gone
        return True

    def _weaker_visuals(self, priority: float) -> Iterator[int]:
        """Bytes of what would go before a new one of this priority, in that order."""
        questions = self._database.execute("SELECT bytes FROM questions")
        visuals = self._database.execute(
            "SELECT visual_bytes FROM events WHERE kind IS NOT NULL AND priority <= ?"
            " ORDER BY priority, arrived",
            priority,
        )
        return (size for (size,) in itertools.chain(questions, visuals))

    def _drop_least_question(self, most: float = math.inf) -> bool:
        """Whether there was one of no more priority than `most`."""
        least = self._database.execute(
            "SELECT id FROM questions WHERE priority <= ? ORDER BY priority, rowid LIMIT 1", most
        ).fetchone()
        if least is None:
            return False
        self._database.execute("DELETE FROM questions WHERE id = ?", least[0])
        self._database.count("questions_dropped", self.reason)
        return True

    def _drop_least_visual(self) -> bool:
        least = self._database.execute(
            "SELECT number FROM events WHERE kind IS NOT NULL ORDER BY priority, arrived LIMIT 1"
        ).fetchone()
        if least is None:
            return False
        self.drop_visual(least[0], self.reason)
        return True

    def _drop_least_alert(self, most: float) -> int | None:
        """Bytes of the alert that went; None when all have a higher priority than `most`."""
        least = self._database.execute(
            "SELECT number, json_bytes FROM events WHERE json IS NOT NULL AND priority <= ?"
            " ORDER BY priority, arrived LIMIT 1",
            most,
        ).fetchone()
        if least is None:
            return None
        number, size = least
        self._database.execute("UPDATE events SET json = NULL WHERE number = ?", number)
        self._database.count("alerts_dropped", self.reason)
        self.tidy(number)
        return int(size)

    # Letting go

    def drop_visual(self, number: int, reason: str) -> None:
        """Let the visual of an event go and count it."""
        self.settle_visual(number)
        self._database.count("visuals_dropped", reason)
        self.tidy(number)

    def settle_visual(self, number: int) -> None:
        """The visual of an event waits no longer."""
        self._database.execute("DELETE FROM visuals WHERE event = ?", number)
        self._database.execute("UPDATE events SET kind = NULL WHERE number = ?", number)

    def tidy(self, number: int) -> None:
        """Delete the row of an event of which nothing waits."""
        gone = self._database.execute(
            "SELECT json_bytes FROM events WHERE number = ? AND json IS NULL AND kind IS NULL",
            number,
        ).fetchone()
        if gone is not None:
            self._database.execute("DELETE FROM events WHERE number = ?", number)
            del self._holes[: -MOST_HOLES + 1]
            self._holes.append((gone[0], number))


def _reaches(sizes: Iterator[int], enough: int) -> bool:
    """Whether sizes sum up to `enough`, reading no more of them than it takes."""
    total = 0
    for size in sizes:
        total += size
        if total >= enough:
            return True
    return False
