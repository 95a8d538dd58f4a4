"""`gate.json`: what a gate's model answers, how its answers are read, and how frames are routed.

{"version": 2, "model": "gate.onnx", "classes": ["moderate", "severe"], "imgsz": 640,
 "nms_iou": 0.7, "keep": 0.25, "low": 0.25, "high": null, "calibration": null, "budget": null}
"""

import itertools
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dat_runtime.cascade import (
    Band,
    Budget,
    Calibration,
    Costs,
    Isotonic,
    Logistic,
    Routing,
    Signal,
)
from dat_runtime.errors import ModelError
from dat_runtime.fields import (
    OBJECT,
    SHARE,
    Rule,
    above,
    checked,
    list_of,
    number,
    optional,
    shown,
)
from dat_runtime.files import read_json
from dat_runtime.types import ONE_CLASS, SEVERITIES, Severity

GATE_FILE = "gate.json"
GATE_VERSION = 2
MODEL_SUFFIXES = (".onnx", ".xml")
"""What a model's file name ends with; it decides the engine."""

MAX_KNOTS = 1000
STRIDE = 32
"""The coarsest of a YOLO model's three grids: the side of its input is a multiple of it."""

MAX_IMGSZ = 4096
MAX_NUMBER = 1e9
"""No weight, bias, price or cost that was fitted comes near; larger ones would overflow."""

MIN_COST = 1 / MAX_NUMBER
_MAX_FILE_BYTES = 1 << 20

_MODEL_SUFFIX = "|".join(map(re.escape, MODEL_SUFFIXES))
_MODEL_NAME = re.compile(rf"\w[\w.-]{{0,90}}({_MODEL_SUFFIX})", re.ASCII)
"""A file beside gate.json: without a folder, not hidden, of bounded length."""

_CLASS_LISTS = ([ONE_CLASS], list(SEVERITIES), list(reversed(SEVERITIES)))
_NUMBER = number(-MAX_NUMBER, MAX_NUMBER)
_COST = number(MIN_COST, MAX_NUMBER)
_KNOTS = list_of(SHARE, 1, MAX_KNOTS)

INPUT_SIDE = Rule(
    lambda v: type(v) is int and STRIDE <= v <= MAX_IMGSZ and v % STRIDE == 0,
    f"a multiple of {STRIDE} from {STRIDE} to {MAX_IMGSZ}",
)
"""The side of a model's square input, pixels."""

_GATE = {
    "version": Rule(lambda v: v == GATE_VERSION, str(GATE_VERSION)),
    "model": Rule(
        lambda v: isinstance(v, str) and _MODEL_NAME.fullmatch(v) is not None,
        "the name of an .onnx or .xml file",
    ),
    "classes": Rule(
        lambda v: v in _CLASS_LISTS, f'{list(SEVERITIES)} in the model\'s order, or ["{ONE_CLASS}"]'
    ),
    "imgsz": INPUT_SIDE,
    "nms_iou": SHARE,
    "keep": SHARE,
    "low": SHARE,
    "high": optional(SHARE),
    "calibration": optional(OBJECT),
    "budget": optional(OBJECT),
}
_LOGISTIC = {
    "method": Rule(lambda v: v == "logistic", "logistic"),
    "weight": above(0, MAX_NUMBER),
    "bias": _NUMBER,
    "signals": Rule(
        lambda v: isinstance(v, dict) and len(v) <= MAX_KNOTS,
        f"an object of at most {MAX_KNOTS} signals",
    ),
}
_SIGNAL = {"weight": _NUMBER, "missing": _NUMBER}
_ISOTONIC = {
    "method": Rule(lambda v: v == "isotonic", "isotonic"),
    "scores": _KNOTS,
    "probabilities": _KNOTS,
}
_BUDGET = {"load": SHARE, "price": _NUMBER, "costs": OBJECT, "low_at_most": SHARE}
_COSTS = {
    "miss": _COST,
    "false_alarm": _COST,
    # At one half an answer says no more than a coin does, and no price of a call is useful.
    "mllm_error": Rule(lambda v: SHARE.holds(v) and v < 0.5, "a number from 0, less than 0.5"),
}


@dataclass(frozen=True)
class GateSettings:
    """The content of a `gate.json`.

    Attributes:
        classes: per class of the model its severity, or `None` for the class "accident".
        imgsz: side of the model's square input, pixels.
        nms_iou: a box is dropped when it overlaps a better one of its class by more than this.
        routing: which detections are kept, and which frames the MLLM is asked about.
        model: the file beside it; its suffix names the engine.
    """

    classes: tuple[Severity | None, ...]
    imgsz: int
    nms_iou: float = 0.7
    routing: Routing = field(default_factory=Routing)
    model: str = "gate.onnx"

    @property
    def keep(self) -> float:
        """τ_g of Eq. 2: detections from this confidence on are drawn and listed for the MLLM."""
        return self.routing.keep

    @property
    def names(self) -> list[str]:
        """The names of the classes, in the model's order."""
        return [severity or ONE_CLASS for severity in self.classes]

    def as_json(self) -> dict[str, Any]:
        """The content of the file."""
        band, budget = self.routing.band, self.routing.budget
        return {
            "version": GATE_VERSION,
            "model": self.model,
            "classes": self.names,
            "imgsz": self.imgsz,
            "nms_iou": self.nms_iou,
            "keep": self.keep,
            "low": band.low,
            "high": band.high,
            "calibration": _calibration_json(self.routing.calibration),
            "budget": None if budget is None else asdict(budget),
        }

    @classmethod
    def read(cls, path: Path) -> "GateSettings":
        """The settings in a file.

        Raises:
            ModelError: there is no such file, or a field is missing, unknown or out of range.
        """
        value = read_json(
            path,
            ModelError,
            missing="expected a folder made by `train.gate`",
            most_bytes=_MAX_FILE_BYTES,
            strict=True,
        )
        try:
            return _settings(value)
        except ValueError as error:
            raise ModelError(str(error), path) from None


def _settings(value: object) -> GateSettings:
    if isinstance(value, dict) and value.get("version", GATE_VERSION) != GATE_VERSION:
        # Asked first: another version may have other keys, and they would be named instead.
        raise ValueError(
            f"version is {shown(value['version'])}, this library reads {GATE_VERSION}: "
            "make the gate again"
        )
    gate = checked(value, _GATE, "")
    classes = gate["classes"]
    return GateSettings(
        classes=(None,) if classes == [ONE_CLASS] else tuple(classes),
        imgsz=gate["imgsz"],
        nms_iou=float(gate["nms_iou"]),
        routing=_routing(gate),
        model=gate["model"],
    )


def _routing(gate: dict[str, Any]) -> Routing:
    low, high = float(gate["low"]), gate["high"]
    if high is not None:
        high = float(high)
        if high < low:
            raise ValueError(f"low ({low}) is above high ({high})")
    return Routing(
        keep=float(gate["keep"]),
        band=Band(low, high),
        calibration=_calibration(gate["calibration"]),
        budget=_budget(gate["budget"]),
    )


def _calibration(value: dict[str, Any] | None) -> Calibration | None:
    if value is None:
        return None
    method = value.get("method")
    if method == "logistic":
        entry = checked(value, _LOGISTIC, "calibration")
        signals = {name: _signal(name, part) for name, part in entry["signals"].items()}
        return Logistic(float(entry["weight"]), float(entry["bias"]), signals)
    if method == "isotonic":
        entry = checked(value, _ISOTONIC, "calibration")
        scores, probabilities = _rising(entry, "scores"), _rising(entry, "probabilities")
        if len(scores) != len(probabilities):
            raise ValueError(
                f"calibration: {len(scores)} scores and {len(probabilities)} probabilities, "
                "expected as many scores as probabilities"
            )
        return Isotonic(scores, probabilities)
    raise ValueError(
        f"calibration is {shown(value)}, expected method logistic or isotonic, or null"
    )


def _signal(name: str, value: object) -> Signal:
    entry = checked(value, _SIGNAL, f"signal {shown(name)}")
    return Signal(float(entry["weight"]), float(entry["missing"]))


def _rising(entry: dict[str, Any], name: str) -> tuple[float, ...]:
    knots = tuple(map(float, entry[name]))
    if any(after < before for before, after in itertools.pairwise(knots)):
        raise ValueError(f"calibration: {name} do not rise")
    return knots


def _budget(value: dict[str, Any] | None) -> Budget | None:
    if value is None:
        return None
    budget = checked(value, _BUDGET, "budget")
    costs = checked(budget["costs"], _COSTS, "costs")
    return Budget(
        load=float(budget["load"]),
        price=float(budget["price"]),
        costs=Costs(
            miss=float(costs["miss"]),
            false_alarm=float(costs["false_alarm"]),
            mllm_error=float(costs["mllm_error"]),
        ),
        low_at_most=float(budget["low_at_most"]),
    )


def _calibration_json(calibration: Calibration | None) -> dict[str, Any] | None:
    if isinstance(calibration, Logistic):
        return {"method": "logistic", **asdict(calibration)}
    if isinstance(calibration, Isotonic):
        scores, probabilities = list(calibration.scores), list(calibration.probabilities)
        return {"method": "isotonic", "scores": scores, "probabilities": probabilities}
    if calibration is None:
        return None
    raise TypeError(f"{type(calibration).__name__} cannot be written to gate.json")
