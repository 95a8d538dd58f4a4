"""The form of a sample and of the files that describe a set."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime import schema
from dat_runtime.errors import DataError
from dat_runtime.prompt import SYSTEM
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Size
from data.prep.instructions.dataset_info import dataset_info
from data.prep.instructions.guides import from_labels
from data.prep.instructions.sharegpt import sample, write_split

CAMERA, SEEN = Size(200, 100), Size(56, 28)


def test_a_sample_holds_the_question_and_the_answer_that_the_labels_call_for() -> None:
    accidents = (Accident(Box(0, 0, 100, 50, CAMERA), "severe"),)
    frame = Frame("a", "images/train/a.jpg", CAMERA, accidents)
    made = sample(frame, "the prompt", SEEN, "images/raw/train/a.jpg")
    assert list(made) == ["image_id", "system", "messages", "images", "frame", "original"]
    assert made["system"] == SYSTEM
    assert made["messages"][0] == {"role": "user", "content": "<image>the prompt"}
    assert made["images"] == ["images/raw/train/a.jpg"]
    assert (made["frame"], made["original"]) == ([56, 28], [200, 100])
    verdict = schema.check(made["messages"][1]["content"], SEEN.width, SEEN.height)
    assert verdict.assessment is not None
    assert verdict.assessment.accidents[0].box.pixels() == (0, 0, 28, 14)


def test_a_data_set_lies_in_the_file_of_its_name() -> None:
    info = dataset_info(["boxed_train", "raw_val"])
    assert {name: entry["file_name"] for name, entry in info.items()} == {
        "boxed_train": "boxed_train.json",
        "raw_val": "raw_val.json",
    }
    assert {entry["formatting"] for entry in info.values()} == {"sharegpt"}


def test_a_frame_that_the_model_cannot_take_is_named_by_its_whole_path(tmp_path: Path) -> None:
    picture = tmp_path / "data" / "images" / "val" / "long.jpg"
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.zeros((10, 300, 3), np.uint8))
    line = (
        '{"image_id": "long", "image": "images/val/long.jpg", "width": 300, "height": 10, '
        '"accidents": []}\n'
    )
    (tmp_path / "data" / "truth_val.jsonl").write_text(line)
    with pytest.raises(DataError) as caught:
        write_split(tmp_path / "data", "val", from_labels, tmp_path / "out", ["boxed"], 12544)
    assert str(caught.value).startswith(f"{picture}: no image for the model: side ratio above")
