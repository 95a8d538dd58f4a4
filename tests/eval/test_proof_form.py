"""The proof's floor: answers have to fit the schema."""

import json
from pathlib import Path

import pytest

from dat_runtime import answer
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Size
from eval.answers.asks import Ask
from eval.answers.likelihood import Likelihood, Question
from eval.proving.demands import Performance
from eval.proving.prove import words_on_form

FRAME = Size(112, 112)
GOOD = answer.dump(answer.target([Accident(Box(8, 20, 60, 70, FRAME), "severe")]))


def questions(count: int) -> list[Question]:
    asked = []
    for number in range(count):
        ask = Ask(f"v{number}", Path("v.png"), "", "", FRAME, FRAME, GOOD)
        asked.append(Question(ask, GOOD, Frame(ask.id, "", FRAME, ())))
    return asked


@pytest.mark.parametrize("bad", ["", "no JSON", json.dumps({"count": 1})])
def test_half_of_the_answers_have_to_fit_the_schema(bad: str) -> None:
    nothing = Likelihood([], [])
    assert words_on_form(Performance(nothing, [GOOD, bad, bad, GOOD]), questions(4)) is None
    told = words_on_form(Performance(nothing, [GOOD, bad, bad, bad]), questions(4))
    assert str(told).startswith("1 of 4 answers fit the schema, expected at least 50%; one of")
