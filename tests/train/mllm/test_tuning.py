import json
import os
from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from dat_runtime.files import write_yaml
from train.mllm import tuning, upstream


def test_the_recipe_of_a_manifest_holds_no_path():
    config = dict.fromkeys(tuning.PATHS, "/somewhere") | {"seed": 7}
    recipe = tuning.recipe(config, length={})
    assert recipe["llamafactory"] == {"seed": 7}
    assert recipe["versions"].keys() == {"llamafactory", "transformers", "peft", "torch"}


def write_checkpoint(work: Path, step: int, max_steps: int, whole: bool = True) -> Path:
    folder = work / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    if whole:
        state = {"global_step": step, "max_steps": max_steps, "epoch": step / 10}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def test_a_cut_off_run_goes_on_from_its_last_whole_checkpoint_with_the_log_up_to_it(tmp_path):
    write_checkpoint(tmp_path, 5, 50)
    last = write_checkpoint(tmp_path, 20, 50)
    write_checkpoint(tmp_path, 30, 50, whole=False)
    (tmp_path / "adapter_config.json").write_text("{}")
    lines = [json.dumps({"current_steps": s, "loss": 1.0}) for s in (10, 20, 25)]
    (tmp_path / tuning.STEPS).write_text("\n".join([*lines, '{"curr']))

    assert tuning._tidy(tmp_path, {"max_steps": 50}) == last

    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["checkpoint-20", "checkpoint-5", tuning.STEPS]
    assert (tmp_path / tuning.STEPS).read_text().splitlines() == lines[:2]


def test_a_run_cut_off_after_its_last_step_repeats_its_end_and_trains_no_step_more(tmp_path):
    before = write_checkpoint(tmp_path, 40, 50)
    write_checkpoint(tmp_path, 50, 50)
    assert tuning._tidy(tmp_path, {"num_train_epochs": 5.0}) == before
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-40"]


def test_what_was_the_last_step_is_not_when_the_run_is_prolonged(tmp_path):
    ended = write_checkpoint(tmp_path, 50, 50)
    assert tuning._tidy(tmp_path, {"max_steps": 51}) == ended
    assert tuning._tidy(tmp_path, {"num_train_epochs": 6}) == ended
    tuning._take_steps_of({"logging_steps": 3, "save_steps": 0.5}, ended)
    state = json.loads((ended / tuning.STATE).read_text())
    assert (state["logging_steps"], state["global_step"]) == (3, 50)
    assert "save_steps" not in state


def test_output_of_libraries_goes_into_the_log(tmp_path, capfd):
    with tuning.output_into(tmp_path / "train.log"):
        os.write(1, b"stdout\n")
        os.write(2, b"stderr\n")
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"
    assert sorted((tmp_path / "train.log").read_text().split()) == ["stderr", "stdout"]


def test_a_refusal_of_the_preflight_is_raised_by_the_run_and_a_report_is_handed_over(
    settings, tmp_path
):
    """The two processes without LLaMA-Factory: the second leaves a file that the first reads."""
    work, plots = tmp_path / "work", tmp_path / "plots"
    work.mkdir()
    plots.mkdir()
    keys = ("model_name_or_path", "dataset_dir", "dataset", "image_max_pixels", "use_cpu")
    config = {key: getattr(settings, key) for key in keys}
    assert tuning._preflight_report(work) == {}

    write_yaml(work / "config.yaml", {**config, "cutoff_len": 50})
    assert not upstream.check(work / "config.yaml", work, plots, ignore_memory=False)
    with pytest.raises(DataError, match=r"'f0' of boxed_train .* would be cut at cutoff_len 50"):
        tuning._preflight_report(work)

    write_yaml(work / "config.yaml", {**config, "image_max_pixels": 10_000})
    assert not upstream.check(work / "config.yaml", work, plots, ignore_memory=False)
    with pytest.raises(DataError, match="image_max_pixels 10000: set them to"):
        tuning._preflight_report(work)

    write_yaml(work / "config.yaml", config)
    assert upstream.check(work / "config.yaml", work, plots, ignore_memory=False)
    report = tuning._preflight_report(work)
    assert report["report"]["dataset"]["samples"] == 16
    assert "16 samples" in report["lines"][0]


def test_wandb_writes_beside_the_output_unless_told_where(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DIR", raising=False)
    found = tuning._environment(tmp_path / "lora" / "work", tmp_path / "lora")
    assert found["WANDB_DIR"] == str(tmp_path)
    monkeypatch.setenv("WANDB_DIR", "/elsewhere")
    assert tuning._environment(tmp_path, tmp_path)["WANDB_DIR"] == "/elsewhere"
