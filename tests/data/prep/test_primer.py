import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dat_runtime import manifest, prompt, schema
from data.prep import primer
from data.prep.rendering.units import BIN, NOT_THERE

SIDE = 84


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("primer") / "primer"
    given = ["--scenes", "30", "--words", "40", "--size", str(SIDE), "--jobs", "1"]
    assert primer.main(["--out", str(out), *given]) == 0
    return out


@pytest.fixture(scope="module")
def asked(folder: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / "questions_train.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def worded(folder: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / "words_train.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def grounded(folder: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((folder / "grounding_train.json").read_text())
    return loaded


def answer_of(row: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(row["messages"][1]["content"])
    return value


def content_of(row: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in row["messages"])


def items_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    return next((value for value in answer_of(row).values() if isinstance(value, list)), [])


def test_the_folder_is_a_llama_factory_data_set(
    folder: Path,
    asked: list[dict[str, Any]],
    grounded: list[dict[str, Any]],
    worded: list[dict[str, Any]],
) -> None:
    manifest.verify(folder, kind="primer")
    info = json.loads((folder / "dataset_info.json").read_text())
    assert set(info) == {"words_train", "grounding_train", "questions_train", "questions_val"}
    assert all((folder / entry["file_name"]).is_file() for entry in info.values())
    held_out = json.loads((folder / "questions_val.json").read_text())
    assert len(asked) + len(held_out) == 10 * primer.QUESTIONS
    assert len(grounded) == 10 * primer.PLACES
    for row in asked + grounded + worded:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        question = row["messages"][0]["content"]
        assert question.count("<image>") == len(row["images"]) <= 1
        for image in row["images"]:
            assert cv2.imread(str(folder / image)).shape == (SIDE, SIDE, 3)
    assert not any(row["images"] for row in worded)


def test_the_towers_views_are_jpegs_with_what_their_units_show(folder: Path) -> None:
    meaning = json.loads((folder / "units.json").read_text())
    assert (meaning["side"], meaning["bin"]) == (SIDE, BIN)
    told = np.load(folder / "units.npz")
    encoded = (folder / "views.bin").read_bytes()
    assert told["ends"][0] == 0
    assert told["ends"][-1] == len(encoded)
    assert len(told["ends"]) - 1 == 20 * primer.VIEWS
    for start, end in zip(told["ends"], told["ends"][1:], strict=False):
        data = np.frombuffer(encoded[start:end], np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (SIDE, SIDE, 3)
    presence, corners, traits = (told[name] for name in ("presence", "corners", "traits"))
    assert presence.shape == (80, 9, len(meaning["things"]))
    assert presence.any((0, 1)).all()  # each kind of thing is somewhere
    assert ((corners[..., 0] != NOT_THERE) == presence).all()
    assert corners.max() < SIDE // BIN
    assert (traits < list(meaning["traits"].values())).all()


def test_answers_have_the_fields_that_the_prompt_asks_for_in_its_order(
    asked: list[dict[str, Any]], worded: list[dict[str, Any]]
) -> None:
    for row in asked + worded:
        # Without the form of the items, whose label may be called as a field is.
        form = re.sub(r"\[\{.*?\}\]", "[]", row["system"].partition("{")[2])
        places = [form.index(f'"{key}": ') for key in answer_of(row)]
        assert places == sorted(places)


def test_boxes_lie_in_the_image(
    asked: list[dict[str, Any]], grounded: list[dict[str, Any]]
) -> None:
    boxes = 0
    for row in asked + grounded:
        for item in items_of(row):
            x1, y1, x2, y2 = next(iter(item.values()))
            assert 0 <= x1 < x2 <= SIDE
            assert 0 <= y1 < y2 <= SIDE
            boxes += 1
    assert boxes > 10


def test_a_question_about_places_asks_for_boxes_alone(grounded: list[dict[str, Any]]) -> None:
    for row in grounded:
        assert row["images"]
        assert list(answer_of(row).values()) == [items_of(row)]


def test_what_is_to_be_copied_stands_in_the_question(worded: list[dict[str, Any]]) -> None:
    copied = [(row, item) for row in worded for item in items_of(row)]
    assert len(copied) > 20
    for row, item in copied:
        assert str(next(iter(item.values()))) in row["messages"][0]["content"]


def test_the_accident_task_and_its_words_are_not_in_it(
    asked: list[dict[str, Any]], grounded: list[dict[str, Any]], worded: list[dict[str, Any]]
) -> None:
    tagged = 0
    for row in asked + grounded + worded:
        text = row["system"] + content_of(row)
        if "moderate" in text or "severe" in text:
            # Sizes of vehicles, or tags to copy from a list without a meaning: nowhere a severity.
            assert '"severity": ' not in row["system"]
            assert '"grade": ' not in row["system"]
            assert "of accidents" not in row["system"]
            if "vehicles" in row["system"]:
                continue
            tagged += bool(items_of(row))
            graded = ('"none"', "1 if ", "from 0 to 1")
            assert not any(sign in row["system"] for sign in graded)
            for item in items_of(row):
                box, tag = item.values()
                assert re.search(rf"{tag} \d\.\d\d {re.escape(str(box))}", content_of(row))
        assert row["system"] != prompt.SYSTEM
        assert not schema.check(row["messages"][1]["content"], SIDE, SIDE).schema
    assert tagged > 2


def test_no_listed_box_helps_to_find_an_accident(asked: list[dict[str, Any]]) -> None:
    about_accidents = [row for row in asked if "number of accidents" in row["system"]]
    assert about_accidents
    for row in about_accidents:
        prompt = row["messages"][0]["content"]
        assert prompt.startswith(f"<image>Image {SIDE} x {SIDE}.")
        listed = re.findall(r"\[[^]]+\]", prompt)
        assert not {str(box) for item in items_of(row) for box in item.values()} & {*listed}


def test_a_second_run_makes_the_same(folder: Path, tmp_path: Path) -> None:
    given = ["--scenes", "30", "--words", "40", "--size", str(SIDE), "--jobs", "2"]
    assert primer.main(["--out", str(tmp_path / "again"), *given]) == 0
    names = ("questions_train", "grounding_train", "words_train", "units")
    for name in ("views.bin", *(f"{name}.json" for name in names)):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("size", ["100", "252", "28"])
def test_a_size_that_the_model_would_resize_is_refused(
    size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert primer.main(["--out", str(tmp_path / "p"), "--size", size]) == 1
    assert "multiple of 28" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_too_few_scenes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert primer.main(["--out", str(tmp_path / "p"), "--scenes", "19"]) == 1
    assert "at least 20" in capsys.readouterr().err
