"""The setting of a transmission experiment, as configs/transmission/c0.yaml holds it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError
from dat_runtime.fields import (
    OBJECT,
    SHARE,
    TEXT,
    Rule,
    Rules,
    above,
    checked,
    list_of,
    number,
    whole,
)
from dat_runtime.files import read_yaml

Spread = tuple[float, float]
"""Mean and coefficient of variation of a log-normal."""


@dataclass(frozen=True)
class Arrivals:
    """How events enter the queue: every `every` seconds, as many together as U{a..b} gives."""

    every: float
    together: tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """Bytes, and ratios to the boxed image."""

    json: Spread
    box: Spread
    roi_of_box: Spread
    other_rois_of_box: Spread
    without_roi: float


@dataclass(frozen=True)
class Priorities:
    """How levels and scores are drawn, and the γ and β of Eq. 4 and 7."""

    severe: float
    gamma: float
    lowest: float
    beta: float


@dataclass(frozen=True)
class Window:
    """The piece of the bandwidth trace that is replayed."""

    start: int
    seconds: int
    mean: float
    """Bytes per second at scale 1."""
    fitted_to: str
    """`trace.fingerprint` of the window that the setting was fitted on."""


@dataclass(frozen=True)
class Setting:
    """One experiment's setting. Seconds and bytes."""

    events: int
    interval: float
    visual_deadline: float
    capture_spread: float
    arrivals: dict[str, Arrivals]
    trace: Window
    scales: tuple[float, ...]
    sizes: Sizes
    priority: Priorities
    parse: dict[str, float]
    bandwidth_only: dict[str, float]


_TWO_NUMBERS = list_of(number(), 2, 2)
_TWO_COUNTS = list_of(whole(1), 2, 2)
_PATTERNS = Rule(lambda v: isinstance(v, dict) and bool(v), "an object with at least one pattern")
_SPREAD = Rule(
    lambda v: _TWO_NUMBERS.holds(v) and v[0] > 0 and v[1] >= 0,
    "[mean above 0, coefficient of variation from 0]",
)
_TOGETHER = Rule(
    lambda v: _TWO_COUNTS.holds(v) and v[0] <= v[1], "[fewest, most], whole numbers from 1"
)

SETTING: Rules = {
    "events": whole(1),
    "interval": above(0),
    "visual_deadline": number(0),
    "capture_spread": number(0),
    "arrivals": _PATTERNS,
    "trace": OBJECT,
    "scales": list_of(above(0), 1),
    "sizes": OBJECT,
    "priority": OBJECT,
    "parse": OBJECT,
    "bandwidth_only": OBJECT,
}
ARRIVALS: Rules = {"every": above(0), "together": _TOGETHER}
TRACE: Rules = {"start": whole(0), "seconds": whole(1), "mean": above(0), "fitted_to": TEXT}
SIZES: Rules = {
    "json": _SPREAD,
    "box": _SPREAD,
    "roi_of_box": _SPREAD,
    "other_rois_of_box": _SPREAD,
    "without_roi": SHARE,
}
PRIORITY: Rules = {"severe": SHARE, "gamma": SHARE, "lowest": SHARE, "beta": SHARE}
PARSE: Rules = {"json": number(0), "box": number(0), "roi": number(0)}
BANDWIDTH_ONLY: Rules = {"box_from": number(0), "roi_from": number(0)}


def load_setting(path: Path) -> Setting:
    """The setting in a YAML file.

    Raises:
        ConfigError: the file is missing or not YAML; or a key is missing, unknown or out of range.
    """
    document = read_yaml(path)
    try:
        return _setting(document)
    except ValueError as error:
        raise ConfigError(str(error), path) from None


def _setting(document: object) -> Setting:
    fields = checked(document, SETTING, "")
    return Setting(
        events=fields["events"],
        interval=fields["interval"],
        visual_deadline=fields["visual_deadline"],
        capture_spread=fields["capture_spread"],
        arrivals=_arrivals(fields["arrivals"]),
        trace=Window(**checked(fields["trace"], TRACE, "trace")),
        scales=tuple(fields["scales"]),
        sizes=_sizes(fields["sizes"]),
        priority=_priority(fields["priority"]),
        parse=checked(fields["parse"], PARSE, "parse"),
        bandwidth_only=checked(fields["bandwidth_only"], BANDWIDTH_ONLY, "bandwidth_only"),
    )


def _arrivals(patterns: dict[str, Any]) -> dict[str, Arrivals]:
    arrivals = {}
    for name, pattern in patterns.items():
        fields = checked(pattern, ARRIVALS, f"arrivals.{name}")
        fewest, most = fields["together"]
        arrivals[name] = Arrivals(fields["every"], (fewest, most))
    return arrivals


def _sizes(value: object) -> Sizes:
    fields = checked(value, SIZES, "sizes")
    return Sizes(
        json=tuple(fields["json"]),
        box=tuple(fields["box"]),
        roi_of_box=tuple(fields["roi_of_box"]),
        other_rois_of_box=tuple(fields["other_rois_of_box"]),
        without_roi=fields["without_roi"],
    )


def _priority(value: object) -> Priorities:
    priority = Priorities(**checked(value, PRIORITY, "priority"))
    if priority.lowest > priority.gamma:  # r of level 0 is drawn from [lowest, gamma)
        raise ValueError(f"priority: lowest is {priority.lowest}, above gamma, {priority.gamma}")
    return priority
