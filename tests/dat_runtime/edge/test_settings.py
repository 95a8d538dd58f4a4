"""gate.json at its bounds: the last value that is read, and the first that is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

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
