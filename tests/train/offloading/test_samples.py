"""Samples by the grid of their pictures, and the tokens of them that are learnt."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dat_runtime.errors import DataError
from dat_runtime.types import Size
from train.offloading import samples
from train.offloading.samples import END, Sample, Samples, pictures, questions_with_answers


def test_samples_are_drawn_from_one_grid_as_often_as_it_has_samples(
    boxed_instructions: Path,
) -> None:
    found = Samples(boxed_instructions, "boxed_train", 14)
    assert len(found) == 12
    square, wide = found.grids()
    assert [len(found.of_grid(grid)) for grid in (square, wide)] == [9, 3]
    names = [sample.image.name for sample in found.of_grid(wide)]
    assert names == ["f3.png", "f7.png", "f11.png"]
    with (boxed_instructions / "boxed_train.json").open() as file:
        entry = json.load(file)[3]
    assert found.of_grid(wide)[0] == Sample(
        boxed_instructions / "images" / "f3.png",
        entry["system"],
        entry["messages"][0]["content"].removeprefix("<image>"),
        entry["messages"][1]["content"],
    )
    size = samples.image_size(found.of_grid(wide)[0].image)
    assert size == Size(width=wide[1] * 14, height=wide[0] * 14)
    drawn = [found.draw(4, np.random.default_rng(seed)) for seed in range(200)]
    assert all(len(set(chosen)) == (4 if grid == square else 3) for grid, chosen in drawn)
    assert all(set(chosen) <= set(found.of_grid(grid)) for grid, chosen in drawn)
    assert sum(grid == square for grid, _ in drawn) == pytest.approx(150, abs=20)


def test_an_entry_of_another_form_is_named() -> None:
    whole: dict[str, Any] = {
        "system": "s",
        "messages": [{"content": "<image>what?"}, {"content": "this"}],
        "images": ["a.png"],
    }
    made = samples._sample(whole, Path("folder"), "sample 3 of boxed")
    assert made == Sample(Path("folder/a.png"), "s", "what?", "this")
    for broken in ({"images": ["a", "b"]}, {"messages": [{"content": "one"}]}, {"system": None}):
        entry = {key: value for key, value in (whole | broken).items() if value is not None}
        with pytest.raises(DataError, match=r"^sample 3 of boxed is no sample of data\.prep"):
            samples._sample(entry, Path("folder"), "sample 3 of boxed")


def processor() -> Any:
    """In place of the base's own: a token for each character, and pictures as they are."""

    def tokens(text: str) -> dict[str, Any]:
        return {"input_ids": [ord(letter) for letter in text]}

    def chat(messages: Any, *, tokenize: bool, add_generation_prompt: bool) -> str:
        assert (tokenize, add_generation_prompt) == (False, True)
        return json.dumps(messages) + ">"

    def encode(*, images: Any, text: list[str], **keys: Any) -> dict[str, torch.Tensor]:
        assert keys == {"padding": True, "padding_side": "right", "return_tensors": "pt"}
        assert [image.mode for image in images] == ["RGB"] * len(text)
        longest = max(map(len, text))
        rows = [tokens(one)["input_ids"] + [0] * (longest - len(one)) for one in text]
        ids = torch.tensor(rows)
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def prepare(*, images: Any, return_tensors: str) -> dict[str, Any]:
        sizes = [image.size for image in images]
        return {"pixel_values": (sizes, return_tensors), "image_grid_thw": "grids"}

    encode.image_processor = prepare  # type: ignore[attr-defined]
    encode.tokenizer = lambda text: tokens(text)  # type: ignore[attr-defined]
    encode.apply_chat_template = chat  # type: ignore[attr-defined]
    return encode


def test_answers_and_their_ends_alone_are_learnt(boxed_instructions: Path) -> None:
    image = boxed_instructions / "images" / "f0.png"
    asked = [
        Sample(image, "be brief", "what?", "a crash"),
        Sample(image, "s", "p", "none, for sure"),
    ]
    inputs = questions_with_answers(processor(), asked)
    assert inputs.keys() == {"input_ids", "attention_mask", "labels"}
    for row, sample in enumerate(asked):
        labels = inputs["labels"][row]
        learnt = labels != -100
        assert "".join(map(chr, labels[learnt].tolist())) == sample.answer + END
        assert torch.equal(inputs["input_ids"][row][learnt], labels[learnt])
        system = {"type": "text", "text": sample.system}
        prompt = {"type": "text", "text": sample.prompt}
        messages = [
            {"role": "system", "content": [system]},
            {"role": "user", "content": [{"type": "image"}, prompt]},
        ]
        held = inputs["attention_mask"][row].bool()
        text = "".join(map(chr, inputs["input_ids"][row][held].tolist()))
        assert text == json.dumps(messages) + ">" + sample.answer + END
    size = samples.image_size(image)
    sizes = [(size.width, size.height)] * 2
    assert pictures(processor(), asked) == ((sizes, "pt"), "grids")
