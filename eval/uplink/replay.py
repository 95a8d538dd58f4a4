"""One experiment over a replayed link: draw or take events, run every scheme, measure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from eval.uplink.arrivals import Event, draw
from eval.uplink.baselines import schemes
from eval.uplink.link import Link
from eval.uplink.sending import Delivery, Scheme, run_slotted
from eval.uplink.setting import Setting
from eval.uplink.timeliness import Timeliness, measure
from eval.uplink.trace import Rates

TABLE_3_SCALE = 0.25
"""The bandwidth scale of all blocks of Table 3."""

TABLE_3_PATTERNS = ("medium", "burst")
"""The arrival patterns of Table 3."""

Runs = Mapping[str, Mapping[str, Timeliness]]
"""One run of each scheme of Table 3, by pattern and name."""


def link_at(rates: Rates, scale: float) -> Link:
    """The link at a scale; `rates` is the window at 1x, bytes per second."""
    return Link([rate * scale for rate in rates])


def rows_of_table_3(setting: Setting) -> list[Scheme]:
    return schemes(setting.trace.mean * TABLE_3_SCALE, **setting.bandwidth_only)


def row_of_table_3(setting: Setting, name: str) -> Scheme:
    """The scheme of this name."""
    by_name = {scheme.name: scheme for scheme in rows_of_table_3(setting)}
    return by_name[name]


def at_deadline(setting: Setting, visual_deadline: float) -> Setting:
    return replace(setting, visual_deadline=visual_deadline)


def replay(
    setting: Setting,
    events: Sequence[Event],
    link: Link,
    scheme: Scheme,
    forecast: Callable[[float], float] | None = None,
) -> list[Delivery]:
    """`run_slotted` with the setting's interval and visual deadline."""
    return run_slotted(
        events,
        link,
        scheme,
        interval=setting.interval,
        visual_deadline=setting.visual_deadline,
        forecast=forecast,
    )


def compare(
    setting: Setting,
    rates: Rates,
    pattern: str,
    scale: float,
    seed: int,
    names: Collection[str] = (),
) -> dict[str, Timeliness]:
    """All schemes (or those named) on the same events over the same link, by name."""
    events = draw(setting, pattern, seed)
    link = link_at(rates, scale)
    runs: dict[str, Timeliness] = {}
    for scheme in rows_of_table_3(setting):
        if names and scheme.name not in names:
            continue
        deliveries = replay(setting, events, link, scheme)
        runs[scheme.name] = measure(
            deliveries, setting.parse, visual_deadline=setting.visual_deadline
        )
    return runs


def compare_at_table_3(setting: Setting, rates: Rates, seed: int) -> Runs:
    """All schemes at the patterns and the bandwidth scale of Table 3, by pattern and name."""
    return {
        pattern: compare(setting, rates, pattern, TABLE_3_SCALE, seed)
        for pattern in TABLE_3_PATTERNS
    }
