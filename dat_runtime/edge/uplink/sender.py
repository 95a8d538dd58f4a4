"""What every way of sending can do: HTTP and MQTT both are a `Sender`.

A sender knows one receiver and no order: the lanes decide what goes when, and how fast. All methods
run in one event loop; several of them may be under way at once. None waits for ever: each request
that one makes, mostly one, has a total deadline, after which it raises `SendError`.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dat_runtime.errors import DatError
from dat_runtime.planning.pending import Kind


class SendError(DatError):
    """Nothing is known to have arrived; what was to be sent is kept and sent again later.

    Attributes:
        retry_after: seconds that the receiver asked to wait; `None` when it said nothing.
    """

    def __init__(self, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.retry_after = retry_after


class BusyError(SendError):
    """The receiver answered, and cannot serve now (408, 429, 5xx): it is asked less and less."""


class AccessError(SendError):
    """The receiver does not know this node (401, 403): a fault of the configuration."""


class EarlyError(DatError):
    """The receiver has no alert yet that the visual could be of: the alert's answer comes first."""


class RefusedError(DatError):
    """The receiver will never take this one; the message is its own words."""


@dataclass(frozen=True)
class OutgoingAlert:
    """One revision of an event's alert, as `Spool.alert` gave it."""

    id: str
    json: bytes


class Answer(NamedTuple):
    """What became of one alert: committed at the receiver, or refused for good, in its words."""

    taken: bool
    reason: str = ""


@dataclass(frozen=True)
class OutgoingVisual:
    """One visual.

    Attributes:
        id: of its event.
        kind: "roi" or "box", or "code" for a question.
        size: bytes.
        revision: of the event that it shows.
        begun: a part of it may be at the receiver already, so that it has to be asked.
        early: its alert was written and is not answered yet: the receiver is asked to wait for it.
        question: of kind "code": its kind on the wire, and the prompt that goes with it.
    """

    id: str
    kind: Kind
    size: int
    begun: bool = False
    revision: int = 0
    early: bool = False
    question: tuple[str, str] | None = None

    @property
    def told(self) -> dict[str, str]:
        """What the receiver is told of it, by the names of the wire."""
        told = {"event": self.id, "kind": self.kind, "revision": str(self.revision)}
        if self.question is not None:
            told["kind"], told["prompt"] = self.question
        return told


Pieces = Callable[[int], AsyncIterator[bytes]]
"""The bytes of a visual from an offset on, each piece as soon as the path has room for it.

They end early when something better waits. A sender hands each piece to the network before it asks
for the next one, and buffers none.
"""


class Progress(NamedTuple):
    """How far bytes came, over all connections of a sender since it was made.

    Attributes:
        acknowledged: bytes that the other end has, protocol overhead included; only rises.
        in_flight: bytes handed to the network and not acknowledged yet.
        round_trip: shortest round trip seen lately, seconds; `None` before the first.
        unsent: bytes of those in flight that the kernel has not sent, as far as it says.
        beyond: bytes of those in flight that have arrived after a lost packet, as far as it says.
        packets, resent: packets with data, and those of them that were sent again, as far as it
            says; both fall when a connection ends.
    """

    acknowledged: int
    in_flight: int
    round_trip: float | None
    unsent: int = 0
    beyond: int = 0
    packets: int = 0
    resent: int = 0


def together(parts: Sequence[Progress]) -> Progress:
    """Of several connections: the sums, and the shortest round trip."""
    trips = [part.round_trip for part in parts if part.round_trip is not None]
    return Progress(
        sum(part.acknowledged for part in parts),
        sum(part.in_flight for part in parts),
        min(trips, default=None),
        sum(part.unsent for part in parts),
        sum(part.beyond for part in parts),
        sum(part.packets for part in parts),
        sum(part.resent for part in parts),
    )


def nothing() -> None:
    """Does nothing."""


class Sender(Protocol):
    """One way to one receiver.

    Every method raises `SendError` when the way does not work now, and `AccessError` when the
    receiver does not know the node.
    """

    async def send_alerts(
        self, alerts: Sequence[OutgoingAlert], written: Callable[[], None] = nothing
    ) -> Sequence[Answer]:
        """Send one alert or several at once; what became of each, in the same order.

        `written` is called once their bytes are with the network, where that can be known.
        """
        ...

    def alert_bytes(self, alerts: Sequence[OutgoingAlert]) -> int:
        """Of `send_alerts` with these, about: what the link carries, packet heads included."""
        ...

    async def send_visual(self, visual: OutgoingVisual, pieces: Pieces) -> int:
        """Send a visual from where the receiver stands; how many of its bytes are there now.

        Asks `pieces` once, with the offset at which to begin. An offset equal to the size asks for
        nothing.

        Raises:
            EarlyError: it was early, and the receiver has no such alert.
            RefusedError: the receiver will never take it.
        """
        ...

    async def send_status(self, status: bytes) -> None:
        """Say how the node is (JSON)."""
        ...

    def progress(self) -> Progress:
        """Asked every few milliseconds while something is under way."""
        ...

    async def close(self) -> None:
        """End all connections; never raises."""
        ...
