"""Questions with their true answers, and which of them are looked at."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.answer import dump, target
from dat_runtime.errors import DataError
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Severity, Size
from eval.answers.asks import Ask
from eval.answers.likelihood import Likelihood, Question, read_questions, spread

SIZE = Size(100, 80)
ACCIDENT = Accident(Box(10, 10, 50, 40, SIZE), "severe")


def sample(answer: str) -> dict[str, Any]:
    turns = [{"content": "<image>what is there"}, {"content": answer}]
    return {
        "image_id": "f0",
        "system": "you look at roads",
        "messages": turns,
        "images": ["images/f0.png"],
        "frame": [100, 80],
        "original": [100, 80],
    }


def instructions(folder: Path, samples: Any) -> Path:
    (folder / "boxed_test.json").write_text(json.dumps(samples), "utf-8")
    return folder


def test_a_question_has_the_true_answer_as_the_truth_of_its_frame(tmp_path: Path) -> None:
    answer = dump(target([ACCIDENT]))
    (question,) = read_questions(instructions(tmp_path, [sample(answer)]), "boxed", "test")
    assert question.answer == answer
    assert question.severity == "severe"
    assert question.ask.prompt == "what is there"
    assert question.truth == Frame("f0", "", SIZE, (ACCIDENT,))


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([], "holds no sample"),
        ([sample("no JSON")], "is not instruction data with answers"),
        ([sample('{"accidents": [{"bbox": [1, 2, 3], "severity": "severe"}]}')], "with answers"),
        ([sample("{}")], r"with answers \(KeyError\('accidents'\)\)"),
        ([sample("") | {"messages": [{"content": "<image>what"}]}], "IndexError"),
    ],
)
def test_what_has_no_true_answers_is_refused(tmp_path: Path, samples: Any, told: str) -> None:
    with pytest.raises(DataError, match=told) as refused:
        read_questions(instructions(tmp_path, samples), "boxed", "test")
    assert str(tmp_path / "boxed_test.json") in str(refused.value)


def question(number: int, severity: Severity | None) -> Question:
    accidents = [Accident(ACCIDENT.box, severity)] if severity else []
    ask = Ask(f"f{number}", Path("f.png"), "", "", SIZE, SIZE)
    return Question(ask, dump(target(accidents)), Frame(ask.id, "", SIZE, tuple(accidents)))


def test_questions_are_spread_over_the_severities_and_over_the_file() -> None:
    kinds: list[Severity | None] = [None] * 10 + ["severe"] * 2 + ["moderate"] * 6
    questions = [question(number, kind) for number, kind in enumerate(kinds)]

    def chosen(count: int) -> list[int]:
        return [int(found.ask.id[1:]) for found in spread(questions, count)]

    assert chosen(9) == [10, 11, 12, 14, 16, 0, 2, 5, 7]  # 2, then half of the 7 that are left
    assert chosen(3) == [10, 12, 0]
    assert chosen(1) == [0]
    assert chosen(0) == []
    assert sorted(chosen(99)) == list(range(18))


def test_the_loss_is_the_mean_over_the_tokens_of_an_answer() -> None:
    found = Likelihood([np.array([-1.0, -2.0]), np.array([-4.0])], [])
    assert found.loss.tolist() == [1.5, 4.0]
