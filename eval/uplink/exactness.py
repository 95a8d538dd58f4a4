"""The exact properties of Algorithm 1, checked in every plan that DAT makes at burst.

BUDGET      the sizes add up to at most B * interval (Eq. 8)
JSON_FIRST  a visual only with the JSON of its event, and at most one (Eq. 9)
ALERTS      every JSON comes before every visual
TIMES       done_at is the sum of the sizes so far over B, exactly (Eq. 10)
SCALE       the plan is the same when all sizes and the bandwidth double
ARRAYS      the vectorised planner gives the plan of the scalar one
ORDER       the order of the alerts is the best of all orders (the first objective of Eq. 12)
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from dat_runtime.planning.algorithm1 import scalar_plan, vectorised_plan
from dat_runtime.planning.pending import Limits
from dat_runtime.schedule import PendingEvent, Transmission, plan
from eval.uplink.arrivals import draw
from eval.uplink.optimum import least_weighted_alarm, weighted_alarm
from eval.uplink.replay import TABLE_3_SCALE, link_at, row_of_table_3
from eval.uplink.sending import waiting
from eval.uplink.setting import Setting
from eval.uplink.trace import Rates

BUDGET = "budget"
JSON_FIRST = "Eq. 9"
ALERTS = "alerts before visuals"
TIMES = "done_at = sum of sizes / B"
SCALE = "same plan when sizes and bandwidth double"
ARRAYS = "vectorised = scalar"
ORDER = "alert order is the optimum (N <= 7)"
PROPERTIES = (BUDGET, JSON_FIRST, ALERTS, TIMES, SCALE, ARRAYS, ORDER)

MOST_ENUMERATED = 7
"""Up to this many events all orders are tried: a burst of C0 has at most 7."""


def exact_properties(setting: Setting, rates: Rates, seeds: int) -> dict[str, int]:
    """Violations of the exact properties in every plan that DAT makes at burst, 0.25x."""
    violations = dict.fromkeys(PROPERTIES, 0)
    scheme = row_of_table_3(setting, "DAT")
    link = link_at(rates, TABLE_3_SCALE)
    for seed in range(seeds):
        bursts: dict[float, list[PendingEvent]] = {}
        for event in draw(setting, "burst", seed):
            bursts.setdefault(event.entered_at, []).append(waiting(event, scheme))
        for now, events in bursts.items():
            holds = _properties(setting, events, link.bandwidth(now), now)
            for name, held in holds.items():
                violations[name] += not held
    return violations


def _properties(
    setting: Setting, events: list[PendingEvent], bandwidth: float, now: float
) -> dict[str, bool]:
    """Whether each property holds in the plan of these events."""
    deadline, interval = setting.visual_deadline, setting.interval
    limits = Limits.of(bandwidth, interval, deadline, now)
    planned = plan(events, bandwidth, interval, deadline, now)
    kinds = [unit.kind for unit in planned]
    alert_count = kinds.count("json")
    alerts, visuals = planned[:alert_count], planned[alert_count:]
    with_json = {unit.event_id for unit in alerts}
    shown = [unit.event_id for unit in visuals]
    sums_of_sizes = list(itertools.accumulate(unit.size for unit in planned))
    doubled = plan([_doubled(e) for e in events], 2 * bandwidth, interval, deadline, now)
    return {
        BUDGET: sum(unit.size for unit in planned) <= limits.capacity,
        JSON_FIRST: set(shown) <= with_json and len(set(shown)) == len(shown),
        ALERTS: "json" not in kinds[alert_count:],
        TIMES: [unit.done_at for unit in planned] == [sent / bandwidth for sent in sums_of_sizes],
        SCALE: list(map(_without_size, doubled)) == list(map(_without_size, planned)),
        ARRAYS: scalar_plan(events, limits) == vectorised_plan(events, limits),
        ORDER: _is_best_order(events, alerts),
    }


def _doubled(event: PendingEvent) -> PendingEvent:
    return replace(
        event,
        json_bytes=2 * event.json_bytes,
        roi_bytes=None if event.roi_bytes is None else 2 * event.roi_bytes,
        box_bytes=None if event.box_bytes is None else 2 * event.box_bytes,
    )


def _without_size(unit: Transmission) -> tuple[str, str, float]:
    return unit.event_id, unit.kind, unit.done_at


def _is_best_order(events: list[PendingEvent], alerts: Sequence[Transmission]) -> bool:
    """Whether no order of the alerts has a smaller weighted delay; True where that is not known,
    because some alert has no room or because there are too many orders."""
    if len(alerts) < len(events) or len(events) > MOST_ENUMERATED:
        return True
    priority = {event.id: event.priority for event in events}
    planned = weighted_alarm([(priority[unit.event_id], unit.size) for unit in alerts])
    sizes = [event.json_bytes for event in events]
    least = least_weighted_alarm(list(priority.values()), sizes)
    return planned <= least * (1 + 1e-12)  # sums in another order round differently
