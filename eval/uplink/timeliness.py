"""How timely a run's alerts and visuals were (section 4.1.2)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.uplink.link import Delivery


@dataclass(frozen=True)
class Timeliness:
    """Table 3's columns for one run. Seconds; rates in percent of all events, as the paper prints.

    An event whose visual never came is a miss in both rates and is not part of the mean delay; one
    whose alert never came is counted in `no_alert` and is not part of W-Alarm.
    """

    w_alarm: float
    vtr_05: float
    vtr_1: float
    avg_visual_delay: float | None
    events: int
    no_alert: int
    on_time: float
    """Percent of the priority whose visual came within the visual deadline after capture."""


COLUMNS = ("w_alarm", "vtr_05", "vtr_1", "avg_visual_delay")


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
    weights = weighted = on_time = total = 0.0
    delays: list[float] = []
    no_alert = 0
    for d in deliveries:
        s = d.event.priority if priority is None else priority(d.event.id)
        start = d.event.captured_at if from_capture else d.event.entered_at
        total += s
        alert = _alert_at(d, parse)
        if alert is None:
            no_alert += 1
        else:
            weights += s
            weighted += s * (alert - start)
        if d.visual_at is not None:
            delays.append(d.visual_at - start)
            if d.visual_at - d.event.captured_at <= visual_deadline:
                on_time += s
    n = len(deliveries)
    return Timeliness(
        w_alarm=weighted / weights if weights else math.nan,
        vtr_05=100 * sum(delay <= 0.5 for delay in delays) / n,
        vtr_1=100 * sum(delay <= 1.0 for delay in delays) / n,
        avg_visual_delay=sum(delays) / len(delays) if delays else None,
        events=n,
        no_alert=no_alert,
        on_time=100 * on_time / total if total else math.nan,
    )


def _alert_at(delivery: Delivery, parse: Mapping[str, float]) -> float | None:
    """T_alarm of Eq. 11 on the run's clock: from the JSON, else from the visual."""
    if delivery.json_at is not None:
        return delivery.json_at + parse["json"]
    if delivery.visual_at is not None:
        return delivery.visual_at + parse[delivery.visual_kind]
    return None


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean and standard deviation over seeds; None when there is nothing to average."""
    numbers = [v for v in values if v is not None and not math.isnan(v)]
    if not numbers:
        return None
    mean = sum(numbers) / len(numbers)
    variance = sum((v - mean) ** 2 for v in numbers) / max(1, len(numbers) - 1)
    return {"mean": mean, "std": math.sqrt(variance)}
