import numpy as np
import pytest

from data.prep.rendering.aftermath import scatter
from data.prep.rendering.bodies import build
from data.prep.rendering.collisions import moderate, severe
from data.prep.rendering.extents import extent, visible
from data.prep.rendering.painting import paint
from tests.data.prep.rendering.builders import SUN, a_camera, an_empty


@pytest.mark.parametrize("kind", [moderate, severe])
def test_a_collisions_box_is_the_extent_of_its_geometry(kind: object) -> None:
    camera = a_camera()
    for seed in range(5):
        crash = kind(np.random.default_rng(seed), camera.focus, 0.4)  # type: ignore[operator]
        canvas = an_empty(camera)
        scatter(canvas, camera, crash.debris, owner=1)
        for vehicle in crash.vehicles:
            paint(canvas, camera, vehicle, SUN, owner=1)
        seen = visible(canvas.owner, 1)
        assert seen is not None
        assert seen.iou(extent(camera, crash)) > 0.9


def test_what_hides_a_collision_makes_its_box_smaller() -> None:
    camera = a_camera()
    canvas = an_empty(camera)
    paint(canvas, camera, build("van", (200, 200, 200)).at(camera.focus, 1.5), SUN, owner=1)
    whole = visible(canvas.owner, 1)
    canvas.fill(np.array([[0, 0], [160, 0], [160, 320], [0, 320]]), (0, 0, 0))
    half = visible(canvas.owner, 1)
    assert whole is not None
    assert half is not None
    assert whole.x1 < 150
    assert half.x1 == pytest.approx(160, abs=1)
    assert half.x2 == whole.x2
