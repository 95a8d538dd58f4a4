"""Events with visuals of chosen sizes."""

import time

from dat_runtime import alert
from dat_runtime.alert import Alert, Origin
from dat_runtime.event import Event
from dat_runtime.types import Assessment, Size


def event(id, priority=0.9, roi=5_000, boxed=20_000, revision=0, at=None, summary=""):
    """An event; its visuals are bytes that say where they are."""
    said = Alert(
        id=id,
        origin=Origin("n1", "c1", {}),
        captured_at=time.time() if at is None else at,
        priority=priority,
        source="gate",
        degraded=None,
        conflict=False,
        frame=Size(640, 480),
        roi=None,
        answer=Assessment(0, "none", 0, 0.1, (), summary),
        revision=revision,
    )
    return Event(said, None, alert.dump(said), None if roi is None else fill(id, roi),
                 fill(id, boxed))  # fmt: skip


def fill(id, size):
    """Bytes of an event's visual."""
    line = f"{id}:{size}."
    return (line * (size // len(line) + 1)).encode()[:size]
