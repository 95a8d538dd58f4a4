"""Which checkpoint is kept, and when a training ends."""

import json
from pathlib import Path

import pytest

from dat_runtime import answer
from dat_runtime.types import Accident, Box, Size
from train.mllm import best


@pytest.mark.parametrize(
    ("history", "patience", "step", "ends"),
    [
        ({5: 0.2}, 1, 5, False),
        ({5: 0.2, 10: 0.5, 15: 0.5}, 1, 10, True),
        ({5: 0.2, 10: 0.5, 15: 0.4}, 2, 10, False),
        ({15: 0.4, 20: 0.1, 5: 0.2, 10: 0.5}, 2, 10, True),
        ({5: 0.2, 10: 0.1, 15: 0.1, 20: 0.1}, 0, 5, False),
    ],
)
def test_the_first_of_the_best_is_kept_until_patience_ends(history, patience, step, ends) -> None:
    assert best.choose(history, patience) == (step, ends)


def test_answers_are_scored_by_the_scorer_of_the_tables(tmp_path: Path) -> None:
    frame = Size(112, 112)
    boxes = [Accident(Box(8, 20, 60, 70, frame), name) for name in ("moderate", "severe")]
    true = [answer.dump(answer.target([box])) for box in boxes] + [answer.dump(answer.target([]))]
    samples = [
        {"image_id": f"v{i}", "frame": [112, 112], "messages": [{}, {"content": text}]}
        for i, text in enumerate(true)
    ]
    assert best.score(tmp_path, samples, true) == 1.0
    # Of three classes one is never found, and one answer of another is wrong: (1 + 2/3 + 0) / 3.
    found = best.score(tmp_path, samples, [true[1], true[1], true[2]])
    assert found == pytest.approx(5 / 9)


def test_samples_are_spread_over_the_validation_part_of_the_training_set(tmp_path: Path) -> None:
    (tmp_path / "raw_val.json").write_text(json.dumps(list(range(10))))
    assert best.validation_samples(tmp_path, "raw_train,boxed_train", 4) == [0, 2, 5, 7]
    assert best.validation_samples(tmp_path, "raw_train", 40) == list(range(10))


@pytest.mark.parametrize(
    ("history", "left"), [({5: 0.2, 10: 0.1}, [5]), ({5: 0.1, 10: 0.2}, [5, 10])]
)
def test_the_checkpoint_at_which_patience_ended_is_made_again(
    tmp_path: Path, history, left
) -> None:
    for step in history:
        (tmp_path / f"checkpoint-{step}").mkdir()
    best.write_history(tmp_path, history)
    best.forget_end(tmp_path, tmp_path, patience=1)
    kept = [step for step in history if (tmp_path / f"checkpoint-{step}").is_dir()]
    assert kept == left
