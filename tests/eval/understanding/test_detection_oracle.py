"""Detection metrics against faster-coco-eval."""

import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask

from dat_runtime.answer import dump, target
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Size
from eval.understanding import metrics
from eval.understanding.matching import iou
from tests.eval.detection_scene import CLASSES, FRAMES, SIDE, Scene, coco, wide


def measured(scene: Scene) -> metrics.Measures:
    """Our measures of answers that list the boxes found."""
    size = Size(SIDE, SIDE)
    frames, texts = [], []
    for i in range(FRAMES):
        true = [(kind, box) for frame, kind, box in scene.true if frame == i]
        found = [(kind, box) for frame, kind, box, _ in scene.found if frame == i]
        accidents = [Accident(Box(*box, frame=size), CLASSES[kind]) for kind, box in true]
        frames.append(Frame(str(i), "", size, tuple(accidents)))
        reported = [Accident(Box(*box, frame=size), CLASSES[kind]) for kind, box in found]
        texts.append(dump(target(reported)))
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
    ours = iou(np.array(true, float), np.array(found, float))
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
