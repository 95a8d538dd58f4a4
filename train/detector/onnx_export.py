"""From the trained gate to the one that runs everywhere else: ONNX, held to the original."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.draw import Image
from dat_runtime.edge.detector import MIN_CONFIDENCE, YoloDetector
from dat_runtime.edge.settings import GATE_FILE, GateSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import ModelError
from dat_runtime.files import write_atomically
from dat_runtime.types import Box, Detection, Size

OPSET = 17
MIN_IOU = 0.99
MAX_CONFIDENCE_GAP = 1e-3
FRAMES = 32
"""How many validation frames the parity check looks at."""


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
    stays = [p for p in model.metadata_props if p.key not in ("date", "description", "args")]
    del model.metadata_props[:]
    model.metadata_props.extend(stays)
    write_atomically(folder / settings.model, model.SerializeToString())
    written.unlink()
    write_atomically(folder / GATE_FILE, json.dumps(settings.as_json(), indent=1) + "\n")


def check_parity(weights: Path, folder: Path, frames: Sequence[Path]) -> dict[str, Any]:
    """Compare the exported gate with the trained model, detection by detection.

    Every detection of one must have a partner of the same class in the other. Detections within
    the confidence gap of the floor may be missing on one side.

    Returns:
        The report: frames, detections, lowest IoU and largest confidence gap of the partners.

    Raises:
        ModelError: a detection has no partner, or partners differ by more than the limits.
    """
    from ultralytics import YOLO

    trained, exported = YOLO(weights), YoloDetector.load(folder)
    worst_iou, worst_gap, count = 1.0, 0.0, 0
    for path in frames:
        image = read_frame(path)
        of_trained = trained_detections(trained, image, exported.settings)
        of_exported = exported.detect(image)
        for ours, theirs in ((of_trained, of_exported), (of_exported, of_trained)):
            for detection in ours:
                if detection.confidence < MIN_CONFIDENCE + MAX_CONFIDENCE_GAP:
                    continue
                iou, gap = partner(detection, theirs)
                worst_iou, worst_gap, count = min(worst_iou, iou), max(worst_gap, gap), count + 1
    report = {
        "frames": len(frames),
        "detections": count // 2,
        "lowest_iou": worst_iou,
        "largest_confidence_gap": worst_gap,
        "limits": {"iou": MIN_IOU, "confidence": MAX_CONFIDENCE_GAP},
    }
    if worst_iou < MIN_IOU or worst_gap > MAX_CONFIDENCE_GAP:
        raise ModelError(f"the exported gate differs from the trained one: {json.dumps(report)}")
    return report


def partner(detection: Detection, others: Sequence[Detection]) -> tuple[float, float]:
    """IoU with, and confidence gap to, the other side's best match of the same class."""
    same = [d for d in others if d.severity == detection.severity]
    if not same:
        return 0.0, 1.0
    # Several boxes may overlap fully; of those the partner is the one with the nearest confidence.
    match = min(
        same,
        key=lambda d: (
            detection.box.iou(d.box) < MIN_IOU,
            abs(d.confidence - detection.confidence),
        ),
    )
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
    return tuple(
        Detection(Box(*xyxy, frame), settings.classes[int(c)], confidence)
        for xyxy, c, confidence in zip(
            boxes.xyxy.tolist(), boxes.cls.tolist(), boxes.conf.tolist(), strict=True
        )
    )
