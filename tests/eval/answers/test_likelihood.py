"""Questions with their true answers, and which of them are looked at."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dat_runtime.answer import dump, target
from dat_runtime.errors import DataError
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box, Severity, Size
from eval.answers import likelihood
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


class Tokenizer:
    """A token a letter, by its place in the alphabet; the end is a letter too."""

    def __call__(
        self, texts: list[str], padding: bool, padding_side: str, return_tensors: str
    ) -> Any:
        import torch

        assert (padding, padding_side, return_tensors) == (True, "right", "pt")
        rows = [[ord(letter) - 96 for letter in text.replace("<|im_end|>", "z")] for text in texts]
        length = max(map(len, rows))
        return {
            "input_ids": torch.tensor([row + [0] * (length - len(row)) for row in rows]),
            "attention_mask": torch.tensor(
                [[1] * len(row) + [0] * (length - len(row)) for row in rows]
            ),
        }


class Model:
    """The logits at a token, of its number and of what was padded before it."""

    device = "cpu"

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, *, logits_to_keep: int, **inputs: Any) -> Any:
        import torch

        self.asked.append(inputs)
        ids = inputs["input_ids"][:, -logits_to_keep:, None]
        logits = (ids * 7 + torch.arange(27) * 10) % 27
        return SimpleNamespace(logits=logits.half())


def test_every_token_of_an_answer_has_its_probability_after_the_one_before_it(monkeypatch) -> None:
    import torch

    prompts = {"f0": [0, 5, 6], "f1": [3, 4, 9], "f2": [2, 2, 7]}

    def encode(processor: Any, asks: list[Ask]) -> dict[str, Any]:
        ids = torch.tensor([prompts[ask.id] for ask in asks])
        mask = (ids > 0).long()
        return {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": mask, "pixels": mask}

    monkeypatch.setattr(likelihood, "encode", encode)
    model = Model()
    loaded = SimpleNamespace(model=model, processor=SimpleNamespace(tokenizer=Tokenizer()))
    answers = ["abc", "d", "ef"]
    questions = [
        Question(Ask(f"f{i}", Path("f.png"), "", "", SIZE, SIZE), text, Frame("", "", SIZE, ()))
        for i, text in enumerate(answers)
    ]
    found = likelihood.likelihood(loaded, questions, batch_size=2)
    for i, text in enumerate(answers):
        new = [*(ord(letter) - 96 for letter in text), 26]
        before = [prompts[f"f{i}"][-1], *new[:-1]]
        logits = np.array([(token * 7 + np.arange(27) * 10) % 27 for token in before], float)
        shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        np.testing.assert_allclose(found.log_probs[i], shares[range(len(new)), new], rtol=1e-5)
        assert found.log_probs[i].dtype == np.float64
        assert found.choices[i].tolist() == logits.argmax(1).tolist()
    first, second = model.asked
    assert first["input_ids"].tolist() == [[0, 5, 6, 1, 2, 3, 26], [3, 4, 9, 4, 26, 0, 0]]
    assert first["attention_mask"].tolist() == [[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]]
    assert first["mm_token_type_ids"].tolist() == [[0, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0]]
    assert first["pixels"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert second["input_ids"].tolist() == [[2, 2, 7, 5, 6, 26]]
