"""A rehearsal's samples, its projection, and one of the tiny base."""

import json

import pytest

from tests.train.test_lora import arguments
from train import rehearse
from train.mllm import projection, resources
from train.mllm.lengths import Lengths
from train.mllm.model_sizes import SEVEN_B, read_model
from train.mllm.rehearsal import Rehearsed, chosen
from train.mllm.run_settings import RunSettings
from train.recipe.projecting import page

MEASURED = {
    "step_seconds": [30.0, 9.0, 1.9, 2.1, 2.0],
    "checkpoint_seconds": [0.5],
    "start_seconds": 12.0,
    "peak_card_bytes": None,
    "peak_process_bytes": 1 << 30,
}
SETTINGS = RunSettings(
    per_device_train_batch_size=2, max_steps=10, save_steps=4, use_cpu=True, cutoff_len=4096
)


def rehearsed(**changes) -> Rehearsed:
    samples = Lengths((100,) * 8, 4096, (16,) * 8, (30,) * 8)
    tokens = (400, 400, 200, 200, 200)
    return Rehearsed(samples, tokens, MEASURED | changes, {"memory": {"peak": 20_000_000_000}})


def test_the_longest_samples_come_twice_and_then_each_once_before_any_again() -> None:
    order = chosen([5, 9, 1, 7, 3], size=2, steps=5, seed=7)
    assert order[:4] == [1, 3, 1, 3]
    assert sorted(order[4:9]) == sorted(order[9:14]) == [0, 1, 2, 3, 4]
    assert chosen([5], size=3, steps=1, seed=7) == [0] * 9
    assert order == chosen([5, 9, 1, 7, 3], size=2, steps=5, seed=7)


def test_the_whole_run_takes_its_tokens_by_the_speed_of_the_drawn_steps() -> None:
    found = projection.project(rehearsed(), SETTINGS, read_model(SEVEN_B))
    assert (found.steps, found.checkpoints) == (10, 3)
    assert found.tokens_a_second == pytest.approx(100)
    # 10 steps of 200 tokens at 0.01 s; Student's t for two degrees of freedom is 4.3027.
    assert found.seconds == pytest.approx((20 + 1.5, 17.5158 + 1.5, 22.4842 + 1.5), abs=1e-3)
    assert found.largest_batch is None
    told = page("A <b>", {"LoRA": found.rows()})
    assert "A &lt;b&gt;" in told
    assert "<th>speed</th><td>100 tokens/s</td>" in told


def test_the_largest_batch_keeps_the_margin_and_follows_the_measured_peak(monkeypatch) -> None:
    card = resources.Card("A100", 42_000_000_000, 1)
    monkeypatch.setattr(resources, "find_card", lambda settings: card)
    samples = Lengths((1704,) * 64, 4096, (1296,) * 64, (150,) * 64)
    settings = RunSettings(bf16=True, lora_rank=16, per_device_train_batch_size=4, max_steps=9)
    sizes = read_model(SEVEN_B)

    def largest(scale: float) -> int:
        estimated = resources.estimated(settings, sizes, samples, card).peak
        peak = round(scale * estimated) - projection.CUDA_CONTEXT
        given = Rehearsed(
            samples,
            (1, 1, 1, 1, 1),
            MEASURED | {"peak_card_bytes": peak},
            {"memory": {"peak": estimated}},
        )
        return int(projection.project(given, settings, sizes).largest_batch or 0)

    assert largest(1.0) == 23
    assert largest(1.2) == 16


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rehearsal_needs_no_weights_and_leaves_a_page(tiny_base, instructions, tmp_path) -> None:
    bare = tmp_path / "base"
    bare.mkdir()
    for path in tiny_base.iterdir():
        if path.suffix != ".safetensors" and path.name != "manifest.json":
            (bare / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "rehearsal"
    given = arguments(bare, instructions, out, "per_device_train_batch_size=2", "max_steps=40")
    assert rehearse.main([*given, "--steps", "3"]) == 0
    told = json.loads((out / "rehearsal.json").read_text())
    assert told["steps"] == 40
    assert len(told["measured"]["step_seconds"]) == 5
    assert 0 < told["seconds"][1] < told["seconds"][0] < told["seconds"][2]
    assert "hours" in (out / "rehearsal.html").read_text()
    assert not list(out.rglob("*.safetensors"))
