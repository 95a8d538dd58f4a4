"""The scores of answers, as the terminal shows them."""

from eval.understanding.scores import table


def test_the_table_is_these_lines() -> None:
    scores = {
        "n": 12,
        "missing": 0,
        "count_em": {"value": 0.5, "low": 0.25, "high": 0.75},
        "bbox_miou": {"value": None, "low": None, "high": None},
    }
    lines = [
        "metric         value   95 % interval",
        "count_em      0.5000   0.2500 to 0.7500",
        "bbox_miou          -   no true box",
        "n = 12 frames",
    ]
    assert table(scores).split("\n") == lines
    lines[-1] = "n = 12 frames, 3 without an answer"
    assert table(scores | {"missing": 3}).split("\n") == lines
