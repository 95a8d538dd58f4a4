"""How timely a run's alerts and visuals were (section 4.1.2)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.uplink.sending import Delivery


@dataclass(frozen=True)
class Timeliness:
    """Table 3's columns for one run. Seconds; rates in percent of all events, as the paper prints.

    An event whose visual never came is a miss in both rates and is not part of the mean delay. One
    whose alert never came is counted in `no_alert`, and in W-Alarm as late as the latest alert of
    the run: never to alert is no better than to alert last. NaN where no alert came at all.
    """

    w_alarm: float
    vtr_05: float
    vtr_1: float
    avg_visual_delay: float | None
    events: int
    no_alert: int
    on_time: float
    """Percent of the priority whose visual came within the visual deadline after capture."""
    w_alarm_of_alerted: float = math.nan
    """W-Alarm without the events whose alert never came."""


COLUMNS = ("w_alarm", "vtr_05", "vtr_1", "avg_visual_delay")
"""The columns of Table 3."""

COLUMNS_FROM_CAPTURE = (*COLUMNS, "on_time")
"""Those of the studies that count delays from capture."""


def measure(
    deliveries: Sequence[Delivery],
    parse: Mapping[str, float],
    *,
    from_capture: bool = False,
    visual_deadline: float = 1.5,
    priority: Callable[[str], float] | None = None,
) -> Timeliness:
    """The timeliness of a run; `parse` is the cloud's seconds by kind of the unit that alerts.

    Delays count from queue entry, or from capture. `priority` gives the weights of events by id
    where they are not the ones that the run was scheduled by.
    """
    weighted_delay = 0.0
    alerted_priority = 0.0
    latest = 0.0
    on_time_priority = 0.0
    all_priority = 0.0
    no_alert = 0
    visual_delays: list[float] = []
    for delivery in deliveries:
        event = delivery.event
        weight = event.priority if priority is None else priority(event.id)
        start = event.captured_at if from_capture else event.entered_at
        all_priority += weight
        alert_at = _alert_at(delivery, parse)
        if alert_at is None:
            no_alert += 1
        else:
            alerted_priority += weight
            weighted_delay += weight * (alert_at - start)
            latest = max(latest, alert_at - start)
        if delivery.visual_at is not None:
            visual_delays.append(delivery.visual_at - start)
            if delivery.visual_at - event.captured_at <= visual_deadline:
                on_time_priority += weight

    count = len(deliveries)
    # Sum of S * T_alarm (Eq. 11) over the sum of S.
    of_alerted = weighted_delay / alerted_priority if alerted_priority else math.nan
    if no_alert and alerted_priority:
        late = weighted_delay + (all_priority - alerted_priority) * latest
        w_alarm = late / all_priority
    else:
        w_alarm = of_alerted
    within_05 = sum(delay <= 0.5 for delay in visual_delays)
    within_1 = sum(delay <= 1.0 for delay in visual_delays)
    return Timeliness(
        w_alarm=w_alarm,
        vtr_05=100 * within_05 / count,
        vtr_1=100 * within_1 / count,
        avg_visual_delay=sum(visual_delays) / len(visual_delays) if visual_delays else None,
        events=count,
        no_alert=no_alert,
        on_time=100 * on_time_priority / all_priority if all_priority else math.nan,
        w_alarm_of_alerted=of_alerted,
    )


def _alert_at(delivery: Delivery, parse: Mapping[str, float]) -> float | None:
    """T_alarm of Eq. 11 on the run's clock: from the JSON, else from the visual."""
    if delivery.json_at is not None:
        return delivery.json_at + parse["json"]
    if delivery.visual_at is not None:
        return delivery.visual_at + parse[delivery.visual_kind]
    return None


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean and standard deviation over seeds; None without any number."""
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    if not numbers:
        return None
    mean = sum(numbers) / len(numbers)
    squares = sum((value - mean) ** 2 for value in numbers)
    # The sample variance divides by n - 1; the deviation of a single run is 0.
    variance = squares / max(1, len(numbers) - 1)
    return {"mean": mean, "std": math.sqrt(variance)}


def averages(
    runs: Sequence[Mapping[str, Timeliness]], columns: Sequence[str] = COLUMNS
) -> dict[str, dict[str, Any]]:
    """By scheme and column, mean and standard deviation over the runs."""
    means: dict[str, dict[str, Any]] = {}
    for name in runs[0]:
        means[name] = {}
        for column in columns:
            means[name][column] = spread([getattr(run[name], column) for run in runs])
    return means
