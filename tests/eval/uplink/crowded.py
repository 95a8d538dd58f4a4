"""C0 with few events on a link that is too slow for them, so that every planner shows something."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eval.uplink.setting import load_setting
from eval.uplink.timeliness import COLUMNS_FROM_CAPTURE, Timeliness
from eval.uplink.trace import window

C0 = load_setting(Path("configs/transmission/c0.yaml"))
SETTING = replace(C0, events=18, trace=replace(C0.trace, start=40, seconds=60, mean=500_000.0))
TRACE = [200.0 + 37 * second % 91 for second in range(160)]
RATES = window(TRACE, SETTING.trace)


def figures(
    runs: Mapping[str, Timeliness], columns: Sequence[str] = COLUMNS_FROM_CAPTURE
) -> dict[str, list[float | None]]:
    """By name the columns, with four digits: W-Alarm, VTR@0.5, VTR@1, delay, shown in time."""
    return {name: [_round(getattr(run, c)) for c in columns] for name, run in runs.items()}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
