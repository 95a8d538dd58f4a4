"""`train.rehearse`: what it writes and prints of what was measured, and what it refuses."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.errors import ConfigError
from tests.train.detector.tiny_gate import write_config, write_data
from train import rehearse
from train.detector import dataset, rehearsal
from train.mllm import tuning
from train.recipe.projecting import page

LORA = "configs/lora/smoke.yaml"


class Trained:
    """What a gate's rehearsal gives, without the training."""

    def __init__(self) -> None:
        self.epochs = 3

    def rows(self) -> list[tuple[str, str]]:
        return [("epochs", "3")]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the two rehearsals are given, in place of which nothing is trained."""
    asked: list[Any] = []
    measured = SimpleNamespace(measured={"step_seconds": [1.5]})
    projection = SimpleNamespace(as_json=lambda: {"steps": 7}, rows=lambda: [("steps", "7")])
    monkeypatch.setattr(rehearse, "rehearse", lambda *a: asked.append(a) or measured)
    monkeypatch.setattr(rehearse, "project", lambda *a: asked.append(a) or projection)
    monkeypatch.setattr(rehearsal, "rehearse", lambda *a: asked.append(a) or Trained())
    return asked


def command(base: Path, instructions: Path, out: Path, *more: str) -> list[str]:
    paths = {"--config": LORA, "--instructions": instructions, "--base": base, "--out": out}
    return [str(part) for pair in paths.items() for part in pair] + list(more)


def test_the_tuning_is_rehearsed_and_told(
    base: Path,
    boxed_instructions: Path,
    given: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "rehearsal"
    assert rehearse.main(command(base, boxed_instructions, out, "max_steps=9")) == 0
    (folder, config, settings, steps), (rehearsed, projected, sizes) = given
    assert (folder, steps) == (tmp_path / "rehearsal.partial", 8)
    assert (config["max_steps"], config["dataset"]) == (9, "boxed_train")
    assert config["model_name_or_path"] == str(base)
    assert (rehearsed.measured, projected) == ({"step_seconds": [1.5]}, settings)
    assert sizes == rehearse.resources.model_sizes(settings)
    told = json.loads((out / "rehearsal.json").read_text())
    assert told == {"steps": 7, "measured": {"step_seconds": [1.5]}}
    tables = {"LoRA, smoke.yaml": [("steps", "7")]}
    text = page("Rehearsal with base", tables)
    assert (out / "rehearsal.html").read_text() == text
    assert capsys.readouterr().out.endswith(
        "[rehearsal] LoRA, smoke.yaml\n[rehearsal]   steps                    7\n"
    )
    stated = manifest.read(out, "rehearsal")
    assert stated.inputs == {"instructions": manifest.digest(boxed_instructions)}
    assert stated.config == {**tuning.recipe(config, length={}), "steps": 8, "gate": None}
    assert rehearse.main(command(base, boxed_instructions, out, "max_steps=9")) == 0
    assert len(given) == 4  # each time: it tells of this machine at this hour


def test_a_gate_is_rehearsed_beside_it(
    base: Path,
    boxed_instructions: Path,
    given: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = write_data(tmp_path / "data", frames=4), tmp_path / "rehearsal"
    file = write_config(tmp_path / "tiny.yaml")
    more = ["--gate", f"{file} epochs=9", "--data", str(data), "--steps", "3"]
    assert rehearse.main(command(base, boxed_instructions, out, *more)) == 0
    folder, used, gate, boxes, steps = given[2]
    assert (folder, used, steps) == (tmp_path / "rehearsal.partial", data, 3)
    assert (given[0][3], gate["epochs"]) == (3, 9)
    assert boxes == dataset.count_boxes(data)
    assert json.loads((out / "rehearsal.json").read_text())["gate"] == {"epochs": 3}
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "[rehearsal] Gate, tiny.yaml",
        "[rehearsal]   epochs                   3",
    ]
    stated = manifest.read(out, "rehearsal")
    assert stated.inputs.keys() == {"instructions", "data"}
    assert (stated.config["steps"], stated.config["gate"]) == (3, gate)

    severe = write_data(tmp_path / "single", frames=4, single_class=True)
    wrong = {
        "labels of a single class": ["--gate", str(file), "--data", str(severe)],
        "device=97, and this machine": ["--gate", f"{file} device=97", "--data", str(data)],
    }
    for told, wishes in wrong.items():
        assert rehearse.main(command(base, boxed_instructions, tmp_path / "no", *wishes)) == 1
        assert told in capsys.readouterr().err
    assert len(given) == 3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--steps", "2"], "--steps 2: an interval needs at least 3"),
        (["--gate", "g.yaml"], "--gate and --data go together: its configuration and its pictures"),
        (["--data", "d"], "--gate and --data go together: its configuration and its pictures"),
    ],
)
def test_options_that_do_not_go_together_are_refused(more: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rehearse._arguments(command(Path("b"), Path("i"), Path("o"), *more))
    assert str(refused.value) == told


HELP = """\
--config CONFIG LLaMA-Factory's keys, YAML --dataset DATASET as of train.lora (boxed_train)
--instructions INSTRUCTIONS by data.prep.instruct --base BASE folder or hub name of the base model
--gate GATE a gate's configuration and its key=value, in one word
--data DATA the gate's, by data.prep.build
--steps STEPS of samples drawn at random, batches of the gate (8) --out OUT folder to make"""


def test_the_help_says_what_is_demanded_and_what_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # so that no word is cut
    with pytest.raises(SystemExit):
        rehearse.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith(
        "usage: python -m train.rehearse [-h] --config CONFIG [--dataset DATASET] --instructions "
        "INSTRUCTIONS --base BASE [--gate GATE] [--data DATA] [--steps STEPS] --out OUT "
        "[key=value ...] A few steps of the trainings before they are paid for"
    )
    assert "key=value of the configuration" in told
    assert told.endswith(HELP.replace("\n", " "))


def test_the_options_have_defaults(tmp_path: Path) -> None:
    args = rehearse._arguments(command(Path("b"), Path("i"), tmp_path, "seed=1", "--steps", "3"))
    assert vars(args) == {
        "config": Path(LORA), "dataset": "boxed_train", "instructions": Path("i"), "base": "b",
        "gate": None, "data": None, "steps": 3, "out": tmp_path, "override": ["seed=1"],
    }  # fmt: skip
