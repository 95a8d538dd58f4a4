import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file, save_file

from dat_runtime import manifest
from dat_runtime.adapter import WEIGHTS, read_adapter
from dat_runtime.errors import ModelError
from dat_runtime.stage import Stage
from train import check, lora
from train.mllm import resources, tuning
from train.mllm.adapter_training import demand_change
from train.mllm.lora_config import read_lora_config
from train.mllm.refused_keys import NOT_SHIPPED
from train.mllm.run_settings import read_settings

pytestmark = pytest.mark.xdist_group("lora")  # one test process trains what others compare with

CONFIG = "configs/lora/smoke.yaml"


def arguments(base: Path, instructions: Path, out: Path, *overrides: str) -> list[str]:
    paths = {"--instructions": instructions, "--base": base, "--out": out}
    named = [str(part) for pair in paths.items() for part in pair]
    return ["--config", CONFIG, "--dataset", "boxed_train", *named, *overrides]


def test_an_adapter_with_a_zero_matrix_is_refused(tmp_path, make_lora):
    folder = make_lora()
    demand_change(folder, read_adapter(folder))
    tensors = load_file(folder / WEIGHTS)
    (name,) = (key for key in tensors if ".lora_B." in key)
    save_file({**tensors, name: tensors[name] * 0}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="is all zeros, so the adapter changes nothing"):
        demand_change(folder, read_adapter(folder))


@pytest.mark.slow
def test_zeros_in_bfloat16_are_found_too(make_lora):
    import torch
    from safetensors.torch import load_file, save_file

    folder = make_lora()
    tensors = {k: v.to(torch.bfloat16) for k, v in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    demand_change(folder, read_adapter(folder))
    save_file({k: v * 0 for k, v in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="all zeros"):
        demand_change(folder, read_adapter(folder))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        *((f"{key}=true", "more than the two matrices of LoRA") for key in NOT_SHIPPED),
        ("freeze_vision_tower=false", "vLLM leaves out .*: freeze_vision_tower=true"),
        ("freeze_multi_modal_projector=false", ": freeze_multi_modal_projector=true"),
        ("template=qwen3_vl", "template is 'qwen3_vl'.*: template=qwen2_vl"),
        ("packing=true", "the picture and the answer of the one before it: leave it out"),
        ("neat_packing=true", "positions to fewer tokens than a row has: leave it out"),
        ("use_asft_loss=true", "needs the logits of all tokens.*: leave it out"),
        ("flash_attn=fa2", "LLaMA-Factory#10610.*: flash_attn=sdpa"),
    ],
)
def test_keys_that_fail_later_are_refused_before_the_training(tmp_path, capsys, given, words):
    assert lora.main(arguments(tmp_path, tmp_path, tmp_path / "out", given)) == 1
    told = capsys.readouterr().err
    assert re.search(words, told)
    assert check.main(["--tuning", f"{CONFIG} {given}"]) == 1
    assert capsys.readouterr().err == told


@pytest.mark.slow
def test_a_run_that_would_cut_a_sample_stops_before_training(
    tiny_base, instructions, tmp_path, capsys
):
    out = tmp_path / "lora"
    assert lora.main(arguments(tiny_base, instructions, out, "cutoff_len=50")) == 1
    assert "'f0' of boxed_train" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


RUN = ("lr_scheduler_type=constant", "warmup_ratio=0", "lora_dropout=0.1", "logging_steps=1")


@pytest.fixture(scope="module")
def once(tiny_base, instructions, tmp_path_factory) -> Path:
    """Five steps that nothing interrupted."""
    out = tmp_path_factory.mktemp("once") / "lora"
    assert lora.main(arguments(tiny_base, instructions, out, *RUN, "max_steps=5")) == 0
    return out


@pytest.mark.slow
def test_a_few_steps_make_an_adapter_that_says_where_it_comes_from(
    tiny_base, instructions, once, capsys
):
    out = once
    adapter = read_adapter(out)
    assert (adapter.base, adapter.rank) == ("base", 16)
    assert adapter.revision == manifest.digest(tiny_base)
    assert manifest.verify(out, "lora").inputs.keys() == {"base", "instructions"}
    assert {p.name for p in out.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "checkpoint",
        "config.yaml", "lengths.png", "manifest.json", "run.json", "train.log", "trainer_log.jsonl",
        "training_loss.png",
    }  # fmt: skip
    assert yaml.safe_load((out / "README.md").read_text().split("---")[1])["base_model"] == "base"
    assert json.loads((out / "run.json").read_text())["steps"] == 5
    run = arguments(tiny_base, instructions, out, *RUN, "max_steps=5", "save_total_limit=9")
    assert lora.main(run) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_was_killed_and_prolonged_with_other_idle_keys_is_that_of_one_run(
    tiny_base, instructions, once, tmp_path, capsys
):
    parts = tmp_path / "parts"

    def run_parts(*overrides: str) -> int:
        return lora.main(arguments(tiny_base, instructions, parts, *RUN, *overrides))

    given = arguments(tiny_base, instructions, parts, *RUN, "max_steps=4", "save_steps=1")
    with subprocess.Popen([sys.executable, "-m", "train.lora", *given]) as running:
        first = parts.with_name("parts.partial") / "work" / "checkpoint-1" / "trainer_state.json"
        while not first.is_file():
            assert running.poll() is None
            time.sleep(0.05)
        running.kill()
    capsys.readouterr()

    assert run_parts("max_steps=4", "learning_rate=0.01") == 1
    assert "learning_rate: 0.002 → 0.01. --restart" in capsys.readouterr().err
    assert first.is_file()
    idle = ("save_steps=3", "logging_steps=2", "dataloader_num_workers=1", "save_total_limit=1")
    assert run_parts("max_steps=4", *idle) == 0
    assert run_parts("max_steps=5", "lr_scheduler_type=cosine") == 1
    assert "(cosine) runs to its end at the last step" in capsys.readouterr().err
    assert run_parts("max_steps=5") == 0

    assert (parts / WEIGHTS).read_bytes() == (once / WEIGHTS).read_bytes()
    steps = [json.loads(line) for line in (parts / "trainer_log.jsonl").read_text().splitlines()]
    assert [line["current_steps"] for line in steps if "loss" in line][-2:] == [4, 5]
    assert manifest.verify(parts, "lora").config["length"] == {"max_steps": 5}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_best_checkpoint_is_kept_and_the_training_ends_when_it_gets_no_better(
    tiny_base, instructions, once, tmp_path
):
    """Its answers are worth nothing yet, so the first of equals is kept: that of five steps.

    It is killed once patience has ended it, and does no step too many after that.
    """
    with Stage(tmp_path / "both", kind="instructions", inputs={}, config={}) as folder:
        shutil.copytree(instructions, folder, dirs_exist_ok=True)
        samples = json.loads((folder / "boxed_train.json").read_text())[:5]
        sized = [sample | {"frame": [112, 112], "original": [640, 640]} for sample in samples]
        (folder / "boxed_val.json").write_text(json.dumps(sized))
    keys = (*RUN, "max_steps=40", "save_steps=5")
    run = arguments(tiny_base, tmp_path / "both", tmp_path / "lora", *keys)
    given = ["--best-of", "3", "--patience", "1", *run]
    history = tmp_path / "lora.partial" / "best" / "validation.json"
    with subprocess.Popen([sys.executable, "-m", "train.lora", *given]) as running:
        while not (history.is_file() and "10" in json.loads(history.read_text())):
            assert running.poll() is None
            time.sleep(0.02)
        running.kill()
    assert lora.main(given) == 0
    report = json.loads((tmp_path / "lora" / "run.json").read_text())
    assert report["validation"] == {"sev_f1": {"5": 0.0, "10": 0.0}, "best_step": 5}
    assert report["steps"] == 10
    assert (tmp_path / "lora" / WEIGHTS).read_bytes() == (once / WEIGHTS).read_bytes()
    assert lora.main(["--best-of", "4", *run]) == 1  # another choice is another recipe


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--patience", "2"], "--patience needs --best-of"),
        (["--best-of", "3"], r"boxed_val\.json"),
        (["--best-of", "3", "save_strategy=epoch"], "set save_strategy=steps"),
    ],
)
def test_what_cannot_be_chosen_is_refused_at_once(instructions, tmp_path, capsys, options, words):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    given = arguments(base, instructions, tmp_path / "out")
    assert lora.main([*given, *options]) == 1
    assert re.search(words, capsys.readouterr().err)


class Made:
    """In place of a training a folder with one file; what `make_adapter` was given."""

    def __init__(self, monkeypatch) -> None:
        self.given: list = []
        self.prolonged: list = []
        monkeypatch.setattr(lora, "make_adapter", self.make)
        monkeypatch.setattr(lora, "prolong", lambda *folders: self.prolonged.append(folders))

    def make(self, folder, *given) -> None:
        self.given.append(given)
        (folder / "adapter").write_text("trained")


SHIPPED = Path("train/shipped_base")
ENDLESS = ("lr_scheduler_type=constant", "warmup_ratio=0")


def test_a_tuning_is_known_by_what_decides_it(instructions, tmp_path, monkeypatch, capsys):
    made, out = Made(monkeypatch), tmp_path / "lora-boxed"
    run = arguments(SHIPPED, instructions, out, *ENDLESS, "max_steps=4")
    assert lora.main(run) == 0
    overrides = [*ENDLESS, "max_steps=4"]
    config = read_lora_config(Path(CONFIG), overrides, str(SHIPPED), instructions, "boxed_train")
    assert made.given == [(config, read_settings(config), "lora-boxed", False, 0, 0)]
    stated = manifest.verify(out, "lora")
    length = {"max_steps": 4}
    assert stated.inputs.keys() == {"base", "instructions"}
    assert stated.config == {
        **tuning.recipe(config, length),
        "length": length,
        "instructions": {},
        "dataset": "boxed_train",
        "base": "shipped_base",
    }
    assert lora.main(run) == 0
    assert "up to date" in capsys.readouterr().out
    assert (len(made.given), made.prolonged) == (1, [])
    assert lora.main([*run, "max_steps=5", "--ignore-memory"]) == 0
    assert made.prolonged == [(out, tmp_path / "lora-boxed.partial")]
    assert made.given[1][2:] == ("lora-boxed", True, 0, 0)
    assert lora.main([*run, "max_steps=5", "seed=8"]) == 1
    assert "llamafactory.seed: 7 → 8. --restart" in capsys.readouterr().err
    assert lora.main([*run, "max_steps=5", "seed=8", "--restart"]) == 0
    assert len(made.prolonged) == 1


def test_a_choice_of_checkpoints_and_deepspeed_are_part_of_the_recipe(
    instructions, tmp_path, monkeypatch, capsys
):
    with Stage(tmp_path / "both", kind="instructions", inputs={}, config={"a": 1}) as folder:
        shutil.copytree(instructions, folder, dirs_exist_ok=True)
        (folder / "manifest.json").unlink()
        shutil.copyfile(folder / "boxed_train.json", folder / "boxed_val.json")
    made, out = Made(monkeypatch), tmp_path / "lora"
    run = [*arguments(SHIPPED, tmp_path / "both", out, *ENDLESS), "--best-of", "3"]
    assert lora.main([*run, "--patience", "2", "save_steps=25"]) == 0
    assert made.given[0][2:] == ("lora", False, 3, 2)
    stated = manifest.verify(out, "lora").config
    assert stated["best_of"] == {"frames": 3, "patience": 2, "save_steps": 25}
    assert stated["instructions"] == {"a": 1}
    assert "length" not in stated
    zero = tmp_path / "zero.json"
    zero.write_text('{"zero_optimization": {"stage": 2}}')
    assert lora.main([*run, f"deepspeed={zero}"]) == 1
    told = "--best-of trains on one card, without DeepSpeed: CUDA_VISIBLE_DEVICES=0"
    assert told in capsys.readouterr().err
    sharded = arguments(SHIPPED, instructions, tmp_path / "zero", f"deepspeed={zero}")
    assert lora.main(sharded) == 0
    assert manifest.verify(tmp_path / "zero", "lora").inputs.keys() == {
        "base", "instructions", "deepspeed",
    }  # fmt: skip


def test_a_hubs_base_is_stated_by_its_name(instructions, tmp_path, monkeypatch):
    made, asked = Made(monkeypatch), []
    monkeypatch.setattr(resources, "model_sizes", lambda settings: asked.append(settings))
    name = "Qwen/Qwen2.5-VL-7B-Instruct"
    given = arguments(Path("a"), instructions, tmp_path / "lora", f"model_revision={'c' * 40}")
    given[given.index("a")] = name
    assert lora.main(given) == 0
    stated = manifest.verify(tmp_path / "lora", "lora")
    assert stated.inputs.keys() == {"instructions"}
    assert stated.config["base"] == name
    assert asked == [made.given[0][1]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--best-of", "-1"], "--best-of and --patience are at least 0, and --patience needs"),
        (["--best-of", "3", "--patience", "-1"], "--best-of and --patience are at least 0"),
        (["bf16=true", "use_cpu=false"], "bf16: true needs a CUDA card"),
        (["--dataset", "raw_train"], "no data set 'raw_train'; there are: boxed_train"),
    ],
)
def test_what_cannot_be_trained_here_is_refused_at_once(
    instructions, tmp_path, monkeypatch, capsys, options, words
):
    made = Made(monkeypatch)
    monkeypatch.setattr(resources, "find_card", lambda settings: None)
    assert lora.main([*arguments(SHIPPED, instructions, tmp_path / "out"), *options]) == 1
    assert words in capsys.readouterr().err
    assert made.given == []


def test_several_cards_cannot_choose_the_best(instructions, tmp_path, monkeypatch, capsys):
    Made(monkeypatch)
    given = [*arguments(SHIPPED, instructions, tmp_path / "out"), "--best-of", "3"]
    for count, told in ((2, "--best-of trains on one card"), (1, "boxed_val.json")):
        card = resources.Card("a", 1, count)
        monkeypatch.setattr(resources, "find_card", lambda settings, card=card: card)
        assert lora.main(given) == 1
        assert told in capsys.readouterr().err
