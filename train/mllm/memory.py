"""Peak memory of a training, from its settings and the samples' lengths.

Pure arithmetic over tensors that can be counted by hand: what is resident (weights, adapter,
gradients, optimizer), what the forward pass keeps for the backward pass, and what the three moments
need that can be the peak: the vision tower, the loss, the backward pass of one layer. The formulas
follow the code of Transformers 5.6 (Qwen2.5-VL's modeling file, `loss_utils.py`), PEFT 0.18
(`tuners/lora/layer.py`) and LLaMA-Factory 0.9.5 (`model_utils/checkpointing.py`).
`benchmarks/lora_memory.py` compares them with measurements; docs/lora.md holds the result.

Letters: h, i, q and k are the widths of a layer, its MLP, its queries and its keys; d and i those
of the vision tower; b the bytes of an activation (2 under bf16, else 4); r the rank of LoRA.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from train.mllm.qwen2_5_vl import Text, Vision
from train.mllm.run_settings import RunSettings

FLOAT = 4
"""Bytes of a float32."""

PAD_TO = 8
"""LLaMA-Factory's collator pads a batch to a multiple of this."""

CUDA_CONTEXT = 700 << 20
"""Outside PyTorch's allocator: driver, kernels, cuBLAS workspaces. Not derived; cards differ."""

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight in bitsandbytes' NF4: 4 bits, an 8-bit scale per 64, a float per 256 scales."""

QUANTIZED_BYTES = {4: NF4_BYTES, 8: 1.0}
"""Bytes of a weight by `quantization_bit`; of other widths the bits alone are counted."""

TOKEN_BYTES = 8 * 8
"""Eight integers a token: ids, mask, labels, a position for each of three axes, and the labels once
padded and once shifted (`ForCausalLMLoss`)."""

ADAM_BYTES = 8
"""State per trained weight of AdamW: its two moments in float32."""

SMALLER_STATES = (("sgd", 0), ("adafactor", 4), ("8bit", 2))
"""Bytes of state per trained weight of the other optimizers, by a word in the `optim` key."""


ONE_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("down_proj",))
"""Modules that share their input; attention saves the output projection's anyway."""


@dataclass(frozen=True)
class Batch:
    """The worst batch of a data set.

    Attributes:
        size: samples.
        tokens: of each, padded to the longest.
        image_tokens: of all images of the batch.
        learnt: tokens that have a label, of all answers of the batch: logits are computed for them.
    """

    size: int
    tokens: int
    image_tokens: int
    learnt: int

    @property
    def all_tokens(self) -> int:
        return self.size * self.tokens

    @property
    def is_padded(self) -> bool:
        """One sample alone needs no padding; of several one is shorter, almost always."""
        return self.size > 1


def padded(tokens: int) -> int:
    """The length to which the collator pads a batch whose longest sample has so many tokens."""
    return -(-tokens // PAD_TO) * PAD_TO


def worst_batch(samples: Sequence[tuple[int, int, int]], size: int) -> Batch:
    """The longest samples in one batch, the largest images, the longest answers.

    Args:
        samples: (tokens, image tokens, learnt tokens) of each sample.
    """
    size = min(size, len(samples))
    tokens, images, learnt = (sorted(column, reverse=True) for column in zip(*samples, strict=True))
    return Batch(size, padded(tokens[0]), sum(images[:size]), sum(learnt[:size]))


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
        resident = sum(self.resident.values())
        kept = sum(self.kept.values())
        tower = self.moments["vision tower"]
        later = max(size for name, size in self.moments.items() if name != "vision tower")
        return resident + max(kept + later, tower)

    def table(self) -> str:
        """A line per part, in GB (10^9 bytes)."""
        groups = (("held", self.resident), ("kept", self.kept), ("at one moment", self.moments))
        lines = []
        for group, parts in groups:
            for name, size in parts.items():
                lines.append(f"{group:<14} {name:<28} {size / 1e9:8.2f} GB")
        lines.append(f"{'peak':<43} {self.peak / 1e9:8.2f} GB")
        return "\n".join(lines)


def estimate(
    model: tuple[Text, Vision],
    settings: RunSettings,
    batch: Batch,
    *,
    processes: int = 1,
    tower_kept: bool = False,
    inputs_copied: bool = False,
) -> Estimate:
    """The peak of one training step after the first.

    Args:
        processes: one a card; DeepSpeed shares out over them.
        tower_kept: the frozen tower's activations are kept too, as they are with
            `llamafactory-cli train` (train/mllm/upstream.py keeps them out).
        inputs_copied: LoRA's inputs are copied to float32, as they are with
            `llamafactory-cli train`.
    """
    text, vision = model
    tokens = batch.all_tokens
    patches = batch.image_tokens * vision.merge**2
    pixels = FLOAT * vision.patch_values * patches
    kept = {
        "pixels, ids, mask": pixels + mask_bytes(batch) + TOKEN_BYTES * tokens,
        "layers": text.layers * layer_kept(text, settings, batch, inputs_copied) * tokens,
        "last norm, rotary angles": last_norm_and_angles(text, settings) * tokens,
        "vision tower": patches * tower_saved(vision, settings, tower_kept),
    }
    moments = {
        "vision tower": patches * tower_working_set(vision, settings),
        "loss": loss_bytes(text) * batch.learnt,
        "backward of a layer": layer_backward(text, settings, batch, inputs_copied) * tokens
        + gathered_layer(text, settings),
    }
    return Estimate(resident_bytes(text, vision, settings, processes), kept, moments)


def resident_bytes(
    text: Text, vision: Vision, settings: RunSettings, processes: int
) -> dict[str, int]:
    """What one card holds during the whole training.

    DeepSpeed's ZeRO divides the optimizer's states from stage 1 on, the gradients from stage 2, the
    weights in stage 3.
    """

    def on_one_card(size: float, from_stage: int) -> int:
        is_divided = settings.zero_stage >= from_stage
        return round(size / processes if is_divided else size)

    trained = trained_weights(text, vision, settings)
    # Where the model itself is trained, its weights are the trained ones.
    adapter = 0 if settings.full else FLOAT * trained
    # Data parallelism keeps a second copy of the gradients, in buckets that are sent.
    copies_of_gradients = 2 if processes > 1 else 1
    return {
        "weights": on_one_card(weight_bytes(text, vision, settings), 3),
        "adapter, float32": on_one_card(adapter, 3),
        "gradients": on_one_card(FLOAT * trained * copies_of_gradients, 2),
        "optimizer": on_one_card(optimizer_bytes(settings) * trained, 1),
        "CUDA context": 0 if settings.use_cpu else CUDA_CONTEXT,
    }


def optimizer_bytes(settings: RunSettings) -> int:
    """Bytes of state per trained weight."""
    for word, size in SMALLER_STATES:
        if word in settings.optim:
            return size
    return ADAM_BYTES


def target_modules(text: Text, settings: RunSettings) -> dict[str, tuple[int, int]]:
    """The linear modules of a layer that have a LoRA: name -> (inputs, outputs)."""
    if settings.lora_target == ("all",):
        return text.modules
    return {name: size for name, size in text.modules.items() if name in settings.lora_target}


def trained_weights(text: Text, vision: Vision, settings: RunSettings) -> int:
    """Number of weights that are trained.

    LoRA adds rank x (inputs + outputs) to each target module of the language model: its matrices A
    and B.
    """
    if settings.full:
        tower = 0 if settings.freeze_vision_tower else vision.linear + vision.other
        return text.linear + text.other + tower
    widths = sum(inputs + outputs for inputs, outputs in target_modules(text, settings).values())
    return text.layers * settings.lora_rank * widths


def weight_bytes(text: Text, vision: Vision, settings: RunSettings) -> float:
    """Of the base model: bf16 or float32; quantized, the linear modules have 4 or 8 bits.

    Full tuning holds what it trains in float32 (LLaMA-Factory's `_setup_full_tuning`).
    """
    b = settings.activation_bytes
    linear = text.linear + vision.linear
    other = text.other + vision.other
    bits = settings.quantization_bit
    if bits:
        return QUANTIZED_BYTES.get(bits, bits / 8) * linear + b * other
    if settings.full:
        return b * (linear + other) + (FLOAT - b) * trained_weights(text, vision, settings)
    return b * (linear + other)


def mask_bytes(batch: Batch) -> int:
    """The causal mask of a padded batch: one byte per pair of tokens (`create_causal_mask`)."""
    return batch.size * batch.tokens**2 if batch.is_padded else 0


def layer_kept(text: Text, settings: RunSettings, batch: Batch, inputs_copied: bool) -> int:
    """Bytes per token kept of a layer until its backward pass.

    Checkpointing keeps its input alone, h numbers; without it, all that autograd saves.
    """
    if settings.checkpointing:
        return settings.activation_bytes * text.hidden
    return layer_saved(text, settings, batch, inputs_copied)


def layer_saved(
    text: Text, settings: RunSettings, batch: Batch, inputs_copied: bool = False
) -> int:
    """Bytes per token that autograd saves of one decoder layer.

    - each RMSNorm: its input as float32, 4h, and what attention norms;
    - attention (`sdpa`): queries, keys, values and output; in a padded batch, keys and values are
      repeated to all heads (`repeat_kv`); the log-sum-exp, 4 per head;
    - MLP: SiLU's input, and both factors of the product, 3bi;
    - each LoRA module: `linear_saved`.
    """
    h, q, b = text.hidden, text.queries, settings.activation_bytes
    norms = 2 * FLOAT * h + FLOAT * text.normed
    keys = q if batch.is_padded else text.keys
    attention = b * (2 * q + 2 * keys) + FLOAT * text.heads
    mlp = 3 * b * text.inner
    return norms + attention + mlp + linear_saved(text, settings, inputs_copied)


def are_copied(settings: RunSettings, inputs_copied: bool) -> bool:
    """PEFT's modules over bitsandbytes' weights never copy under autocast."""
    return inputs_copied and settings.bf16 and not settings.quantization_bit


def linear_saved(text: Text, settings: RunSettings, inputs_copied: bool) -> int:
    """Bytes per token that the linear modules of a layer save; frozen ones save nothing.

    LoRA's A saves its input. Dropout makes a copy for every module, and saves its mask: a byte a
    number on a card, the width of the numbers on a CPU. Under bf16 PEFT casts the input to float32
    and autocast casts it back, which makes copies too, if it is let (`inputs_copied`). A's output,
    r numbers, is saved for B.
    """
    b, h = settings.activation_bytes, text.hidden
    if settings.full:
        # A trained weight saves what it multiplies: the inputs of queries, keys and values and of
        # the MLP (2h), of the output projection (q), of the down projection (i), and, in the
        # norms, the normalised input.
        return b * (2 * h + text.queries + text.inner + 2 * h + text.normed)
    targets = target_modules(text, settings)
    inputs = [module_inputs for module_inputs, _ in targets.values()]
    saved_inputs = sum(text.modules[group[0]][0] for group in ONE_INPUT if targets.keys() & group)
    copied = are_copied(settings, inputs_copied)
    if copied or settings.lora_dropout > 0:
        saved_inputs = sum(inputs)
    mask = 0
    if settings.lora_dropout > 0:
        width = FLOAT if copied else b
        mask_width = width if settings.use_cpu else 1
        mask = mask_width * sum(inputs)
    return b * saved_inputs + mask + b * settings.lora_rank * len(inputs)


def last_norm_and_angles(text: Text, settings: RunSettings) -> int:
    """Bytes per token: the last norm's input as float32, and the cosines and sines.

    Those are as wide as a head and come four times: for each of the three axes of a position, and
    the mix of the three that a layer applies (`apply_multimodal_rotary_pos_emb`).
    """
    last_norm = FLOAT * text.hidden
    angles = 2 * 4 * settings.activation_bytes * text.head
    return last_norm + angles


def loss_bytes(text: Text) -> int:
    """Bytes per learnt token of the loss, in float32 over the whole vocabulary.

    Three tensors of that size are there at once: the log-softmax, its gradient and the gradient of
    the logits (`ForCausalLMLoss`).
    """
    return 3 * FLOAT * text.vocabulary


def layer_backward(text: Text, settings: RunSettings, batch: Batch, inputs_copied: bool) -> int:
    """Bytes per token of one layer's backward pass: recomputed activations and gradients.

    The widest point is the down projection: the gradient of its input (i numbers) through the base
    and through LoRA; where the input was copied, before and after dropout as float32 too.
    """
    b = settings.activation_bytes
    recomputed = 0
    if settings.checkpointing:
        recomputed = layer_saved(text, settings, batch, inputs_copied)
    through_lora = 2 * FLOAT + b if are_copied(settings, inputs_copied) else b
    gradients = (b + through_lora) * text.inner + 2 * b * text.hidden
    return recomputed + gradients


def gathered_layer(text: Text, settings: RunSettings) -> int:
    """ZeRO-3 gathers whole layers, one ahead; bitsandbytes unpacks one matrix to 16 bits."""
    b = settings.activation_bytes
    if settings.zero_stage >= 3:
        return 2 * b * text.linear // text.layers
    if settings.quantization_bit:
        return b * text.hidden * text.inner
    return 0


def tower_saved(vision: Vision, settings: RunSettings, tower_kept: bool) -> int:
    """Bytes per patch kept of the vision tower.

    - a frozen tower that autograd leaves out: nothing;
    - a trained tower under checkpointing: the input of each block, and all of one block;
    - any other: all that each block saves (20d + 6i under bf16), and the merger.
    """
    tower_frozen = settings.freeze_vision_tower
    if tower_frozen and not tower_kept:
        # A trained projector alone needs what the merger saves.
        if settings.freeze_multi_modal_projector:
            return 0
        return vision.mergers * merger_saved(vision, settings)
    if not tower_frozen and settings.checkpointing:
        # One block at a time is computed again from its input.
        block_inputs = vision.depth * settings.activation_bytes * vision.hidden
        return block_inputs + block_saved(vision, settings)
    merged = vision.mergers * merger_saved(vision, settings)
    return vision.depth * block_saved(vision, settings) + merged


def block_saved(vision: Vision, settings: RunSettings) -> int:
    """Bytes per patch that autograd saves of one vision block, as in `layer_saved`; no LoRA.

    The values are a view of queries, keys and values in one tensor, which is kept with them.
    """
    b, d = settings.activation_bytes, vision.hidden
    norms = 2 * FLOAT * d
    attention = b * 6 * d + FLOAT * vision.heads
    mlp = b * vision.mlp_saved
    trained = 0 if settings.freeze_vision_tower else b * (3 * d + vision.inner)
    return norms + attention + mlp + trained


def merger_saved(vision: Vision, settings: RunSettings) -> int:
    """Bytes per patch of the merger: the norm's input, and GELU's."""
    return (FLOAT + settings.activation_bytes) * vision.hidden


def tower_working_set(vision: Vision, settings: RunSettings) -> int:
    """Bytes per patch while a block runs: rotary angles are applied in float32.

    Residual, queries, keys and values (4bd), queries and keys as float32 (8d), and the four
    products of one of them (16d), the last two with their sum still in place.
    """
    return (4 * settings.activation_bytes + 24) * vision.hidden
