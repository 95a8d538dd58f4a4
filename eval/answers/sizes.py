"""How much a question takes: tokens of its prompt, bytes of what a model keeps while it answers."""

from collections.abc import Callable
from typing import Any

from dat_runtime.errors import ConfigError, ModelError
from eval.answers.asks import Ask
from eval.answers.model import chat


def load_processor(base: str, revision: str | None) -> Any:
    """What turns questions into a base's tokens; no weights.

    Raises:
        ConfigError: it cannot be loaded.
    """
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(base, revision=revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the processor of {base}: {error}") from None


def prompt_tokens(processor: Any, ask: Ask) -> int:
    """Tokens of a question whose picture is taken at its stored size (`model.encode`)."""
    text = processor.apply_chat_template(chat(ask), tokenize=False, add_generation_prompt=True)
    images = processor.image_processor
    # The template writes one placeholder for the picture, the processor one for each token of it.
    picture = ask.size.pixels // (images.patch_size * images.merge_size) ** 2
    return len(processor.tokenizer(text)["input_ids"]) - 1 + int(picture)


def comparison(base: str, revision: str | None) -> Callable[[Ask, int | None, str], None]:
    """Holds the prompt tokens that a server states to those of its base.

    A server that makes pictures smaller answers in pixels that nobody knows. Its prompts are
    shorter, and nothing else tells.
    """
    processor = load_processor(base, revision)

    def demand_same(ask: Ask, stated: int | None, url: str) -> None:
        """Raises ModelError where they differ, or the server states none."""
        wanted = prompt_tokens(processor, ask)
        if stated is None:
            raise ModelError(
                f"{url} states no prompt tokens, so they cannot be compared with those of {base}: "
                "leave --base out"
            )
        if stated != wanted:
            raise ModelError(
                f"{url} took {ask.id} in {stated} prompt tokens, {base} makes {wanted} of it: it "
                f"resizes pictures (this one has {ask.size.width} x {ask.size.height} pixels; "
                "raise image_max_pixels of LLaMA-Factory, max_pixels of vLLM's "
                "--mm-processor-kwargs), has another chat template, or serves another base"
            )

    return demand_same


def cache_bytes(model: Any, tokens: int) -> int:
    """Bytes of the keys and values of so many tokens, which a model keeps until its answers end."""
    text = model.config.get_text_config()
    heads = text.num_key_value_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * width * tokens * model.dtype.itemsize)


def demand_cache(model: Any, tokens: int, batch_size: int, free: int | None) -> int:
    """Refuse batches whose keys and values alone are more than the card has left.

    Args:
        tokens: of the longest prompt and answer together, which bound each row of a batch.
        free: bytes that are left beside the weights; None where there is no card.

    Returns:
        Bytes of the keys and values of a whole batch.

    Raises:
        ConfigError: names the largest batch that fits.
    """
    row = cache_bytes(model, tokens)
    if free is not None and batch_size * row > free:
        raise ConfigError(
            f"the keys and values of {batch_size} x {tokens} tokens take "
            f"{batch_size * row / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on the card: "
            f"--batch-size {max(1, free // row)}"
        )
    return batch_size * row


def free_memory() -> int | None:
    """Bytes that are free on the card; None where there is none."""
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
