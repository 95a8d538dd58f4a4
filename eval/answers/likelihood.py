"""How likely a model finds the true answers: the log-probability of each of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dat_runtime.errors import DataError
from dat_runtime.files import parse, read_json
from dat_runtime.truth import Frame
from dat_runtime.types import Accident, Box
from eval.answers.asks import Ask, part_file, read_asks
from eval.answers.model import Loaded, encode

Array = NDArray[np.float64]
END = "<|im_end|>"
"""Qwen's chat template ends every message with it."""


@dataclass(frozen=True)
class Question:
    """A sample of the instruction data with its true answer.

    Attributes:
        answer: the training target, boxes as the model counts them.
        truth: the same answer as the frame of a truth file, in the same coordinates.
    """

    ask: Ask
    answer: str
    truth: Frame

    @property
    def severity(self) -> str:
        return str(parse(self.answer)["severity"])


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
    path = part_file(instructions, inputs, part)
    asks = read_asks(instructions, inputs, part)
    questions = []
    try:
        for ask, sample in zip(asks, read_json(path), strict=True):
            questions.append(_question(ask, sample["messages"][1]["content"]))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"is not instruction data with answers ({error!r})", path) from None
    if not questions:
        raise DataError("holds no sample", path)
    return questions


def _question(ask: Ask, text: str) -> Question:
    accidents = tuple(
        Accident(Box(*accident["bbox"], ask.frame), accident["severity"])
        for accident in parse(text)["accidents"]
    )
    return Question(ask, text, Frame(ask.id, "", ask.frame, accidents))


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """`count` questions, spread evenly over the severities and, within each, over the file."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.severity, []).append(question)
    chosen: list[Question] = []
    left = min(count, len(questions))
    # The smallest group first: what it cannot supply is shared among the groups after it.
    by_size = sorted(groups.values(), key=len)
    for i, group in enumerate(by_size):
        share = min(len(group), left // (len(by_size) - i))
        for k in range(share):
            chosen.append(group[k * len(group) // share])
        left -= share
    return chosen


def likelihood(loaded: Loaded, questions: Sequence[Question], batch_size: int) -> Likelihood:
    """How likely the model finds the true answers, each up to and including its end token."""
    result = Likelihood([], [])
    for start in range(0, len(questions), batch_size):
        log_probs, choices, real = _batch(loaded, questions[start : start + batch_size])
        for row, mask in enumerate(real):
            result.log_probs.append(log_probs[row, mask].astype(float))
            result.choices.append(choices[row, mask])
    return result


def _batch(loaded: Loaded, questions: Sequence[Question]) -> tuple[Any, Any, NDArray[np.bool_]]:
    """Log-probabilities and preferred tokens (n, answer tokens), and which are not padding."""
    import torch

    encoded = dict(encode(loaded.processor, [q.ask for q in questions]))
    # The prompts are padded on the left and the answers on the right, so that they meet.
    answers = loaded.processor.tokenizer(
        [q.answer + END for q in questions],
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    new, real = answers["input_ids"], answers["attention_mask"]
    tails = {
        "input_ids": new,
        "attention_mask": real,
        "mm_token_type_ids": torch.zeros_like(new),  # an answer holds no token of a picture
    }
    for name, tail in tails.items():
        encoded[name] = torch.cat([encoded[name], tail], 1)
    inputs = {name: tensor.to(loaded.model.device) for name, tensor in encoded.items()}
    length = new.shape[1]
    with torch.inference_mode():
        # The logits at one token predict the next one. So one more is kept in front of the answer,
        # and the last is dropped.
        logits = loaded.model(**inputs, logits_to_keep=length + 1).logits[:, :-1].float()
        all_log_probs = logits.log_softmax(-1)
        log_probs = all_log_probs.gather(-1, new.to(logits.device)[..., None])[..., 0]
        choices = logits.argmax(-1)
    return log_probs.cpu().numpy(), choices.cpu().numpy(), real.bool().numpy()
