import cv2
import numpy as np

from dat_runtime.types import Box, Size
from data.prep.rendering.bodies import build
from data.prep.rendering.extents import visible
from data.prep.rendering.painting import paint
from tests.data.prep.rendering.builders import SUN, a_camera, an_empty


def test_a_vehicles_box_is_what_its_pixels_cover() -> None:
    camera = a_camera()
    canvas = an_empty(camera)
    car = build("sedan", (30, 30, 200)).at(camera.focus, 0.7)
    paint(canvas, camera, car, SUN, owner=1)
    changed = (canvas.image != 100).any(axis=2).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(changed)
    seen = Box(x, y, x + w, y + h, Size(320, 320))
    box = visible(canvas.owner, 1)
    assert box is not None
    assert box.iou(seen) > 0.93
