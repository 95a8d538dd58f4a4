import json
import os
import sys
import threading
from pathlib import Path

import pytest
import yaml

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


@pytest.fixture
def llamafactory(tmp_path, monkeypatch):
    """In place of Python a script, which is given as its lines."""

    def set_to(*lines):
        script = tmp_path / "python"
        script.write_text("\n".join(["#!/bin/sh", 'work="$(dirname "$4")"', *lines, ""]))
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        monkeypatch.setattr(tuning, "POLL_SECONDS", 0.01)

    return set_to


def trainer_log(*entries):
    return "\n".join(json.dumps(entry) for entry in entries)


def test_a_run_leaves_its_log_and_says_what_it_came_to(llamafactory, tmp_path, capsys):
    steps = trainer_log(
        {"current_steps": 1, "total_steps": 2, "loss": 0.98765},
        {"current_steps": 2, "total_steps": 2, "loss": 0.12345},
        {"current_steps": 2, "total_steps": 2},
    )
    report = {"lines": ["two samples"], "report": {"memory": {"peak": 7}}}
    llamafactory(
        'echo "$@" > "$work/given"; echo "$HF_DATASETS_CACHE" >> "$work/given"',
        "echo to stdout; echo to stderr >&2",
        f"printf '%s' '{steps}' > \"$work/trainer_log.jsonl\"",
        'echo plot > "$work/training_loss.png"; echo rest > "$work/rest"',
        f"printf '%s' '{json.dumps(report)}' > \"$work/new\"",
        f'mv "$work/new" "$work/{upstream.REPORT}"',
        "sleep 0.1",
    )
    work, folder = tmp_path / "work", tmp_path / "out"
    folder.mkdir()
    (folder / "train.log").write_text("before\n")
    config = {"finetuning_type": "lora", "output_dir": "theirs"}
    found = tuning.run(config, work, folder, "lora", preflight=["--ignore-memory"])
    assert 0.1 <= found.pop("seconds") < 60
    assert found.pop("peak_memory_mb") > 10
    assert found == {"steps": 2, "loss": 0.1235, "memory": {"peak": 7}}
    assert (folder / "train.log").read_text() == "before\nto stdout\nto stderr\n"
    assert (folder / "training_loss.png").read_text() == "plot\n"
    assert (folder / "trainer_log.jsonl").read_text() == steps
    assert not (folder / "rest").exists()
    file = work / "config.yaml"
    options = f"{upstream.PREFLIGHT} {work} {folder} --ignore-memory"
    given, cache = (work / "given").read_text().splitlines()
    assert given == f"-m train.mllm.upstream train {file} {options}"
    assert cache == str(work / "cache")
    assert yaml.safe_load(file.read_text()) == config | {"output_dir": str(work)}
    assert config["output_dir"] == "theirs"
    assert capsys.readouterr().out.splitlines() == [
        "[lora] LLaMA-Factory reads model and data, log: train.log",
        "[lora] two samples",
    ]


def test_a_run_that_fails_ends_with_the_end_of_its_log(llamafactory, tmp_path):
    llamafactory(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do echo line $i; echo; done",
        r"printf ' 10%%\r 20%%\r 30%%  \n'; printf 'the error\r\n'; exit 3",
    )
    with pytest.raises(tuning.TrainingError) as failed:
        tuning.run({"finetuning_type": "lora"}, tmp_path / "work", tmp_path, "lora")
    lines = [*(f"line {i}" for i in range(4, 14)), " 30%", "the error"]
    assert str(failed.value) == (
        "LLaMA-Factory ended with status 3; the end of its log:\n  " + "\n  ".join(lines)
    )


def test_another_thread_can_end_a_run(llamafactory, tmp_path):
    llamafactory("exec sleep 60")
    stop = threading.Event()
    stop.set()
    with pytest.raises(tuning.TrainingError, match="status -15"):
        tuning.run({"finetuning_type": "lora"}, tmp_path / "work", tmp_path, "x", stop=stop)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_whole_model_goes_on_from_its_checkpoint_as_a_model(llamafactory, tmp_path, kind):
    llamafactory('touch "$work/trainer_log.jsonl"')
    work = tmp_path / "work"
    work.mkdir()
    last = write_checkpoint(work, 20, 50)
    config = {"finetuning_type": kind, "model_name_or_path": "base", "max_steps": 50}
    tuning.run(config | {"logging_steps": 4, "save_steps": 1}, work, tmp_path, "x")
    given = yaml.safe_load((work / "config.yaml").read_text())
    assert given["model_name_or_path"] == (str(last) if kind == "full" else "base")
    state = json.loads((last / tuning.STATE).read_text())
    assert (state["logging_steps"], state["save_steps"]) == (4, 1)


def test_progress_is_told_every_few_seconds(llamafactory, tmp_path, monkeypatch, capsys):
    steps = trainer_log({"current_steps": 5, "total_steps": 9, "loss": 0.125})
    llamafactory(f"printf '%s' '{steps}' > \"$work/trainer_log.jsonl\"; sleep 0.1")
    monkeypatch.setattr(tuning, "PROGRESS_SECONDS", -1)
    tuning.run({"finetuning_type": "lora"}, tmp_path / "work", tmp_path, "x")
    _, *told = capsys.readouterr().out.splitlines()
    assert told == ["[x] step 5/9 loss 0.125, 0 s"]  # once, as it stays the same


def test_before_the_first_step_progress_is_the_preflights(tmp_path):
    assert tuning._progress(tmp_path) == ""
    (tmp_path / upstream.PROGRESS).write_text("2000/9000 samples checked")
    assert tuning._progress(tmp_path) == "2000/9000 samples checked"
    (tmp_path / tuning.STEPS).write_text('{"current_steps": 1, "total_')
    assert tuning._progress(tmp_path) == ""


def test_the_last_checkpoint_is_that_of_the_highest_step(tmp_path):
    with pytest.raises(tuning.TrainingError, match="holds no checkpoint"):
        tuning.last_checkpoint(tmp_path)
    for step in (5, 100, 20):
        write_checkpoint(tmp_path, step, 100)
    assert tuning.last_checkpoint(tmp_path).name == "checkpoint-100"


def test_our_commands_come_first_and_progress_bars_are_calm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/theirs")
    found = tuning._environment(tmp_path / "work", tmp_path)
    assert found["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/theirs"
    assert (found["TQDM_MININTERVAL"], found["HF_DATASETS_CACHE"]) == (
        *("5", str(tmp_path / "work" / "cache")),
    )


def test_a_run_that_can_be_prolonged_has_a_recipe_without_its_length():
    config = {"max_steps": 9, "seed": 7, "logging_steps": 3}
    assert tuning.recipe(config, {"max_steps": 9})["llamafactory"] == {"seed": 7}
    assert tuning.recipe(config, {})["llamafactory"] == {"max_steps": 9, "seed": 7}
