"""The variants of a LoRA run beside each other: which one is named, and three run on the CPU."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import lora_speed
from benchmarks.lora_speed import VARIANTS, Outcome, Variant, line, verdict
from dat_runtime.errors import ConfigError
from train.mllm import resources
from train.mllm.lengths import Lengths
from train.mllm.memory import CUDA_CONTEXT
from train.mllm.model_sizes import SEVEN_B, read_model
from train.mllm.rehearsal import Rehearsed
from train.mllm.run_settings import RunSettings

TODAY = Outcome(VARIANTS[0], 5000.0, 25_000_000_000, 27_000_000_000, 25_000_000_000, (12.0, 4.0))


def outcome(name: str, speed: float, **changes) -> Outcome:
    return replace(TODAY, variant=Variant(name, {}), tokens_a_second=speed, **changes)


def test_the_fastest_with_the_same_losses_that_fits_with_a_margin_is_named() -> None:
    given = [
        TODAY,
        outcome("fits", 7500),
        outcome("too large", 9000, peak=37_500_000_000),
        outcome("diverges", 9500, losses=(12.0, 4.1)),
        replace(outcome("another", 9900), variant=Variant("another", {}, same_training=False)),
    ]
    assert given[3].apart(TODAY) == pytest.approx(0.025)
    assert verdict(given, 40e9) == "fastest within 40 GB, same losses: fits, 1.50x"
    assert "too large, 1.80x" in verdict(given, 41e9)
    assert verdict(given, 20e9) == "none fits 20 GB with a margin"


def test_a_card_s_line_states_peak_estimate_and_cache_and_a_cpu_s_the_process() -> None:
    faster = outcome("answers", 6000, peak=20_000_000_000, estimated=20_200_000_000)
    assert "6000 tokens/s  1.20x   peak 20.00 GB, 0.990 of the estimate" in line(faster, TODAY)
    assert "with cache 27.00 GB   losses within 0.0e+00" in line(faster, TODAY)
    assert "process 25.00 GB" in line(replace(TODAY, estimated=None), TODAY)


def test_on_a_card_the_estimate_of_todays_run_has_the_logits_of_all_tokens(monkeypatch) -> None:
    samples = Lengths((1704,) * 64, 4096, (1280,) * 64, (150,) * 64)
    measured = {"step_seconds": [9.0, 9.0, 2.0, 3.0], "peak_card_bytes": 20_000_000_000,
                "reserved_card_bytes": 22_000_000_000}  # fmt: skip
    rehearsed = Rehearsed(samples, (800, 800, 400, 600), measured, {})
    settings = RunSettings(
        bf16=True, lora_rank=16, lora_dropout=0.05, per_device_train_batch_size=4
    )
    monkeypatch.setattr(resources, "model_sizes", lambda _: read_model(SEVEN_B))
    monkeypatch.setattr(lora_speed, "losses", lambda _: (12.0, 12.0, 11.0, 10.0))
    today, answers = (
        lora_speed.outcome_of(variant, settings, rehearsed, Path("none"))
        for variant in VARIANTS[:2]
    )
    assert today.tokens_a_second == 200
    assert today.reserved == 22_000_000_000 + CUDA_CONTEXT
    assert today.estimated - answers.estimated == pytest.approx(8.8e9, rel=0.01)


def test_every_variant_takes_keys_that_llama_factory_knows() -> None:
    from train.recipe.upstream_keys import demand_known, llamafactory_keys

    for variant in VARIANTS:
        demand_known(dict(variant.keys), llamafactory_keys(), "LLaMA-Factory")
    with pytest.raises(ConfigError):
        demand_known({"no_checkpoints": True}, llamafactory_keys(), "LLaMA-Factory")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_variants_run_on_the_same_samples_with_equal_losses(
    tiny_base, instructions, tmp_path, capsys
) -> None:
    out = tmp_path / "speed"
    given = ["--config", "configs/lora/smoke.yaml", "--base", str(tiny_base)]
    given += ["--instructions", str(instructions), "--out", str(out), "--steps", "1"]
    given += ["--only", "answers", "--", "per_device_train_batch_size=2"]
    assert lora_speed.main(given) == 0
    whole, answers = json.loads((out / "speed.json").read_text())
    assert (whole["variant"], answers["variant"]) == ("logits of all tokens", "logits of answers")
    assert len(whole["losses"]) == 3
    assert whole["losses"] == pytest.approx(answers["losses"], rel=1e-4)
    assert whole["estimated_bytes"] is None
    assert "fastest within 40 GB, same losses: " in capsys.readouterr().out
