"""Frames with true boxes and boxes found, and faster-coco-eval's verdict on them."""

import contextlib
import io

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from dat_runtime.types import SEVERITIES

SIDE = 640
CLASSES = SEVERITIES
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
    """A box by its corner, width and height, as COCO writes it."""
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
