from pathlib import Path

from dat_runtime.answer import dump, target
from dat_runtime.types import Accident, Box, Size
from eval.answers.asks import Ask, longest_answer

FRAME = Size(1_280, 1_280)


def test_the_limit_of_tokens_follows_the_longest_true_answer():
    accident = Accident(Box(1_000, 1_000, 1_200, 1_200, FRAME), "severe")
    texts = ["", dump(target([accident] * 3)), dump(target([accident] * 20)), "é" * 10]
    asks = [Ask(str(i), Path("a.png"), "", "", FRAME, FRAME, text) for i, text in enumerate(texts)]
    assert longest_answer(asks) == len(texts[2])
    assert longest_answer(asks[-1:]) == 20
