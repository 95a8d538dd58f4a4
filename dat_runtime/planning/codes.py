"""Where codes stand among visuals (docs/decisions/028-offload-table.md).

A code is what the cloud needs to answer in full for a node that cannot. Its alert, the gate's own
answer, goes first, as Eq. 9 has it for visuals. Each visual then goes behind all codes of its
priority or more: its own event's code, and those of events that matter no less. Among themselves
codes go as alerts do, by priority gained per byte.
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence

from dat_runtime.planning.pending import Kind, PendingEvent, score, smaller_visual

Unit = tuple[PendingEvent, Kind, int]
"""An event, one of its units, and that one's bytes."""


def visuals_of(events: Iterable[PendingEvent]) -> list[Unit]:
    """The cheaper visual of each event that has one (lines 13-17), in input order."""
    units: list[Unit] = []
    for event in events:
        visual = smaller_visual(event)
        if visual is not None:
            units.append((event, *visual))
    return units


def codes_of(events: Iterable[PendingEvent]) -> list[Unit]:
    """The codes, in input order."""
    return [(e, "code", e.code_bytes) for e in events if e.code_bytes is not None]


def density(unit: Unit) -> float:
    """Priority gained per byte (Eq. 15)."""
    event, _, size = unit
    return score(event.priority, size)


def with_codes(codes: Sequence[Unit], visuals: Iterable[Unit]) -> Iterator[Unit]:
    """The visuals in their order, each behind the codes of its priority or more; then the rest."""
    by_priority = sorted(codes, key=_priority, reverse=True)
    gone = 0
    for visual in visuals:
        upto = bisect.bisect_right(by_priority, -_priority(visual), key=_minus_priority)
        if upto > gone:
            yield from sorted(by_priority[gone:upto], key=density, reverse=True)
            gone = upto
        yield visual
    yield from sorted(by_priority[gone:], key=density, reverse=True)


def bytes_before(codes: Sequence[Unit], visuals: Iterable[Unit]) -> list[int]:
    """Bytes of the codes that go before each visual, whatever the visuals' order."""
    by_priority = sorted(codes, key=_priority, reverse=True)
    sums = [0, *itertools.accumulate(size for _, _, size in by_priority)]
    return [
        sums[bisect.bisect_right(by_priority, -_priority(visual), key=_minus_priority)]
        for visual in visuals
    ]


def _priority(unit: Unit) -> float:
    return unit[0].priority


def _minus_priority(unit: Unit) -> float:
    return -unit[0].priority
