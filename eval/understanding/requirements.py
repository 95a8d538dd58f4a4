"""`--require`: what scores must reach, as a figure or as another adapter's score."""

import operator
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime.errors import ConfigError, DataError, DatError
from dat_runtime.files import read_json
from eval.understanding.metrics import METRICS

_COMPARE = {">=": operator.ge, "<=": operator.le}
_NAMES = ("n", "missing", *METRICS)

_METRIC = r"(\w+)"
_COMPARISON = "(>=|<=)"
_NUMBER_OR_FILE = r"(\d+(?:\.\d*)?|\.\d+|@.+?)"
_FORM = re.compile(rf"\s*{_METRIC}\s*{_COMPARISON}\s*{_NUMBER_OR_FILE}\s*")


class RequirementError(DatError):
    """The answers are not as good as `--require` demands."""


class Requirement(NamedTuple):
    """A metric, `>=` or `<=`, and the bound; with the file it is from, the number of its frames."""

    metric: str
    comparison: str
    bound: float
    source: str = ""
    frames: int = 0


def parse_requirement(text: str) -> Requirement:
    """Read `"sev_f1>=0.9"`, or `"sev_f1>=@shipped/scores.json"`: not below that file's.

    Raises:
        ConfigError: it is not of this form, or there is no such metric.
        DataError: the other scores cannot be read, or leave the metric undefined.
    """
    match = _FORM.fullmatch(text)
    if match is None or match[1] not in _NAMES:
        raise ConfigError(
            f"--require {text!r}: expected METRIC>=VALUE or METRIC<=VALUE, with one of "
            + ", ".join(_NAMES)
        )
    metric, comparison, value = match.groups()
    if not value.startswith("@"):
        return Requirement(metric, comparison, float(value))
    path = Path(value[1:])
    other = read_json(path)
    try:
        bound = float(_value(other[metric]))
        return Requirement(metric, comparison, bound, str(path), int(other["n"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"has no {metric} to compare with ({error!r})", path) from None


def demand_same_frames(requirement: Requirement, n: int) -> None:
    """Refuse scores on other frames: they do not show which adapter is better.

    Raises:
        ConfigError: the other scores are of another number of frames.
    """
    if requirement.source and requirement.frames != n:
        raise ConfigError(
            f"{requirement.source} scores {requirement.frames} frames, these are {n}: "
            "score both adapters on the same truth"
        )


def unmet_reason(scores: Mapping[str, Any], requirement: Requirement) -> str | None:
    """Why a requirement is not met, in words; `None` when it is."""
    name, comparison, bound, source, _ = requirement
    value = _value(scores[name])
    if value is None:
        return f"{name} is undefined (no true box)"
    if _COMPARE[comparison](value, bound):
        return None
    reason = f"{name} is {value:.6g}, not {comparison} {bound:.6g}"
    if source:
        reason += f" of {source}"
    return reason


def _value(entry: Any) -> Any:
    """The figure of an entry of scores.json: a count, or a metric with its interval."""
    return entry if isinstance(entry, int) else entry["value"]
