"""The gate's detector: the `(b, c, p)` of Eq. 1 from an ONNX model, without torch.

A gate folder holds `gate.json` (what the model is, and the thresholds that go with it) and the
model. Letterbox, scaling and NMS are those of the training: a node sees what was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image, size_of
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.types import Box, Detection, Size

MIN_CONFIDENCE = 0.01
"""Detections below are never reported: no threshold in use is lower."""

MAX_DETECTIONS = 300
_GREY = 114
_MAX_MODEL_BYTES = 1 << 30

Floats = NDArray[np.float32]


class Detector(Protocol):
    """What the gate asks of a detector, whatever its architecture or runtime."""

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """The detections of a BGR image, in its own frame, most confident first."""
        ...


@dataclass(frozen=True)
class Letterbox:
    """How a frame lies in the model's square input: scaled, centred, the rest grey."""

    frame: Size
    side: int

    @property
    def inner(self) -> Size:
        """The size that the frame takes inside the square."""
        scale = min(self.side / self.frame.height, self.side / self.frame.width)
        width, height = round(self.frame.width * scale), round(self.frame.height * scale)
        return Size(max(width, 1), max(height, 1))

    @property
    def corner(self) -> tuple[int, int]:
        """Where the frame's top left corner lies, `(x, y)`."""
        inner = self.inner
        x, y = (self.side - inner.width) / 2, (self.side - inner.height) / 2
        return round(x - 0.1), round(y - 0.1)

    def apply(self, image: Image) -> Image:
        """The square input picture, uint8 BGR of shape (side, side, 3)."""
        inner, (left, top) = self.inner, self.corner
        if inner != self.frame:
            size = (inner.width, inner.height)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        square = np.full((self.side, self.side, 3), _GREY, np.uint8)
        square[top : top + inner.height, left : left + inner.width] = image
        return square

    def invert(self, boxes: Floats) -> Floats:
        """Boxes `(n, 4)` as x1, y1, x2, y2 of the square, in the frame's pixels and inside it."""
        inner, (left, top) = self.inner, self.corner
        scale_x, scale_y = inner.width / self.frame.width, inner.height / self.frame.height
        shift = np.array([left, top, left, top], np.float32)
        scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        width, height = self.frame.width, self.frame.height
        limit = np.array([width, height, width, height], np.float32)
        return np.asarray(np.clip((boxes - shift) / scale, 0, limit), np.float32)


def suppress(boxes: Floats, scores: Floats, classes: NDArray[np.intp], iou: float) -> list[int]:
    """Greedy NMS within each class: the indices that stay, best first, at most `MAX_DETECTIONS`.

    A box is dropped when it overlaps a better one of its class by more than `iou`.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[order].T
    area = (x2 - x1) * (y2 - y1)
    of_class = classes[order]
    alive = np.ones(len(order), bool)
    stays: list[int] = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        stays.append(int(order[i]))
        if len(stays) == MAX_DETECTIONS:
            break
        width = np.minimum(x2[i], x2[i + 1 :]) - np.maximum(x1[i], x1[i + 1 :])
        height = np.minimum(y2[i], y2[i + 1 :]) - np.maximum(y1[i], y1[i + 1 :])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        union = area[i] + area[i + 1 :] - overlap
        alive[i + 1 :] &= (overlap <= iou * union) | (of_class[i + 1 :] != of_class[i])
    return stays


class OnnxDetector:
    """A YOLO detector in ONNX Runtime on the CPU.

    Its model takes float32 RGB in [0, 1] of shape (1, 3, s, s) and answers (1, 4 + classes, n):
    centre, width and height in input pixels, then one score per class.
    """

    def __init__(self, session: Any, settings: GateSettings):
        self._session = session
        self._input = session.get_inputs()[0].name
        self.settings = settings

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> "OnnxDetector":
        """The detector of a gate folder, tried once on a grey picture.

        Raises:
            ModelError: `gate.json` or the model is missing, broken, or is not such a detector.
        """
        settings = GateSettings.read(folder / GATE_FILE)
        path = folder / settings.model
        session = _session(path, threads)
        if problem := _signature_problem(session, settings):
            raise ModelError(f"{path}: {problem}")
        detector = cls(session, settings)
        grey = np.full((settings.imgsz, settings.imgsz, 3), _GREY, np.uint8)
        if not np.isfinite(detector._run(grey, path)).all():
            raise ModelError(f"{path}: the model answers with NaN or infinity")
        return detector

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """Detections of at least `MIN_CONFIDENCE` after NMS, in the image's frame, best first.

        Args:
            image: uint8 BGR of shape (height, width, 3).

        Raises:
            ValueError: the image is not that.
            ModelError: the model failed on it.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"expected a uint8 BGR image, got {image.dtype} of {image.shape}")
        letterbox = Letterbox(size_of(image), self.settings.imgsz)
        output = self._run(letterbox.apply(image), self.settings.model)
        scores, classes = output[:, 4:].max(axis=1), output[:, 4:].argmax(axis=1)
        likely = np.flatnonzero(scores > MIN_CONFIDENCE)
        centre, half = output[likely, :2], output[likely, 2:4] / 2
        boxes = np.concatenate((centre - half, centre + half), axis=1, dtype=np.float32)
        stays = suppress(boxes, scores[likely], classes[likely], self.settings.nms_iou)
        return tuple(
            Detection(
                Box(float(x1), float(y1), float(x2), float(y2), letterbox.frame),
                self.settings.classes[classes[i]],
                float(scores[i]),
            )
            for (x1, y1, x2, y2), i in zip(
                letterbox.invert(boxes[stays]), likely[stays], strict=True
            )
        )

    def _run(self, square: Image, where: Path | str) -> Floats:
        """The model's answer for a square picture: (n, 4 + classes), boxes as cx, cy, w, h."""
        side = self.settings.imgsz
        blob = cv2.dnn.blobFromImage(square, 1 / 255, (side, side), swapRB=True)
        try:
            output = self._session.run(None, {self._input: blob})[0]
        except Exception as error:  # onnxruntime's errors share no base class
            raise ModelError(f"{where}: the model cannot run ({error})") from None
        return np.asarray(output[0], np.float32).T


def _session(path: Path, threads: int) -> Any:
    import onnxruntime  # type: ignore[import-untyped]

    if not path.is_file():
        raise ModelError(f"{path} is missing, {GATE_FILE} names it")
    if path.stat().st_size > _MAX_MODEL_BYTES:
        raise ModelError(f"{path}: larger than {_MAX_MODEL_BYTES} bytes")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Idle threads of the pool would spin on cores that the MLLM and the uplink need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise ModelError(f"{path}: not a model that ONNX Runtime can load ({error})") from None


def _signature_problem(session: Any, settings: GateSettings) -> str | None:
    """Why a model is not the detector that `gate.json` describes, `None` when it is."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    expected: Mapping[str, list[int]] = {
        "input": [1, 3, settings.imgsz, settings.imgsz],
        "output": [
            1,
            4 + len(settings.classes),
            sum((settings.imgsz // s) ** 2 for s in (8, 16, 32)),
        ],
    }
    if len(inputs) != 1 or len(outputs) != 1:
        return f"{len(inputs)} inputs and {len(outputs)} outputs, expected one of each"
    for name, value in (("input", inputs[0]), ("output", outputs[0])):
        if value.shape != expected[name] or value.type != "tensor(float)":
            return f"{name} is {value.type} {value.shape}, expected tensor(float) {expected[name]}"
    return None
