"""Questions about clips: what the gate keeps, as `eval.predict` reads it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

from dat_runtime.draw import Image
from dat_runtime.edge.source import read_frame
from dat_runtime.errors import DataError
from dat_runtime.manifest import verify
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.truth import Frame
from dat_runtime.types import Box, Detection, Size
from data.prep import accident_clips
from data.prep.importers.accident_clips import read_clips
from data.prep.instructions.clips import write_clips
from data.prep.instructions.dataset_info import dataset_info
from tests.conftest import constant_gate
from tests.dat_runtime.edge.cameras.streams import number_of
from tests.data.prep.accident_builder import write_clips as publish

TWO = ({}, {"path": "real_videos/d_01.mp4", "type": "single", "accident_time": 0.25})


def run(tmp_path: Path, gate: Path, *options: str) -> int:
    given = ["--source", str(tmp_path / "accident"), "--gate", str(gate)]
    return accident_clips.main([*given, "--out", str(tmp_path / "clips"), *options])


def questions_in(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "boxed_test.json").read_text())


def clips_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]


def from_picture_20(frame: Frame, image: Image) -> Sequence[Detection]:
    """A gate that detects something in bright pictures."""
    if number_of(image) < 20:
        return ()
    return (Detection(Box(40, 20, 90, 60, frame.size), "severe", 0.9),)


def test_frames_that_the_gate_drops_are_not_asked_about(tmp_path: Path) -> None:
    clips = read_clips(publish(tmp_path / "accident", *TWO))
    (tmp_path / "out").mkdir()
    write_clips(tmp_path / "out", clips, from_picture_20, 12544)
    first, second = clips_in(tmp_path / "out")
    assert first["looked_at"] == second["looked_at"] == 6
    assert first["frames"] == [
        {"image_id": "aB-c_00-0005", "time": 2.0},
        {"image_id": "aB-c_00-0006", "time": 2.5},
    ]
    assert [frame["image_id"] for frame in second["frames"]] == ["d_01-0005", "d_01-0006"]
    assert (second["path"], second["type"]) == ("real_videos/d_01.mp4", "single")
    assert (second["accident_time"], second["duration"]) == (0.25, 3.0)
    assert (first["center"], first["box"]) == ([0.5, 0.25], [0.4, 0.1, 0.6, 0.4])
    asked = questions_in(tmp_path / "out")
    assert [question["image_id"] for question in asked] == [
        frame["image_id"] for clip in (first, second) for frame in clip["frames"]
    ]
    assert (asked[0]["frame"], asked[0]["original"]) == ([140, 84], [160, 96])
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())
    assert info == dataset_info(["boxed_test"])


def test_a_question_is_what_a_node_would_ask_and_holds_no_answer(
    tmp_path: Path, gate_folder: Path
) -> None:
    publish(tmp_path / "accident", {})
    assert run(tmp_path, gate_folder) == 0
    assert verify(tmp_path / "clips", "instructions").config["fps"] == 2.0
    question = questions_in(tmp_path / "clips")[0]
    seen, original = Size(*question["frame"]), Size(*question["original"])
    assert original == Size(160, 96)
    box = Box(60, 38, 100, 58, original)  # the gate's, in the middle of the frame
    prompt = task_prompt(seen, [Detection(box, "severe", 0.9)])
    assert question["system"] == SYSTEM
    assert question["messages"] == [{"role": "user", "content": f"<image>{prompt}"}]
    image = read_frame(tmp_path / "clips" / question["images"][0])
    assert image.shape[:2] == (seen.height, seen.width)
    red = image[..., 2].astype(int) - image[..., 1] > 100  # the box is drawn into a grey picture
    rows, columns = np.nonzero(red)
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert edges == pytest.approx(box.to(seen).pixels(), abs=1)


def test_the_same_again_asks_nothing_anew(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path / "accident", {})
    assert run(tmp_path, gate_folder) == 0
    assert "1 clips, 6 frames looked at, 6 kept by the gate, 0 packets" in capsys.readouterr().out
    assert run(tmp_path, gate_folder) == 0
    assert "looked at" not in capsys.readouterr().out


def test_a_gate_that_keeps_nothing_is_refused(tmp_path: Path) -> None:
    clips = read_clips(publish(tmp_path / "accident", {}))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="the gate keeps none of 6 frames"):
        write_clips(tmp_path / "out", clips, lambda frame, image: (), 1003520)


def test_a_clip_that_is_none_and_a_wrong_place_are_refused_by_name(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path / "accident", *TWO)
    (tmp_path / "accident/real_videos/d_01.mp4").write_bytes(b"")
    assert run(tmp_path, gate_folder) == 1
    assert "d_01.mp4: is not a video that can be read" in capsys.readouterr().err
    assert not (tmp_path / "clips").exists()
    assert run(tmp_path, gate_folder, "--out", str(tmp_path / "accident/clips")) == 1
    assert "may not lie inside --source" in capsys.readouterr().err
    assert run(tmp_path, gate_folder, "--max-pixels", "100") == 1
    assert "--max-pixels must be at least" in capsys.readouterr().err


def test_a_gate_whose_folder_was_changed_is_refused(
    tmp_path: Path, gate_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path / "accident", {})
    (gate_folder / "gate.onnx").write_bytes(constant_gate([[32, 32, 8, 8, 0.9, 0.1]]))
    assert run(tmp_path, gate_folder) == 1
    assert "gate.onnx" in capsys.readouterr().err
