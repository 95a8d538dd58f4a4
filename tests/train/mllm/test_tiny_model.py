"""The untrained tiny models: what their folders state, and that a seed makes the weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from train.mllm import tiny_model, tiny_qwen3_vl

TEXTS = [f"crossing {i} of lane {i * i}, a severe accident at [{i}, {7 * i}]" for i in range(99)]
CASES = {"qwen2_5_vl": (tiny_model, 12544), "qwen3_vl": (tiny_qwen3_vl, 16384)}


@pytest.fixture(scope="module", params=CASES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The family, its sizes, and the folder."""
    module, pixels = CASES[request.param]
    folder = tmp_path_factory.mktemp("tiny") / request.param
    module.build(folder, TEXTS, 280, pixels, seed=1)
    return request.param, module.SMALLEST, folder


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_the_configuration_states_the_sizes_and_tokens(built: Any) -> None:
    family, sizes, folder = built
    config = read(folder, "config.json")
    tokens = {"eos_token_id": 280, "bos_token_id": 281, "pad_token_id": 281, "vocab_size": 294}
    text = {**sizes.text, **tokens}
    text["rope_parameters"] = {
        name: value for name, value in text["rope_parameters"].items() if name != "type"
    }
    found = config["text_config"]
    found["rope_parameters"].pop("type", None)
    assert {name: found.get(name) for name in text} == text
    assert {name: config["vision_config"].get(name) for name in sizes.vision} == sizes.vision
    above = {
        "model_type": family,
        "dtype": "float32",
        "tie_word_embeddings": True,
        "image_token_id": 292,
        "video_token_id": 293,
        "vision_start_token_id": 289,
        "vision_end_token_id": 290,
    }
    assert {name: config.get(name) for name in above} == above
    generation = read(folder, "generation_config.json")
    generation.pop("transformers_version")
    generation.pop("_from_model_config", None)
    assert generation == {
        "bos_token_id": 281,
        "do_sample": False,
        "eos_token_id": [280, 281],
        "pad_token_id": 281,
    }


def test_the_processor_states_its_limits_and_the_chat_its_form(built: Any) -> None:
    family, _, folder = built
    processor = read(folder, "processor_config.json")
    least, most, patch = (3136, 12544, 14) if family == "qwen2_5_vl" else (65536, 16384, 16)
    images, films = processor["image_processor"], processor["video_processor"]
    assert images["size"] == films["size"] == {"shortest_edge": least, "longest_edge": most}
    assert images["patch_size"] == patch
    assert images["merge_size"] == 2
    if family == "qwen3_vl":
        assert images["image_mean"] == images["image_std"] == [0.5, 0.5, 0.5]
    assert (folder / "chat_template.jinja").read_text() == tiny_model.CHAT_TEMPLATE


def test_the_tokenizer_is_learnt_from_the_texts_and_has_the_familys_tokens(built: Any) -> None:
    from transformers import AutoTokenizer

    _, _, folder = built
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 294
    ids = tokenizer.convert_tokens_to_ids(list(tiny_model.SPECIAL_TOKENS))
    assert sorted(ids) == list(range(280, 294))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 4096
    assert tokenizer.clean_up_tokenization_spaces is False
    assert tokenizer.tokenize(" 480") == ["Ġ", "4", "8", "0"]
    assert len(tokenizer.tokenize(" of lane, a severe accident")) < 14
    text = "a , b <|im_end|> Ünï ✓"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_seed_makes_the_weights(built: Any, tmp_path: Path) -> None:
    family, _, folder = built
    module, pixels = CASES[family]
    module.build(tmp_path / "again", TEXTS, 280, pixels, seed=1)
    module.build(tmp_path / "other", TEXTS, 280, pixels, seed=2)
    first, again, other = (
        (path / "model.safetensors").read_bytes()
        for path in (folder, tmp_path / "again", tmp_path / "other")
    )
    assert first == again != other
