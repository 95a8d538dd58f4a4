"""The form of a sample and of the files that describe a set."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime import schema
from dat_runtime.alert import read_alert
from dat_runtime.draw import model_frame
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import DataError
from dat_runtime.event import event_of, seen_image
from dat_runtime.family import QWEN3_VL
from dat_runtime.files import read_json
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.truth import SPLITS, Frame, read_split
from dat_runtime.types import Accident, Box, Detection, Size
from data.prep.instructions.dataset_info import dataset_info
from data.prep.instructions.guides import Gates, from_labels
from data.prep.instructions.sharegpt import INPUTS, sample, write_samples, write_split
from tests.data.prep.prepared_builder import write_data

CAMERA, SEEN = Size(200, 100), Size(56, 28)
BLACK = np.zeros((1, 1, 3), np.uint8)


def test_a_sample_holds_the_question_and_the_answer_that_the_labels_call_for() -> None:
    accidents = (Accident(Box(0, 0, 100, 50, CAMERA), "severe"),)
    frame = Frame("a", "images/train/a.jpg", CAMERA, accidents)
    made = sample(frame, "the prompt", SEEN, "images/raw/train/a.jpg")
    assert list(made) == ["image_id", "system", "messages", "images", "frame", "original"]
    assert made["system"] == SYSTEM
    assert made["messages"][0] == {"role": "user", "content": "<image>the prompt"}
    assert made["messages"][1].keys() == {"role", "content"}
    assert made["messages"][1]["role"] == "assistant"
    assert made["images"] == ["images/raw/train/a.jpg"]
    assert (made["frame"], made["original"]) == ([56, 28], [200, 100])
    verdict = schema.check(made["messages"][1]["content"], SEEN.width, SEEN.height)
    assert verdict.assessment is not None
    assert verdict.assessment.accidents[0].box.pixels() == (0, 0, 28, 14)


def test_a_set_holds_each_frame_of_each_part_with_its_boxes_and_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"wide": (640, 320), "tall": (320, 640)}
    data = write_data(tmp_path / "data", sizes, [40, 80, 200, 160])
    out = tmp_path / "out"
    out.mkdir()
    write_samples(out, data, Gates("labels"), INPUTS, 200_704, QWEN3_VL)
    for split in SPLITS:
        frames = read_split(data, split)
        images = {}
        for kind in INPUTS:
            made = read_json(out / f"{kind}_{split}.json")
            for frame, one in zip(frames, made, strict=True):
                shown = from_labels(frame, BLACK) if kind == "boxed" else None
                image = read_frame(data / frame.image)
                images[kind], counted = seen_image(image, shown, 200_704, QWEN3_VL)
                path = f"images/{kind}/{split}/{frame.image_id}.jpg"
                prompt = task_prompt(counted, shown)
                assert one == sample(frame, prompt, counted, path, QWEN3_VL)
                assert (out / path).read_bytes() == images[kind]
        assert images["boxed"] != images["raw"]
    assert read_json(out / "dataset_info.json") == dataset_info(
        [f"{kind}_{split}" for kind in ("boxed", "raw") for split in ("train", "val", "test")]
    )
    assert (out / "truth.jsonl").read_bytes() == (data / "truth_test.jsonl").read_bytes()
    erred = read_json(out / "detections.json")
    assert erred["from"] == "labels"
    assert {split: part["detections"] for split, part in erred["parts"].items()} == {
        "train": 2, "val": 2, "test": 2,
    }  # fmt: skip
    assert "[instructions] val: 2 frames, 2 with a detection, 0 with" in capsys.readouterr().out


def test_a_set_without_boxes_needs_no_gate_and_tells_of_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", {"square": (64, 64)})
    out = tmp_path / "out"
    out.mkdir()
    capsys.readouterr()
    write_samples(out, data, None, ["raw"], 12_544)
    assert {path.name for path in out.iterdir()} == {
        "images", "raw_train.json", "raw_val.json", "raw_test.json", "dataset_info.json",
        "truth.jsonl",
    }  # fmt: skip
    (made,) = read_json(out / "raw_test.json")
    assert made["messages"][0]["content"] == f"<image>{task_prompt(Size(56, 56), None)}"
    assert capsys.readouterr().out == ""


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
