"""Detection metrics against faster-coco-eval, and the gate's (Ultralytics') on the same boxes."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask as coco_mask

from dat_runtime.answer import dump, target
from dat_runtime.types import Accident, Box, Detection, Size
from eval.routing import average_precision
from eval.understanding import metrics
from eval.understanding.metrics import Frame

SIDE = 640
CLASSES = ("moderate", "severe")
FRAMES = 60


class Scene:
    """True boxes of some frames, and boxes found: most a little off, some missed, some invented."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.true: list[tuple[int, int, list[int]]] = []  # frame, class, corners
        self.found: list[tuple[int, int, list[int], float]] = []
        for frame in range(FRAMES):
            for column in rng.choice(4, rng.integers(0, 4), replace=False):
                corner = np.array([column * 160 + rng.integers(0, 30), rng.integers(0, 500)])
                size = rng.integers(30, 120, 2)
                box = [*corner.tolist(), *(corner + size).tolist()]
                kind = int(rng.integers(2))
                self.true.append((frame, kind, box))
                if rng.random() < 0.85:
                    moved = (np.array(box) + rng.integers(-12, 13, 4)).clip(0, SIDE).tolist()
                    said = kind if rng.random() < 0.9 else 1 - kind
                    self.found.append((frame, said, moved, float(rng.random())))
            if rng.random() < 0.3:
                corner = rng.integers(0, 500, 2)
                box = [*corner.tolist(), *(corner + rng.integers(20, 100, 2)).tolist()]
                self.found.append((frame, int(rng.integers(2)), box, float(rng.random()) / 2))


def wide(box: list[int]) -> list[int]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def coco(scene: Scene, *, one_class: bool) -> "COCOeval_faster":
    """faster-coco-eval on the scene, evaluated and summed up."""
    images = [{"id": i + 1, "width": SIDE, "height": SIDE} for i in range(FRAMES)]
    annotations = [
        {
            "id": i + 1,
            "image_id": frame + 1,
            "category_id": 1 if one_class else kind + 1,
            "bbox": wide(box),
            "area": wide(box)[2] * wide(box)[3],
            "iscrowd": 0,
        }
        for i, (frame, kind, box) in enumerate(scene.true)
    ]
    results = [
        {
            "image_id": frame + 1,
            "category_id": 1 if one_class else kind + 1,
            "bbox": wide(box),
            "score": score,
        }
        for frame, kind, box, score in scene.found
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO({"images": images, "annotations": annotations, "categories": categories})
        evaluated = COCOeval_faster(truth, truth.loadRes(results), "bbox", print_function=str)
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated


def measured(scene: Scene) -> metrics.Measures:
    """Our measures of answers that list the boxes found."""
    size = Size(SIDE, SIDE)
    frames, texts = [], []
    for i in range(FRAMES):
        true = [(kind, box) for frame, kind, box in scene.true if frame == i]
        found = [(kind, box) for frame, kind, box, _ in scene.found if frame == i]
        boxes = tuple(tuple(map(float, box)) for _, box in true)
        frames.append(
            Frame(str(i), "", SIDE, SIDE, boxes, tuple(CLASSES[kind] for kind, _ in true))
        )
        said: Any = [Accident(Box(*box, frame=size), CLASSES[kind]) for kind, box in found]  # type: ignore[arg-type]
        texts.append(dump(target(said)))
    return metrics.measure(frames, texts)


@pytest.mark.parametrize("seed", range(5))
def test_iou_equals_faster_coco_evals(seed: int) -> None:
    scene = Scene(seed)
    true = [box for _, _, box in scene.true]
    found = [box for _, _, box, _ in scene.found]
    theirs = coco_mask.iou(
        np.array(list(map(wide, true)), float),
        np.array(list(map(wide, found)), float),
        np.zeros(len(found), np.uint8),
    )
    ours = metrics.iou(np.array(true, float), np.array(found, float))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_recall_at_half_equals_faster_coco_evals(seed: int) -> None:
    """True boxes stand apart, so that its greedy matching and our optimal one agree."""
    scene = Scene(seed)
    recall = coco(scene, one_class=True).eval["recall"]  # IoU thresholds, classes, areas, most
    theirs = recall[0, 0, 0, -1]
    ours = metrics.score(measured(scene), resamples=2)["recall_50"].value
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert 0.5 < theirs < 1


@pytest.mark.parametrize("one_class", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_average_precision_that_is_resampled_is_faster_coco_evals(
    seed: int, one_class: bool
) -> None:
    scene, size = Scene(seed), Size(SIDE, SIDE)
    found: list[list[Detection]] = [[] for _ in range(FRAMES)]
    for frame, kind, box, score in scene.found:
        severity: Any = CLASSES[kind]
        found[frame].append(Detection(Box(*box, frame=size), severity, score))
    frames = []
    for i in range(FRAMES):
        true = [(tuple(map(float, box)), kind) for frame, kind, box in scene.true if frame == i]
        boxes, kinds = tuple(box for box, _ in true), tuple(CLASSES[kind] for _, kind in true)
        frames.append(Frame(str(i), "", SIDE, SIDE, boxes, kinds))
    classes = average_precision.match(frames, found, by_severity=not one_class)
    ours = average_precision.mean_average_precision(classes, np.ones(FRAMES, int))
    theirs = coco(scene, one_class=one_class).stats
    assert ours == pytest.approx([theirs[1], theirs[0]], abs=1e-9)
    assert 0.1 < ours[1] < ours[0] < 1


@pytest.mark.parametrize("seed", range(3))
def test_ultralytics_map_which_the_gate_reports_is_faster_coco_evals_within_a_point(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics interpolates the precision curve otherwise, so the two are not equal."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "1")
    import torch
    from ultralytics.models.yolo.detect import DetectionValidator
    from ultralytics.utils.metrics import ap_per_class

    scene = Scene(seed)
    validator = DetectionValidator.__new__(DetectionValidator)
    validator.iouv = torch.linspace(0.5, 0.95, 10)
    hits = []
    for i in range(FRAMES):
        found = [f for f in scene.found if f[0] == i]
        true = [t for t in scene.true if t[0] == i]
        if not found:
            continue
        boxes = np.array([t[2] for t in true], float).reshape(-1, 4)
        overlap = metrics.iou(boxes, np.array([f[2] for f in found], float))
        kinds = torch.tensor([f[1] for f in found]), torch.tensor([t[1] for t in true])
        hits.append(
            validator.match_predictions(*kinds, torch.tensor(overlap)).numpy()
            if true
            else np.zeros((len(found), 10), bool)
        )
    ordered = sorted(scene.found, key=lambda f: f[0])
    average_precision = ap_per_class(
        np.concatenate(hits),
        np.array([f[3] for f in ordered]),
        np.array([f[1] for f in ordered]),
        np.array([t[1] for t in scene.true]),
    )[5]
    theirs = coco(scene, one_class=False).stats
    assert average_precision.mean() == pytest.approx(theirs[0], abs=0.01)
    assert average_precision[:, 0].mean() == pytest.approx(theirs[1], abs=0.01)
    assert 0.1 < theirs[0] < theirs[1] < 1
