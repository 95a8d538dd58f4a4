"""What is left of a training: the adapter with its base, card and report, and a last checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG, WEIGHTS, read_adapter
from dat_runtime.errors import ModelError
from dat_runtime.files import read_json, write_json
from tests.train.conftest import lora_of_shipped_base
from train.mllm import adapter_training, best, model_card, tuning
from train.mllm.run_settings import RunSettings

SETTINGS = RunSettings(model_name_or_path="train/shipped_base", dataset="boxed_train")
CONSTANT = {"finetuning_type": "lora", "lr_scheduler_type": "constant", "max_steps": 20}
FILES = ["README.md", CONFIG, WEIGHTS, "config.yaml", "run.json"]
REPORT = {"steps": 20, "loss": 0.5, "tokens": {"bins": [16, 0], "longest": 300}}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """In place of LLaMA-Factory a run that leaves an adapter; what it was given."""
    told: dict[str, Any] = {}

    def run(config, work, folder, name, **options):
        told.update(config=config, work=work, folder=folder, name=name, **options)
        work.mkdir(exist_ok=True)
        lora_of_shipped_base(work, told.get("value", 1.0))
        for step in (5, 20, 10):
            (work / f"checkpoint-{step}").mkdir()
            write_json(work / f"checkpoint-{step}" / tuning.STATE, {"global_step": step})
        if best.FOLDER in (path.name for path in folder.iterdir()):
            lora_of_shipped_base(folder / best.FOLDER, 2.0)
            best.write_history(folder / best.FOLDER, {5: 0.25, 10: 0.5, 20: 0.5})
        return dict(REPORT)

    monkeypatch.setattr(tuning, "run", run)
    return told


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_training_leaves_a_whole_adapter_folder(told, tmp_path) -> None:
    adapter_training.make_adapter(tmp_path, CONSTANT, SETTINGS, "lora-boxed")
    assert told == {
        "config": CONSTANT,
        "work": tmp_path / "work",
        "folder": tmp_path,
        "name": "lora-boxed",
        "preflight": [],
    }
    assert names(tmp_path) == [
        "README.md",
        CONFIG,
        WEIGHTS,
        "checkpoint",
        "config.yaml",
        "run.json",
    ]
    stated = read_json(tmp_path / CONFIG)
    assert stated["base_model_name_or_path"] == "shipped_base"
    assert stated["revision"] == manifest.digest(Path("train/shipped_base"), "base")
    assert list(stated) == sorted(stated)
    card = model_card.lora_card(SETTINGS, read_adapter(tmp_path), REPORT)
    assert (tmp_path / "README.md").read_text() == card
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == CONSTANT
    assert read_json(tmp_path / "run.json") == REPORT
    assert read_json(tmp_path / "checkpoint" / tuning.STATE) == {"global_step": 20}


def test_a_run_that_cannot_be_prolonged_keeps_no_checkpoint(told, tmp_path) -> None:
    hub = RunSettings(model_name_or_path="a/model", model_revision="a" * 40, dataset="boxed_train")
    cosine = {**CONSTANT, "lr_scheduler_type": "cosine"}
    adapter_training.make_adapter(tmp_path, cosine, hub, "lora", ignore_memory=True)
    assert told["preflight"] == ["--ignore-memory"]
    assert names(tmp_path) == FILES
    stated = read_json(tmp_path / CONFIG)
    assert (stated["base_model_name_or_path"], stated["revision"]) == ("a/model", "a" * 40)


def test_of_a_choice_the_best_checkpoint_is_kept_and_told_of(told, tmp_path) -> None:
    chosen = tmp_path / "best"
    chosen.mkdir()
    (chosen / "from an earlier start").touch()
    best.write_history(chosen, {5: 0.5, 10: 0.25})
    adapter_training.make_adapter(
        tmp_path, CONSTANT, SETTINGS, "lora", ignore_memory=True, best_of=3, patience=2
    )
    given = ["--ignore-memory", "--best", str(chosen.absolute()), "3", "2"]
    assert told["preflight"] == given
    assert names(tmp_path) == FILES
    assert read_adapter(tmp_path).parameters == 4 * 2 * 2 * 192
    report = read_json(tmp_path / "run.json")
    validation = {"sev_f1": {"5": 0.25, "10": 0.5, "20": 0.5}, "best_step": 10}
    assert report == {**REPORT, "validation": validation}
    two = (tmp_path / WEIGHTS).read_bytes()
    lora_of_shipped_base(tmp_path, 2.0)
    assert (tmp_path / WEIGHTS).read_bytes() == two


def test_the_checkpoint_at_which_patience_ended_is_made_again(told, tmp_path, monkeypatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(best, "forget_end", lambda *given: asked.append(given))
    adapter_training.make_adapter(tmp_path, CONSTANT, SETTINGS, "lora", best_of=3, patience=2)
    assert asked == [(tmp_path / "best", tmp_path / "work", 2)]


def test_an_adapter_that_changes_nothing_is_refused_by_name(told, tmp_path) -> None:
    told["value"] = 0.0
    with pytest.raises(ModelError) as refused:
        adapter_training.make_adapter(tmp_path, CONSTANT, SETTINGS, "lora")
    assert str(refused.value) == (
        f"{tmp_path / WEIGHTS}: base_model.model.model.language_model.layers.0.self_attn.q_proj."
        "lora_B.weight is all zeros, so the adapter changes nothing there: train longer, or take "
        "the module out of lora_target"
    )


def ended_run(folder: Path) -> Path:
    (folder / "checkpoint").mkdir(parents=True)
    write_json(folder / "checkpoint" / tuning.STATE, {"global_step": 20})
    (folder / tuning.STEPS).write_text("steps of the ended run\n")
    return folder


@pytest.mark.parametrize("was_cut_off", [False, True])
def test_a_longer_run_begins_where_the_shorter_one_ended(tmp_path, was_cut_off) -> None:
    ended, folder = ended_run(tmp_path / "lora"), tmp_path / "lora.partial"
    if was_cut_off:
        (folder / "copied" / "checkpoint-7").mkdir(parents=True)
    adapter_training.prolong(ended, folder)
    assert names(folder) == ["work"]
    assert names(folder / "work") == ["checkpoint-20", tuning.STEPS]
    assert read_json(folder / "work" / "checkpoint-20" / tuning.STATE) == {"global_step": 20}
    assert (folder / "work" / tuning.STEPS).read_text() == "steps of the ended run\n"
    assert (ended / "checkpoint").is_dir()
    (folder / "work" / tuning.STEPS).write_text("more")
    adapter_training.prolong(ended, folder)  # it already went on from there
    assert (folder / "work" / tuning.STEPS).read_text() == "more"


def test_a_base_is_named_after_its_folder_wherever_that_is_seen_from(tmp_path) -> None:
    lora_of_shipped_base(tmp_path)
    here = RunSettings(model_name_or_path="train/../train/shipped_base/.")
    adapter_training.state_base(tmp_path / CONFIG, here)
    stated = read_json(tmp_path / CONFIG)
    assert stated["base_model_name_or_path"] == "shipped_base"
    assert (stated["r"], stated["peft_type"]) == (2, "LORA")
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        adapter_training.state_base(tmp_path / CONFIG, here)
