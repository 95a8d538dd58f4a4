"""Answers of a model in this process, one padded batch at a time."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dat_runtime import manifest
from dat_runtime.adapter import read_adapter
from dat_runtime.errors import ConfigError, ModelError
from eval.answers.asks import Answer, Ask

PATCH = 14
"""Side of the vision tower's patch, pixels."""


class Loaded(NamedTuple):
    """A model on its device, ready to generate, and its processor."""

    model: Any
    processor: Any


def load(name: str, revision: str | None, adapter: Path | None) -> Loaded:
    """The model of a folder or of the hub, with a LoRA adapter if one is named.

    Raises:
        ConfigError: model or adapter cannot be loaded.
        ModelError: the adapter belongs to another base.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    if adapter:
        demand_base(name, revision, adapter)

    transformers.utils.logging.disable_progress_bar()
    cuda = torch.cuda.is_available()
    try:
        processor = transformers.AutoProcessor.from_pretrained(name, revision=revision)
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            name,
            revision=revision,
            dtype=torch.bfloat16 if cuda else torch.float32,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"cannot load {name}: {error}") from None
    if adapter:
        model = with_adapter(model, adapter)
    processor.tokenizer.padding_side = "left"
    return Loaded(model.to("cuda" if cuda else "cpu").eval(), processor)


def with_adapter(model: Any, adapter: Path) -> Any:
    """The model with a LoRA adapter on it.

    Raises:
        ConfigError: it cannot be loaded.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        return PeftModel.from_pretrained(model, str(adapter)).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"cannot load {adapter}: {error}") from None


def demand_base(name: str, revision: str | None, adapter: Path) -> str | None:
    """The revision at which to load the base: `None` for a folder, which has but one.

    Raises:
        ModelError: the adapter's files are broken, or it states another base or revision.
    """
    stated = read_adapter(adapter)
    if Path(name).is_dir():
        found, place = manifest.digest(Path(name)), None
    else:
        found = place = revision or stated.revision
        if stated.base != name:
            raise ModelError(
                f"{adapter} was trained for {stated.base}, not for {name}: name its own base, or "
                "train an adapter for this one"
            )
    if found != stated.revision:
        raise ModelError(
            f"{adapter} was trained for {stated.base} at revision {stated.revision}, {name} has "
            f"{found}: use the base that it was trained for, or train it again"
        )
    return place


def generate(
    loaded: Loaded, batch: Sequence[Ask], max_new_tokens: int, constrained: bool = False
) -> list[Answer]:
    """Greedy answers to one batch; each counts the whole batch's seconds.

    Args:
        constrained: only tokens that lead to an answer of the published schema are chosen.
    """
    import torch

    options: dict[str, Any] = {}
    if constrained:
        from eval.answers.constrained import AnswerConstraint

        options["logits_processor"] = [AnswerConstraint(loaded, len(batch))]
    started = time.monotonic()  # not counted: reading the grammar, once for all batches
    encoded = encode(loaded.processor, batch).to(loaded.model.device)
    with torch.inference_mode():
        tokens = loaded.model.generate(
            **encoded, max_new_tokens=max_new_tokens, do_sample=False, **options
        )
    new = tokens[:, encoded["input_ids"].shape[1] :]
    texts = loaded.processor.batch_decode(new, skip_special_tokens=True)
    asked = encoded["attention_mask"].sum(dim=1).tolist()
    seconds = time.monotonic() - started
    return [
        Answer(text, seconds, prompt, _generated(row, ends_of(loaded.model)))
        for text, prompt, row in zip(texts, asked, new.tolist(), strict=True)
    ]


def ends_of(model: Any) -> list[int]:
    """The tokens at which generation ends."""
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [ends]


def _generated(tokens: Sequence[int], ends: Sequence[int]) -> int:
    """Tokens up to the end token, which counts; the rest is padding."""
    return next((i for i, token in enumerate(tokens, 1) if token in ends), len(tokens))


def encode(processor: Any, batch: Sequence[Ask]) -> Any:
    """The batch as model inputs, the images at their stored sizes.

    Raises:
        ConfigError: the processor would resize an image, so that coordinates would no longer fit.
    """
    from PIL import Image

    images = [Image.open(ask.image).convert("RGB") for ask in batch]
    texts = [
        processor.apply_chat_template(
            [
                {"role": "system", "content": [{"type": "text", "text": ask.system}]},
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": ask.prompt}],
                },
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        for ask in batch
    ]
    encoded = processor(images=images, text=texts, padding=True, return_tensors="pt")
    for ask, (_, rows, columns) in zip(batch, encoded["image_grid_thw"].tolist(), strict=True):
        if (columns * PATCH, rows * PATCH) != (ask.frame.width, ask.frame.height):
            raise ConfigError(
                f"{ask.image} is {ask.frame.width} x {ask.frame.height}, the model's processor "
                f"makes it {columns * PATCH} x {rows * PATCH}: make the instruction data with a "
                "smaller --max-pixels, or raise the processor's pixel limit"
            )
    return encoded
