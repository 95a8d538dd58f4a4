"""When alerts would arrive from a sender that knows everything: what no uplink goes below."""

import random
from collections.abc import Sequence

PACKET_HEAD = 60
"""Bytes that a piece of a visual takes beside its content: IP, TCP, chunk."""

MOST_IN_PACKET = 1_448


def perfect_delays(
    captured: Sequence[float],
    alert: int,
    visual: int,
    rate: float,
    *,
    piece: int = MOST_IN_PACKET,
    loss: float = 0.0,
    seed: int = 0,
) -> list[float]:
    """Seconds from capture to arrival of each event's alert, rising; without a round trip.

    One packet is on the link at a time and nothing waits in a buffer: alerts go first, one that was
    lost again before all others, the moment that it should have been there. Visuals fill the rest.

    Args:
        captured: seconds, rising.
        alert: bytes of the packet of an alert, headers included.
        visual: bytes of each event's visual, in packets of `piece` bytes and `PACKET_HEAD`.
        rate: bytes a second.
        loss: share of the packets with an alert that are lost.
    """
    chance = random.Random(seed)
    coming = list(reversed(captured))
    waiting: list[float] = []
    lost: list[float] = []
    delays: list[float] = []
    now, visuals = 0.0, 0
    while coming or waiting or lost:
        while coming and coming[-1] <= now:
            waiting.append(coming.pop())
            visuals += visual
        if lost or waiting:
            at = (lost or waiting).pop(0)
            now += alert / rate
            if chance.random() < loss:
                lost.append(at)
            else:
                delays.append(now - at)
        elif visuals:
            size = min(piece, visuals)
            visuals -= size
            now += (size + PACKET_HEAD) / rate
        else:
            now = coming[-1]
    return sorted(delays)
