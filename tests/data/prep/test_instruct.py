"""Instruction data: one frame in, boxed and raw samples out, coordinates there and back."""

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from dat_runtime import answer, schema
from dat_runtime.edge.source import read_frame
from dat_runtime.event import question
from dat_runtime.manifest import verify
from dat_runtime.stage import Stage
from dat_runtime.truth import SPLITS, read_split
from dat_runtime.types import Size
from data.prep import instruct
from data.prep.instructions.guides import from_gate
from data.prep.instructions.sharegpt import INPUTS
from tests.data.prep.prepared_builder import write_data

BOTH = ("--inputs", "boxed", "raw")


def run(tmp_path: Path, gate: Path, *options: str) -> int:
    out = ["--out", str(tmp_path / "instructions")]
    return instruct.main(["--data", str(tmp_path / "data"), "--gate", str(gate), *out, *options])


def read(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((tmp_path / "instructions" / f"{name}.json").read_text())


@pytest.mark.parametrize("max_pixels", [12544, 1003520])
def test_a_target_carried_back_to_the_camera_frame_is_the_label(
    tmp_path: Path, gate_folder: Path, max_pixels: int
) -> None:
    data = write_data(tmp_path / "data")
    assert run(tmp_path, gate_folder, "--max-pixels", str(max_pixels)) == 0
    labelled = {frame.image_id: frame for frame in read_split(data, "test")}
    for sample in read(tmp_path, "boxed_test"):
        frame, original = Size(*sample["frame"]), Size(*sample["original"])
        reply = sample["messages"][1]["content"]
        verdict = schema.check(reply, frame.width, frame.height)
        assert verdict.rule
        assert not verdict.violation
        in_camera = answer.in_frame(reply, frame, original)
        moved = schema.check(in_camera, original.width, original.height)
        assert moved.assessment is not None
        found = moved.assessment.accidents[0].box
        wanted = labelled[sample["image_id"]].accidents[0].box
        pixel = max(original.width / frame.width, original.height / frame.height)
        for edge in ("x1", "y1", "x2", "y2"):
            assert abs(getattr(found, edge) - getattr(wanted, edge)) <= pixel


def test_an_image_is_stored_at_the_size_that_its_sample_states(
    tmp_path: Path, gate_folder: Path
) -> None:
    write_data(tmp_path / "data")
    run(tmp_path, gate_folder, "--max-pixels", "12544", *BOTH)
    for inputs in INPUTS:
        for sample in read(tmp_path, f"{inputs}_train"):
            image = cv2.imread(str(tmp_path / "instructions" / sample["images"][0]))
            assert [image.shape[1], image.shape[0]] == sample["frame"]
            assert image.shape[0] % 28 == image.shape[1] % 28 == 0
            assert image.shape[0] * image.shape[1] <= 12544


def test_raw_and_boxed_differ_by_the_drawing_and_the_listed_boxes_alone(
    tmp_path: Path, gate_folder: Path
) -> None:
    write_data(tmp_path / "data")
    run(tmp_path, gate_folder, *BOTH)
    folder = tmp_path / "instructions"
    for boxed, raw in zip(read(tmp_path, "boxed_val"), read(tmp_path, "raw_val"), strict=True):
        assert boxed["system"] == raw["system"]
        assert boxed["messages"][1] == raw["messages"][1]
        assert boxed["messages"][0]["content"].startswith(raw["messages"][0]["content"])
        assert "severe 0.90" in boxed["messages"][0]["content"]
        images = [cv2.imread(str(folder / sample["images"][0])) for sample in (boxed, raw)]
        assert (images[0] != images[1]).any()


def test_every_data_set_that_dataset_info_names_is_there_and_the_folder_verifies(
    tmp_path: Path, gate_folder: Path
) -> None:
    write_data(tmp_path / "data")
    run(tmp_path, gate_folder, *BOTH)
    folder = tmp_path / "instructions"
    info = json.loads((folder / "dataset_info.json").read_text())
    assert set(info) == {f"{i}_{s}" for i in INPUTS for s in SPLITS}
    assert all((folder / entry["file_name"]).is_file() for entry in info.values())
    config = verify(folder, "instructions").config
    classes = ["moderate", "severe"]
    assert config == {
        "max_pixels": 1003520,
        "inputs": ["boxed", "raw"],
        "detections": "gate",
        "classes": classes,
    }


def test_raw_samples_are_made_only_where_they_are_asked_for(
    tmp_path: Path, gate_folder: Path
) -> None:
    write_data(tmp_path / "data")
    run(tmp_path, gate_folder)
    folder = tmp_path / "instructions"
    assert [path.name for path in folder.glob("images/*")] == ["boxed"]
    assert not list(folder.glob("raw_*"))


def test_raw_samples_need_no_gate(tmp_path: Path, gate_folder: Path) -> None:
    write_data(tmp_path / "data")
    data, out = ["--data", str(tmp_path / "data")], tmp_path / "raw"
    assert instruct.main([*data, "--inputs", "raw", "--out", str(out)]) == 0
    run(tmp_path, gate_folder, *BOTH)
    for name in ("raw_test.json", "truth.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "instructions" / name).read_bytes()
    assert not (out / "detections.json").exists()


@pytest.mark.parametrize("options", [["--gate", "g"], ["--detections", "labels"]])
def test_raw_samples_take_no_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    write_data(tmp_path / "data")
    command = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "raw"), "--inputs", "raw"]
    assert instruct.main([*command, *options]) == 1
    assert "takes no gate" in capsys.readouterr().err


def test_training_and_field_see_the_same_pixels(tmp_path: Path, gate_folder: Path) -> None:
    """What a trainer opens with Pillow is what a node's question holds, bit for bit."""
    data = write_data(tmp_path / "data")
    run(tmp_path, gate_folder, *BOTH)
    guide = from_gate(gate_folder)
    for frame in read_split(data, "test"):
        image = read_frame(data / frame.image)
        for inputs, shown in (("boxed", guide(frame, image)), ("raw", None)):
            name = f"images/{inputs}/test/{frame.image_id}.jpg"
            with Image.open(tmp_path / "instructions" / name) as stored:
                trained = np.asarray(stored.convert("RGB"))
            with Image.open(io.BytesIO(question(image, shown).png)) as asked:
                assert asked.format == "PNG"
                assert (trained == np.asarray(asked)).all()


def test_samples_keep_the_order_of_the_frames_whichever_thread_is_first(
    tmp_path: Path, gate_folder: Path
) -> None:
    sizes = {f"f{number:02}": (40 + 28 * (number % 7), 90) for number in range(40)}
    data = write_data(tmp_path / "data", sizes)
    run(tmp_path, gate_folder)
    ids = [frame.image_id for frame in read_split(data, "train")]
    samples = read(tmp_path, "boxed_train")
    assert [sample["image_id"] for sample in samples] == ids
    for sample in samples:
        image = cv2.imread(str(tmp_path / "instructions" / sample["images"][0]))
        assert [image.shape[1], image.shape[0]] == sample["frame"]


def test_a_second_run_does_nothing_and_another_pixel_limit_runs_again(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "data")
    run(tmp_path, gate_folder)
    capsys.readouterr()
    run(tmp_path, gate_folder)
    assert "up to date" in capsys.readouterr().out
    run(tmp_path, gate_folder, "--max-pixels", "12544")
    assert "up to date" not in capsys.readouterr().out


def test_data_that_changed_since_it_was_prepared_is_refused(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data")
    (data / "images" / "test" / "tiny.jpg").write_bytes(b"not the picture that was labelled")
    assert run(tmp_path, gate_folder) == 1
    assert "tiny.jpg changed since it was written" in capsys.readouterr().err
    assert not (tmp_path / "instructions").exists()


def test_a_truth_line_that_lacks_fields_is_named_and_nothing_is_left_behind(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Stage(tmp_path / "data", kind="data", inputs={}, config={}) as folder:
        for split in SPLITS:
            (folder / f"truth_{split}.jsonl").write_text('{"image_id": "a"}\n')
    assert run(tmp_path, gate_folder) == 1
    assert "truth_train.jsonl:1: width is missing" in capsys.readouterr().err
    assert [p.name for p in tmp_path.glob("instructions*")] == []


def test_a_frame_too_long_for_the_model_is_refused_by_name(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "data", {"ribbon": (2100, 100)})
    assert run(tmp_path, gate_folder) == 1
    picture = tmp_path / "data" / "images" / "train" / "ribbon.jpg"
    complaint = f"{picture}: no image for the model: side ratio above 20"
    assert complaint in capsys.readouterr().err


def test_the_truth_to_score_against_is_that_of_the_test_part(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": (100, 100)})
    truths = {}
    with Stage(data, kind="data", inputs={}, config={"n": 2}) as folder:
        for split in SPLITS:
            (folder / "images" / split).mkdir(parents=True)
            name = f"images/{split}/a.jpg"
            (folder / name).write_bytes((data / name).read_bytes())
            line = {"image_id": "a", "image": name, "width": 100, "height": 100, "accidents": []}
            truths[split] = json.dumps(line) + "\n"
            (folder / f"truth_{split}.jsonl").write_text(truths[split])
    out = tmp_path / "raw"
    assert instruct.main(["--data", str(data), "--inputs", "raw", "--out", str(out)]) == 0
    assert (out / "truth.jsonl").read_text() == truths["test"]


def test_a_folder_that_holds_a_gates_files_and_is_none_is_refused(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "data")
    with Stage(tmp_path / "other", kind="bundle", inputs={}, config={}) as folder:
        for name in ("gate.json", "gate.onnx"):
            (folder / name).write_bytes((gate_folder / name).read_bytes())
    assert run(tmp_path, tmp_path / "other") == 1
    assert "other holds 'bundle', expected 'gate'" in capsys.readouterr().err
    assert not (tmp_path / "instructions").exists()
