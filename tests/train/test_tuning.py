import json
import os
from pathlib import Path

import pytest
import yaml

from dat_runtime.draw import MAX_PIXELS
from dat_runtime.errors import ConfigError
from train import tuning

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
    config = tuning.read_config(tmp_path / "c.yaml", ["learning_rate=5e-5", "bf16=false", "seed=2"])
    assert config == {"seed": 2, "learning_rate": 5e-5, "bf16": False}


@pytest.mark.parametrize("override", ["seed", "=3", "a b=1"])
def test_an_override_without_key_and_value_is_refused(tmp_path, override):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="expected key=value"):
        tuning.read_config(tmp_path / "c.yaml", [override])


def test_the_recipe_of_a_manifest_holds_no_path():
    config = dict.fromkeys(tuning.PATHS, "/somewhere") | {"seed": 7}
    assert tuning.recipe(config) == {"seed": 7}


def test_a_cut_off_run_keeps_its_last_whole_checkpoint_and_the_log_up_to_it(tmp_path):
    for step, names in ((10, ["trainer_state.json"]), (20, ["trainer_state.json"]), (30, [])):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in names:
            (folder / name).write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    lines = [json.dumps({"current_steps": s, "loss": 1.0}) for s in (10, 20, 25)]
    (tmp_path / tuning.STEPS).write_text("\n".join([*lines, '{"curr']))

    tuning._tidy(tmp_path)

    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint-10",
        "checkpoint-20",
        tuning.STEPS,
    ]
    assert (tmp_path / tuning.STEPS).read_text().splitlines() == lines[:2]


def test_noise_of_libraries_goes_into_the_log_and_said_lines_do_not(tmp_path, capfd):
    with tuning.quiet(tmp_path / "train.log") as say:
        os.write(1, b"stdout\n")
        os.write(2, b"stderr\n")
        say("progress")
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "progress\nafter\n"
    assert sorted((tmp_path / "train.log").read_text().split()) == ["stderr", "stdout"]
