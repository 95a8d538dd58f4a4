from dat_runtime.types import Box, Detection, Size
from train.detector.onnx_export import MAX_CONFIDENCE_GAP, MIN_IOU, partner


def detection(x: float, confidence: float) -> Detection:
    return Detection(Box(x, 10, x + 100, 60, Size(200, 100)), "severe", confidence)


def test_parity_sees_a_box_that_moved_a_confidence_that_fell_and_a_lost_detection() -> None:
    trained = detection(20, 0.8)
    assert partner(trained, [detection(20, 0.3), trained]) == (1.0, 0.0)
    assert partner(trained, [detection(22, 0.8)])[0] < MIN_IOU
    assert partner(trained, [detection(20, 0.798)])[1] > MAX_CONFIDENCE_GAP
    assert partner(trained, []) == (0.0, 1.0)
