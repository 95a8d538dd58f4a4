"""Static INT8 of a gate by NNCF's post-training quantization, and what it costs in accuracy."""

import contextlib
import io
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime.draw import size_of
from dat_runtime.edge.detector import Letterbox, YoloDetector, model_input
from dat_runtime.edge.engines import silent_openvino
from dat_runtime.edge.settings import GateSettings
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import DataError, ModelError
from dat_runtime.gate import HIGH_THRESHOLD, LOW_THRESHOLD, trigger_score
from dat_runtime.truth import Frame
from dat_runtime.types import Box, Detection

CALIBRATION_FRAMES = 300
"""How many training frames set the ranges; NNCF's own number."""

MAX_LOSS = 0.02
"""Of mAP50 on the test frames: a gate that loses more is not made unless that is accepted."""

MAP, MAP50 = 0, 1
"""Places of COCO's twelve figures: AP at IoU .50:.95, and at .50."""


def quantize(model: Any, frames: Sequence[Path], side: int) -> Any:
    """The model with INT8 weights and activations, its ranges set on these frames.

    What follows the last convolutions (the distribution to box sides, the sigmoid of the scores,
    the corners in pixels) stays in float: it costs next to nothing and 8 bits are too few there.

    Args:
        model: in float, as OpenVINO reads it.

    Raises:
        ModelError: it is quantized already, or was not exported by Ultralytics.
    """
    nncf = silent_nncf()
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # The widest range over the frames, not the mean of their ranges: activations that only a clear
    # accident reaches would be clipped, and the highest scores with them.
    widest = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )
    dataset = nncf.Dataset(frames, lambda path: blob_of(path, side))
    return nncf.quantize(
        model,
        dataset,
        # Activations of SiLU are not symmetric around zero.
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(frames),
        ignored_scope=nncf.IgnoredScope(patterns=[decoding(model)]),
        advanced_parameters=widest,
    )


def decoding(model: Any) -> str:
    """A pattern of the names of all operations of the detection head outside its branches.

    The head is the last of the numbered modules; its branches of convolutions are cv2, cv3, ...
    """
    operations = model.get_ordered_ops()
    if any(op.get_type_name() == "FakeQuantize" for op in operations):
        raise ModelError("the gate is quantized already: give the one in float")
    names = " ".join(op.get_friendly_name() for op in operations)
    modules = [int(number) for number in re.findall(r"/model\.(\d+)/", names)]
    if not modules:
        raise ModelError("expected operations named /model.0/... as Ultralytics exports them")
    return rf"/model\.{max(modules)}/(?!cv\d).*"


def silent_nncf() -> Any:
    """NNCF without its telemetry and its remarks about single operations."""
    silent_openvino()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf

    logging.getLogger("nncf").setLevel(logging.WARNING)
    return nncf


def blob_of(path: Path, side: int) -> Any:
    """A picture as the network takes it, letterboxed to `side` x `side`."""
    image = read_frame(path)
    return model_input(Letterbox(size_of(image), side).apply(image))


def spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` frames, evenly over all: accidents and negatives as they are mixed."""
    taken = min(count, len(frames))
    return [frames[i * len(frames) // taken] for i in range(taken)]


def cost(gate: Path, exported: Path, data: Path, frames: Sequence[Frame]) -> dict[str, Any]:
    """The difference between the exported gate and the gate, on the same frames.

    Returns:
        mAP of both, and per threshold on the trigger score s_t (Eq. 1) the share of frames with
        the same decision, and how many are lost and won.
    """
    before = YoloDetector.load(gate)
    after = YoloDetector.load(exported)
    before_by_frame = _detections(before, data, frames)
    after_by_frame = _detections(after, data, frames)
    before_scores = [trigger_score(detections) for detections in before_by_frame]
    after_scores = [trigger_score(detections) for detections in after_by_frame]
    agreements = {}
    for threshold in (LOW_THRESHOLD, HIGH_THRESHOLD):
        before_triggers = [score >= threshold for score in before_scores]
        after_triggers = [score >= threshold for score in after_scores]
        agreements[f"{threshold:g}"] = agreement(before_triggers, after_triggers)
    changes = [abs(a - b) for a, b in zip(before_scores, after_scores, strict=True)]
    return {
        "frames": len(frames),
        "float": accuracy(frames, before_by_frame, after.settings),
        "int8": accuracy(frames, after_by_frame, after.settings),
        "agreement": agreements,
        "largest_score_change": max(changes),
    }


def _detections(
    detector: YoloDetector, data: Path, frames: Sequence[Frame]
) -> list[tuple[Detection, ...]]:
    return [detector.detect(read_frame(data / frame.image)) for frame in frames]


def agreement(before: Sequence[bool], after: Sequence[bool]) -> dict[str, float | int]:
    """Share of equal decisions, and how many turned to no (lost) and to yes (won)."""
    pairs = list(zip(before, after, strict=True))
    return {
        "same": sum(a == b for a, b in pairs) / len(pairs),
        "lost": sum(a and not b for a, b in pairs),
        "won": sum(b and not a for a, b in pairs),
    }


def accuracy(
    frames: Sequence[Frame],
    detections_by_frame: Sequence[Sequence[Detection]],
    settings: GateSettings,
) -> dict[str, float]:
    """mAP50 and mAP50-95 by faster-coco-eval, over the classes of the gate.

    Raises:
        DataError: no frame shows an accident.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    def category(severity: str | None) -> int:
        # COCO counts from 1. A gate of one class takes every accident for that class.
        return settings.classes.index(severity) + 1 if severity in settings.classes else 1

    labels: list[dict[str, Any]] = []
    for image, frame in enumerate(frames, 1):
        for accident in frame.accidents:
            label = annotation(len(labels) + 1, image, accident.box, category(accident.severity))
            labels.append(label | {"iscrowd": 0})
    answers: list[dict[str, Any]] = []
    for image, detections in enumerate(detections_by_frame, 1):
        for detection in detections:
            answer = annotation(
                len(answers) + 1, image, detection.box, category(detection.severity)
            )
            answers.append(answer | {"score": detection.confidence})
    if not labels:
        raise DataError("no frame shows an accident, so accuracy cannot be measured")
    if not answers:
        return {"mAP50": 0.0, "mAP50-95": 0.0}
    content = {
        "images": [{"id": image} for image in range(1, len(frames) + 1)],
        "categories": [{"id": index + 1} for index in range(len(settings.classes))],
        "annotations": labels,
    }
    # It prints a table of its own.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(content)
        measured = COCOeval_faster(truth, truth.loadRes(answers), "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return {"mAP50": float(measured.stats[MAP50]), "mAP50-95": float(measured.stats[MAP])}


def annotation(number: int, image: int, box: Box, category: int) -> dict[str, Any]:
    """A box as COCO writes it: corner, width and height, in pixels."""
    width, height = box.x2 - box.x1, box.y2 - box.y1
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [box.x1, box.y1, width, height],
        "area": width * height,
    }


def demand_small_loss(report: dict[str, Any]) -> None:
    """Refuse a report of `cost` in which mAP50 falls by more than `MAX_LOSS`.

    Raises:
        ModelError: it does.
    """
    before, after = report["float"]["mAP50"], report["int8"]["mAP50"]
    if before - after > MAX_LOSS:
        raise ModelError(
            f"INT8 costs {before - after:.3f} of mAP50 on the test frames, more than {MAX_LOSS}: "
            f"{json.dumps(report)}. Ship the float gate, or take the loss with --accept-loss"
        )
