"""The gate's detector: the `(b, c, p)` of Eq. 1 from an exported model, without torch.

A gate folder holds `gate.json` (what the model is, and the thresholds that go with it) and the
model. Letterbox, scaling and NMS are those of the training: a node sees what was measured.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image, size_of
from dat_runtime.edge.engines import Engine, Floats, Tensor, load_engine
from dat_runtime.edge.gate_model.trial import OVER, first_run
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.errors import ModelError
from dat_runtime.types import Box, Detection, Size

MIN_CONFIDENCE = 0.01
"""Detections of less confidence are not reported: no threshold in use is as low."""
MAX_DETECTIONS = 300
"""As in Ultralytics, whose validation measures the gate."""

_GREY = 114
"""The grey around a frame, as in the training (Ultralytics' LetterBox)."""


class Detector(Protocol):
    """What the gate asks of a detector, whatever its architecture or runtime."""

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """The detections of a BGR image, in its own frame, most confident first."""
        ...


@dataclass(frozen=True)
class Letterbox:
    """How a frame lies in the model's square input: scaled, centred, with grey around it."""

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
        # As Ultralytics' LetterBox: of an odd rest the smaller half lies left and above.
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

    Args:
        boxes: (n, 4) as x1, y1, x2, y2.
        scores, classes: (n,).
    """
    # Stable: of equal scores the earlier box is the better one, on every machine.
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[order].T
    area = (x2 - x1) * (y2 - y1)
    box_class = classes[order]

    alive = np.ones(len(order), bool)
    stays: list[int] = []
    for best in range(len(order)):
        if not alive[best]:
            continue
        stays.append(int(order[best]))
        if len(stays) == MAX_DETECTIONS:
            break
        # Whoever is still alive behind this box is no better: it goes if it shows the same.
        behind = slice(best + 1, None)
        width = np.minimum(x2[best], x2[behind]) - np.maximum(x1[best], x1[behind])
        height = np.minimum(y2[best], y2[behind]) - np.maximum(y1[best], y1[behind])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        union = area[best] + area[behind] - overlap
        # Multiplied, not divided: two empty boxes have a union of 0.
        is_apart = overlap <= iou * union
        alive[behind] &= is_apart | (box_class[behind] != box_class[best])
    return stays


def model_input(square: Image) -> Floats:
    """What a model is given for a square picture: float32 RGB in [0, 1], shape (1, 3, s, s)."""
    return np.asarray(cv2.dnn.blobFromImage(square, 1 / 255, swapRB=True), np.float32)


class YoloDetector:
    """A YOLO detector on the CPU, in any engine.

    Its model takes float32 RGB in [0, 1] of shape (1, 3, s, s) and answers (1, 4 + classes, n):
    centre, width and height in input pixels, then one score per class.
    """

    def __init__(self, engine: Engine, settings: GateSettings):
        self._engine = engine
        self.settings = settings

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> "YoloDetector":
        """The detector of a gate folder, tried once on a grey picture.

        Raises:
            ModelError: `gate.json` or the model is missing, broken, or is not such a detector; or
                its engine is not installed.
        """
        settings = GateSettings.read(folder / GATE_FILE)
        path = folder / settings.model
        engine = load_engine(path, threads)
        problem = _signature_problem(engine, settings)
        if problem is not None:
            raise ModelError(problem, path)
        first_run(path, settings.imgsz, engine)
        return cls(engine, settings)

    def detect(self, image: Image) -> tuple[Detection, ...]:
        """Detections of more than `MIN_CONFIDENCE` after NMS, in the image's frame, best first.

        Args:
            image: uint8 BGR of shape (height, width, 3).

        Raises:
            ValueError: the image is of another type or shape, or empty.
            ModelError: the model failed on it.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"expected a uint8 BGR image, got {image.dtype} of {image.shape}")
        letterbox = Letterbox(size_of(image), self.settings.imgsz)
        return self.read(self.infer(model_input(letterbox.apply(image))), letterbox)

    def infer(self, blob: Floats) -> Floats:
        """The model's answer (4 + classes, n) for an input of `model_input`.

        Raises:
            ModelError: the model failed on it.
        """
        try:
            output = self._engine.run(blob)
        except Exception as error:  # the engines' errors share no base class
            raise ModelError(f"{self.settings.model}: the model cannot run ({error})") from None
        return np.asarray(output[0])

    def read(self, output: Floats, letterbox: Letterbox) -> tuple[Detection, ...]:
        """The detections in an answer of `infer`, after NMS, in the frame of the letterbox.

        Raises:
            ModelError: a score is above 1, or it or a box of a detection is NaN or infinite.
        """
        best = output[4:].max(axis=0)
        likely = np.flatnonzero(best > MIN_CONFIDENCE)
        # Every comparison with NaN is false: unchecked, a broken model would see empty roads only.
        if not (np.isfinite(best).all() and np.isfinite(output[:4, likely]).all()):
            raise ModelError(f"{self.settings.model}: the model answers with NaN or infinity")
        if best.max(initial=0) > 1 + OVER:
            raise ModelError(f"{self.settings.model}: a score of {best.max():g}, expected 0 to 1")
        scores, classes = np.minimum(best[likely], 1), output[4:, likely].argmax(axis=0)
        centre, half = output[:2, likely].T, output[2:4, likely].T / 2
        boxes = np.concatenate((centre - half, centre + half), axis=1, dtype=np.float32)
        stays = suppress(boxes, scores, classes, self.settings.nms_iou)
        detections = []
        for corners, i in zip(letterbox.invert(boxes[stays]), stays, strict=True):
            x1, y1, x2, y2 = map(float, corners)
            box = Box(x1, y1, x2, y2, letterbox.frame)
            severity = self.settings.classes[classes[i]]
            if box.area > 0:  # in the letterbox's bars it has none
                detections.append(Detection(box, severity, float(scores[i])))
        return tuple(detections)


def _signature_problem(engine: Engine, settings: GateSettings) -> str | None:
    """Why a model is not the detector that `gate.json` describes, `None` when it is."""
    inputs, outputs, side = engine.inputs, engine.outputs, settings.imgsz
    if len(inputs) != 1 or len(outputs) != 1:
        return f"{len(inputs)} inputs and {len(outputs)} outputs, expected one of each"
    anchors = sum((side // stride) ** 2 for stride in (8, 16, 32))  # a prediction for each cell
    expected = {
        "input": (inputs[0], Tensor("float32", (1, 3, side, side))),
        "output": (outputs[0], Tensor("float32", (1, 4 + len(settings.classes), anchors))),
    }
    for name, (actual, wanted) in expected.items():
        if actual != wanted:
            return f"{name} is {actual.type} {actual.shape}, expected {wanted.type} {wanted.shape}"
    return None
