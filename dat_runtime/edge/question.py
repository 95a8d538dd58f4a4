"""A question as the spool keeps it and the uplink sends it."""

from dataclasses import dataclass

from dat_runtime.event import Event

MAX_PROMPT = 4_000
"""Characters that a receiver takes."""


@dataclass(frozen=True)
class Question:
    """What a model's server needs to answer about a revision of an event.

    Attributes:
        kind: on the wire: "code", or "question" for a small picture.
        prompt: the user message about it.
        captured_at: seconds since 1970, of the event.
    """

    id: str
    camera: str
    revision: int
    priority: float
    captured_at: float
    kind: str
    prompt: str
    content: bytes

    @classmethod
    def of(cls, event: Event, camera: str, kind: str, prompt: str, content: bytes) -> "Question":
        """About the frame of an event."""
        about = (event.id, camera, event.alert.revision, event.priority, event.captured_at)
        return cls(*about, kind, prompt, content)
