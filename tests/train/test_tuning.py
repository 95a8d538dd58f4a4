import json
import os
from pathlib import Path

import pytest
import yaml

from dat_runtime.draw import MAX_PIXELS
from dat_runtime.errors import ConfigError
from train.mllm import tuning
from train.recipe.config_file import read_config

CONFIGS = sorted(Path("configs/lora").glob("*.yaml"))
PAPER = ("boxed.yaml", "raw.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_configuration_begins_with_its_command_and_is_read_by_llama_factory(path, tmp_path):
    from llamafactory.hparams import get_train_args

    assert path.read_text().startswith("# python -m train.")
    config = yaml.safe_load(path.read_text())
    own = {"output_dir": str(tmp_path / "none"), "use_cpu": True}

    model, data, training, finetuning, _ = get_train_args({**config, **own})

    assert data.template == "qwen2_vl"
    assert training.seed == 7
    if path.name in PAPER:
        assert (training.learning_rate, data.cutoff_len, training.bf16) == (5e-5, 4096, True)
        assert (finetuning.lora_rank, finetuning.lora_alpha) == (16, 32)
        assert len(model.model_revision) == 40
        assert model.image_max_pixels == MAX_PIXELS


def test_boxed_and_raw_differ_by_their_data_alone():
    boxed, raw = (yaml.safe_load(Path("configs/lora", name).read_text()) for name in PAPER)
    assert {k for k in boxed if boxed[k] != raw[k]} == {"dataset", "output_dir"}


def test_overrides_are_numbers_in_any_notation_or_yaml(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    config = read_config(tmp_path / "c.yaml", ["learning_rate=5e-5", "bf16=false", "seed=2"])
    assert config == {"seed": 2, "learning_rate": 5e-5, "bf16": False}


@pytest.mark.parametrize("override", ["seed", "=3", "a b=1", "hsv_s=[", "day=2001-99-99"])
def test_an_override_without_key_and_value_is_refused(tmp_path, override):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="expected key=value"):
        read_config(tmp_path / "c.yaml", [override])


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes("name: Stra\xdfe".encode("latin-1"))
    for name, words in (
        ("folder.yaml", "cannot be read"),
        ("absent.yaml", "cannot be read"),
        ("latin.yaml", "not YAML"),
    ):
        with pytest.raises(ConfigError, match=f"{name}: {words}"):
            read_config(tmp_path / name)


def test_the_recipe_of_a_manifest_holds_no_path():
    config = dict.fromkeys(tuning.PATHS, "/somewhere") | {"seed": 7}
    recipe = tuning.recipe(config)
    assert recipe["llamafactory"] == {"seed": 7}
    assert recipe["versions"].keys() == {"llamafactory", "transformers", "peft", "torch"}


def write_checkpoint(work: Path, step: int, max_steps: int, whole: bool = True) -> Path:
    folder = work / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    if whole:
        state = {"global_step": step, "max_steps": max_steps}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def test_a_cut_off_run_goes_on_from_its_last_whole_checkpoint_with_the_log_up_to_it(tmp_path):
    write_checkpoint(tmp_path, 5, 50)
    last = write_checkpoint(tmp_path, 20, 50)
    write_checkpoint(tmp_path, 30, 50, whole=False)
    (tmp_path / "adapter_config.json").write_text("{}")
    lines = [json.dumps({"current_steps": s, "loss": 1.0}) for s in (10, 20, 25)]
    (tmp_path / tuning.STEPS).write_text("\n".join([*lines, '{"curr']))

    assert tuning._tidy(tmp_path) == last

    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["checkpoint-20", "checkpoint-5", tuning.STEPS]
    assert (tmp_path / tuning.STEPS).read_text().splitlines() == lines[:2]


def test_a_run_cut_off_after_its_last_step_repeats_its_end_and_trains_no_step_more(tmp_path):
    before = write_checkpoint(tmp_path, 40, 50)
    write_checkpoint(tmp_path, 50, 50)
    assert tuning._tidy(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-40"]


def test_noise_of_libraries_goes_into_the_log_and_said_lines_do_not(tmp_path, capfd):
    with tuning.quiet(tmp_path / "train.log") as say:
        os.write(1, b"stdout\n")
        os.write(2, b"stderr\n")
        say("progress")
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "progress\nafter\n"
    assert sorted((tmp_path / "train.log").read_text().split()) == ["stderr", "stdout"]


def test_wandb_writes_beside_the_output_unless_told_where(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DIR", raising=False)
    found = tuning._environment(tmp_path / "lora" / "work", tmp_path / "lora")
    assert found["WANDB_DIR"] == str(tmp_path)
    monkeypatch.setenv("WANDB_DIR", "/elsewhere")
    assert tuning._environment(tmp_path, tmp_path)["WANDB_DIR"] == "/elsewhere"
