"""A rehearsal's samples, its projection, and one of the tiny base."""

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.files import read_json, write_json
from dat_runtime.manifest import digest
from tests.train.conftest import lora_of_shipped_base
from tests.train.test_lora import arguments
from train import rehearse
from train.mllm import projection, rehearsal, resources, tuning
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


KEPT_OF_A_BASE = ["config.json", "merges.txt", "tokenizer.json"]


def base_with_weights(folder: Path) -> Path:
    folder.mkdir()
    weights = ["model-1.safetensors", "model.safetensors.index.json", "pytorch_model.bin"]
    for name in [*KEPT_OF_A_BASE, *weights, "notes.txt"]:
        (folder / name).write_text(f"of {name}")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_blank_base_has_all_that_makes_it_but_its_weights(tmp_path) -> None:
    base = base_with_weights(tmp_path / "base")
    rehearsal.make_blank(RunSettings(model_name_or_path=str(base)), tmp_path / "blank")
    assert names(tmp_path / "blank") == KEPT_OF_A_BASE
    assert (tmp_path / "blank" / "merges.txt").read_text() == "of merges.txt"


def test_of_a_hubs_base_no_weights_are_downloaded(tmp_path, monkeypatch) -> None:
    asked = []

    def download(*given, **named):
        asked.append((given, named))
        if named["revision"] == "gone":
            raise OSError("no such revision")
        return str(base_with_weights(tmp_path / "cached"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    settings = RunSettings(model_name_or_path="a/model", model_revision="abc")
    rehearsal.make_blank(settings, tmp_path / "blank")
    assert names(tmp_path / "blank") == KEPT_OF_A_BASE
    wanted = {"revision": "abc", "allow_patterns": ["*.json", "*.txt", "*.jinja"]}
    assert asked == [(("a/model",), wanted)]
    with pytest.raises(ModelError, match=r"^a/model: no such revision$"):
        rehearsal.make_blank(replace(settings, model_revision="gone"), tmp_path / "other")


def test_a_set_for_the_rehearsal_names_its_pictures_from_anywhere(tmp_path) -> None:
    instructions = tmp_path / "instructions"
    instructions.mkdir()
    described = {"file_name": "boxed_train.json", "formatting": "sharegpt"}
    write_json(instructions / "dataset_info.json", {"boxed_train": described, "raw": {}})
    samples = [{"image_id": "f0", "images": ["images/a.png", "b.png"]}]
    rehearsal.write_set(tmp_path, samples, instructions)
    images = [f"{instructions}/images/a.png", f"{instructions}/b.png"]
    assert read_json(tmp_path / "rehearsal_train.json") == [{"image_id": "f0", "images": images}]
    stated = {"file_name": "rehearsal_train.json", "formatting": "sharegpt"}
    assert read_json(tmp_path / "dataset_info.json") == {"rehearsal_train": stated}
    assert samples[0]["images"] == ["images/a.png", "b.png"]


def test_a_step_is_as_long_as_its_samples_and_the_first_hold_the_longest() -> None:
    tokens = [5, 9, 1, 7, 3]
    assert chosen(tokens, size=2, steps=0, seed=7) == [1, 3, 1, 3]
    assert len(chosen(tokens, size=2, steps=3, seed=7)) == 10
    assert chosen(tokens, size=2, steps=3, seed=8) != chosen(tokens, size=2, steps=3, seed=7)


def in_place_of_llamafactory(monkeypatch, told: dict, value: float = 1.0) -> None:
    """A run that leaves an adapter and measurements, and keeps what it was called with."""

    def run(config, work, folder, name, **options):
        told.update(config=config, work=work, folder=folder, name=name, **options)
        told["info"] = read_json(folder / "dataset_info.json")
        told["set"] = read_json(folder / "rehearsal_train.json")
        told["blank"] = names(folder / "blank")
        work.mkdir()
        lora_of_shipped_base(work, value)
        write_json(folder / "measured.json", {"step_seconds": [1.0]})
        return {"memory": {"peak": 7}}

    monkeypatch.setattr(tuning, "run", run)


def test_a_rehearsal_changes_what_it_must_and_nothing_else(
    shipped_settings, tmp_path, monkeypatch
) -> None:
    told = {}
    in_place_of_llamafactory(monkeypatch, told)
    settings = replace(shipped_settings, per_device_train_batch_size=3)
    config = {"lora_rank": 2, "report_to": "wandb", "num_train_epochs": 3, "dataset": "boxed_train"}
    found = rehearsal.rehearse(tmp_path, config, settings, steps=4)
    assert told["config"] == {
        "lora_rank": 2,
        "num_train_epochs": 3,
        "model_name_or_path": str(tmp_path / "blank"),
        "train_from_scratch": True,
        "dataset_dir": str(tmp_path),
        "dataset": "rehearsal_train",
        "disable_shuffling": True,
        "max_steps": 6,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 6,
        "save_total_limit": 1,
        "report_to": "none",
        "plot_loss": False,
    }
    assert (told["work"], told["folder"]) == (tmp_path / "work", tmp_path)
    assert told["name"] == "rehearsal"
    assert told["preflight"] == ["--rehearse", str(tmp_path / "measured.json")]
    assert told["blank"] == [
        "chat_template.jinja", "config.json", "generation_config.json", "processor_config.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert list(told["info"]) == ["rehearsal_train"]

    tokens = found.samples.tokens
    order = chosen(tokens, 3, 4, settings.seed)
    assert [sample["image_id"] for sample in told["set"]] == [f"f{i}" for i in order]
    assert len(tokens) == 16
    assert found.step_tokens == tuple(
        sum(tokens[i] for i in order[k : k + 3]) for k in range(0, 18, 3)
    )
    assert found.measured == {"step_seconds": [1.0]}
    assert found.report == {"memory": {"peak": 7}}
    assert names(tmp_path) == ["dataset_info.json", "measured.json", "rehearsal_train.json"]


def test_a_quantized_base_cannot_be_rehearsed(tmp_path) -> None:
    with pytest.raises(ConfigError) as refused:
        rehearsal.rehearse(tmp_path, {}, RunSettings(quantization_bit=4), steps=1)
    assert str(refused.value) == (
        "quantization_bit needs real weights: rehearse with quantization_bit=null"
    )


def test_an_adapter_that_no_server_takes_ends_the_rehearsal(shipped_settings, tmp_path) -> None:
    lora_of_shipped_base(tmp_path)
    base = Path(shipped_settings.model_name_or_path)
    rehearsal.check_adapter(tmp_path, base, shipped_settings)
    stated = read_json(tmp_path / "adapter" / "adapter_config.json")
    assert stated["base_model_name_or_path"] == "shipped_base"
    assert stated["revision"] == digest(base, "base")
    (tmp_path / "zero").mkdir()
    lora_of_shipped_base(tmp_path / "zero", value=0.0)
    with pytest.raises(ModelError, match="is all zeros"):
        rehearsal.check_adapter(tmp_path / "zero", base, shipped_settings)
    (tmp_path / "part").mkdir()
    lora_of_shipped_base(tmp_path / "part", layers=1)
    with pytest.raises(ModelError, match="holds nothing for 3 of 4 modules"):
        rehearsal.check_adapter(tmp_path / "part", base, shipped_settings)


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
