"""The exact properties of Algorithm 1, looked for in every plan of a study."""

from collections.abc import Sequence
from dataclasses import replace

from dat_runtime.planning.algorithm1 import scalar_plan, vectorised_plan
from dat_runtime.planning.pending import Limits
from dat_runtime.schedule import PendingEvent, Transmission, plan
from eval.uplink.arrivals import Setting, draw
from eval.uplink.link import waiting
from eval.uplink.optimum import least_weighted_alarm, weighted_alarm
from eval.uplink.replay import TABLE_3_SCALE, link_at, rows_of_table_3


def exact_properties(setting: Setting, rates: Sequence[float], seeds: int) -> dict[str, int]:
    """Violations of the exact properties in every plan that DAT makes at burst, 0.25x."""
    violations = dict.fromkeys(
        (
            "budget",
            "Eq. 9",
            "alerts before visuals",
            "done_at = sum of sizes / B",
            "same plan when sizes and bandwidth double",
            "vectorised = scalar",
            "alert order is the optimum (N <= 7)",
        ),
        0,
    )
    scheme = next(s for s in rows_of_table_3(setting) if s.name == "DAT")
    link = link_at(rates, TABLE_3_SCALE)
    for seed in range(seeds):
        bursts: dict[float, list[PendingEvent]] = {}
        for event in draw(setting, "burst", seed):
            bursts.setdefault(event.entered_at, []).append(waiting(event, scheme))
        for now, events in bursts.items():
            for name in _violated(setting, events, link.bandwidth(now), now):
                violations[name] += 1
    return violations


def _violated(
    setting: Setting, events: list[PendingEvent], bandwidth: float, now: float
) -> list[str]:
    def doubled(size: int | None) -> int | None:
        return None if size is None else 2 * size

    deadline, interval = setting.visual_deadline, setting.interval
    planned = plan(events, bandwidth, interval, deadline, now)
    kinds = [unit.kind for unit in planned]
    alerts = kinds.count("json")
    with_json = {unit.event_id for unit in planned[:alerts]}
    shown = [unit.event_id for unit in planned[alerts:]]
    totals = [sum(unit.size for unit in planned[: i + 1]) for i in range(len(planned))]
    twice = [
        replace(
            e,
            json_bytes=2 * e.json_bytes,
            roi_bytes=doubled(e.roi_bytes),
            box_bytes=doubled(e.box_bytes),
        )
        for e in events
    ]
    again = plan(twice, 2 * bandwidth, interval, deadline, now)
    limits = Limits(bandwidth, bandwidth * interval, deadline, now)
    holds = {
        "budget": sum(unit.size for unit in planned) <= bandwidth * interval,
        "Eq. 9": set(shown) <= with_json and len(set(shown)) == len(shown),
        "alerts before visuals": "json" not in kinds[alerts:],
        "done_at = sum of sizes / B": [u.done_at for u in planned]
        == [total / bandwidth for total in totals],
        "same plan when sizes and bandwidth double": [
            (u.event_id, u.kind, u.done_at) for u in again
        ]
        == [(u.event_id, u.kind, u.done_at) for u in planned],
        "vectorised = scalar": scalar_plan(events, limits) == vectorised_plan(events, limits),
        "alert order is the optimum (N <= 7)": _is_best_order(events, with_json, planned[:alerts]),
    }
    return [name for name, held in holds.items() if not held]


def _is_best_order(
    events: list[PendingEvent], with_json: set[str], alerts: Sequence[Transmission]
) -> bool:
    if len(with_json) < len(events) or len(events) > 7:
        return True
    priority = {event.id: event.priority for event in events}
    found = weighted_alarm([(priority[unit.event_id], unit.size) for unit in alerts])
    sizes = [event.json_bytes for event in events]
    return found <= least_weighted_alarm(list(priority.values()), sizes) * (1 + 1e-12)
