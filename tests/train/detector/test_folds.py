"""Folds of the training frames: whole groups, every frame once, the same each time."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.truth import HELD_OUT
from train.detector.folds import Fold, assign, leave_out

GROUPS = {f"f{i}": f"clip{i // 3}" for i in range(60)}
BOXES = {name: int(name[1:]) % 2 for name in GROUPS}


def write_groups(data: Path, content: object = GROUPS) -> Path:
    data.mkdir(exist_ok=True)
    (data / "groups.json").write_text(json.dumps({"train": content}))
    return data


@pytest.mark.parametrize(
    "text", ["3", "0/3", "4/3", "1/1", "1/101", "-1/3", "a/b", "1/3/5", "1/00000003", ""]
)
def test_a_fold_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--fold is"):
        Fold.parse(text)


@pytest.mark.parametrize(
    ("text", "fold"),
    [("1/3", Fold(1, 3)), ("3/3", Fold(3, 3)), ("2/2", Fold(2, 2)), ("100/100", Fold(100, 100))],
)
def test_a_fold_is_a_number_of_a_count(text: str, fold: Fold) -> None:
    assert Fold.parse(text) == fold
    assert str(fold) == text


def test_how_many_frames_are_left_out_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_groups(tmp_path / "data")
    stays = leave_out(Fold(2, 3), data, BOXES, tmp_path)
    told = f"[gate] fold 2/3: {60 - len(stays)} of 60 training frames left out\n"
    assert capsys.readouterr().out == told


@given(
    groups=st.lists(st.integers(0, 8), min_size=9, max_size=60).map(lambda g: [*range(9), *g]),
    count=st.integers(2, 9),
)
def test_folds_are_whole_groups_and_none_is_empty(groups: list[int], count: int) -> None:
    named = {f"f{i}": str(group) for i, group in enumerate(groups)}
    folds = assign(named, dict.fromkeys(named, 1), count)
    assert set(folds.values()) == set(range(1, count + 1))
    of_group = {(named[name], fold) for name, fold in folds.items()}
    assert len(of_group) == len(set(groups))


def test_the_largest_groups_are_spread_first_and_the_small_ones_even_out() -> None:
    sizes = {"a": 1, "b": 1, "c": 4, "d": 3, "e": 2}
    groups = {f"{group}{i}": group for group, size in sizes.items() for i in range(size)}
    folds = assign(groups, dict.fromkeys(groups, 1), 2)
    of_group = {group: folds[f"{group}0"] for group in sizes}
    assert of_group == {"c": 1, "d": 2, "e": 2, "a": 1, "b": 1}  # 4 | 3, 3 + 2, 4 + 1, 5 + 1
    alone = assign(groups, dict.fromkeys(groups, 1), 5)
    assert len({alone[f"{group}0"] for group in sizes}) == 5


def test_folds_have_as_many_frames_with_boxes_as_without() -> None:
    folds = assign(GROUPS, BOXES, 3)
    kinds = Counter((folds[name], BOXES[name]) for name in GROUPS)
    assert max(kinds.values()) - min(kinds.values()) <= 3
    assert assign(dict(reversed(GROUPS.items())), BOXES, 3) == folds


def test_each_frame_is_left_out_by_one_gate_alone(tmp_path: Path) -> None:
    data = write_groups(tmp_path / "data")
    left_out: list[str] = []
    for number in (1, 2, 3):
        (folder := tmp_path / str(number)).mkdir()
        stays = leave_out(Fold(number, 3), data, BOXES, folder)
        content = json.loads((folder / HELD_OUT).read_text())
        assert (content["fold"], content["of"]) == (number, 3)
        assert stays.keys() == BOXES.keys() - set(content["image_ids"])
        left_out += content["image_ids"]
    assert sorted(left_out) == sorted(BOXES)


def test_groups_that_are_missing_or_of_other_frames_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"groups\.json: is missing: make the data again"):
        leave_out(Fold(1, 2), tmp_path, BOXES, tmp_path)
    strange = r"groups\.json: not about the training frames, such as 'other'$"
    with pytest.raises(DataError, match=strange):
        leave_out(Fold(1, 2), write_groups(tmp_path), {**BOXES, "other": 0}, tmp_path)
    with pytest.raises(DataError, match=r"groups\.json: no groups of frames \(AttributeError"):
        leave_out(Fold(1, 2), write_groups(tmp_path, 3), BOXES, tmp_path)


def test_more_folds_than_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"20 groups .* too few for 21 folds"):
        leave_out(Fold(1, 21), write_groups(tmp_path), BOXES, tmp_path)
