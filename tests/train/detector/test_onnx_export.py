from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.errors import ModelError
from dat_runtime.types import Box, Detection, Size
from tests.conftest import SIDE, constant_gate
from train.detector.onnx_export import MAX_CONFIDENCE_GAP, MIN_IOU, check_parity, partner


def detection(x: float, confidence: float) -> Detection:
    return Detection(Box(x, 10, x + 100, 60, Size(200, 100)), "severe", confidence)


def test_parity_sees_a_box_that_moved_a_confidence_that_fell_and_a_lost_detection() -> None:
    trained = detection(20, 0.8)
    assert partner(trained, [detection(20, 0.3), trained]) == (1.0, 0.0)
    assert partner(trained, [detection(22, 0.8)])[0] < MIN_IOU
    assert partner(trained, [detection(20, 0.798)])[1] > MAX_CONFIDENCE_GAP
    assert partner(trained, []) == (0.0, 1.0)


@pytest.mark.slow
def test_gates_that_detect_nothing_are_compared_by_their_confidences(
    gate_folder: Path, tmp_path: Path
) -> None:
    weights, frame = tmp_path / "silent.pt", tmp_path / "frame.png"
    write_silent_yolo(weights)
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


def write_silent_yolo(path: Path) -> None:
    """Weights of a YOLO12n that is certain of nothing."""
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    yolo = YOLO("yolo12n.yaml", task="detect")
    yolo.model = DetectionModel("yolo12n.yaml", nc=2, verbose=False)
    with torch.no_grad():
        for branch in yolo.model.model[-1].cv3:
            branch[-1].bias -= 20
    yolo.save(path)
