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
    by_priority = _by_priority(codes)
    gone = 0
    for visual in visuals:
        upto = _as_important(codes, by_priority, visual)
        if upto > gone:
            yield from _densest_first(codes, by_priority[gone:upto])
            gone = upto
        yield visual
    yield from _densest_first(codes, by_priority[gone:])


def bytes_before(codes: Sequence[Unit], visuals: Iterable[Unit]) -> list[int]:
    """Bytes of the codes that go before each visual, whatever the visuals' order."""
    by_priority = _by_priority(codes)
    sums = [0, *itertools.accumulate(codes[i][2] for i in by_priority)]
    return [sums[_as_important(codes, by_priority, visual)] for visual in visuals]


def _by_priority(codes: Sequence[Unit]) -> list[int]:
    return sorted(range(len(codes)), key=lambda i: -codes[i][0].priority)


def _as_important(codes: Sequence[Unit], by_priority: Sequence[int], visual: Unit) -> int:
    """How many codes have the visual's priority or more."""
    least = -visual[0].priority
    return bisect.bisect_right(by_priority, least, key=lambda i: -codes[i][0].priority)


def _densest_first(codes: Sequence[Unit], chosen: Iterable[int]) -> list[Unit]:
    """By priority gained per byte; of equal ones the earlier in the input."""
    return sorted((codes[i] for i in sorted(chosen)), key=density, reverse=True)
