import json
from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from dat_runtime.truth import Frame, read_truth

GOOD = {
    "image_id": "a",
    "image": "images/test/a.jpg",
    "width": 64,
    "height": 48,
    "accidents": [{"bbox": [1, 2, 30, 40.5], "severity": "severe"}],
}


def written(folder: Path, *records: object) -> Path:
    path = folder / "truth.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8")
    return path


def test_a_frame_comes_with_its_types(tmp_path: Path) -> None:
    frame = Frame("a", "images/test/a.jpg", 64, 48, ((1, 2, 30, 40.5),), ("severe",))
    assert read_truth(written(tmp_path, GOOD), pictures=True) == [frame]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    (frame,) = read_truth(written(tmp_path, GOOD | {"image_id": "a\u2028b\x85"}))
    assert frame.image_id == "a\u2028b\x85"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": "../a"}, "a file's name"),
        ({"image_id": "b\\a"}, "a file's name"),
        ({"image_id": ".."}, "a file's name"),
        ({"image_id": "a\x00"}, "a file's name"),
        ({"image_id": 3}, "strings"),
        ({"image": "/etc/passwd"}, "inside the folder"),
        ({"image": "images/../../a.jpg"}, "inside the folder"),
        ({"image": ""}, "inside the folder"),
        ({"width": 64.0}, "positive integers"),
        ({"accidents": {}}, "an array"),
        ({"accidents": [{"bbox": [1, 2, 30, 40], "severity": "minor"}]}, "severity must be"),
        ({"accidents": [{"bbox": [1, 2, 30, 40], "severity": []}]}, "severity must be"),
        ({"accidents": [{"bbox": [1, 2, 30], "severity": "severe"}]}, "four numbers"),
        ({"accidents": [{"bbox": [1, 2, 30, True], "severity": "severe"}]}, "four numbers"),
        ({"accidents": [{"bbox": [1, 2, 65, 40], "severity": "severe"}]}, "no box inside"),
        ({"accidents": [{"bbox": [1, 2, 30, float("nan")], "severity": "severe"}]}, "no box"),
        ({}, "already on line 1"),
    ],
)
def test_what_is_no_truth_is_named_by_line(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = written(tmp_path, GOOD, GOOD | {"image_id": "b"} | change if change else GOOD)
    with pytest.raises(DataError, match=words) as refusal:
        read_truth(path, pictures=True)
    assert str(refusal.value).startswith(f"{path}:2: ")
