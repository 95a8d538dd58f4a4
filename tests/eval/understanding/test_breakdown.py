"""Parts of the frames at the bounds between them."""

from pathlib import Path

import cv2
import numpy as np

from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Size
from eval.understanding.breakdown import breakdown, luma_of
from eval.understanding.metrics import measure
from eval.understanding.pictures import picture_of
from tests.eval.understanding.four_frames import FRAMES, QUIET, measures

SIZE = Size(400, 400)


def test_a_part_has_its_frames_boxes_and_scores() -> None:
    groups = breakdown(FRAMES, measures(), np.array([60.0, 10.0, 255.9, np.nan]))
    assert groups == [
        {
            "group": "night",
            "frames": 1,
            "sev_acc": 0,
            "boxes": 2,
            "bbox_miou": 0.3,
            "recall_50": 0.5,
        },
        {"group": "dusk", "frames": 1, "sev_acc": 1, "boxes": 1, "bbox_miou": 1, "recall_50": 1},
        {"group": "day", "frames": 1, "sev_acc": 0, "boxes": 1, "bbox_miou": 0, "recall_50": 0},
        {"group": "moderate", "boxes": 2, "bbox_miou": 0.3, "recall_50": 0.5},
        {"group": "severe", "boxes": 2, "bbox_miou": 0.5, "recall_50": 0.5},
        {"group": "small box", "boxes": 1, "bbox_miou": 0, "recall_50": 0},
        {"group": "medium box", "boxes": 3, "bbox_miou": 1.6 / 3, "recall_50": 2 / 3},
    ]


def test_a_part_without_boxes_has_no_overlap() -> None:
    frames = [FRAMES[3]] * 2
    found = breakdown(frames, measure(frames, QUIET[:2]), np.array([89.9, 90.0]))
    assert found == [
        {"group": name, "frames": 1, "sev_acc": 1, "boxes": 0, "bbox_miou": None, "recall_50": None}
        for name in ("dusk", "day")
    ]


def test_a_box_at_a_bound_belongs_to_the_larger_part() -> None:
    boxes = [Box(0, 0, w, h, SIZE) for w, h in ((31, 33), (32, 32), (95, 97), (96, 96))]
    frames = [Frame("a", "", SIZE, tuple(Accident(box, "severe") for box in boxes))]
    found = breakdown(frames, measure(frames, [None]), np.array([np.nan]))
    assert {group["group"]: group["boxes"] for group in found} == {
        "severe": 4,
        "small box": 1,
        "medium box": 2,
        "large box": 1,
    }


def picture(folder: Path, inputs: str, name: str, grey: int) -> None:
    path = folder / "images" / inputs / "test" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8, 3), grey, np.uint8))


def test_the_raw_picture_is_looked_at_where_it_is_there(tmp_path: Path) -> None:
    picture(tmp_path, "boxed", "right.jpg", 10)
    picture(tmp_path, "boxed", "wrong.jpg", 20)
    picture(tmp_path, "raw", "wrong.png", 30)
    picture(tmp_path, "raw", "quiet.png", 40)
    picture(tmp_path, "raw", "quiet.jpg", 50)
    (tmp_path / "images" / "raw" / "test" / "broken.jpg").write_bytes(b"no picture")
    frames = [*FRAMES, FRAMES[0]._replace(image_id="broken")]
    names = [
        path and path.relative_to(tmp_path / "images").as_posix()
        for path in (picture_of(frame, tmp_path) for frame in frames)
    ]
    assert names == [
        *("boxed/test/right.jpg", "raw/test/wrong.png", None, "raw/test/quiet.jpg"),
        "raw/test/broken.jpg",
    ]
    luma = luma_of(frames, tmp_path)
    assert luma.round().tolist()[:2] == [10, 30]
    assert luma[3].round() == 50
    assert np.isnan(luma[[2, 4]]).all()


def test_an_id_that_climbs_out_of_the_folder_finds_nothing(tmp_path: Path) -> None:
    picture(tmp_path, "raw", "right.png", 10)
    (tmp_path / "images" / "raw" / "other.png").write_bytes(b"secret")
    (tmp_path / "images" / "raw" / "test" / "folder.png").mkdir()
    for name in ("../other", "folder"):
        assert picture_of(FRAMES[0]._replace(image_id=name), tmp_path) is None
    (tmp_path / "images" / "raw" / "test" / "inner").mkdir()
    (tmp_path / "images" / "raw" / "test" / "inner" / "a.png").write_bytes(b"x")
    assert picture_of(FRAMES[0]._replace(image_id="inner/a"), tmp_path) is not None
