import numpy as np
import pytest

from data.prep.rendering.ground import SIDE, layout, texture_homography, to_texture
from tests.data.prep.rendering.builders import a_camera


@pytest.mark.parametrize("point", [[0.0, 20.0], [-4.0, 12.0], [9.0, 40.0]])
def test_the_texture_lies_in_the_picture_where_the_ground_does(point: list[float]) -> None:
    camera = a_camera()
    column, row = to_texture(np.array(point)) / 16
    x, y, w = texture_homography(camera) @ [column, row, 1.0]
    assert [x / w, y / w] == pytest.approx(camera.project_ground(np.array(point)), abs=0.5)


def test_every_lane_is_paved_where_the_texture_reaches() -> None:
    for seed in range(4):
        ground = layout(np.random.default_rng(seed), a_camera(), snowy=False)
        for lane in ground.lanes():
            columns, rows = (to_texture(lane) // 16).T
            inside = (columns >= 0) & (columns < SIDE) & (rows >= 0) & (rows < SIDE)
            assert inside.any()
            assert ground.paved[rows[inside], columns[inside]].all()
