import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from train import check
from train.mllm import resources
from train.mllm.memory import weight_bytes
from train.mllm.model_sizes import SEVEN_B, read_model
from train.mllm.run_settings import read_settings
from train.recipe.config_file import read_config

SMOKE = "configs/yolo/smoke.yaml"
LORA = "configs/lora/smoke.yaml"


def test_the_configurations_of_the_smoke_job_are_in_order(capsys) -> None:
    assert check.main(["--gate", f"{SMOKE} epochs=2", "--tuning", f"{LORA} max_steps=3"]) == 0
    assert f"in order: {SMOKE}, {LORA}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gate", f"{SMOKE} epoch=2"], "epoch is no key of Ultralytics: is epochs meant?"),
        (["--gate", f"{SMOKE} batch=-1"], "batch is -1, expected a whole number of pictures"),
        (["--gate", f"{SMOKE} batch=0.7"], "batch is 0.7, expected a whole number of pictures"),
        (["--gate", f"{SMOKE} device=97"], "device=97, and this machine has"),
        (["--gate", f"{SMOKE} pretrained=absent.pt"], "the weights absent.pt are not there"),
        (["--gate", SMOKE, "--tuning", f"{LORA} max_step=3"], "is max_steps meant?"),
        (
            ["--tuning", f"{LORA} max_steps=abc"],
            "max_steps is the text 'abc', expected a whole number",
        ),
        (["--tuning", LORA, "--base", "no/such/base"], "neither a folder nor a model's hub name"),
        (["--tuning", LORA, "--base", "a/base"], "pin the 40-digit commit"),
    ],
)
def test_what_would_fail_hours_later_is_told_in_a_line(options, words, capsys) -> None:
    assert check.main(options) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_a_base_that_cannot_be_had_is_told_in_a_line(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    pinned = f"{LORA} model_revision={'a' * 40}"
    assert check.main(["--tuning", pinned, "--base", "Some/Base", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "error: Some/Base at aaaa" in told
    assert told.count("\n") == 1


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A folder with the sizes of the 7B, and nothing else: nothing else is looked at."""
    (tmp_path / "base").mkdir()
    config = {**SEVEN_B, "model_type": "qwen2_5_vl"}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    return str(tmp_path / "base")


def test_a_disk_without_room_is_refused(base: str, capsys, monkeypatch, tmp_path) -> None:
    given = ["--tuning", LORA, "--base", base, "--out", str(tmp_path)]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 50))
    assert check.main(given) == 0
    assert "33.2 GB of weights; no card; " in capsys.readouterr().out
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    assert check.main(given) == 1
    assert "0.0 GB are free" in capsys.readouterr().err


def test_base_card_and_disk_are_told_in_a_line(base: str, capsys, monkeypatch, tmp_path) -> None:
    """With all checkpoints that 100,000 samples give; on four cards there are fewer steps."""
    given = ["max_steps=-1", "save_strategy=steps", "save_total_limit=null"]
    on_card = [*given, "bf16=true", "use_cpu=false"]
    settings = read_settings(read_config(Path(LORA), on_card))
    weights = weight_bytes(*read_model(SEVEN_B), settings)
    four, one = resources.Card("Just", weights, 4), resources.Card("H100", 85_899_345_920, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 60))
    for keys, card, told in (
        (on_card, four, "16.6 GB of weights; Just, 16.6 GB; 91.4"),
        (on_card, one, "16.6 GB of weights; H100, 85.9 GB; 363.7"),
        (given, None, "33.2 GB of weights; no card; 363.7"),
    ):
        monkeypatch.setattr(resources, "find_card", lambda settings, card=card: card)
        words = " ".join([LORA, *keys])
        assert check.main(["--tuning", words, "--base", base, "--out", str(tmp_path)]) == 0
        line = capsys.readouterr().out.splitlines()[0]
        assert line == f"[check] {base}: {told} GB of disk below {tmp_path}"


def test_a_card_that_the_weights_alone_do_not_fit_is_refused(base, capsys, monkeypatch) -> None:
    small = resources.Card("Small", 8_000_000_000, 1)
    monkeypatch.setattr(resources, "find_card", lambda settings: small)
    given = f"{LORA} bf16=true use_cpu=false"
    assert check.main(["--tuning", given, "--base", base]) == 1
    assert "alone take 16.6 GB, Small has 8.0 GB" in capsys.readouterr().err


def test_bf16_without_a_card_is_refused(base: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr(resources, "find_card", lambda settings: None)
    given = f"{LORA} bf16=true use_cpu=false"
    assert check.main(["--tuning", given, "--base", base]) == 1
    assert "bf16: true needs a CUDA card, and this machine has none" in capsys.readouterr().err
