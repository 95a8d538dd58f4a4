"""The rows' figures, and the comparison of a code with every small picture."""

import pytest

from dat_runtime import answer
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Size
from eval.offloading.accuracy import goal, measures_of, picture_matters, row
from eval.offloading.ways import Way

SIZE = Size(112, 112)
TRUTH = [
    Frame(f"f{i}", "", SIZE, (Accident(Box(10, 10, 50, 60, SIZE), "severe"),) * (i % 2))
    for i in range(40)
]


def answers(wrong: int, size: int) -> list[dict[str, object]]:
    """Right answers but for the first ones, which find no accident or one too many."""
    lines = []
    for number, frame in enumerate(TRUTH):
        told = frame.accidents
        if number < wrong:
            told = () if told else (Accident(Box(10, 10, 50, 60, SIZE), "severe"),)
        text = answer.dump(answer.target(told))
        lines.append({"image_id": frame.image_id, "text": text, "bytes": size + number % 2})
    return lines


def test_a_row_has_mean_and_largest_bytes_and_the_tables_metrics() -> None:
    records = answers(4, 100)
    found = row(Way("x", "jpeg", quality=5), records, measures_of(records, TRUTH))
    assert (found["bytes"], found["bytes_max"], found["n"]) == (100.5, 101, 40)
    assert (found["kind"], found["quality"], found["channels"]) == ("jpeg", 5, None)
    assert found["count_em"]["value"] == pytest.approx(0.9)
    assert found["count_em"]["low"] < 0.9 < found["count_em"]["high"]
    assert found["bbox_miou"]["value"] == pytest.approx(18 / 20)


def compared(cases: list[tuple[str, str, int, int]], most: int) -> dict[str, object] | None:
    """The goal over rows of (name, kind, wrong answers, bytes)."""
    rows, measures = [], {}
    for name, kind, wrong, size in cases:
        records = answers(wrong, size)
        measures[name] = measures_of(records, TRUTH)
        rows.append(row(Way(name, kind), records, measures[name]))  # type: ignore[arg-type]
    return goal(rows, measures, most)


def test_the_largest_code_within_the_bytes_meets_every_picture_up_to_eight_kilobytes() -> None:
    found = compared(
        [
            ("small", "code", 9, 500),
            ("code", "code", 6, 2071),  # 2,048 bytes, a header of 24, less the half that is added
            ("large", "code", 0, 5000),
            ("poor", "jpeg", 30, 900),
            ("like it", "webp", 7, 1800),
            ("good", "webp", 0, 8191),
            ("beyond", "jpeg", 0, 8192),
            ("lossless", "png", 0, 4000),
        ],
        2048,
    )
    assert found is not None
    assert found["code"] == "code"
    assert [other["name"] for other in found["against"]] == ["poor", "like it", "good"]
    assert found["beaten"] == ["poor"]
    assert found["higher"] == ["poor", "like it"]
    assert found["lost"] == ["good"]


def test_without_a_code_that_small_there_is_nothing_to_compare() -> None:
    assert compared([("large", "code", 0, 5000)], 2048) is None


def test_answers_that_a_grey_picture_gives_too_do_not_depend_on_it() -> None:
    whole, other = (measures_of(answers(wrong, 1), TRUTH) for wrong in (2, 30))
    assert picture_matters(whole, other)["matters"]
    assert not picture_matters(whole, whole)["matters"]
