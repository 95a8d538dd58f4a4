"""`gate.json`: what a gate's model answers, how its answers are read, and what becomes of a frame.

{"version": 2, "model": "gate.onnx", "classes": ["moderate", "severe"], "imgsz": 640,
 "nms_iou": 0.7, "keep": 0.25, "low": 0.25, "high": null, "calibration": null, "budget": null}
"""

import itertools
import re
from collections.abc import Mapping
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
from dat_runtime.files import parse
from dat_runtime.types import ONE_CLASS, SEVERITIES, Severity

GATE_FILE = "gate.json"
GATE_VERSION = 2
MODEL_SUFFIXES = (".onnx", ".xml")
"""What a model's file name ends with; it decides the engine."""

MAX_KNOTS = 1000
STRIDE = 32
MAX_IMGSZ = 4096
MAX_NUMBER = 1e9
"""No weight, bias, price or cost that was fitted comes near; larger ones would overflow."""

MIN_COST = 1 / MAX_NUMBER
_MAX_FILE_BYTES = 1 << 20
_MODEL_NAME = re.compile(rf"\w[\w.-]{{0,90}}({'|'.join(map(re.escape, MODEL_SUFFIXES))})", re.ASCII)


@dataclass(frozen=True)
class GateSettings:
    """The content of a `gate.json`.

    Attributes:
        classes: per class of the model its severity, or `None` for the class "accident".
        imgsz: side of the model's square input, pixels.
        nms_iou: a box that overlaps a better one of its class by more is dropped.
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
        """τ_g of Eq. 2: detections from this confidence on are drawn and told to the MLLM."""
        return self.routing.keep

    @property
    def names(self) -> list[str]:
        """The names of the classes, in the model's order."""
        return [severity or ONE_CLASS for severity in self.classes]

    def as_json(self) -> dict[str, Any]:
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
        try:
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise ModelError(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
            value = parse(path.read_text("utf-8"))
        except FileNotFoundError:
            raise ModelError(f"{path} is missing: expected a folder made by `train.gate`") from None
        except (ValueError, OSError) as error:
            raise ModelError(f"{path}: not JSON ({error})") from None
        try:
            return _settings(value)
        except ValueError as error:
            raise ModelError(f"{path}: {error}") from None


def _settings(value: object) -> GateSettings:
    names = [
        "version",
        "model",
        "classes",
        "imgsz",
        "nms_iou",
        "keep",
        "low",
        "high",
        "calibration",
        "budget",
    ]
    if isinstance(value, dict) and value.get("version") not in (None, GATE_VERSION):
        raise ValueError(
            f"version is {value['version']!r:.20}, this library reads {GATE_VERSION}: "
            "make the gate again"
        )
    entry = _object(value, names, "gate.json")
    classes = _classes(entry["classes"])
    imgsz, model = entry["imgsz"], entry["model"]
    if type(imgsz) is not int or not STRIDE <= imgsz <= MAX_IMGSZ or imgsz % STRIDE:
        raise ValueError(f"imgsz is {imgsz!r:.20}, expected a multiple of {STRIDE} to {MAX_IMGSZ}")
    if not isinstance(model, str) or not _MODEL_NAME.fullmatch(model):
        raise ValueError(f"model is {model!r:.80}, expected the name of an .onnx or .xml file")
    return GateSettings(
        classes=classes,
        imgsz=imgsz,
        nms_iou=_share(entry, "nms_iou"),
        routing=_routing(entry),
        model=model,
    )


def _classes(value: object) -> tuple[Severity | None, ...]:
    if value == [ONE_CLASS]:
        return (None,)
    if not isinstance(value, list) or sorted(map(str, value)) != sorted(SEVERITIES):
        expected = f'{list(SEVERITIES)} in the model\'s order, or ["{ONE_CLASS}"]'
        raise ValueError(f"classes are {value!r:.80}, expected {expected}")
    return tuple(value)


def _routing(entry: Mapping[str, Any]) -> Routing:
    low = _share(entry, "low")
    high = None if entry["high"] is None else _share(entry, "high")
    if high is not None and high < low:
        raise ValueError(f"low ({low}) is above high ({high})")
    calibration = _calibration(entry["calibration"])
    return Routing(_share(entry, "keep"), Band(low, high), calibration, _budget(entry["budget"]))


def _calibration(value: object) -> Calibration | None:
    if value is None:
        return None
    method = value.get("method") if isinstance(value, dict) else None
    if method == "logistic":
        entry = _object(value, ["method", "weight", "bias", "signals"], "calibration")
        if not isinstance(entry["signals"], dict) or len(entry["signals"]) > MAX_KNOTS:
            raise ValueError("signals of the calibration are no object")
        signals = {name: _signal(name, part) for name, part in entry["signals"].items()}
        weight = _number(entry, "weight")
        if weight <= 0:
            raise ValueError(f"weight is {weight}, expected more than 0")
        return Logistic(weight, _number(entry, "bias"), signals)
    if method == "isotonic":
        entry = _object(value, ["method", "scores", "probabilities"], "calibration")
        scores, probabilities = _rising(entry, "scores"), _rising(entry, "probabilities")
        if len(scores) != len(probabilities):
            raise ValueError("calibration has not as many scores as probabilities")
        return Isotonic(scores, probabilities)
    raise ValueError(f"calibration is {value!r:.60}, expected method logistic or isotonic, or null")


def _signal(name: str, value: object) -> Signal:
    entry = _object(value, ["weight", "missing"], f"signal {name!r:.40}")
    return Signal(_number(entry, "weight"), _number(entry, "missing"))


def _rising(entry: Mapping[str, Any], name: str) -> tuple[float, ...]:
    values = entry[name]
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_KNOTS:
        raise ValueError(f"{name} of the calibration: expected 1 to {MAX_KNOTS} numbers")
    numbers = tuple(_share({name: value}, name) for value in values)
    if any(b < a for a, b in itertools.pairwise(numbers)):
        raise ValueError(f"{name} of the calibration do not rise")
    return numbers


def _budget(value: object) -> Budget | None:
    if value is None:
        return None
    entry = _object(value, ["load", "price", "costs", "low_at_most"], "budget")
    costs = _object(entry["costs"], ["miss", "false_alarm", "mllm_error"], "costs")
    if _share(costs, "mllm_error") >= 0.5:
        raise ValueError(f"mllm_error is {costs['mllm_error']}, expected less than 0.5")
    if min(_number(costs, "miss"), _number(costs, "false_alarm")) < MIN_COST:
        raise ValueError(f"a miss and a false alarm must cost {MIN_COST:g} or more")
    return Budget(
        load=_share(entry, "load"),
        price=_number(entry, "price"),
        costs=Costs(**{name: float(costs[name]) for name in costs}),
        low_at_most=_share(entry, "low_at_most"),
    )


def _object(value: object, names: list[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ValueError(f"{what}: expected an object with the keys {', '.join(names)}")
    return value


def _number(entry: Mapping[str, Any], name: str) -> float:
    value = entry[name]
    if type(value) not in (int, float) or not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ValueError(
            f"{name} is {value!r:.40}, expected a number from {-MAX_NUMBER:g} to {MAX_NUMBER:g}"
        )
    return float(value)


def _share(entry: Mapping[str, Any], name: str) -> float:
    value = _number(entry, name)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a number in [0, 1]")
    return value


def _calibration_json(calibration: Calibration | None) -> dict[str, Any] | None:
    if isinstance(calibration, Logistic):
        return {"method": "logistic", **asdict(calibration)}
    if isinstance(calibration, Isotonic):
        scores, probabilities = list(calibration.scores), list(calibration.probabilities)
        return {"method": "isotonic", "scores": scores, "probabilities": probabilities}
    if calibration is None:
        return None
    raise TypeError(f"{type(calibration).__name__} has no form in gate.json")
