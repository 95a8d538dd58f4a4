"""The two-lane sender that `dat_live` needs on a path with a buffer and a round trip.

Alerts have a connection of their own and are written at once; visuals have another, on which `Path`
lets out what the path carries. `simulate` runs it over a simulated link; `eval.uplink.real_lanes`
runs the very same `TwoLanes` over the kernel's TCP. `simulate_fifo` is what they are compared with.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dat_runtime.planning.live import Chunk, LiveQueue
from dat_runtime.planning.path import Path
from eval.uplink.arrivals import Event
from eval.uplink.link import Bottleneck, Link, LinkSettings
from eval.uplink.sending import HORIZON, Delivery, live_event
from eval.uplink.window import Connection, Packet

ALERTS, VISUALS = "alerts", "visuals"

POLL = 0.002
"""Seconds after which a sender that waits looks at its connections again."""

MSS = 1_448
"""Bytes of payload that a packet carries at most."""

HEADERS = 52
"""Bytes of a packet that are IPv4's and TCP's, time stamps among them."""

FRAME = 12
"""Bytes before every chunk: of which unit it is, and how long."""

PATIENCE = 0.04
"""Seconds beyond two round trips after which a packet is sent again although none followed it."""

Write = Callable[[float, str, Chunk], None]
"""Write a chunk, a frame before it, to a lane's connection at a time."""


class TwoLanes:
    """What is written when: alerts at once, visuals as far as there is room."""

    def __init__(self, queue: LiveQueue, path: Path, write: Write):
        self.queue = queue
        self.path = path
        self._write = write

    def pump(self, now: float) -> None:
        """Write what may be written now."""
        while alert := self.queue.next_alert():
            self._send(now, ALERTS, alert)
        while room := self.path.room(now):
            chunk = self.queue.next_visual(now, room)
            if chunk is None:
                self.path.idle()
                return
            self._send(now, VISUALS, chunk)

    def _send(self, now: float, lane: str, chunk: Chunk) -> None:
        self.queue.sent(chunk)
        self._write(now, lane, chunk)
        self.path.sent(now, FRAME + chunk.size, lane)


@dataclass
class LaneDelivery(Delivery):
    """A delivery, and when the node knew that the alert had arrived."""

    alert_known_at: float | None = None

    def arrived(self, chunk: Chunk, at: float) -> None:
        """Note that the last byte of a chunk is there."""
        if chunk.kind == "json":
            self.json_at = at
        elif chunk.last and self.visual_at is None:
            self.visual_at = at
            self.visual_kind = chunk.kind


def simulate(
    events: Sequence[Event], settings: LinkSettings, queue: LiveQueue
) -> list[LaneDelivery]:
    """Send the events over the link; they enter the queue, which has a `Path`, at capture."""
    return _Simulation(events, settings, queue).run()


class _Simulation:
    """Two lanes in order of time, and of TCP what matters here: order, window, sending again."""

    def __init__(self, events: Sequence[Event], settings: LinkSettings, queue: LiveQueue):
        assert isinstance(queue.bandwidth, Path)
        self._path = queue.bandwidth
        self._deliveries = {event.id: LaneDelivery(event) for event in events}
        self._round_trip = settings.round_trip
        self._bottleneck = Bottleneck(settings)
        self._lanes = {ALERTS: Connection(), VISUALS: Connection()}
        self._sender = TwoLanes(queue, self._path, self._write)
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = itertools.count()
        self._end = max(event.captured_at for event in events) + HORIZON
        self._path.acknowledged(0.0, 0, settings.round_trip)  # the handshake
        for event in events:
            self._at(_next_look(event.captured_at), self._capture(event))

    def run(self) -> list[LaneDelivery]:
        looks_at = -math.inf
        while self._agenda:
            now, _, happens = heapq.heappop(self._agenda)
            if now > self._end:
                break
            happens(now)
            self._sender.pump(now)
            if self._sender.queue.visuals_waiting and looks_at <= now:
                looks_at = now + POLL
                self._at(looks_at, lambda now: None)
        return list(self._deliveries.values())

    def _at(self, time: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._numbers), happens))

    def _capture(self, event: Event) -> Callable[[float], None]:
        return lambda now: self._sender.queue.add(live_event(event, True), event.camera)

    def _write(self, now: float, lane: str, chunk: Chunk) -> None:
        left = FRAME + chunk.size
        while left:
            size = min(MSS, left)
            left -= size
            packet = Packet(lane, size, None if left else chunk)
            self._lanes[lane].missing.append(packet)
            self._lanes[lane].unsent.append(packet)
        self._let_out(now, self._lanes[lane])

    def _let_out(self, now: float, lane: Connection) -> None:
        while packet := lane.next():
            self._transmit(now, packet)

    def _transmit(self, now: float, packet: Packet) -> None:
        turn = packet.turn = next(self._numbers)
        at = self._bottleneck.arrival(now, HEADERS + packet.size)
        if at is not None:
            self._at(at, lambda now: self._arrive(now, packet))
        else:
            patience = 2 * self._round_trip + PATIENCE
            self._at(now + patience, lambda now: self._resend(now, packet, turn))

    def _resend(self, now: float, packet: Packet, turn: int) -> None:
        """Send it again if it was last sent up to this turn, and is missing."""
        if packet.turn <= turn and not packet.arrived:
            self._lanes[packet.lane].lost()
            self._transmit(now, packet)

    def _arrive(self, now: float, packet: Packet) -> None:
        packet.arrived = True
        missing = self._lanes[packet.lane].missing
        in_order = []
        while missing and missing[0].arrived:
            first = missing.popleft()
            in_order.append(first)
            if first.end is not None:
                self._deliveries[first.end.event_id].arrived(first.end, now)
        beyond = sum(other.size for other in missing if other.arrived)
        turn = packet.turn
        self._at(
            _next_look(now + self._round_trip / 2),
            lambda now: self._know(now, packet, turn, in_order, beyond),
        )

    def _know(
        self, now: float, packet: Packet, turn: int, in_order: list[Packet], beyond: int
    ) -> None:
        """The acknowledgement is back: what was sent before the packet and is missing is lost."""
        for known in in_order:
            if known.end is not None and known.end.kind == "json":
                self._deliveries[known.end.event_id].alert_known_at = now
        size = sum(known.size for known in in_order)
        self._path.acknowledged(now, size, lane=packet.lane, beyond=beyond)
        lane = self._lanes[packet.lane]
        lane.known()
        if lane.unsent:
            self._path.idle()  # TCP's window holds back: the path may carry more
        self._let_out(now, lane)
        missing = lane.missing
        if packet in missing:
            for earlier in itertools.takewhile(lambda other: other is not packet, missing):
                self._resend(now, earlier, turn)


def _next_look(time: float) -> float:
    """When the sender sees what happened at a time."""
    return max(0, math.ceil(time / POLL)) * POLL


def simulate_fifo(events: Sequence[Event], settings: LinkSettings) -> list[LaneDelivery]:
    """One connection that takes all that comes, in order of capture: an alert, then its visual.

    So does `sendall`, whatever waits in the kernel and in the path's buffer.
    """
    link = Link(settings.rates)
    free_at = 0.0
    deliveries = []
    for event in sorted(events, key=lambda event: event.captured_at):
        delivery = LaneDelivery(event)
        deliveries.append(delivery)
        queue = LiveQueue(Path(1.0))
        queue.add(live_event(event, True))
        now = max(0.0, event.captured_at)
        while chunk := queue.next_chunk(now):
            queue.sent(chunk)
            size = FRAME + chunk.size
            free_at = link.finish(max(now, free_at), size + HEADERS * math.ceil(size / MSS))
            delivery.arrived(chunk, free_at + settings.round_trip / 2)
            if chunk.kind == "json":
                delivery.alert_known_at = free_at + settings.round_trip
    return deliveries
