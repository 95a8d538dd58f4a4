import json
from pathlib import Path

import pytest

from dat_runtime import prompt
from dat_runtime.errors import DataError
from train.mllm.base_training import primer_texts


def test_the_base_has_the_classes_of_the_7b(tiny_base):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(tiny_base)
    processor = AutoProcessor.from_pretrained(tiny_base)

    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert type(processor).__name__ == "Qwen2_5_VLProcessor"
    assert type(processor.image_processor).__name__ == "Qwen2VLImageProcessor"
    assert type(processor.tokenizer).__name__ == "Qwen2Tokenizer"
    assert json.loads((tiny_base / "config.json").read_text())["model_type"] == "qwen2_5_vl"
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in model.generation_config.eos_token_id


@pytest.mark.parametrize("text", [prompt.SYSTEM, "Ünïcode ✓ [12, 345] {}", "a\n\n  b <|im_end|>"])
def test_the_tokenizer_gives_every_text_back(tiny_base, text):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_tokens_of_their_own_as_in_qwen(tiny_base):
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tiny_base).tokenize("480") == ["4", "8", "0"]


def test_a_system_message_stands_before_the_image(tiny_base):
    from transformers import AutoProcessor

    content = [{"type": "image"}, {"type": "text", "text": "Q"}]
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": content}]
    text = AutoProcessor.from_pretrained(tiny_base).apply_chat_template(
        messages, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>Q<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_primer_without_samples_is_refused_by_name(tmp_path: Path):
    (tmp_path / "words_train.json").write_text('[{"messages": []}]')
    with pytest.raises(DataError, match=r"words_train\.json"):
        list(primer_texts(tmp_path))
