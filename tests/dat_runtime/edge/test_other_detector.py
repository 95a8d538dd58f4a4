"""A detector of another family and licence in the gate's place: YOLOS (Apache-2.0), from ONNX."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime import gate
from dat_runtime.cascade import Routing
from dat_runtime.draw import Image, size_of
from dat_runtime.edge.detector import Detector
from dat_runtime.event import Event, Question, event_of, question
from dat_runtime.types import SEVERITIES, Box, Detection

SIDE = 64
QUERIES = 5


class YolosDetector:
    """A set-prediction detector as the DETR family exports them; it needs no NMS.

    The picture is stretched to the model's square. Each query answers logits of the classes, "no
    object" last, and a box as shares of the picture: centre, width and height.
    """

    def __init__(self, path: Path):
        onnxruntime = pytest.importorskip("onnxruntime")
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def detect(self, image: Image) -> tuple[Detection, ...]:
        blob = cv2.dnn.blobFromImage(image, 1 / 255, (SIDE, SIDE), swapRB=True)
        logits, boxes = (answer[0] for answer in self._session.run(None, {"pixels": blob}))
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (likely / likely.sum(axis=1, keepdims=True))[:, : len(SEVERITIES)]
        frame = size_of(image)
        scale = np.array([frame.width, frame.height])
        detections = []
        for score, (centre, size) in zip(scores, boxes.reshape(-1, 2, 2), strict=True):
            corners = np.concatenate(((centre - size / 2) * scale, (centre + size / 2) * scale))
            box = Box(*map(float, corners), frame).clipped()
            detections.append(Detection(box, SEVERITIES[score.argmax()], float(score.max())))
        return tuple(sorted(detections, key=lambda d: -d.confidence))


def export_yolos(path: Path) -> None:
    """A tiny YOLOS that nobody trained, sure of accidents wherever it looks."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.YolosConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=[SIDE, SIDE], patch_size=16, num_detection_tokens=QUERIES,
        num_labels=len(SEVERITIES), use_mid_position_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    model = transformers.YolosForObjectDetection(config).eval()
    with torch.no_grad():
        model.class_labels_classifier.layers[-1].bias += torch.tensor([0.0, 4.0, 0.0])

    class Answer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
            output = self.model(pixel_values=pixels)
            return output.logits, output.pred_boxes

    picture = torch.rand(1, 3, SIDE, SIDE)
    names = {"input_names": ["pixels"], "output_names": ["logits", "boxes"]}
    torch.onnx.export(Answer(), picture, path, dynamo=False, opset_version=17, **names)


def through_the_gate(detector: Detector, image: Image) -> tuple[Question, Event]:
    """From a frame to its event as a node does it; the MLLM confirms the first detection."""
    kept = gate.kept(detector.detect(image))
    asked = question(image, kept)
    box = kept[0].box.to(asked.frame).pixels()
    told = {
        "count": 1,
        "severity": "severe",
        "level": 1,
        "score": 0.9,
        "accidents": [{"bbox": list(box), "severity": "severe"}],
        "summary": "One collision.",
    }
    return asked, event_of("e", image, kept, json.dumps(told), asked.frame)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_frame_becomes_an_event_behind_a_detector_of_another_family(tmp_path: Path) -> None:
    export_yolos(tmp_path / "yolos.onnx")
    detector = YolosDetector(tmp_path / "yolos.onnx")
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    found = detector.detect(image)
    assert len(found) == QUERIES
    assert Routing().decide(gate.trigger_score(found)) == "ask"
    asked, event = through_the_gate(detector, image)
    assert all(d.severity in asked.prompt for d in gate.kept(found))
    assert (event.source, event.assessment.severity) == ("mllm", "severe")
    (accident,) = event.assessment.accidents
    assert accident.box.iou(gate.kept(found)[0].box) > 0.9
    assert event.roi
    assert event_of("g", image, gate.kept(found), None, asked.frame).source == "gate"
