"""The form of a sample and of the files that describe a set."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime import schema
from dat_runtime.alert import read_alert
from dat_runtime.draw import model_frame
from dat_runtime.errors import DataError
from dat_runtime.event import event_of, seen_image
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Detection, Size
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
    assert info["raw_val"] == {
        "file_name": "raw_val.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images", "system": "system"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }


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


def test_an_accident_keeps_its_place_from_label_to_alert_through_frames_of_four_sizes() -> None:
    """Labelled at one size, seen by the gate at another, asked about at a third, told at a fourth.

    Width and height change by other factors each time, so that a box in the wrong frame shows.
    """
    labelled, gate_frame, camera = Size(800, 400), Size(640, 640), Size(1600, 1200)
    asked = model_frame(labelled, max_pixels=50_176)
    assert asked == Size(308, 140)
    label = Accident(Box(400, 100, 600, 300, labelled), "severe")
    seen = [Detection(Box(320, 160, 480, 480, gate_frame), "severe", 0.9)]

    made = sample(Frame("a", "a.jpg", labelled, (label,)), task_prompt(asked, seen), asked, "a.jpg")
    prompt, told = (message["content"] for message in made["messages"])
    assert "[154, 35, 231, 105]" in prompt
    assert json.loads(told)["accidents"][0]["bbox"] == [154, 35, 231, 105]

    picture = np.full((labelled.height, labelled.width, 3), 90, np.uint8)
    encoded, size = seen_image(picture, seen, max_pixels=50_176)
    assert size == asked
    shown = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).astype(int)
    rows, columns = np.nonzero(shown[..., 2] - shown[..., 1] > 100)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (154, 35, 231, 105)

    frame = np.full((camera.height, camera.width, 3), 90, np.uint8)
    for answer in (told, None):
        event = event_of("e", frame, seen, answer, asked)
        alert = read_alert(json.loads(event.json))
        assert alert.source == ("gate" if answer is None else "mllm")
        assert alert.answer.accidents[0].box == Box(800, 300, 1200, 900, camera)
        assert alert.roi == (760, 240, 1240, 960)
