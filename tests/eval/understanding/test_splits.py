"""Which split a score is on, and what is scored apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import DataError, ManifestError
from dat_runtime.stage import Stage
from eval.understanding.metrics import subset
from eval.understanding.scores import scores_of
from eval.understanding.splits import Split, by_split, notes, read_split
from tests.eval.understanding.four_frames import FRAMES, measures

PAIRS = [
    ["train/a", "test/b/1"],
    ["test/c", "train/a"],
    ["val/a", "test/d"],
    ["train/a", "train/e"],
    ["test/f", "test/g"],
    ["train/h", "test/c"],
]


def prepared(folder: Path, report: Any = None, pairs: Any = None) -> Path:
    leaks = {"frames_with_a_twin": {"test in train": {"exact": 1, "near": 1}, "val in train": {}}}
    with Stage(folder, kind="data", inputs={}, config={}) as made:
        whole = report or {"split": "published", "leaks": leaks}
        (made / "report.json").write_text(json.dumps(whole), "utf-8")
        listed = [{"frames": pair} for pair in PAIRS] if pairs is None else pairs
        (made / "leaks.json").write_text(json.dumps(listed), "utf-8")
    return folder


def test_the_frames_with_a_twin_are_those_of_pairs_with_train(tmp_path: Path) -> None:
    split = read_split(prepared(tmp_path / "data"), tmp_path)
    assert split == Split("published", 2, frozenset({"b/1", "c"}))


def test_pairs_that_do_not_name_them_all_name_none(tmp_path: Path) -> None:
    cut = prepared(tmp_path / "data", pairs=[{"frames": PAIRS[0]}])
    assert read_split(cut, tmp_path) == Split("published", 2, None)


@pytest.mark.parametrize(
    ("report", "pairs"),
    [
        ({"leaks": {"frames_with_a_twin": {"test in train": {}}}}, None),
        ({"split": "published", "leaks": {}}, None),
        ({"split": "published", "leaks": []}, None),
        (None, [{}]),
        (None, [{"frames": [1]}]),
        (None, [1]),
    ],
)
def test_what_states_no_split_is_refused(tmp_path: Path, report: Any, pairs: Any) -> None:
    with pytest.raises(DataError, match="states no split") as refused:
        read_split(prepared(tmp_path / "data", report, pairs), tmp_path)
    assert str(tmp_path / "data") in str(refused.value)


def test_instructions_of_another_set_are_refused(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data")
    other = prepared(tmp_path / "other", pairs=[])
    instructions = tmp_path / "instructions"
    with Stage(instructions, kind="instructions", inputs={"data": data}, config={}):
        pass
    assert read_split(data, instructions).twins == 2
    with pytest.raises(ManifestError) as refused:
        read_split(other, instructions)
    assert str(refused.value).endswith(
        f"{instructions} was not made from {other}: name the right --data"
    )


def test_each_row_is_scored_on_all_on_those_without_a_twin_and_beside_another() -> None:
    m = measures()
    scores = {"a": scores_of(m), "b": scores_of(m)}
    beside = {"split": "leak-free", "table_1": [{"row": "b", "ours": {"n": 9}}]}
    split = Split("published", 2, frozenset({"wrong", "<missing>"}))
    lines = by_split(FRAMES, {"a": m, "b": m}, scores, split, beside)
    part = scores_of(subset(m, ~m.missing & (m.severity != 1)))  # right, quiet
    assert (part["n"], part["missing"], part["count_em"]["value"]) == (2, 0, 0.5)
    assert lines == [
        {"row": "a", "frames": "published split", "ours": scores["a"]},
        {"row": "a", "frames": "of these, without a twin", "ours": part},
        {"row": "b", "frames": "published split", "ours": scores["b"]},
        {"row": "b", "frames": "of these, without a twin", "ours": part},
        {"row": "b", "frames": "leak-free split, own training", "ours": {"n": 9}},
    ]


@pytest.mark.parametrize(
    "with_twin", [None, frozenset(), frozenset(frame.image_id for frame in FRAMES)]
)
def test_without_known_twins_or_others_no_part_is_scored(with_twin: frozenset[str] | None) -> None:
    m = measures()
    (line,) = by_split(FRAMES, {"a": m}, {"a": {}}, Split("x", 4, with_twin), None)
    assert line == {"row": "a", "frames": "x split", "ours": {}}


def test_the_note_says_which_split_and_what_flatters_it() -> None:
    first = "Every score is on the published split unless it says otherwise: "
    assert notes(Split("published", 0, frozenset()), 9) == [
        first + "no test frame has a twin in the training frames."
    ]
    flattered = (
        first + "2 of 9 test frames have a twin in the training frames (the same picture, image "
        "source or clip), which flatters the scores."
    )
    assert notes(Split("published", 2, frozenset("ab")), 9) == [flattered]
    assert notes(Split("published", 2, None), 9) == [
        flattered + " The set lists too few pairs to score the others apart."
    ]
