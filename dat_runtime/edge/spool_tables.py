"""What the spool keeps of events, and how that changes. All of it inside a transaction."""

import hashlib
from dataclasses import dataclass

from dat_runtime.edge.spool_database import Database
from dat_runtime.edge.spool_files import SpoolError
from dat_runtime.edge.spool_questions import Questions
from dat_runtime.edge.spool_room import Room
from dat_runtime.edge.spool_waiting import Waiting, together
from dat_runtime.event import Event
from dat_runtime.planning.pending import Kind, require_valid, smaller_visual

MOST_REFUSED = 64
"""Refused alerts that are kept for people to look at: 1 MB at most."""

VISUAL_LIFETIME = 24 * 3600.0
"""Seconds that a visual waits for its uplink.

After an outage of a night or a long day the operator of the next shift still gets the evidence.
After a day the alert tells where to look, and a picture of people on a stolen node is better gone.
"""

MOST_EXPIRED = 100
"""Visuals that go in one commit: its log is bounded."""


@dataclass(frozen=True)
class Entry:
    """One revision of an event, as the spool keeps it; `kind` and `visual` are None together."""

    id: str
    camera: str
    revision: int
    priority: float
    captured_at: float
    json: bytes
    json_digest: bytes
    kind: Kind | None
    visual: bytes | None
    visual_digest: bytes | None

    @classmethod
    def of(cls, event: Event, camera: str) -> "Entry":
        """An event's alert and the smaller one of its visuals (k* of Eq. 14).

        Raises:
            ValueError: a number that cannot be planned with, a name that is no text.
        """
        camera.encode()  # here, not in the thread that writes
        pending = event.pending()
        require_valid([pending])
        unit = smaller_visual(pending)
        kind = unit[0] if unit is not None and unit[1] else None
        visual = {"roi": event.roi, "box": event.boxed, None: None}[kind]
        return cls(
            event.id,
            camera,
            event.alert.revision,
            event.priority,
            event.captured_at,
            event.json,
            _digest(event.json),
            kind,
            visual,
            None if visual is None else _digest(visual),
        )

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.json) + len(self.visual or b"")

    @property
    def alert_columns(self) -> tuple[str, int, float, float, bytes, int, bytes]:
        """Camera to JSON, as the statements below name them."""
        about = (self.camera, self.revision, self.priority, self.captured_at)
        return (*about, self.json_digest, len(self.json), self.json)


class Tables:
    """The events in the database."""

    def __init__(self, database: Database, room: Room):
        self.database, self.room = database, room
        self.questions = Questions(database, room)
        self._arrived = database.execute("SELECT max(arrived) FROM events").fetchone()[0] or 0

    # What is put

    def put(self, entry: Entry, now: float) -> SpoolError | None:
        """Keep a revision of an event; the error says why it was not kept."""
        old = self.database.execute(
            "SELECT revision, digest FROM events WHERE id = ?", entry.id
        ).fetchone()
        if old is not None and entry.revision == old[0]:
            if entry.json_digest == old[1]:
                return None  # a replay
            self.database.count("alerts_dropped", "its id is taken")
            return SpoolError(f"event {entry.id} is there already, with other content")
        if old is not None and entry.revision < old[0]:
            self.database.count("alerts_superseded")
            return None
        if not self.room.for_alert(len(entry.json), entry.priority):
            self.database.count("alerts_dropped", self.room.reason)
            return SpoolError(f"no room for event {entry.id}: all that waits has a higher priority")
        self.questions.overtaken(entry.id, entry.revision)
        number = self._write_alert(entry)
        if entry.visual is not None:
            self._write_visual(number, entry, entry.visual, now)
        return None

    def _write_alert(self, entry: Entry) -> int:
        """Write the row, a new one or that of an earlier revision; its number."""
        old = self.database.execute(
            "SELECT number, json IS NOT NULL FROM events WHERE id = ?", entry.id
        ).fetchone()
        if old is None:
            self._arrived += 1
            number = self.room.place(len(entry.json))
            self.database.execute(
                "INSERT INTO events (number, arrived, id, camera, revision, priority, captured_at,"
                " digest, json_bytes, json, known) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                number,
                self._arrived,
                entry.id,
                *entry.alert_columns,
            )
            return number
        number, waits = old
        if waits:
            self.database.count("alerts_superseded")
        self.database.execute(
            "UPDATE events SET camera = ?, revision = ?, priority = ?, captured_at = ?,"
            " digest = ?, json_bytes = ?, json = ? WHERE number = ?",
            *entry.alert_columns,
            number,
        )
        return int(number)

    def _write_visual(self, number: int, entry: Entry, visual: bytes, now: float) -> None:
        waits, old = self.database.execute(
            "SELECT kind IS NOT NULL, visual_digest FROM events WHERE number = ?", number
        ).fetchone()
        if old == entry.visual_digest:
            return  # it waits already, or the receiver has it
        if waits:
            self.room.settle_visual(number)
            self.database.count("visuals_superseded")
        if not self.room.for_visual(len(visual), entry.priority):
            self.database.count("visuals_dropped", self.room.reason)
            return
        self.database.execute("INSERT INTO visuals VALUES (?, ?)", number, visual)
        self.database.execute(
            "UPDATE events SET kind = ?, visual_bytes = ?, visual_revision = ?,"
            " visual_digest = ?, expires_at = ? WHERE number = ?",
            entry.kind,
            len(visual),
            entry.revision,
            entry.visual_digest,
            now + VISUAL_LIFETIME,
            number,
        )

    # What is settled

    def acknowledge(self, id: str, kind: Kind, revision: int) -> None:
        """The receiver has this revision of the unit: it waits no longer."""
        if kind == "code":
            self.questions.acknowledge(id, revision)
            return
        if kind == "json":
            # Even when a newer revision waits already, the receiver knows the event.
            self.database.execute("UPDATE events SET known = 1 WHERE id = ?", id)
        number = self._waits(id, kind, revision)
        if number is None:
            return
        if kind == "json":
            self._settle_alert(number)
        else:
            self.room.settle_visual(number)
        self.room.tidy(number)

    def refuse(self, id: str, kind: Kind, reason: str, revision: int) -> None:
        """The receiver will never take this unit. A refused alert is set aside."""
        if kind == "code":
            self.questions.refuse(id, revision, reason)
            return
        number = self._waits(id, kind, revision)
        if number is None:
            return
        if kind == "json":
            self.database.count("alerts_refused", reason)
            self._set_aside(number, reason)
            self._settle_alert(number)
            self._drop_visual_of_unknown(number)
            self.questions.drop(id, "its alert was refused")
        else:
            self.database.count("visuals_refused", reason)
            self.room.settle_visual(number)
        self.room.tidy(number)

    def _waits(self, id: str, kind: Kind, revision: int) -> int | None:
        """The number of the event, when the unit waits at this revision or an earlier one."""
        if kind == "json":
            row = self.database.execute(
                "SELECT number FROM events WHERE id = ? AND json IS NOT NULL AND revision <= ?",
                id,
                revision,
            ).fetchone()
        else:
            row = self.database.execute(
                "SELECT number FROM events WHERE id = ? AND kind = ? AND visual_revision <= ?",
                id,
                kind,
                revision,
            ).fetchone()
        return None if row is None else int(row[0])

    def _settle_alert(self, number: int) -> None:
        self.database.execute("UPDATE events SET json = NULL WHERE number = ?", number)

    def _set_aside(self, number: int, reason: str) -> None:
        self.database.execute(
            "INSERT INTO refused (id, revision, reason, json)"
            " SELECT id, revision, ?, json FROM events WHERE number = ?",
            reason[:1000],
            number,
        )
        self.database.execute(
            "DELETE FROM refused WHERE number <= (SELECT max(number) FROM refused) - ?",
            MOST_REFUSED,
        )

    def _drop_visual_of_unknown(self, number: int) -> None:
        """A receiver takes no visual of an event that it does not know."""
        waits = self.database.execute(
            "SELECT 1 FROM events WHERE number = ? AND kind IS NOT NULL AND NOT known", number
        ).fetchone()
        if waits:
            self.room.drop_visual(number, "its alert was refused")

    def expire(self, now: float) -> bool:
        """Let visuals go that have waited for `VISUAL_LIFETIME`; whether there may be more.

        Questions go too, each in its own time.
        """
        self.questions.expire(now)
        old = self.database.execute(
            "SELECT number FROM events WHERE kind IS NOT NULL AND expires_at <= ? LIMIT ?",
            now,
            MOST_EXPIRED,
        ).fetchall()
        for (number,) in old:
            self.room.drop_visual(number, "expired")
        return len(old) == MOST_EXPIRED

    # What waits, and since when

    def waiting(self) -> list[Waiting]:
        """All that is not acknowledged, in order of arrival."""
        rows = self.database.execute(
            "SELECT id, camera, revision, priority, captured_at, json_bytes, json IS NULL,"
            " kind, visual_bytes FROM events ORDER BY arrived"
        )
        return together(rows, self.questions.waiting())

    def clock(self) -> tuple[float, float]:
        """The spool's own clock and the wall clock, when they were last saved."""
        time, wall = self.database.execute("SELECT time, wall FROM clock").fetchone()
        last = self.database.execute("SELECT max(expires_at) FROM events WHERE kind IS NOT NULL")
        # No visual was put later than now.
        return max(time, (last.fetchone()[0] or 0.0) - VISUAL_LIFETIME), wall

    def save_clock(self, time: float, wall: float) -> None:
        self.database.execute("UPDATE clock SET time = ?, wall = ?", time, wall)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
