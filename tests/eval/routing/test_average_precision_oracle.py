"""Average precision against faster-coco-eval's, and the gate's (Ultralytics') on the same boxes."""

from pathlib import Path

import numpy as np
import pytest

from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Detection, Size
from eval.routing import average_precision
from tests.eval.detection_scene import CLASSES, FRAMES, SIDE, Scene, coco


@pytest.mark.parametrize("one_class", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_average_precision_that_is_resampled_is_faster_coco_evals(
    seed: int, one_class: bool
) -> None:
    scene, size = Scene(seed), Size(SIDE, SIDE)
    found: list[list[Detection]] = [[] for _ in range(FRAMES)]
    for frame, kind, box, score in scene.found:
        found[frame].append(Detection(Box(*box, frame=size), CLASSES[kind], score))
    true: list[list[Accident]] = [[] for _ in range(FRAMES)]
    for frame, kind, box in scene.true:
        true[frame].append(Accident(Box(*box, frame=size), CLASSES[kind]))
    frames = [Frame(str(i), "", size, tuple(accidents)) for i, accidents in enumerate(true)]
    classes = average_precision.match(frames, found, by_severity=not one_class)
    ours = average_precision.mean_average_precision(classes, np.ones(FRAMES, int))
    theirs = coco(scene, one_class=one_class).stats
    assert ours == pytest.approx([theirs[1], theirs[0]], abs=1e-9)
    assert 0.1 < ours[1] < ours[0] < 1


@pytest.mark.slow
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

    scene, size = Scene(seed), Size(SIDE, SIDE)
    validator = DetectionValidator.__new__(DetectionValidator)
    validator.iouv = torch.linspace(0.5, 0.95, 10)
    hits = []
    for i in range(FRAMES):
        found = [f for f in scene.found if f[0] == i]
        true = [t for t in scene.true if t[0] == i]
        if not found:
            continue
        overlap = np.zeros((len(true), len(found)))
        for row, (_, _, true_box) in enumerate(true):
            for column, (_, _, found_box, _) in enumerate(found):
                overlap[row, column] = Box(*true_box, size).iou(Box(*found_box, size))
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
