"""Answers about code units, of a tiny model and a codec of eight steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from dat_runtime.errors import ModelError, OffloadError
from dat_runtime.offload import CodeUnit, pack, truncated, unpack
from dat_runtime.prompt import SYSTEM

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("codec")]

PROMPT = "Image 112 x 112."


@pytest.fixture(scope="module")
def answering(tiny_base: Path, codec_folder: Path) -> Any:
    from eval.answers.codes import CodeAnswers
    from eval.answers.model import load

    ours, theirs = (load(str(tiny_base), None, None) for _ in range(2))
    ours.model.generation_config.repetition_penalty = 1.05  # as a base may have it
    return CodeAnswers(ours.model, ours.processor, codec_folder, str(tiny_base), None), theirs


@pytest.fixture(scope="module")
def picture() -> Any:
    from PIL import Image

    pixels = np.random.default_rng(3).integers(0, 256, (112, 112, 3), np.uint8)
    return Image.fromarray(pixels)


def bits_of(picture: Any, loaded: Any, folder: Path) -> tuple[Any, Any, bytes]:
    """Description and decoder of the codec, and a picture's unit of all channels."""
    import torch

    from train.offloading.folder import read_codec
    from train.offloading.tower import head, tower_of

    description, codec = read_codec(folder)
    made = loaded.processor.image_processor(images=[picture], return_tensors="pt")
    with torch.no_grad():
        features = head(
            tower_of(loaded.model), made["pixel_values"], made["image_grid_thw"], description.block
        )
        bits = codec.bits(features).T.numpy()
    return description, codec, pack(CodeUnit(description.id, (8, 8), description.spatial, bits))


def test_an_answer_is_that_of_the_model_with_the_codec_between_its_halves(
    answering: Any,
    picture: Any,
    codec_folder: Path,
) -> None:
    import torch

    from train.offloading.codec import signs_of
    from train.offloading.tower import cut, tower_of

    answers, loaded = answering
    description, codec, whole = bits_of(picture, loaded, codec_folder)
    conversation = [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]},
    ]
    text = loaded.processor.apply_chat_template(
        conversation, tokenize=False, add_generation_prompt=True
    )
    inputs = loaded.processor(images=[picture], text=[text], return_tensors="pt")
    for unit in (whole, truncated(whole, 4)):
        decoded = codec.decode(signs_of(unpack(unit).bits, codec.shape.channels), (8, 8))
        with torch.no_grad(), cut(tower_of(loaded.model), description.block, lambda *_: decoded):  # noqa: B023
            tokens = loaded.model.generate(
                **inputs, max_new_tokens=12, do_sample=False, repetition_penalty=1.0
            )
        given = answers.answer(unit, SYSTEM, PROMPT, 12)
        expected = tokens[0, inputs["input_ids"].shape[1] :]
        assert given.text == loaded.processor.tokenizer.decode(expected, skip_special_tokens=True)
        assert given.text
        assert given.prompt_tokens == inputs["input_ids"].shape[1]
    assert answers.versions == {
        "codec": description.id,
        "base": f"{description.fields['base']}@{description.fields['revision']}",
    }


def test_a_unit_that_this_codec_did_not_write_is_refused_by_name(
    answering: Any,
    picture: Any,
    codec_folder: Path,
) -> None:
    answers, loaded = answering
    _, _, whole = bits_of(picture, loaded, codec_folder)
    ours = unpack(whole)
    for unit, words in (
        (replace(ours, codec="0" * 16), "of codec 0000000000000000, the decoder here is"),
        (replace(ours, bits=np.ones((9, 64), bool)), "9 channels .* its codec has 8"),
        (replace(ours, grid=(64, 16), bits=np.ones((8, 1024), bool)), "64 x 16 patches: its codec"),
        (replace(ours, spatial=True, bits=np.ones((8, 16), bool)), "spatial encoding True"),
    ):
        with pytest.raises(OffloadError, match=words):
            answers.answer(pack(unit), SYSTEM, PROMPT, 4)
    with pytest.raises(OffloadError, match="checksum"):
        answers.answer(whole[:-1] + bytes([whole[-1] ^ 1]), SYSTEM, PROMPT, 4)


def test_a_codec_of_another_model_is_refused_before_anything_is_asked(
    tiny_base: Path,
    codec_folder: Path,
    tmp_path: Path,
) -> None:
    from dat_runtime.codec_folder import read_description
    from eval.answers.codes import demand_same

    stated = read_description(codec_folder).fields
    demand_same(stated, codec_folder, str(tiny_base), None)
    other = tmp_path / "base"
    other.mkdir()
    (other / "config.json").write_text("{}")
    for base, adapter, words in (
        (other, None, "is another base: it has the digest"),
        (tiny_base, other, "was trained for adapter None"),
    ):
        with pytest.raises(ModelError, match=words):
            demand_same(stated, codec_folder, str(base), adapter)
    with pytest.raises(ModelError, match="was trained for prompt 1"):
        demand_same({**stated, "prompt": 1}, codec_folder, str(tiny_base), None)
