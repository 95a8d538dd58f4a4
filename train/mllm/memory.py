"""Peak memory of a training of Qwen2.5-VL, from its configuration and the samples' lengths.

Pure arithmetic over tensors that can be counted by hand: what is resident (weights, adapter,
gradients, optimizer), what the forward pass keeps for the backward pass, and what the three moments
need that can be the peak: the vision tower, the loss, the backward pass of one layer. The formulas
follow the code of Transformers 5.6 (`modeling_qwen2_5_vl.py`, `loss_utils.py`), PEFT 0.18
(`tuners/lora/layer.py`) and LLaMA-Factory 0.9.5 (`model_utils/checkpointing.py`).
`benchmarks/lora_memory.py` compares them with measurements; docs/lora.md holds the result.

Letters: t tokens of the batch, padding included; p patches of its images; b bytes of an activation
(2 under bf16, else 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dat_runtime.errors import ConfigError
from train.mllm.model_sizes import PATCH_VALUES, Text, Vision

PAD_TO = 8
"""LLaMA-Factory's collator pads a batch to a multiple of this."""

CUDA_CONTEXT = 700 << 20
"""Outside PyTorch's allocator: driver, kernels, cuBLAS workspaces. Not derived; cards differ."""

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight in bitsandbytes' NF4: 4 bits, an 8-bit scale per 64, a float per 256 scales."""


@dataclass(frozen=True)
class Batch:
    """The worst batch of a data set.

    Attributes:
        size: samples.
        tokens: of each, padded to the longest.
        image_tokens: of all images of the batch.
    """

    size: int
    tokens: int
    image_tokens: int

    @property
    def all_tokens(self) -> int:
        return self.size * self.tokens


def worst_batch(samples: Sequence[tuple[int, int]], size: int) -> Batch:
    """The longest samples in one batch, and the largest images.

    Args:
        samples: (tokens, image tokens) of each sample.
    """
    size = min(size, len(samples))
    longest = max(tokens for tokens, _ in samples)
    images = sorted((image for _, image in samples), reverse=True)[:size]
    return Batch(size, -(-longest // PAD_TO) * PAD_TO, sum(images))


@dataclass(frozen=True)
class Recipe:
    """What LLaMA-Factory's keys say about memory."""

    full: bool
    rank: int
    targets: tuple[str, ...]
    dropout: bool
    bf16: bool
    quantization_bit: int | None
    checkpointing: bool
    tower_frozen: bool
    projector_frozen: bool
    optimizer_bytes: int
    zero_stage: int
    world: int
    cuda: bool

    @property
    def width(self) -> int:
        """Bytes of an activation."""
        return 2 if self.bf16 else 4

    def shared(self, size: float, stage: int) -> int:
        """Bytes on one card of what DeepSpeed divides from a ZeRO stage on."""
        return round(size / self.world if self.zero_stage >= stage else size)


_OPTIMIZER_BYTES = {"adamw": 8, "adam": 8, "8bit": 2, "adafactor": 4, "sgd": 0}
"""Bytes of state per trained weight, by a word in the `optim` key; AdamW keeps two floats."""


def read_recipe(config: Mapping[str, Any], text: Text, *, world: int = 1, cuda: bool) -> Recipe:
    """The recipe in a configuration of LLaMA-Factory.

    Args:
        world: number of processes, one a card.
        cuda: on a card; a CPU keeps wider dropout masks.
    """
    full = config.get("finetuning_type") == "full"
    named = config.get("lora_target", "all")
    targets = tuple(text.modules) if named == "all" else tuple(_words(named))
    optim = str(config.get("optim", "adamw_torch"))
    by_word = (v for k, v in reversed(_OPTIMIZER_BYTES.items()) if k in optim)
    return Recipe(
        full=full,
        rank=int(config.get("lora_rank", 8)),
        targets=targets,
        dropout=float(config.get("lora_dropout", 0.0)) > 0,
        bf16=bool(config.get("bf16", False)),
        quantization_bit=config.get("quantization_bit"),
        checkpointing=not config.get("disable_gradient_checkpointing", False),
        tower_frozen=bool(config.get("freeze_vision_tower", True)),
        projector_frozen=bool(config.get("freeze_multi_modal_projector", True)),
        optimizer_bytes=next(by_word, 8),
        zero_stage=zero_stage(config.get("deepspeed")),
        world=world,
        cuda=cuda,
    )


def _words(value: Any) -> list[str]:
    return [str(v).strip() for v in (value.split(",") if isinstance(value, str) else value)]


def zero_stage(deepspeed: Any) -> int:
    """The ZeRO stage of a DeepSpeed configuration: a mapping, a file of JSON, or nothing.

    Raises:
        ConfigError: there is no such file, or it states no stage.
    """
    import json
    from pathlib import Path

    if not deepspeed:
        return 0
    try:
        content = deepspeed
        if not isinstance(deepspeed, Mapping):
            content = json.loads(Path(deepspeed).read_text("utf-8"))
        return int(content["zero_optimization"]["stage"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{deepspeed}: no DeepSpeed configuration with a ZeRO stage ({error!r})"
        ) from None


@dataclass(frozen=True)
class Estimate:
    """Bytes on one card, by part.

    Attributes:
        resident: held during the whole training.
        kept: held from the forward pass to the backward pass.
        moments: needed besides at one moment only; the largest counts.
    """

    resident: dict[str, int]
    kept: dict[str, int]
    moments: dict[str, int]

    @property
    def peak(self) -> int:
        """All that is there at the worst moment; the vision tower runs before the layers."""
        held = sum(self.resident.values())
        later = max(v for k, v in self.moments.items() if k != "vision tower")
        return held + max(sum(self.kept.values()) + later, self.moments["vision tower"])

    def table(self) -> str:
        """A line per part, in GB (10^9 bytes)."""
        groups = (("held", self.resident), ("kept", self.kept), ("at one moment", self.moments))
        lines = [
            f"{group:<14} {name:<28} {size / 1e9:8.2f} GB"
            for group, parts in groups
            for name, size in parts.items()
        ]
        return "\n".join([*lines, f"{'peak':<43} {self.peak / 1e9:8.2f} GB"])


def estimate(
    model: tuple[Text, Vision], recipe: Recipe, batch: Batch, *, tower_kept: bool = False
) -> Estimate:
    """The peak of one training step after the first.

    Args:
        tower_kept: the frozen tower's activations are kept too, as they are with
            `llamafactory-cli train` (train/mllm/upstream.py keeps them out).
    """
    text, vision = model
    patches = batch.image_tokens * vision.merge**2
    trained = trained_weights(text, vision, recipe)
    stored = 4 * trained if not recipe.full else 0  # of full tuning they are the weights
    resident = {
        "weights": recipe.shared(weight_bytes(text, vision, recipe), 3),
        "adapter, float32": recipe.shared(stored, 3),
        "gradients": recipe.shared(4 * trained * (2 if recipe.world > 1 else 1), 2),
        "optimizer": recipe.shared(recipe.optimizer_bytes * trained, 1),
        "CUDA context": CUDA_CONTEXT if recipe.cuda else 0,
    }
    held_layers = (
        layer_inputs(text, recipe) if recipe.checkpointing else layer_saved(text, recipe, batch)
    )
    kept = {
        "pixels, ids, mask": 4 * PATCH_VALUES * patches + mask_bytes(batch) + 64 * batch.all_tokens,
        "layers": text.layers * held_layers * batch.all_tokens,
        "last norm, rotary angles": (
            4 * text.hidden + 2 * 4 * recipe.width * text.hidden // text.heads
        )
        * batch.all_tokens,
        "vision tower": patches * tower_saved(vision, recipe, tower_kept),
    }
    moments = {
        "vision tower": patches * tower_working_set(vision, recipe),
        "loss": 12 * text.vocabulary * batch.all_tokens,
        "backward of a layer": layer_backward(text, recipe, batch) * batch.all_tokens
        + gathered_layer(text, recipe),
    }
    return Estimate(resident, kept, moments)


def trained_weights(text: Text, vision: Vision, recipe: Recipe) -> int:
    """Number of weights that are trained.

    LoRA adds rank x (inputs + outputs) to each target module of the language model.
    """
    if recipe.full:
        tower = 0 if recipe.tower_frozen else vision.linear + vision.other
        return text.linear + text.other + tower
    sizes = [size for name, size in text.modules.items() if name in recipe.targets]
    return text.layers * recipe.rank * sum(i + o for i, o in sizes)


def weight_bytes(text: Text, vision: Vision, recipe: Recipe) -> float:
    """Of the base model: bf16 or float32; quantized, the linear modules have 4 or 8 bits.

    Full tuning holds what it trains in float32 (LLaMA-Factory's `_setup_full_tuning`).
    """
    linear, other = text.linear + vision.linear, text.other + vision.other
    if recipe.quantization_bit:
        bits = {4: NF4_BYTES, 8: 1.0}.get(recipe.quantization_bit, recipe.quantization_bit / 8)
        return bits * linear + recipe.width * other
    extra = (4 - recipe.width) * trained_weights(text, vision, recipe) if recipe.full else 0
    return recipe.width * (linear + other) + extra


def mask_bytes(batch: Batch) -> int:
    """The causal mask of a padded batch: one byte per pair of tokens (`create_causal_mask`)."""
    return batch.size * batch.tokens**2 if batch.size > 1 else 0


def layer_inputs(text: Text, recipe: Recipe) -> int:
    """Bytes per token that checkpointing keeps of a layer: its input."""
    return recipe.width * text.hidden


def layer_saved(text: Text, recipe: Recipe, batch: Batch) -> int:
    """Bytes per token that autograd saves of one decoder layer.

    - each RMSNorm: its input as float32, 4h;
    - attention (`sdpa`): queries, keys, values and output; in a padded batch, keys and values are
      repeated to all heads (`repeat_kv`); the log-sum-exp, 4 per head;
    - MLP: SiLU's input, and both factors of the product, 3bi;
    - each LoRA module: `linear_saved`.
    """
    h, b = text.hidden, recipe.width
    keys = h if batch.size > 1 else text.keys
    attention = b * (2 * h + 2 * keys) + 4 * text.heads
    return 2 * 4 * h + attention + 3 * b * text.inner + linear_saved(text, recipe)


def linear_saved(text: Text, recipe: Recipe) -> int:
    """Bytes per token that the linear modules of a layer save; frozen ones save nothing.

    LoRA's A saves its input. Under bf16 PEFT casts the input to float32 and autocast casts it back,
    so every module saves a copy of its own; dropout makes one too, and saves its mask: a byte a
    number on a card, the width of the numbers on a CPU. A's output, r numbers, is saved for B.
    """
    b, h = recipe.width, text.hidden
    if recipe.full:
        return b * (2 * h + h + text.inner + 2 * h)
    inputs = [text.modules[name][0] for name in recipe.targets if name in text.modules]
    own_copy = recipe.bf16 or recipe.dropout
    total = sum(inputs) if own_copy else sum({"h": 2 * h, "i": text.inner}.values())
    mask = (1 if recipe.cuda else 4) * sum(inputs) if recipe.dropout else 0
    return b * total + mask + b * recipe.rank * len(inputs)


def layer_backward(text: Text, recipe: Recipe, batch: Batch) -> int:
    """Bytes per token of one layer's backward pass: recomputed activations and gradients.

    The widest point is the down projection: the gradient of its input (i numbers) through the base
    and through LoRA, the latter also as float32 under bf16, before and after dropout.
    """
    recomputed = layer_saved(text, recipe, batch) if recipe.checkpointing else 0
    copies = 2 * 4 + 2 if recipe.bf16 else 4
    return recomputed + (recipe.width + copies) * text.inner + 2 * recipe.width * text.hidden


def gathered_layer(text: Text, recipe: Recipe) -> int:
    """ZeRO-3 gathers whole layers, one ahead; bitsandbytes unpacks one matrix to 16 bits."""
    if recipe.zero_stage >= 3:
        return 2 * recipe.width * text.linear // text.layers
    return recipe.width * text.hidden * text.inner if recipe.quantization_bit else 0


def tower_saved(vision: Vision, recipe: Recipe, tower_kept: bool) -> int:
    """Bytes per patch kept of the vision tower.

    Nothing of a frozen tower that autograd leaves out; per block its input under checkpointing; and
    all that a block saves, 20d + 6i under bf16, where it is not checkpointed.
    """
    frozen = recipe.tower_frozen and recipe.projector_frozen
    if frozen and not tower_kept:
        return 0
    if not recipe.tower_frozen and recipe.checkpointing:
        return vision.depth * recipe.width * vision.hidden + block_saved(vision, recipe)
    if recipe.tower_frozen and not tower_kept:
        return merger_saved(vision, recipe)
    return vision.depth * block_saved(vision, recipe) + merger_saved(vision, recipe)


def block_saved(vision: Vision, recipe: Recipe) -> int:
    """Bytes per patch that autograd saves of one vision block, as in `layer_saved`; no LoRA.

    The values are a view of queries, keys and values in one tensor, which is kept with them.
    """
    b, d = recipe.width, vision.hidden
    trained = 0 if recipe.tower_frozen else b * (3 * d + vision.inner)
    return 2 * 4 * d + b * 6 * d + 4 * vision.heads + 3 * b * vision.inner + trained


def merger_saved(vision: Vision, recipe: Recipe) -> int:
    """Bytes per patch of the merger: the norm's input, and GELU's."""
    return (4 + recipe.width) * vision.hidden


def tower_working_set(vision: Vision, recipe: Recipe) -> int:
    """Bytes per patch while a block runs: rotary angles are applied in float32.

    Residual, queries, keys and values (4bd), queries and keys as float32 (8d), and the four
    products of one of them (16d), the last two with their sum still in place.
    """
    return (4 * recipe.width + 24) * vision.hidden
