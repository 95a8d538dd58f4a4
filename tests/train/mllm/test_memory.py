from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import lora_memory
from dat_runtime.errors import ConfigError
from train.mllm.memory import (
    Batch,
    Estimate,
    estimate,
    layer_saved,
    mask_bytes,
    trained_weights,
    weight_bytes,
    worst_batch,
)
from train.mllm.model_sizes import SEVEN_B, read_model
from train.mllm.qwen2_5_vl import Text, Vision
from train.mllm.run_settings import RunSettings, read_settings

TEXT, VISION = read_model(SEVEN_B)
BATCH = Batch(4, 1704, 4 * 1280, 4 * 150)


def settings(**keys: Any) -> RunSettings:
    config = yaml.safe_load(Path("configs/lora/boxed.yaml").read_text())
    fixed = {"lora_rank": 16, "lora_target": "all", "bf16": True}
    return read_settings({**config, **fixed, **keys})


def test_the_7b_has_the_weights_that_its_files_hold() -> None:
    assert TEXT.linear + TEXT.other + VISION.linear + VISION.other == 8_292_166_656
    assert weight_bytes(TEXT, VISION, settings()) == 2 * 8_292_166_656


def test_rank_16_on_every_linear_layer_trains_40_million_weights() -> None:
    assert trained_weights(TEXT, VISION, settings()) == 40_370_176
    assert trained_weights(TEXT, VISION, settings(lora_target="q_proj, v_proj")) == 5_046_272


def test_both_forms_of_config_json_give_the_same_sizes() -> None:
    text = {k: v for k, v in SEVEN_B.items() if k != "vision_config"}
    nested = {"text_config": text, "vision_config": SEVEN_B["vision_config"]}
    assert read_model(nested) == (TEXT, VISION)
    with pytest.raises(ConfigError, match="hidden_size"):
        read_model({"vision_config": {}})


def test_the_loss_takes_three_copies_of_the_logits_in_float32() -> None:
    estimated = estimate((TEXT, VISION), settings(), BATCH)
    assert estimated.moments["loss"] == 3 * 4 * 152_064 * 4 * 150
    whole = estimate((TEXT, VISION), settings(), replace(BATCH, learnt=4 * 1704))
    parts = {**estimated.resident, **estimated.kept}
    assert whole.moments["loss"] == whole.peak - sum(parts.values())
    assert estimated.moments["backward of a layer"] == estimated.peak - sum(parts.values())
    assert f"{estimated.peak / 1e9:.2f} GB" in estimated.table()


def test_a_frozen_tower_that_is_kept_needs_gigabytes_more() -> None:
    kept = estimate((TEXT, VISION), settings(), BATCH, tower_kept=True).peak
    assert kept - estimate((TEXT, VISION), settings(), BATCH).peak > 25e9


def test_each_fix_makes_it_smaller() -> None:
    full = estimate((TEXT, VISION), settings(), BATCH).peak
    assert estimate((TEXT, VISION), settings(), Batch(2, 1704, 2 * 1280, 2 * 150)).peak < full - 2e9
    assert estimate((TEXT, VISION), settings(quantization_bit=4), BATCH).peak < full - 10e9
    without = settings(disable_gradient_checkpointing=True)
    assert estimate((TEXT, VISION), without, BATCH).peak > full + 40e9


def test_zero_divides_optimizer_then_gradients_then_weights() -> None:
    alone = estimate((TEXT, VISION), settings(), BATCH).resident
    parts = ("optimizer", "gradients", "weights")
    for stage, divided in ((1, 1), (2, 2), (3, 3)):
        staged = replace(settings(), zero_stage=stage)
        shared = estimate((TEXT, VISION), staged, BATCH, processes=4).resident
        assert [shared[p] < alone[p] for p in parts] == [i < divided for i in range(3)]


def test_the_worst_batch_pads_the_longest_and_holds_the_largest_images() -> None:
    samples = [(100, 16, 30), (101, 64, 10), (50, 32, 20)]
    assert worst_batch(samples, 2) == Batch(2, 104, 96, 50)
    assert worst_batch(samples[:1], 4) == Batch(1, 104, 16, 30)


def test_what_a_layer_saves_is_what_can_be_counted_by_hand() -> None:
    """One sample, float32, no dropout: norms, q, k, v, output, log-sum-exp, MLP, LoRA."""
    h, k, i, heads = TEXT.hidden, TEXT.keys, TEXT.inner, TEXT.heads
    lora = 4 * (2 * h + i) + 4 * 16 * 7
    expected = 8 * h + 4 * (2 * h + 2 * k) + 4 * heads + 12 * i + lora
    assert layer_saved(TEXT, settings(bf16=False, lora_dropout=0), Batch(1, 8, 0, 8)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_estimate_and_measurement_agree_within_five_percent(checkpointing, bare) -> None:
    sizes = lora_memory.sizes(hidden=256, layers=3, inner=1024, words=1024, tower=160)
    case = lora_memory.Case("test", sizes, 2, 250, (10, 10), checkpointing=checkpointing, bare=bare)
    with lora_memory.forward_as_in(case):
        measured = lora_memory.measure(case, "cpu").peak
    assert measured == pytest.approx(case.estimated(cuda=False).peak, rel=0.05)


@pytest.mark.slow
def test_the_card_cases_build_the_7b_itself() -> None:
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    cases = list(lora_memory.cuda_cases([1024, 4096]))
    assert [case.size for case in cases[:4]] == [1, 2, 3, 4]
    assert {case.batch.tokens for case in cases if not case.bare} == {1024, 4096}
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(lora_memory._config(cases[0]))
    assert sum(weight.numel() for weight in model.parameters()) == 8_292_166_656


@pytest.mark.gpu
def test_on_a_card_the_7b_needs_what_was_estimated() -> None:
    case = next(lora_memory.cuda_cases([1024]))
    with lora_memory.forward_as_in(case):
        measured = lora_memory.measure(case, "cuda").peak
    assert measured == pytest.approx(case.estimated(cuda=True).peak, rel=0.1)


def test_dropouts_mask_takes_a_byte_a_number_on_a_card_and_four_on_a_cpu() -> None:
    inputs = 6 * 3584 + 18944  # numbers that the seven modules of a layer take in, a token

    def masks(copied: bool, **keys: Any) -> int:
        with_mask, without = (settings(lora_dropout=share, **keys) for share in (0.05, 0.0))
        return layer_saved(TEXT, with_mask, BATCH, copied) - layer_saved(
            TEXT, without, BATCH, copied
        )

    assert masks(copied=True) == inputs
    assert masks(copied=True, use_cpu=True) == 4 * inputs
    # Else dropout makes the copies: without it five of the modules share two inputs.
    own = 2 * (inputs - 2 * 3584 - 18944)
    assert masks(copied=False) == inputs + own
    assert masks(copied=False, use_cpu=True) == 2 * inputs + own


def test_the_causal_mask_of_a_padded_batch_takes_a_byte_a_pair() -> None:
    assert mask_bytes(Batch(4, 100, 0, 400)) == 4 * 100 * 100
    assert mask_bytes(Batch(1, 100, 0, 100)) == 0


SMALL = Text(hidden=8, layers=2, heads=2, queries=8, keys=4, inner=12, vocabulary=10, tied=False)
"""480 linear weights a layer (64, 32, 32, 64 and three of 96), 232 others."""
TOWER = Vision(depth=3, hidden=4, heads=2, inner=6, out=8, merge=2)
"""792 linear weights, 4852 others."""
PAIR = Batch(2, 8, 6, 5)
"""16 tokens, 24 patches."""


def small(**keys: Any) -> RunSettings:
    """Rank 2 in bf16 on a CPU, without dropout: 464 trained weights."""
    return RunSettings(**{"lora_rank": 2, "bf16": True, "use_cpu": True, **keys})


def test_the_parts_of_a_small_training_are_those_counted_by_hand() -> None:
    counted = estimate((SMALL, TOWER), small(), PAIR)
    assert counted.resident == {
        "weights": 2 * (2 * 480 + 232 + 792 + 4852),
        "adapter, float32": 4 * 464,
        "gradients": 4 * 464,
        "optimizer": 8 * 464,
        "CUDA context": 0,
    }
    assert counted.kept == {
        "pixels, ids, mask": 4 * 1176 * 24 + 2 * 8 * 8 + 64 * 16,
        "layers": 2 * (2 * 8) * 16,
        "last norm, rotary angles": (4 * 8 + 2 * 4 * 2 * 4) * 16,
        "vision tower": 0,
    }
    # Of a layer: norms 64, attention 72, MLP 72, LoRA 2 * 28 + 28; gradients 48 + 32.
    assert counted.moments == {
        "vision tower": 24 * (4 * 2 + 24) * 4,
        "loss": 3 * 4 * 10 * 5,
        "backward of a layer": (64 + 72 + 72 + 84 + 80) * 16,
    }
    assert counted.peak == 21_096 + 116_096 + 5952


def test_inputs_that_are_copied_take_more() -> None:
    counted = estimate((SMALL, TOWER), small(), PAIR, inputs_copied=True)
    # LoRA 2 * 60 + 28; gradients 144 + 32.
    assert counted.moments["backward of a layer"] == (64 + 72 + 72 + 148 + 176) * 16
    in_float = estimate((SMALL, TOWER), small(bf16=False), PAIR, inputs_copied=True)
    assert in_float == estimate((SMALL, TOWER), small(bf16=False), PAIR)


def test_the_tower_alone_may_be_the_peak() -> None:
    parts = {"vision tower": 3_000_000_000, "loss": 10_000_000, "backward": 20_000_000}
    shown = Estimate({"weights": 1_500_000_000}, {"layers": 40_000_000}, parts)
    assert shown.peak == 4_500_000_000
    assert shown.table().splitlines() == [
        "held           weights                          1.50 GB",
        "kept           layers                           0.04 GB",
        "at one moment  vision tower                     3.00 GB",
        "at one moment  loss                             0.01 GB",
        "at one moment  backward                         0.02 GB",
        "peak                                            4.50 GB",
    ]


@pytest.mark.parametrize(
    ("keys", "size"),
    [
        ({"bf16": False}, 4 * 6836),
        ({"quantization_bit": 8}, 1752 + 2 * 5084),
        ({"quantization_bit": 2}, 1752 / 4 + 2 * 5084),
        ({"quantization_bit": 4}, 1752 * (0.5 + 1 / 64 + 1 / 4096) + 2 * 5084),
        ({"finetuning_type": "full"}, 2 * 6836 + 2 * 1192),
        ({"finetuning_type": "full", "freeze_vision_tower": False}, 4 * 6836),
        ({"finetuning_type": "full", "bf16": False}, 4 * 6836),
    ],
)
def test_weights_have_the_width_that_their_training_asks_for(
    keys: dict[str, Any], size: float
) -> None:
    assert weight_bytes(SMALL, TOWER, small(**keys)) == size


@pytest.mark.parametrize(
    ("optim", "size"),
    [("adamw_torch_fused", 8), ("sgd", 0), ("adafactor", 4), ("adamw_8bit", 2)],
)
def test_an_optimizer_holds_its_states(optim: str, size: int) -> None:
    resident = estimate((SMALL, TOWER), small(optim=optim), PAIR).resident
    assert resident["optimizer"] == size * 464


def test_cards_share_what_zero_divides_and_hold_the_gradients_twice() -> None:
    def on_each(stage: int, **keys: Any) -> list[int]:
        settings = small(zero_stage=stage, **keys)
        return list(estimate((SMALL, TOWER), settings, PAIR, processes=4).resident.values())

    assert on_each(0) == [13672, 1856, 3712, 3712, 0]
    assert on_each(1) == [13672, 1856, 3712, 928, 0]
    assert on_each(2) == [13672, 1856, 928, 928, 0]
    assert on_each(3) == [3418, 464, 928, 928, 0]
    assert on_each(0, use_cpu=False)[-1] == 700 * 2**20
    assert on_each(0, finetuning_type="full")[:2] == [2 * 6836 + 2 * 1192, 0]


@pytest.mark.parametrize(
    ("keys", "batch", "size"),
    [
        ({}, PAIR, 64 + 72 + 72 + 84),
        ({}, Batch(1, 8, 6, 5), 64 + 56 + 72 + 84),
        ({"bf16": False}, PAIR, 64 + 136 + 144 + 168),
        ({"bf16": False, "lora_dropout": 0.1}, PAIR, 64 + 136 + 144 + 4 * 60 + 4 * 60 + 56),
        ({"lora_dropout": 0.1, "use_cpu": False}, PAIR, 64 + 72 + 72 + 148 + 60),
        ({"lora_target": ("q_proj", "down_proj")}, PAIR, 64 + 72 + 72 + 2 * 20 + 2 * 2 * 2),
        ({"finetuning_type": "full"}, PAIR, 64 + 72 + 72 + 2 * (16 + 8 + 12 + 16)),
    ],
)
def test_what_a_small_layer_saves_a_token(keys: dict[str, Any], batch: Batch, size: int) -> None:
    assert layer_saved(SMALL, small(**keys), batch) == size
    without = small(disable_gradient_checkpointing=True, **keys)
    assert estimate((SMALL, TOWER), without, batch).kept["layers"] == 2 * size * batch.all_tokens


@pytest.mark.parametrize(
    ("keys", "size"),
    [
        ({"disable_gradient_checkpointing": True}, 80 * 16),
        ({"disable_gradient_checkpointing": True, "bf16": False}, 160 * 16),
        ({"quantization_bit": 4}, 372 * 16 + 2 * 8 * 12),
        ({"zero_stage": 3}, 372 * 16 + 2 * 2 * 480),
        ({"zero_stage": 3, "quantization_bit": 4}, 372 * 16 + 2 * 2 * 480),
        ({"zero_stage": 2}, 372 * 16),
    ],
)
def test_the_backward_pass_of_a_layer(keys: dict[str, Any], size: int) -> None:
    assert estimate((SMALL, TOWER), small(**keys), PAIR).moments["backward of a layer"] == size


@pytest.mark.parametrize(
    ("keys", "kept", "size"),
    [
        ({}, False, 0),
        ({"freeze_multi_modal_projector": False}, False, 24),
        ({"freeze_vision_tower": False}, False, 3 * 2 * 4 + 32 + 56 + 36 + 36),
        ({"freeze_vision_tower": False, "disable_gradient_checkpointing": True}, False,
         3 * (32 + 56 + 36 + 36) + 24),
        ({}, True, 3 * (32 + 56 + 36) + 24),
        ({"bf16": False}, True, 3 * (32 + 104 + 72) + 32),
    ],
)  # fmt: skip
def test_what_the_tower_keeps_a_patch(keys: dict[str, Any], kept: bool, size: int) -> None:
    counted = estimate((SMALL, TOWER), small(**keys), PAIR, tower_kept=kept)
    assert counted.kept["vision tower"] == 24 * size
