"""How likely a model finds the true answers: the log-probability of each of their tokens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dat_runtime.errors import DataError
from dat_runtime.files import parse
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box
from eval.answers.asks import Ask, read_asks
from eval.answers.local import Loaded, encode

Array = NDArray[np.float64]
END = "<|im_end|>"


@dataclass(frozen=True)
class Question:
    """A sample of the instruction data with its true answer.

    Attributes:
        answer: the training target, boxes in pixels of the image sent.
        truth: the same as the frame of a truth file, in these pixels.
    """

    ask: Ask
    answer: str
    truth: Frame

    @property
    def severity(self) -> str:
        return str(json.loads(self.answer)["severity"])


class Likelihood(NamedTuple):
    """Per answer: the log-probability of each token, and the token that the model prefers."""

    log_probs: list[Array]
    choices: list[NDArray[np.int64]]

    @property
    def loss(self) -> Array:
        """Mean negative log-likelihood per answer, nats a token."""
        return np.array([-values.mean() for values in self.log_probs])


def read_questions(instructions: Path, inputs: str, part: str) -> list[Question]:
    """A part of the instruction data with its true answers.

    Raises:
        DataError: the file is not what `data.prep.instruct` writes.
    """
    path = instructions / f"{inputs}_{part}.json"
    asks = read_asks(instructions, inputs, part)
    try:
        answers = [s["messages"][1]["content"] for s in json.loads(path.read_text("utf-8"))]
        found = [_question(ask, text) for ask, text in zip(asks, answers, strict=True)]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"no instruction data with answers ({error!r})", path) from None
    if not found:
        raise DataError("holds no sample", path)
    return found


def _question(ask: Ask, text: str) -> Question:
    accidents = tuple(
        Accident(Box(*accident["bbox"], ask.frame), accident["severity"])
        for accident in parse(text)["accidents"]
    )
    return Question(ask, text, Frame(ask.id, "", ask.frame, accidents))


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """That many questions, evenly over the severities and, within one, over the file."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.severity, []).append(question)
    chosen: list[Question] = []
    left = min(count, len(questions))
    for i, (_, group) in enumerate(sorted(groups.items(), key=lambda item: len(item[1]))):
        share = min(len(group), left // (len(groups) - i))
        chosen += [group[k * len(group) // share] for k in range(share)]
        left -= share
    return chosen


def likelihood(loaded: Loaded, questions: Sequence[Question], batch_size: int) -> Likelihood:
    """What the model thinks of the true answers, each up to and with its end token."""
    found = Likelihood([], [])
    for start in range(0, len(questions), batch_size):
        log_probs, choices, real = _batch(loaded, questions[start : start + batch_size])
        for row, mask in enumerate(real):
            found.log_probs.append(log_probs[row, mask].astype(float))
            found.choices.append(choices[row, mask])
    return found


def _batch(loaded: Loaded, questions: Sequence[Question]) -> tuple[Any, Any, NDArray[np.bool_]]:
    """Log-probabilities and preferred tokens (n, answer tokens), and which of them are real."""
    import torch

    encoded = dict(encode(loaded.processor, [q.ask for q in questions]))
    answers = loaded.processor.tokenizer(
        [q.answer + END for q in questions],
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    new, real = answers["input_ids"], answers["attention_mask"]
    for name, tail in (
        ("input_ids", new),
        ("attention_mask", real),
        ("mm_token_type_ids", torch.zeros_like(new)),
    ):
        encoded[name] = torch.cat([encoded[name], tail], 1)
    given = {name: tensor.to(loaded.model.device) for name, tensor in encoded.items()}
    with torch.inference_mode():
        logits = loaded.model(**given, logits_to_keep=new.shape[1] + 1).logits[:, :-1].float()
        log_probs = logits.log_softmax(-1).gather(-1, new.to(logits.device)[..., None])[..., 0]
        choices = logits.argmax(-1)
    return log_probs.cpu().numpy(), choices.cpu().numpy(), real.bool().numpy()
