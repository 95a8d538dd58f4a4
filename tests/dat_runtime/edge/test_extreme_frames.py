"""Frames whose sides no camera of the data sets has: from the file to the alert."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.alert import MAX_ALERT_BYTES, read_alert
from dat_runtime.draw import encode_png, is_too_long, model_frame, size_of
from dat_runtime.edge.detector import YoloDetector
from dat_runtime.edge.engines import Tensor
from dat_runtime.edge.settings import GateSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.event import event_of, question
from dat_runtime.types import SEVERITIES, Size


class SureEngine:
    """A gate that sees one severe accident in the middle of whatever it is shown."""

    inputs = (Tensor("float32", (1, 3, 64, 64)),)
    outputs = (Tensor("float32", (1, 6, 84)),)

    def run(self, blob: np.ndarray) -> np.ndarray:
        answer = np.zeros((1, 6, 84), np.float32)
        answer[0, :, 0] = 32, 32, 20, 20, 0, 0.9
        return answer


GATE = YoloDetector(SureEngine(), GateSettings(classes=SEVERITIES, imgsz=64))


@pytest.mark.parametrize("size", [(2200, 100), (1, 30), (30, 1), (1, 1), (5000, 1)])
def test_a_frame_of_any_sides_becomes_an_alert(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    path = tmp_path / "frame.png"
    path.write_bytes(encode_png(np.full((height, width, 3), 90, np.uint8)))
    image = read_frame(path)
    detections = GATE.detect(image)
    assert len(detections) == 1

    event = event_of("e", image, detections, None, size_of(image), degraded="side ratio")

    assert len(event.json) <= MAX_ALERT_BYTES
    alert = read_alert(json.loads(event.json))
    assert alert.degraded == "side ratio"
    assert alert.frame == Size(width, height)
    (accident,) = alert.answer.accidents
    assert accident.severity == "severe"
    assert accident.box.area > 0
    for jpeg in (event.roi, event.boxed):
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize(
    ("size", "too_long"),
    [
        (Size(2200, 100), True),
        (Size(1, 30), True),
        (Size(2000, 100), False),
        (Size(2001, 100), True),
        (Size(100, 2000), False),
        (Size(640, 352), False),
    ],
)
def test_who_is_too_long_for_the_mllm_is_known_before_it_is_asked(
    size: Size, too_long: bool
) -> None:
    assert is_too_long(size) == too_long
    image = np.zeros((size.height, size.width, 3), np.uint8)
    if too_long:
        with pytest.raises(ValueError, match="side ratio above 20"):
            question(image, ())
    else:
        assert question(image, ()).frame == model_frame(size)
