import numpy as np
import pytest

from tests.data.prep.rendering.builders import a_camera


def test_the_camera_sees_its_focus_in_the_middle_of_the_frame() -> None:
    camera = a_camera()
    assert camera.project_ground(camera.focus) == pytest.approx([160, 160])
    x, y = camera.project_ground(camera.focus + 1.0)
    assert x > 160 > y


def test_the_ground_map_agrees_with_the_projection() -> None:
    camera = a_camera()
    x, y, w = camera.homography() @ [2.0, 20.0, 1.0]
    assert camera.project_ground(np.array([2.0, 20.0])) == pytest.approx([x / w, y / w])
