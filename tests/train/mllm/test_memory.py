from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import lora_memory
from dat_runtime.errors import ConfigError
from train.mllm.memory import (
    Batch,
    estimate,
    layer_saved,
    mask_bytes,
    trained_weights,
    weight_bytes,
    worst_batch,
)
from train.mllm.model_sizes import SEVEN_B, read_model
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

    def masks(**keys: Any) -> int:
        with_mask, without = (settings(lora_dropout=share, **keys) for share in (0.05, 0.0))
        return layer_saved(TEXT, with_mask, BATCH) - layer_saved(TEXT, without, BATCH)

    assert masks() == inputs
    assert masks(use_cpu=True) == 4 * inputs


def test_the_causal_mask_of_a_padded_batch_takes_a_byte_a_pair() -> None:
    assert mask_bytes(Batch(4, 100, 0, 400)) == 4 * 100 * 100
    assert mask_bytes(Batch(1, 100, 0, 100)) == 0
