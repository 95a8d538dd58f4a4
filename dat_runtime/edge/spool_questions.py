"""Questions in the spool: what a server needs to answer in a weak node's place, one an event.

A question is no evidence. It goes when room is short, before any visual, and when it is too late.
"""

from dat_runtime.edge.question import Question
from dat_runtime.edge.spool_database import Database
from dat_runtime.edge.spool_room import Room

LIFETIME = 600.0
"""Seconds that a question waits for its uplink: by then people have looked at the gate's answer."""


class Questions:
    """The questions in the database."""

    def __init__(self, database: Database, room: Room):
        self._database, self._room = database, room

    def put(self, question: Question, now: float) -> bool:
        """Keep the question about an event's newest revision; whether it is kept."""
        row = self._database.execute(
            "SELECT revision FROM events WHERE id = ?", question.id
        ).fetchone()
        if row is not None and row[0] > question.revision:
            self._database.count("questions_dropped", "overtaken")
            return False
        if not self._room.for_question(len(question.content), question.priority):
            self._database.count("questions_dropped", self._room.reason)
            return False
        self._database.execute(
            "INSERT OR REPLACE INTO questions (id, camera, revision, priority, captured_at, kind,"
            " prompt, bytes, expires_at, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            question.id,
            question.camera,
            question.revision,
            question.priority,
            question.captured_at,
            question.kind,
            question.prompt,
            len(question.content),
            now + LIFETIME,
            question.content,
        )
        return True

    def overtaken(self, id: str, revision: int) -> None:
        """A later revision of the event was put: nobody waits for the answer about this one."""
        self._drop("id = ? AND revision < ?", "overtaken", id, revision)

    def acknowledge(self, id: str, revision: int) -> None:
        self._database.execute("DELETE FROM questions WHERE id = ? AND revision <= ?", id, revision)

    def refuse(self, id: str, revision: int, reason: str) -> None:
        if self._delete("id = ? AND revision <= ?", id, revision):
            self._database.count("questions_refused", reason)

    def drop(self, id: str, reason: str) -> None:
        self._drop("id = ?", reason, id)

    def expire(self, now: float) -> None:
        """Let those go that are too late."""
        self._drop("expires_at <= ?", "expired", now)

    def waiting(self) -> list[tuple[str, str, int, float, float, str, str, int]]:
        """All but their contents: id, camera, revision, priority, captured_at, kind, prompt, bytes.

        In order of arrival.
        """
        return self._database.execute(
            "SELECT id, camera, revision, priority, captured_at, kind, prompt, bytes"
            " FROM questions ORDER BY rowid"
        ).fetchall()

    def _drop(self, where: str, reason: str, *values: object) -> None:
        for _ in range(self._delete(where, *values)):
            self._database.count("questions_dropped", reason)

    def _delete(self, where: str, *values: object) -> int:
        return self._database.execute(f"DELETE FROM questions WHERE {where}", *values).rowcount
