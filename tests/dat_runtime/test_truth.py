import gc
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import DataError
from dat_runtime.truth import Frame, read_split, read_truth
from dat_runtime.types import Accident, Box, Size

GOOD: dict[str, Any] = {
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


def accident(bbox: object, severity: object = "severe") -> dict[str, object]:
    """A change of the record: its one accident."""
    return {"accidents": [{"bbox": bbox, "severity": severity}]}


def test_a_frame_comes_with_its_types(tmp_path: Path) -> None:
    size = Size(64, 48)
    accident = Accident(Box(1, 2, 30, 40.5, size), "severe")
    expected = Frame("a", "images/test/a.jpg", size, (accident,))
    (frame,) = read_truth(written(tmp_path, GOOD), pictures=True)
    assert frame == expected
    assert frame.severities == ("severe",)


@pytest.mark.parametrize("bbox", [[0, 0, 64, 48], [0.5, 0.25, 64, 48]])
def test_a_box_may_reach_to_every_edge(tmp_path: Path, bbox: list[float]) -> None:
    first, second = GOOD | accident(bbox), GOOD | {"image_id": "b"}
    frames = read_truth(written(tmp_path, first, second), pictures=True)
    assert [frame.image_id for frame in frames] == ["a", "b"]
    assert frames[0].accidents[0].box == Box(*bbox, Size(64, 48))


def test_a_split_of_a_prepared_set_is_read_by_its_name(tmp_path: Path) -> None:
    written(tmp_path, GOOD).rename(tmp_path / "truth_val.jsonl")
    assert [frame.image_id for frame in read_split(tmp_path, "val")] == ["a"]
    written(tmp_path, GOOD | {"image": "../a.jpg"}).rename(tmp_path / "truth_val.jsonl")
    with pytest.raises(DataError, match="inside the folder"):
        read_split(tmp_path, "val")


def test_further_keys_and_labels_without_a_picture_are_allowed(tmp_path: Path) -> None:
    accident = GOOD["accidents"][0] | {"track": 7}
    record = GOOD | {"weather": "rain", "accidents": [accident]}
    del record["image"]
    (frame,) = read_truth(written(tmp_path, record))
    assert (frame.image, len(frame.accidents)) == ("", 1)


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    (frame,) = read_truth(written(tmp_path, GOOD | {"image_id": "a\u2028b\x85"}))
    assert frame.image_id == "a\u2028b\x85"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": "../a"}, "a file's name"),
        ({"image_id": "b\\a"}, "a file's name"),
        ({"image_id": ".."}, r"jsonl:2: image_id must be a file's name, got '\.\.'$"),
        ({"image_id": "."}, "a file's name, got '\\.'$"),
        ({"image_id": "a\x00"}, "a file's name"),
        ({"image_id": 3}, "image_id is 3, expected a text that is not empty"),
        ({"image_id": ""}, "image_id is '', expected a text that is not empty"),
        ({"image": None}, "image is None, expected a text"),
        ({"image": "/etc/passwd"}, "image must be a path inside the folder, got '/etc/passwd'$"),
        ({"image": "images/../../a.jpg"}, "inside the folder"),
        ({"image": ""}, "inside the folder"),
        ({"width": 64.0}, "width is 64.0, expected a whole number from 1"),
        ({"width": True}, "width is True, expected a whole number from 1"),
        ({"height": 0}, "height is 0, expected a whole number from 1"),
        ({"accidents": {}}, "accidents is {}, expected a list"),
        ({"accidents": [3]}, "accident: 3 is not an object with the keys bbox, severity"),
        ({"accidents": [{"bbox": [1, 2, 30, 40]}]}, "accident: severity is missing"),
        (accident([1, 2, 30, 40], "minor"), "severity is 'minor', expected one of moderate"),
        (accident([1, 2, 30, 40], []), "severity is .., expected one of moderate"),
        (accident([1, 2, 30]), "expected a list of 4 numbers"),
        (accident([1, 2, 30, True]), "expected a list of 4 numbers"),
        (accident("1234"), "expected a list of 4 numbers"),
        (accident([1, 2, 65, 40]), r": bbox \[1, 2, 65, 40\] is not a box inside 64 x 48$"),
        (accident([1, 2, 30, 48.5]), "is not a box inside 64 x 48"),
        (accident([1, -0.5, 30, 40]), "is not a box inside 64 x 48"),
        (accident([1, 2, 30, 2]), "is not a box inside 64 x 48"),
        (accident([-1, 2, 30, 40]), "is not a box inside 64 x 48"),
        (accident([30, 2, 30, 40]), "is not a box inside 64 x 48"),
        (accident([1, 2, 30, 10**400]), "is not a box inside 64 x 48"),
        (accident([1, 2, 30, float("inf")]), "is not a box inside 64 x 48"),
        (accident([1, 2, 30, float("nan")]), "is not a box inside 64 x 48"),
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


@pytest.mark.parametrize("record", [GOOD, GOOD | {"width": 0}], ids=["good", "bad"])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_afterwards_as_it_was_before(
    tmp_path: Path, record: dict[str, object], enabled: bool
) -> None:
    path = written(tmp_path, record)
    try:
        if not enabled:
            gc.disable()
        with suppress(DataError):
            read_truth(path)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
