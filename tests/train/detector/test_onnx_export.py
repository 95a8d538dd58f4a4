"""The gate in ONNX: what is written, and that no other model passes for it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.edge.settings import GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.types import SEVERITIES, Box, Detection, Severity, Size
from tests.conftest import constant_gate
from tests.train.detector.tiny_gate import write_weights
from train.detector import onnx_export
from train.detector.onnx_export import MAX_CONFIDENCE_GAP, MIN_IOU, check_parity, partner
from train.detector.ultralytics_run import quiet

SIDE = 64
SETTINGS = GateSettings(classes=SEVERITIES, imgsz=SIDE, nms_iou=0.45)


def detection(x: float, confidence: float, severity: Severity = "severe") -> Detection:
    return Detection(Box(x, 10, x + 100, 60, Size(200, 100)), severity, confidence)


def test_parity_sees_a_box_that_moved_a_confidence_that_fell_and_a_lost_detection() -> None:
    trained = detection(20, 0.8)
    assert partner(trained, [detection(20, 0.3), trained]) == (1.0, 0.0)
    assert partner(trained, [detection(60, 0.8), detection(20, 0.75)]) == (1.0, pytest.approx(0.05))
    assert partner(trained, [detection(22, 0.8)])[0] < MIN_IOU
    assert partner(trained, [detection(20, 0.798)])[1] > MAX_CONFIDENCE_GAP
    assert partner(trained, []) == (0.0, 1.0)
    assert partner(trained, [detection(20, 0.8, "moderate")]) == (0.0, 1.0)


def test_the_detections_of_either_side_have_partners_but_for_those_that_nobody_is_sure_of() -> None:
    found, moved, doubted = detection(0, 0.8), detection(50, 0.5), detection(0, 0.0109)
    other, lowest = detection(0, 0.8, "moderate"), detection(100, 0.011, "moderate")
    both = onnx_export.partners_of_both
    apart = (0.0, pytest.approx(0.789))
    assert both([found], [other]) == [(0.0, 1.0), (0.0, 1.0)]
    assert both([found, doubted], [found]) == both([found], [doubted, found]) == [(1.0, 0.0)] * 2
    assert both([found, moved], [found]) == [(1.0, 0.0), (1 / 3, pytest.approx(0.3)), (1.0, 0.0)]
    assert both([other], [other, lowest]) == [(1.0, 0.0), (1.0, 0.0), apart]


def test_what_both_detect_in_the_bars_beside_a_frame_does_not_set_them_apart() -> None:
    in_bar = Detection(Box(0, 100, 80, 100, Size(200, 100)), "severe", 0.9)
    small = Detection(Box(20, 10, 21, 11, Size(200, 100)), "severe", 0.9)
    both = onnx_export.partners_of_both
    assert both([in_bar, small], [in_bar, small]) == [(1.0, 0.0), (1.0, 0.0)]
    assert both([in_bar, small], [in_bar]) == [(0.0, 0.0)]


def test_a_report_of_parity_holds_the_worst_of_all_frames() -> None:
    raw = [np.array([[0.0, 0.0005]], np.float32), np.array([[0.00025, 0.0]], np.float32)]
    whole = {
        "frames": 2,
        "detections": 2,
        "lowest_iou": MIN_IOU,
        "largest_confidence_gap": MAX_CONFIDENCE_GAP,
        "raw_confidences": 4,
        "largest_raw_gap": pytest.approx(0.0005),
        "limits": {"iou": 0.99, "confidence": 0.001},
    }
    partners = [(1.0, 0.0), (MIN_IOU, 0.0), (0.999, MAX_CONFIDENCE_GAP), (1.0, 0.0005), (1.0, 0.0)]
    assert onnx_export.demand_parity(2, partners, raw) == whole
    bare = {"detections": 0, "lowest_iou": 1.0, "largest_confidence_gap": 0.0}
    assert onnx_export.demand_parity(2, [], raw) == whole | bare
    for pairs, gaps in (
        ([*partners, (0.9899, 0.0)], raw),
        ([*partners, (1.0, 0.0011)], raw),
        (partners, [*raw, np.array([0.0011])]),
        (partners, []),
    ):
        with pytest.raises(ModelError, match="the exported gate differs"):
            onnx_export.demand_parity(2, pairs, gaps)
    with pytest.raises(ModelError) as refused:
        onnx_export.demand_parity(0, [], [])
    assert str(refused.value) == (
        'the exported gate differs from the trained one: {"frames": 0, "detections": 0, '
        '"lowest_iou": 1.0, "largest_confidence_gap": 0.0, "raw_confidences": 0, '
        '"largest_raw_gap": 0.0, "limits": {"iou": 0.99, "confidence": 0.001}}'
    )


def write_frames(data: Path) -> None:
    """Validation frames 0 to 3, of noise; the first and the last are no pictures."""
    (data / "images" / "val").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(4):
        path = data / "images" / "val" / f"{number}.png"
        cv2.imwrite(str(path), random.integers(0, 255, (48, 80, 3), np.uint8))
        if number in (0, 3):
            path.write_bytes(b"no picture")


def test_an_exported_gate_answers_as_the_trained_one_on_the_first_frames_with_accidents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnx_export, "FRAMES", 2)
    write_frames(tmp_path / "data")
    with quiet(tmp_path / "log", tmp_path):
        write_weights(tmp_path / "best.pt")
        boxes = {"0": 0, "1": 1, "2": 2, "3": 1}
        onnx_export.export_checked(tmp_path, tmp_path / "data", {"imgsz": SIDE, "iou": 0.45}, boxes)
    assert json.loads((tmp_path / "gate.json").read_text()) == SETTINGS.as_json()
    report = json.loads((tmp_path / "parity.json").read_text())
    assert (report["frames"], report["raw_confidences"]) == (2, 2 * 2 * 84)
    assert report["detections"] > 40
    assert report["lowest_iou"] > 0.9999
    assert 0 < max(report["largest_confidence_gap"], report["largest_raw_gap"]) < 1e-5

    model = onnx.load(tmp_path / "gate.onnx")
    assert [entry.key for entry in model.metadata_props] == [
        *("author", "version", "license", "docs", "stride", "task", "head", "batch", "imgsz"),
        *("names", "channels", "end2end"),
    ]
    assert model.opset_import[0].version == 17
    (shape,) = (value.type.tensor_type.shape for value in model.graph.input)
    assert [size.dim_value for size in shape.dim] == [1, 3, SIDE, SIDE]
    assert "Identity" not in {node.op_type for node in model.graph.node}
    assert not (tmp_path / "best.onnx").exists()

    # Another model, with the same names and the same shape.
    (tmp_path / "gate.onnx").write_bytes(constant_gate([[32, 32, 16, 8, 0, 0.9]]))
    frames = [tmp_path / "data" / "images" / "val" / "1.png"]
    with quiet(tmp_path / "log", tmp_path), pytest.raises(ModelError, match='"lowest_iou": 0'):
        check_parity(tmp_path / "best.pt", tmp_path, frames)
    assert capsys.readouterr().out == ""


def test_what_the_trained_gate_detects_lies_in_the_frame_that_was_given(tmp_path: Path) -> None:
    from ultralytics import YOLO

    with quiet(tmp_path / "log", tmp_path):
        trained = YOLO(write_weights(tmp_path / "best.pt"))
        log = (tmp_path / "log").read_text()
        image = np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)
        seen = onnx_export.trained_detections(trained, image, SETTINGS)
        one_class = GateSettings(classes=(None, None), imgsz=SIDE, nms_iou=0.99)
        more = onnx_export.trained_detections(trained, image, one_class)
    assert (tmp_path / "log").read_text() == log
    assert len(more) > len(seen) + 10 > 40
    assert {found.severity for found in seen} == set(SEVERITIES)
    assert {found.severity for found in more} == {None}
    assert {found.box.frame for found in seen} == {Size(width=80, height=48)}
    assert max(found.box.x2 for found in seen) == 80
    assert max(found.box.y2 for found in seen) == 48


def test_gates_that_detect_nothing_are_compared_by_their_confidences(
    gate_folder: Path, tmp_path: Path
) -> None:
    weights, frame = tmp_path / "silent.pt", tmp_path / "frame.png"
    with quiet(tmp_path / "log", tmp_path):
        write_weights(weights, logit=-20)
    cv2.imwrite(str(frame), np.full((SIDE, SIDE, 3), 90, np.uint8))
    (gate_folder / "gate.onnx").write_bytes(constant_gate([[32, 32, 16, 8, 0, 0.0005]]))
    report = check_parity(weights, gate_folder, [frame])
    assert (report["detections"], report["raw_confidences"]) == (0, 2 * 84)
    assert report["largest_raw_gap"] == pytest.approx(0.0005, abs=1e-5)
    # Below the lowest confidence of a detection, and another model all the same.
    (gate_folder / "gate.onnx").write_bytes(constant_gate([[32, 32, 16, 8, 0, 0.005]]))
    with pytest.raises(ModelError, match=r'differs from the trained one: .*"detections": 0'):
        check_parity(weights, gate_folder, [frame])
    with pytest.raises(ModelError, match='"raw_confidences": 0'):
        check_parity(weights, gate_folder, [])
