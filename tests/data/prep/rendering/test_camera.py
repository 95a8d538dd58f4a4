import numpy as np
import pytest

from data.prep.rendering.camera import direction, heading
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


def test_a_point_behind_the_camera_is_not_mirrored_into_the_picture() -> None:
    camera = a_camera()
    x, y = camera.project(np.array([1.0, -30.0, 0.0]))
    assert x > camera.size
    assert y > camera.size


@pytest.mark.parametrize("yaw", [-2.0, 0.0, 0.5, 3.0])
def test_the_direction_of_a_heading_has_that_heading(yaw: float) -> None:
    assert heading(direction(yaw)) == pytest.approx(yaw)


def test_a_heading_of_a_quarter_turn_points_to_the_right() -> None:
    assert direction(np.pi / 2) == pytest.approx([1, 0])
