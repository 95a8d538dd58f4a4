import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime import manifest, prompt, schema
from data.prep import primer
from data.prep.rendering.primer_samples import COLOURS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("primer") / "primer"
    assert primer.main(["--out", str(out), "--count", "60"]) == 0
    return out


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / "primer_train.json").read_text())
    return loaded


def question_of(row: dict[str, Any]) -> str:
    return str(row["messages"][0]["content"])


def boxes_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = json.loads(row["messages"][1]["content"])["boxes"]
    return answer


def border(image: np.ndarray, bbox: list[int]) -> np.ndarray:
    """The outermost pixels of a box, (n, 3)."""
    x1, y1, x2, y2 = bbox
    part = image[y1:y2, x1:x2]
    return np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])


def test_the_folder_is_a_llama_factory_data_set(folder: Path, rows: list[dict[str, Any]]) -> None:
    manifest.verify(folder, kind="primer")
    info = json.loads((folder / "dataset_info.json").read_text())
    assert set(info) == {"primer_train", "primer_val"}
    assert all((folder / entry["file_name"]).is_file() for entry in info.values())
    assert len(rows) == 60
    for row in rows:
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert question_of(row).count("<image>") == len(row["images"]) <= 1
        for image in row["images"]:
            assert cv2.imread(str(folder / image)).shape == (112, 112, 3)


def test_answers_parse_and_their_boxes_lie_in_the_image(rows: list[dict[str, Any]]) -> None:
    counts = [len(boxes_of(row)) for row in rows]
    assert min(counts) == 0
    assert max(counts) == 3
    for row in rows:
        for box in boxes_of(row):
            x1, y1, x2, y2 = box["bbox_2d"]
            assert 0 <= x1 < x2 <= 112
            assert 0 <= y1 < y2 <= 112


def test_drawn_boxes_have_the_colour_that_the_answer_names(
    folder: Path, rows: list[dict[str, Any]]
) -> None:
    drawn = [r for r in rows if "drawn" in question_of(r) or "colours" in question_of(r)]
    assert len(drawn) > 20
    for row in drawn:
        image = cv2.imread(str(folder / row["images"][0]))
        for box in boxes_of(row):
            colour = np.array(COLOURS[box["label"]])
            same = (border(image, box["bbox_2d"]) == colour).all(axis=1)
            assert same.mean() > 0.5  # the rest may lie under a later box


def test_copying_tasks_have_their_answer_in_the_question_and_no_image(
    rows: list[dict[str, Any]],
) -> None:
    copied = [r for r in rows if "Repeat" in question_of(r)]
    assert any(boxes_of(row) for row in copied)
    for row in copied:
        assert not row["images"]
        for box in boxes_of(row):
            assert str(box["bbox_2d"]) in question_of(row)


def test_boxes_are_sorted_from_left_to_right_where_that_is_asked(
    rows: list[dict[str, Any]],
) -> None:
    for row in rows:
        if "left to right" in question_of(row):
            lefts = [box["bbox_2d"][0] for box in boxes_of(row)]
            assert lefts == sorted(lefts)


def test_wording_and_answers_are_not_those_of_the_accident_task(
    rows: list[dict[str, Any]],
) -> None:
    for row in rows:
        assert row["system"] != prompt.SYSTEM
        assert "Gate" not in question_of(row)
        assert not schema.check(row["messages"][1]["content"], 112, 112).schema


@pytest.mark.parametrize("size", ["100", "196", "28"])
def test_a_size_that_the_model_would_resize_is_refused(
    size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert primer.main(["--out", str(tmp_path / "p"), "--size", size]) == 1
    assert "multiple of 28" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
