"""Samples of the instruction set as a codec learns from them: pictures, prompts, true answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dat_runtime.errors import DataError
from train.mllm.lengths import image_size, read_samples

END = "<|im_end|>"
"""Qwen2.5's chat template ends every message with it."""

NOT_LEARNT = -100
"""The label of a token that is no part of an answer."""

Grid = tuple[int, int]
"""Rows and columns in patches."""


@dataclass(frozen=True)
class Sample:
    """One picture with what is asked and answered about it."""

    image: Path
    system: str
    prompt: str
    answer: str


class Samples:
    """The samples of a data set, by the grid of their pictures: a codec reads one grid at a time.

    Raises:
        DataError: the data set is not what `data.prep.instruct` writes.
    """

    def __init__(self, instructions: Path, dataset: str, patch: int) -> None:
        self._by_grid: dict[Grid, list[Sample]] = {}
        for number, entry in enumerate(read_samples(instructions, dataset)):
            sample = _sample(entry, instructions, f"sample {number} of {dataset}")
            size = image_size(sample.image)
            grid = (size.height // patch, size.width // patch)
            self._by_grid.setdefault(grid, []).append(sample)

    def __len__(self) -> int:
        return sum(map(len, self._by_grid.values()))

    def grids(self) -> list[Grid]:
        """The most frequent first."""
        counts = Counter({grid: len(samples) for grid, samples in self._by_grid.items()})
        return [grid for grid, _ in counts.most_common()]

    def of_grid(self, grid: Grid) -> Sequence[Sample]:
        """In the order of the file."""
        return self._by_grid[grid]

    def draw(self, count: int, random: np.random.Generator) -> tuple[Grid, list[Sample]]:
        """Some samples of one grid, each grid as often as it has samples."""
        grids = self.grids()
        shares = np.array([len(self._by_grid[grid]) for grid in grids]) / len(self)
        grid = grids[random.choice(len(grids), p=shares)]
        there = self._by_grid[grid]
        chosen = random.choice(len(there), min(count, len(there)), replace=False)
        return grid, [there[i] for i in chosen]


def pictures(processor: Any, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Patches (N, 1176) of the pictures and their `grid_thw`."""
    made = processor.image_processor(images=_opened(samples), return_tensors="pt")
    return made["pixel_values"], made["image_grid_thw"]


def questions_with_answers(processor: Any, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The model's inputs, with labels on the answers and their ends."""
    texts = [_conversation(processor, sample) + sample.answer + END for sample in samples]
    encoded = processor(
        images=_opened(samples), text=texts, padding=True, padding_side="right", return_tensors="pt"
    )
    labels = torch.full_like(encoded["input_ids"], NOT_LEARNT)
    ends = encoded["attention_mask"].sum(dim=1).tolist()
    for row, (sample, end) in enumerate(zip(samples, ends, strict=True)):
        start = end - len(processor.tokenizer(sample.answer + END)["input_ids"])
        labels[row, start:end] = encoded["input_ids"][row, start:end]
    return {**encoded, "labels": labels}


def _conversation(processor: Any, sample: Sample) -> str:
    """All before the answer, the picture before the text as everywhere."""
    system = {"type": "text", "text": sample.system}
    prompt = {"type": "text", "text": sample.prompt}
    messages = [
        {"role": "system", "content": [system]},
        {"role": "user", "content": [{"type": "image"}, prompt]},
    ]
    text: str = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def _opened(samples: Sequence[Sample]) -> list[Any]:
    from PIL import Image

    return [Image.open(sample.image).convert("RGB") for sample in samples]


def _sample(entry: Any, instructions: Path, name: str) -> Sample:
    try:
        user, assistant = entry["messages"]
        (image,) = entry["images"]
        prompt = user["content"].removeprefix("<image>")
        return Sample(instructions / image, entry["system"], prompt, assistant["content"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{name} is no sample of data.prep.instruct ({error!r})") from None
