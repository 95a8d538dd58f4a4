"""gate.json at its bounds: the last value that is read, and the first that is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.cascade import Band, Budget, Costs, Isotonic, Logistic, Routing, Signal
from dat_runtime.edge.settings import MAX_IMGSZ, MAX_KNOTS, STRIDE, GateSettings
from dat_runtime.errors import ModelError

SIGNAL = {"weight": 1.0, "missing": 0.0}
BUDGET = {
    "load": 0.3,
    "price": 0.1,
    "costs": {"miss": 1.0, "false_alarm": 1.0, "mllm_error": 0.1},
    "low_at_most": 1.0,
}


def read(tmp_path: Path, padding: int = 0, **changes: Any) -> GateSettings:
    value = GateSettings(("moderate", "severe"), 64).as_json() | changes
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(value) + " " * padding)
    return GateSettings.read(path)


def isotonic(*scores: float) -> dict[str, Any]:
    return {"method": "isotonic", "scores": scores, "probabilities": scores}


def logistic(signals: int) -> dict[str, Any]:
    named = {f"s{i}": SIGNAL for i in range(signals)}
    return {"method": "logistic", "weight": 1.0, "bias": 0.0, "signals": named}


def erring(share: float) -> dict[str, Any]:
    return BUDGET | {"costs": BUDGET["costs"] | {"mllm_error": share}}


@pytest.mark.parametrize(
    "changes",
    [
        {"imgsz": STRIDE},
        {"imgsz": MAX_IMGSZ},
        {"low": 0.4, "high": 0.4},
        {"calibration": isotonic(0.2, 0.2, 0.7)},
        {"calibration": isotonic(*[0.5] * MAX_KNOTS)},
        {"calibration": logistic(MAX_KNOTS)},
        {"budget": erring(0.4999)},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_value_at_its_bound_is_read_and_written_as_it_was(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = read(tmp_path, **changes)
    assert read(tmp_path, **settings.as_json()) == settings


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"imgsz": 0}, "imgsz"),
        ({"imgsz": STRIDE + 1}, "imgsz"),
        ({"imgsz": MAX_IMGSZ + STRIDE}, "imgsz"),
        ({"low": 0.41, "high": 0.4}, "is above high"),
        ({"calibration": isotonic(0.2, 0.1999)}, "do not rise"),
        ({"calibration": isotonic(*[0.5] * (MAX_KNOTS + 1))}, "scores"),
        ({"calibration": logistic(MAX_KNOTS + 1)}, "signals"),
        ({"budget": erring(0.5)}, "mllm_error"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_value_beyond_its_bound_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        read(tmp_path, **changes)


def test_a_file_of_more_than_a_mebibyte_is_not_read(tmp_path: Path) -> None:
    assert read(tmp_path, padding=1000).imgsz == 64
    with pytest.raises(ModelError, match="1,048,576"):
        read(tmp_path, padding=1 << 20)


WHOLE: dict[str, Any] = {
    "version": 2,
    "model": "other.xml",
    "classes": ["severe", "moderate"],
    "imgsz": 96,
    "nms_iou": 0.55,
    "keep": 0.35,
    "low": 0.15,
    "high": 0.85,
    "calibration": {
        "method": "logistic",
        "weight": 1.5,
        "bias": -0.5,
        "signals": {"sound": {"weight": 0.75, "missing": -0.25}},
    },
    "budget": {
        "load": 0.3,
        "price": 0.125,
        "costs": {"miss": 4.0, "false_alarm": 2.0, "mllm_error": 0.0625},
        "low_at_most": 0.5,
    },
}
"""Every field another than its default."""


def test_every_field_of_the_file_is_read_and_written(tmp_path: Path) -> None:
    settings = read(tmp_path, **WHOLE)
    assert settings == GateSettings(
        classes=("severe", "moderate"),
        imgsz=96,
        nms_iou=0.55,
        routing=Routing(
            keep=0.35,
            band=Band(0.15, 0.85),
            calibration=Logistic(1.5, -0.5, {"sound": Signal(0.75, -0.25)}),
            budget=Budget(0.3, 0.125, Costs(4.0, 2.0, 0.0625), 0.5),
        ),
        model="other.xml",
    )
    assert settings.as_json() == WHOLE
    assert settings.names == ["severe", "moderate"]
    rising = {"method": "isotonic", "scores": [0.1, 0.6], "probabilities": [0.2, 0.9]}
    bent = read(tmp_path, classes=["accident"], calibration=rising)
    assert bent.routing.calibration == Isotonic((0.1, 0.6), (0.2, 0.9))
    assert (bent.classes, bent.names) == ((None,), ["accident"])
    assert bent.as_json()["calibration"] == rising


def test_what_is_no_calibration_of_ours_is_not_written() -> None:
    routing = Routing(calibration=lambda score, signals: np.asarray(score))
    with pytest.raises(TypeError, match=r"^function cannot be written to gate\.json$"):
        GateSettings(("severe",), 64, routing=routing).as_json()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"version": 1, "further": 0}, "version is 1, this library reads 2: make the gate again"),
        ({"imgsz": 65}, "imgsz is 65, expected a multiple of"),
        ({"calibration": {"method": "magic"}}, "calibration is {'method': 'magic'}, expected "
         "method logistic or isotonic, or null"),
        ({"calibration": {"method": "logistic"}}, "calibration: weight is missing"),
        ({"calibration": {"method": "isotonic"}}, "calibration: scores is missing"),
        ({"calibration": isotonic(0.5) | {"scores": [0.1, 0.5]}}, "calibration: 2 scores and 1 "
         "probabilities, expected as many scores as probabilities"),
        ({"calibration": logistic(0) | {"signals": {"sound": {"weight": 1}}}}, "signal 'sound': "
         "missing is missing"),
        ({"budget": {}}, "budget: load is missing"),
        ({"budget": BUDGET | {"costs": {}}}, "costs: miss is missing"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_file_and_place(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ModelError) as refused:
        read(tmp_path, **changes)
    assert str(refused.value).startswith(f"{tmp_path / 'gate.json'}: {complaint}")


def test_a_file_that_is_missing_or_says_a_thing_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        GateSettings.read(tmp_path / "gate.json")
    assert str(refused.value) == (
        f"{tmp_path / 'gate.json'}: is missing: expected a folder made by `train.gate`"
    )
    (tmp_path / "gate.json").write_text('{"version": 2, "version": 2}')
    with pytest.raises(ModelError, match="duplicate key"):
        GateSettings.read(tmp_path / "gate.json")
