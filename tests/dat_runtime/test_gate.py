from dat_runtime.gate import kept, trigger_score
from dat_runtime.types import Box, Detection, Size

FRAME = Size(10, 10)


def detections(*confidences: float) -> list[Detection]:
    return [Detection(Box(0, 0, 5, 5, FRAME), "severe", c) for c in confidences]


def test_the_trigger_score_is_the_highest_confidence() -> None:
    assert trigger_score(detections(0.2, 0.7, 0.3)) == 0.7
    assert trigger_score([]) == 0


def test_kept_detections_are_those_at_the_threshold_most_confident_first() -> None:
    assert kept(detections(0.25, 0.9, 0.1, 0.5)) == tuple(detections(0.9, 0.5, 0.25))


def test_equal_confidences_keep_their_order() -> None:
    first = Detection(Box(0, 0, 1, 1, FRAME), "moderate", 0.5)
    second = Detection(Box(0, 0, 2, 2, FRAME), "severe", 0.5)
    assert kept([first, second]) == (first, second)
