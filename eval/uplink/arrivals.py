"""The events of a transmission experiment: drawn from a setting, or read from a run's event log."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dat_runtime.batch import read_batch
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.fields import is_finite
from dat_runtime.priority import semantic_priority

Spread = tuple[float, float]
"""Mean and coefficient of variation of a log-normal."""


@dataclass(frozen=True)
class Arrivals:
    """How events enter the queue: every so many seconds, U{a..b} of them together."""

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
    """`link.fingerprint` of the window that the setting was fitted on."""


@dataclass(frozen=True)
class Setting:
    """One experiment's setting, as in configs/transmission/c0.yaml. Seconds and bytes."""

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


@dataclass(frozen=True, slots=True)
class Event:
    """One event with all that any scheme may send of it."""

    id: str
    entered_at: float
    captured_at: float
    priority: float
    json_bytes: int
    roi_bytes: int | None
    """The representative ROI."""
    rois_bytes: int | None
    """All ROIs together."""
    box_bytes: int | None
    camera: str = ""


Rules = Mapping[str, tuple[Callable[[Any], bool], str]]
"""By key: whether a value will do, and what is expected."""


def _number(low: float, high: float = math.inf) -> tuple[Callable[[Any], bool], str]:
    words = f"a number from {low:g}" + (f" to {high:g}" if high < math.inf else "")
    return lambda v: _is_number(v) and low <= v <= high, words


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and is_finite(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


_POSITIVE = (lambda v: _is_number(v) and v > 0, "a number above 0")
_COUNT = (lambda v: type(v) is int and v >= 1, "a whole number from 1")
_SPREAD = (
    lambda v: _is_pair(v) and v[0] > 0 and v[1] >= 0,
    "[mean above 0, coefficient of variation from 0]",
)

ARRIVALS: Rules = {
    "every": _POSITIVE,
    "together": (
        lambda v: _is_pair(v) and all(type(n) is int for n in v) and 1 <= v[0] <= v[1],
        "[fewest, most], whole numbers from 1",
    ),
}
TRACE: Rules = {
    "start": (lambda v: type(v) is int and v >= 0, "a whole number from 0"),
    "seconds": _COUNT,
    "mean": _POSITIVE,
    "fitted_to": (lambda v: isinstance(v, str), "a text"),
}
SIZES: Rules = {
    **dict.fromkeys(("json", "box", "roi_of_box", "other_rois_of_box"), _SPREAD),
    "without_roi": _number(0, 1),
}
PRIORITY: Rules = dict.fromkeys(("severe", "gamma", "lowest", "beta"), _number(0, 1))
SETTING: Rules = {
    "events": _COUNT,
    "interval": _POSITIVE,
    "visual_deadline": _number(0),
    "capture_spread": _number(0),
    "scales": (
        lambda v: isinstance(v, list) and bool(v) and all(_is_number(x) and x > 0 for x in v),
        "a list of numbers above 0",
    ),
}
SHARES: Mapping[str, Rules] = {
    "parse": dict.fromkeys(("json", "box", "roi"), _number(0)),
    "bandwidth_only": dict.fromkeys(("box_from", "roi_from"), _number(0)),
}


def load_setting(path: Path) -> Setting:
    """The setting in a YAML file.

    Raises:
        ConfigError: the file is missing or no YAML; or a key is missing, unknown or out of range.
    """
    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from None
    arrivals = {
        name: _record(Arrivals, item, f"{path}: arrivals.{name}", ARRIVALS)
        for name, item in _mapping(raw, "arrivals", path).items()
    }
    if not arrivals:
        raise ConfigError(f"{path}: arrivals names no pattern")
    parts = {
        "arrivals": arrivals,
        "trace": _record(Window, _mapping(raw, "trace", path), f"{path}: trace", TRACE),
        "sizes": _record(Sizes, _mapping(raw, "sizes", path), f"{path}: sizes", SIZES),
        "priority": _record(
            Priorities, _mapping(raw, "priority", path), f"{path}: priority", PRIORITY
        ),
    }
    for name, keys in SHARES.items():
        _require_keys(_mapping(raw, name, path), set(keys), f"{path}: {name}")
        _require(raw[name], keys, f"{path}: {name}")
    setting: Setting = _record(Setting, {**raw, **parts}, str(path), SETTING)
    low, high = setting.priority.lowest, setting.priority.gamma
    if low > high:
        raise ConfigError(f"{path}: priority: lowest is {low}, above gamma, {high}")
    return setting


def _mapping(raw: Any, name: str, path: Path) -> dict[str, Any]:
    part = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(part, dict):
        raise ConfigError(f"{path}: {name} must be a mapping")
    return part


def _record(kind: Any, raw: Any, where: str, rules: Rules) -> Any:
    _require_keys(raw, {field.name for field in fields(kind)}, where)
    _require(raw, rules, where)
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()})


def _require_keys(raw: Any, names: set[str], where: str) -> None:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} must be a mapping")
    for problem, found in (("unknown", raw.keys() - names), ("missing", names - raw.keys())):
        if found:
            raise ConfigError(f"{where}: {problem} key {min(map(str, found))}")


def _require(raw: dict[str, Any], rules: Rules, where: str) -> None:
    for key, (holds, expected) in rules.items():
        if not holds(raw[key]):
            raise ConfigError(f"{where}: {key} is {raw[key]!r:.60}, expected {expected}")


def draw(setting: Setting, pattern: str, seed: int) -> list[Event]:
    """`setting.events` events in queue order; the same seed gives the same events."""
    rng = np.random.default_rng([seed, sorted(setting.arrivals).index(pattern)])
    count, sizes = setting.events, setting.sizes
    entered = _entries(setting.arrivals[pattern], setting.interval, count, rng)
    captured = entered - rng.uniform(0.0, setting.capture_spread, count)
    box = _lognormal(sizes.box, count, rng)
    roi = box * _lognormal(sizes.roi_of_box, count, rng)
    rois = roi + box * _lognormal(sizes.other_rois_of_box, count, rng)
    json_bytes = _lognormal(sizes.json, count, rng)
    without_roi = rng.random(count) < sizes.without_roi
    priority = _priorities(setting.priority, count, rng)
    return [
        Event(
            id=f"e{i:05d}",
            entered_at=float(entered[i]),
            captured_at=float(captured[i]),
            priority=float(priority[i]),
            json_bytes=_bytes(json_bytes[i]),
            roi_bytes=None if without_roi[i] else _bytes(roi[i]),
            rois_bytes=None if without_roi[i] else _bytes(rois[i]),
            box_bytes=_bytes(box[i]),
        )
        for i in range(count)
    ]


def _entries(
    arrivals: Arrivals, interval: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    fewest, most = arrivals.together
    entries: list[float] = []
    at = arrivals.every
    while len(entries) < count:
        tick = math.ceil(at / interval) * interval  # events enter at an interval's start
        entries += [tick] * int(rng.integers(fewest, most + 1))
        at += arrivals.every
    return np.array(entries[:count])


def _lognormal(spread: Spread, count: int, rng: np.random.Generator) -> np.ndarray:
    mean, cv = spread
    variance = math.log1p(cv * cv)
    return rng.lognormal(math.log(mean) - variance / 2, math.sqrt(variance), count)


def _priorities(setting: Priorities, count: int, rng: np.random.Generator) -> np.ndarray:
    level = rng.random(count) < setting.severe
    low = rng.uniform(setting.lowest, setting.gamma, count)
    high = rng.uniform(setting.gamma, 1.0, count)
    score = np.where(level, high, low)
    return np.array(
        [
            semantic_priority(int(a), float(r), setting.beta)
            for a, r in zip(level, score, strict=True)
        ]
    )


def level_of_priority(priority: float, beta: float, gamma: float) -> tuple[int, float]:
    """(l, r) of a priority drawn by `_priorities`: Eq. 7 backwards, for l in {0, 1}."""
    level = int(priority >= beta + (1 - beta) * gamma)
    return level, (priority - beta * level) / (1 - beta)


def _bytes(size: float) -> int:
    return max(1, round(size))


def read_events(path: Path) -> list[Event]:
    """The events of a run's log, in order of capture; the first is captured at 1 s.

    The log is what `dat-runtime plan` reads: JSON lines of `id`, `priority`, `json_bytes`,
    `roi_bytes`, `box_bytes` and `captured_at` in seconds. A ROI is all that an event has of them.

    Raises:
        DataError: names the file and line; or there is no event.
    """
    logged = sorted(read_batch(path), key=lambda event: event.captured_at)
    if not logged:
        raise DataError("holds no event", path)
    shift = 1.0 - logged[0].captured_at
    return [
        Event(
            id=event.id,
            entered_at=event.captured_at + shift,
            captured_at=event.captured_at + shift,
            priority=event.priority,
            json_bytes=event.json_bytes,
            roi_bytes=event.roi_bytes,
            rois_bytes=event.roi_bytes,
            box_bytes=event.box_bytes,
        )
        for event in logged
    ]
