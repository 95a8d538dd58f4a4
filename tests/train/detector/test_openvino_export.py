"""The gate for OpenVINO: in float held to the trained one, in INT8 with what that costs."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import DataError, ModelError
from tests.train.detector.bright_gate import METRICS, SETTINGS, SIDE, write_data, write_gate
from tests.train.detector.tiny_gate import write_weights
from train.detector import int8, openvino_export
from train.detector.onnx_export import MIN_IOU, export_onnx
from train.detector.ultralytics_run import quiet

OF_OPENVINO = {**SETTINGS.as_json(), "model": "gate.xml"}


def made(folder: Path) -> dict[str, Any]:
    """What an export has left: the content of its JSON files, the others' sizes."""
    return {
        path.name: json.loads(path.read_text()) if path.suffix == ".json" else path.stat().st_size
        for path in folder.iterdir()
    }


def test_a_float_gate_is_held_to_the_trained_one_on_frames_with_accidents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with quiet(tmp_path / "log", tmp_path):
        weights = write_weights(tmp_path / "best.pt").read_bytes()
        export_onnx(tmp_path / "best.pt", tmp_path, SETTINGS)
    gate = write_gate(tmp_path / "full", (tmp_path / "gate.onnx").read_bytes(), weights)
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    for negative in ("0", "2"):
        (data / "images" / "val" / f"{negative}.png").write_bytes(b"no picture")
    out.mkdir()
    capsys.readouterr()
    monkeypatch.setattr(openvino_export, "FRAMES", 2)
    parity = openvino_export.export_openvino(gate, data, out)
    assert (parity["frames"], parity["raw_confidences"]) == (2, 2 * 2 * 84)
    assert parity["detections"] > 10
    assert parity["lowest_iou"] >= MIN_IOU
    assert 0 < parity["largest_raw_gap"] < 1e-5
    left = made(out)
    assert left.keys() == {"gate.json", "gate.xml", "gate.bin", "metrics.json"}
    assert (left["gate.json"], left["metrics.json"]) == (OF_OPENVINO, METRICS)
    assert left["gate.bin"] > 4 * 64 * 64 * 9  # the largest layer alone, in 32 bits
    assert capsys.readouterr() == ("", "")

    (gate / "best.pt").unlink()
    with pytest.raises(DataError) as refused:
        openvino_export.export_openvino(gate, data, out)
    told = "is missing: expected the folder that train.gate made"
    assert str(refused.value) == f"{gate / 'best.pt'}: {told}"


def test_a_gate_in_int8_states_its_accuracy_in_place_of_the_float_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of NNCF, which takes seconds to import, the model stays as it is."""
    gate, data, out = write_gate(tmp_path / "full"), write_data(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    given: list[Any] = []

    def as_it_is(model: Any, frames: list[Path], side: int) -> Any:
        given.append((frames, side))
        return model

    monkeypatch.setattr(int8, "quantize", as_it_is)
    monkeypatch.setattr(int8, "CALIBRATION_FRAMES", 3)
    monkeypatch.setattr(int8, "MAX_LOSS", 0.0)
    report = openvino_export.export_int8(gate, data, out, accept_loss=False)
    assert given == [([data / "images" / "train" / f"{n}.png" for n in (0, 1, 2)], SIDE)]
    assert (report["calibration_frames"], report["frames"]) == (3, 4)
    assert report["largest_score_change"] < 1e-5
    assert report["float"] == report["int8"] == {"mAP50": pytest.approx(1), "mAP50-95": 1}
    left = made(out)
    assert left.keys() == {"gate.json", "gate.xml", "gate.bin", "metrics.json"}
    assert left["gate.json"] == OF_OPENVINO
    assert left["metrics.json"] == {
        "train_seconds": 1.0,
        "val": int8.cost(gate, out, data, openvino_export.read_split(data, "val"))["int8"],
        "test": report["int8"],
    }
    monkeypatch.setattr(int8, "MAX_LOSS", -0.1)
    with pytest.raises(ModelError, match=r"INT8 costs 0\.000 of mAP50"):
        openvino_export.export_int8(gate, data, out, accept_loss=False)
    assert openvino_export.export_int8(gate, data, out, accept_loss=True) == report
