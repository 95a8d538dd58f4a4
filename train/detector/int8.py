"""Static INT8 of a gate by NNCF's post-training quantization, and what it costs in accuracy."""

import contextlib
import io
import json
import logging
import re
from collections.abc import Iterable, Sequence
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
from dat_runtime.types import Detection

CALIBRATION_FRAMES = 300
"""How many training frames set the ranges; NNCF's own number."""

MAX_LOSS = 0.02
"""Of mAP50 on the test frames: a gate that loses more is not made unless that is accepted."""


def quantize(model: Any, frames: Sequence[Path], side: int) -> Any:
    """The model with INT8 weights and activations, its ranges set on these frames.

    What follows the last convolutions (the distribution to box sides, the sigmoid of the scores,
    the corners in pixels) stays in float: it costs next to nothing and 8 bits are too few there.

    Args:
        model: in float, as OpenVINO reads it.

    Raises:
        ModelError: it is quantized already, or no detector of Ultralytics' export.
    """
    nncf = silent_nncf()
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # Over the frames the widest range, not the mean of theirs: what a sure accident alone excites
    # would be clipped, and the highest scores with it.
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
    """A pattern of the names of all operations of the detection head outside its branches."""
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
    image = read_frame(path)
    return model_input(Letterbox(size_of(image), side).apply(image))


def spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` frames, evenly over all: accidents and negatives as they are mixed."""
    taken = min(count, len(frames))
    return [frames[i * len(frames) // taken] for i in range(taken)]


def cost(gate: Path, exported: Path, data: Path, frames: Sequence[Frame]) -> dict[str, Any]:
    """What the exported gate loses against the gate, on the same frames.

    Returns:
        mAP of both, and per threshold on the trigger score s_t (Eq. 1) the share of frames with
        the same decision, and how many are lost and won.
    """
    found: dict[str, list[tuple[Detection, ...]]] = {}
    for name, folder in (("float", gate), ("int8", exported)):
        detector = YoloDetector.load(folder)
        found[name] = [detector.detect(read_frame(data / frame.image)) for frame in frames]
    settings = detector.settings
    before, after = ([trigger_score(d) for d in found[name]] for name in ("float", "int8"))
    return {
        "frames": len(frames),
        **{name: accuracy(frames, of, settings) for name, of in found.items()},
        "agreement": {
            f"{tau:g}": agreement([s >= tau for s in before], [s >= tau for s in after])
            for tau in (LOW_THRESHOLD, HIGH_THRESHOLD)
        },
        "largest_score_change": max(abs(a - b) for a, b in zip(before, after, strict=True)),
    }


def agreement(before: Sequence[bool], after: Sequence[bool]) -> dict[str, float | int]:
    pairs = list(zip(before, after, strict=True))
    return {
        "same": sum(a == b for a, b in pairs) / len(pairs),
        "lost": sum(a and not b for a, b in pairs),
        "won": sum(b and not a for a, b in pairs),
    }


def accuracy(
    frames: Sequence[Frame], found: Sequence[Sequence[Detection]], settings: GateSettings
) -> dict[str, float]:
    """mAP50 and mAP50-95 by faster-coco-eval, over the classes of the gate."""
    from faster_coco_eval import COCO, COCOeval_faster

    def category(severity: str | None) -> int:
        return settings.classes.index(severity) + 1 if severity in settings.classes else 1

    true = [
        (i, (a.box.x1, a.box.y1, a.box.x2, a.box.y2), category(a.severity), {"iscrowd": 0})
        for i, frame in enumerate(frames, 1)
        for a in frame.accidents
    ]
    answers = [
        (i, (d.box.x1, d.box.y1, d.box.x2, d.box.y2), category(d.severity), {"score": d.confidence})
        for i, detections in enumerate(found, 1)
        for d in detections
    ]
    if not true:
        raise DataError("no frame shows an accident, so accuracy cannot be measured")
    if not answers:
        return {"mAP50": 0.0, "mAP50-95": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(
            {
                "images": [{"id": i} for i in range(1, len(frames) + 1)],
                "categories": [{"id": i + 1} for i in range(len(settings.classes))],
                "annotations": entries(true),
            }
        )
        measured = COCOeval_faster(truth, truth.loadRes(entries(answers)), "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return {"mAP50": float(measured.stats[1]), "mAP50-95": float(measured.stats[0])}


def entries(boxes: Iterable[tuple[int, Sequence[float], int, dict[str, Any]]]) -> list[Any]:
    """Boxes `(image, (x1, y1, x2, y2), category, further fields)` as COCO annotations."""
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            **fields,
        }
        for number, (image, (x1, y1, x2, y2), category, fields) in enumerate(boxes, 1)
    ]


def demand_small_loss(report: dict[str, Any]) -> None:
    """Refuse a report of `cost` that states more than `MAX_LOSS` of mAP50 lost.

    Raises:
        ModelError: it does.
    """
    before, after = report["float"]["mAP50"], report["int8"]["mAP50"]
    if before - after > MAX_LOSS:
        raise ModelError(
            f"INT8 costs {before - after:.3f} of mAP50 on the test frames, more than {MAX_LOSS}: "
            f"{json.dumps(report)}. Ship the float gate, or take the loss with --accept-loss"
        )
