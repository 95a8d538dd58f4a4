"""The untrained tiny Qwen3-VL: its own classes and image processing, for rehearsals on a CPU.

The tokenizer is that of the tiny Qwen2.5-VL, and so is the chat template: what the Instruct models
of Qwen3-VL write for a system message, a picture and a question is the same.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dat_runtime.family import QWEN3_VL
from train.mllm.tiny_model import CHAT_TEMPLATE, Sizes, learnt_tokenizer, write

MERGE = 2
TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,  # wider than hidden_size / heads, as in the 4B
    "intermediate_size": 192,
    "max_position_embeddings": 4096,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [6, 5, 5]},
    "initializer_range": 0.06,
    "tie_word_embeddings": True,
}
VISION = {
    "depth": 2,
    "hidden_size": 48,
    "num_heads": 3,
    "intermediate_size": 96,
    "out_hidden_size": 64,
    "patch_size": QWEN3_VL.unit // MERGE,
    "spatial_merge_size": MERGE,
    "temporal_patch_size": 2,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
    "initializer_range": 0.06,
}
SMALLEST = Sizes(TEXT, VISION)


def build(folder: Path, texts: Iterable[str], vocab_size: int, max_pixels: int, seed: int) -> None:
    """Write the untrained model, its tokenizer and its processor into `folder`.

    Args:
        texts: the tokenizer's vocabulary is learnt from them.
        vocab_size: entries of the vocabulary besides the special tokens.
        max_pixels: pixel limit that the image processor states.
        seed: of the weights.
    """
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    processor = _processor(learnt_tokenizer(texts, vocab_size), max_pixels)
    write(folder, processor, SMALLEST, (Qwen3VLConfig, Qwen3VLForConditionalGeneration), seed)


def _processor(tokenizer: Any, max_pixels: int) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    # Transformers names limits of pixels after edges.
    size = {"shortest_edge": QWEN3_VL.least_pixels, "longest_edge": max_pixels}
    half = [0.5, 0.5, 0.5]
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            size=size, patch_size=VISION["patch_size"], image_mean=half, image_std=half
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE,
    )
