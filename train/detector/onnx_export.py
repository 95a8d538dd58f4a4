"""The trained gate in ONNX, which runs everywhere else, and the check that it answers the same."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dat_runtime.draw import Image, size_of
from dat_runtime.edge.detector import MIN_CONFIDENCE, Letterbox, YoloDetector, model_input
from dat_runtime.edge.gate_model.trial import check_file
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import ModelError
from dat_runtime.files import write_atomically, write_json
from dat_runtime.types import Box, Detection, Size
from train.detector.dataset import classes_of
from train.detector.ultralytics_config import NMS_IOU

OPSET = 17
MIN_IOU = 0.99
MAX_CONFIDENCE_GAP = 1e-3
"""Between partners, at most; confidences are from 0 to 1."""

MIN_AREA = 1.0
"""Of a detection that is compared, in pixels: of a sliver beside the letterbox's bars an IoU says
nothing."""

FRAMES = 32
"""How many validation frames the parity check looks at."""


def export_checked(
    folder: Path, data: Path, config: Mapping[str, Any], val_boxes: Mapping[str, int]
) -> None:
    """Write gate.onnx, gate.json and parity.json beside `best.pt`.

    Args:
        config: Ultralytics' keys.
        val_boxes: boxes per validation frame; frames with accidents are compared first.

    Raises:
        ModelError: see `check_parity`.
    """
    weights = folder / "best.pt"
    settings = GateSettings(
        classes=classes_of(config),
        imgsz=config["imgsz"],
        nms_iou=config.get("iou", NMS_IOU),
    )
    export_onnx(weights, folder, settings)
    frames = sorted(
        (data / "images" / "val").iterdir(),
        key=lambda frame: (val_boxes[frame.stem] == 0, frame),
    )
    write_json(folder / "parity.json", check_parity(weights, folder, frames[:FRAMES]))


def export_onnx(weights: Path, folder: Path, settings: GateSettings) -> None:
    """Write `gate.onnx` and `gate.json` into the folder.

    Names, shapes and strides stay in the model's metadata; its date and paths do not, so that the
    same weights give the same file.
    """
    import onnx
    from ultralytics import YOLO

    written = Path(
        YOLO(weights).export(
            format="onnx", imgsz=settings.imgsz, opset=OPSET, simplify=True, device="cpu"
        )
    )
    model = onnx.load(written)
    lasting = [
        entry for entry in model.metadata_props if entry.key not in ("date", "description", "args")
    ]
    del model.metadata_props[:]
    model.metadata_props.extend(lasting)
    write_atomically(folder / settings.model, model.SerializeToString())
    written.unlink()
    write_json(folder / GATE_FILE, settings.as_json())


def check_parity(weights: Path, folder: Path, frames: Sequence[Path]) -> dict[str, Any]:
    """Compare the exported gate with the trained model, detection by detection.

    Every detection of one must have a partner of the same class in the other. Detections within
    the confidence gap of the lowest confidence may be missing on one side, and of those in the bars
    beside a frame only the confidences are compared. A gate may detect nothing at all, so all
    confidences of the networks' raw answers are compared too.

    Returns:
        The report: frames, detections, lowest IoU and largest confidence gap of the partners, and
        the largest gap of the raw confidences with their number.

    Raises:
        ModelError: a detection has no partner, or partners differ by more than the limits; or the
            model holds what no node would open.
    """
    from ultralytics import YOLO

    settings = GateSettings.read(folder / GATE_FILE)
    check_file(folder / settings.model, settings)
    trained, exported = YOLO(weights), YoloDetector.load(folder)
    partners: list[tuple[float, float]] = []
    gaps: list[NDArray[np.float32]] = []
    for path in frames:
        image = read_frame(path)
        by_trained = trained_detections(trained, image, exported.settings)
        partners += partners_of_both(by_trained, exported.detect(image))
        gaps.append(raw_gaps(trained, exported, image))
    return demand_parity(len(frames), partners, gaps)


def demand_parity(
    frames: int, partners: Sequence[tuple[float, float]], raw: Sequence[NDArray[np.float32]]
) -> dict[str, Any]:
    """The report of `check_parity`.

    Args:
        partners: IoU and confidence gap of every detection of either side.
        raw: per frame the differences of the raw confidences.

    Raises:
        ModelError: see `check_parity`.
    """
    worst_iou = min((iou for iou, _ in partners), default=1.0)
    worst_gap = max((gap for _, gap in partners), default=0.0)
    raw_gap = max((float(gaps.max()) for gaps in raw), default=0.0)
    raw_count = sum(gaps.size for gaps in raw)
    report = {
        "frames": frames,
        "detections": len(partners) // 2,
        "lowest_iou": worst_iou,
        "largest_confidence_gap": worst_gap,
        "raw_confidences": raw_count,
        "largest_raw_gap": raw_gap,
        "limits": {"iou": MIN_IOU, "confidence": MAX_CONFIDENCE_GAP},
    }
    if worst_iou < MIN_IOU or max(worst_gap, raw_gap) > MAX_CONFIDENCE_GAP or not raw_count:
        raise ModelError(f"the exported gate differs from the trained one: {json.dumps(report)}")
    return report


def partners_of_both(
    by_trained: Sequence[Detection], by_exported: Sequence[Detection]
) -> list[tuple[float, float]]:
    """`partner` of every detection of either side, so that one more shows as well as one less.

    But for those that are hardly sure, and those that lie outside the frame, which have no IoU.
    """
    lowest = MIN_CONFIDENCE + MAX_CONFIDENCE_GAP
    return [
        partner(detection, others)
        for some, others in ((by_trained, by_exported), (by_exported, by_trained))
        for detection in some
        if detection.confidence >= lowest and detection.box.area >= MIN_AREA
    ]


def raw_gaps(trained: Any, exported: YoloDetector, image: Image) -> NDArray[np.float32]:
    """The differences of all confidences in both networks' answers to one and the same input."""
    import torch

    letterbox = Letterbox(size_of(image), exported.settings.imgsz)
    blob = model_input(letterbox.apply(image))
    with torch.inference_mode():
        answer = trained.model.eval().float().cpu()(torch.from_numpy(blob))
    boxes = 4  # the rows above those of the classes
    confidences = answer[0][0, boxes:].numpy()
    return np.abs(confidences - exported.infer(blob)[boxes:])


def partner(detection: Detection, others: Sequence[Detection]) -> tuple[float, float]:
    """IoU with, and confidence gap to, the other side's best match of the same class."""
    same_class = [other for other in others if other.severity == detection.severity]
    if not same_class:
        return 0.0, 1.0

    def distance(other: Detection) -> tuple[bool, float]:
        # Several boxes may overlap fully; of those the one with the nearest confidence is meant.
        is_elsewhere = detection.box.iou(other.box) < MIN_IOU
        return is_elsewhere, abs(other.confidence - detection.confidence)

    match = min(same_class, key=distance)
    return detection.box.iou(match.box), abs(match.confidence - detection.confidence)


def trained_detections(model: Any, image: Image, settings: GateSettings) -> tuple[Detection, ...]:
    """What Ultralytics itself detects, with the settings of the gate."""
    boxes = model.predict(
        image,
        imgsz=settings.imgsz,
        conf=MIN_CONFIDENCE,
        iou=settings.nms_iou,
        rect=False,
        device="cpu",
        verbose=False,
    )[0].boxes
    frame = Size(width=image.shape[1], height=image.shape[0])
    rows = zip(boxes.xyxy.tolist(), boxes.cls.tolist(), boxes.conf.tolist(), strict=True)
    return tuple(
        Detection(Box(*corners, frame), settings.classes[int(index)], confidence)
        for corners, index, confidence in rows
    )
