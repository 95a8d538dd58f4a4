"""The untrained tiny Qwen2.5-VL: the 7B's own classes, a small tokenizer, a Hugging Face folder.

It stands in for Qwen2.5-VL-7B-Instruct on a CPU: same architecture, special tokens, chat template
and image processing, so that every later stage runs the code that it runs on the 7B.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen2.5-VL's, in its order."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5-VL's, without its numbering of several pictures."""


class Sizes(NamedTuple):
    """Keys of Qwen2_5_VLTextConfig and Qwen2_5_VLVisionConfig."""

    text: Mapping[str, Any]
    vision: Mapping[str, Any]


MAX_LENGTH = 4096
"""Tokens."""

_TEXT = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_LENGTH,
    # Copying from the prompt needs slow rotary angles, reading columns of a grid of a few cells
    # needs fast ones: a base between the 7B's 1e6 and 10, the faster angles for rows and columns.
    "rope_parameters": {
        "rope_type": "default",
        "type": "default",
        "rope_theta": 1000.0,
        "mrope_section": [1, 4, 11],
    },
    "initializer_range": 0.06,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
_VISION = {
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "initializer_range": 0.06,
}

SMALLEST = Sizes(
    {**_TEXT, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 384},
    {
        **_VISION,
        "depth": 2,
        "hidden_size": 96,
        "num_heads": 3,
        "intermediate_size": 256,
        "out_hidden_size": 128,
        "fullatt_block_indexes": [0, 1],
    },
)
"""For tests: every part is there, nothing can be learnt in it."""

SMALL = Sizes(
    {**_TEXT, "hidden_size": 192, "num_attention_heads": 6, "intermediate_size": 512},
    {
        **_VISION,
        "depth": 4,
        "hidden_size": 160,
        "num_heads": 5,
        "intermediate_size": 448,
        "out_hidden_size": 192,
        "fullatt_block_indexes": [0, 1, 2, 3],
    },
)
"""The project's own base: 4 million weights, 8 MB in bfloat16."""


def build(
    folder: Path,
    texts: Iterable[str],
    vocab_size: int,
    max_pixels: int,
    seed: int,
    sizes: Sizes = SMALLEST,
) -> None:
    """Write the untrained model, its tokenizer and its processor into `folder`.

    Args:
        texts: the tokenizer's vocabulary is learnt from them.
        vocab_size: entries of the vocabulary besides the special tokens.
        max_pixels: pixel limit that the image processor states.
        seed: of the weights.
    """
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    processor = _processor(learnt_tokenizer(texts, vocab_size), max_pixels)
    write(folder, processor, sizes, (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration), seed)


def write(folder: Path, processor: Any, sizes: Sizes, classes: tuple[Any, Any], seed: int) -> None:
    """Write an untrained model and its processor.

    Args:
        classes: of the configuration and of the model.
    """
    import torch
    from transformers import GenerationConfig, set_seed

    tokenizer = processor.tokenizer
    token = tokenizer.convert_tokens_to_ids
    end, pad = token("<|im_end|>"), token("<|endoftext|>")
    config_class, model_class = classes
    config = config_class(
        text_config={
            **sizes.text,
            "vocab_size": len(tokenizer),
            "bos_token_id": pad,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
        vision_config=dict(sizes.vision),
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        dtype=torch.float32,
    )
    set_seed(seed)
    model = model_class(config)
    model.generation_config = GenerationConfig(
        bos_token_id=pad, eos_token_id=[end, pad], pad_token_id=pad, do_sample=False
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def learnt_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Byte-level BPE with Qwen2's pre-tokenisation, learnt from the texts."""
    from tokenizers import Tokenizer, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import Qwen2Tokenizer

    learner = Tokenizer(BPE())
    learner.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def _processor(tokenizer: Any, max_pixels: int) -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    # The lower limit is the 7B's; Transformers names limits of pixels after edges.
    size = {"shortest_edge": 56 * 56, "longest_edge": max_pixels}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE,
    )
