"""Merged and quantised forms of a tiny tuned model, held to the adapter that they are made of."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dat_runtime.stage import Stage
from eval import proof
from export import merged, quantised
from export.forms import checkpoint
from tests.eval.proved_adapter import SAMPLES

os.environ["HF_HUB_OFFLINE"] = "1"
# An adapter is trained for all of them, and each proof is a process of its own.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("tuned")]


@pytest.fixture(scope="module")
def root(tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `merged`, as export.merged makes it."""
    folder = Path(shutil.copytree(tuned, tmp_path_factory.mktemp("forms") / "root"))
    assert merged.main(arguments(folder, "merged")) == 0
    return folder


def arguments(root: Path, out: str, *more: str) -> list[str]:
    return [
        *("--base", str(root / "base"), "--adapter", str(root / "lora")),
        *("--instructions", str(root / "instructions"), "--inputs", "raw"),
        *("--samples", str(SAMPLES), "--out", str(root / out)),
        *more,
    ]


def test_merged_weights_are_those_of_peft_rounded_once(root: Path) -> None:
    import torch
    from peft import PeftModel

    from eval.answers.model import load

    own = load(str(root / "merged"), None, None).model
    tuned = PeftModel.from_pretrained(load(str(root / "base"), None, None).model, root / "lora")
    by_peft = dict(tuned.merge_and_unload().named_parameters())
    for name, weight in own.named_parameters():
        assert torch.equal(weight, by_peft[name].to(torch.bfloat16).float()), name


def test_a_form_is_described_with_its_proof(root: Path) -> None:
    report = json.loads((root / "merged" / "proof.json").read_text())
    assert 0 < report["agreement"]["mean"] < 0.05
    card = (root / "merged" / "README.md").read_text()
    assert "| schema | " in card
    assert f"on {SAMPLES} held-out samples" in card
    for path in (root / "merged").iterdir():
        assert str(root).encode() not in path.read_bytes(), path


def test_a_cut_off_merge_goes_on_and_a_made_one_is_kept(root: Path, capsys) -> None:
    partial = root / "again.partial"
    shutil.copytree(root / "merged", partial / "model")
    stated = json.loads((partial / "model" / "manifest.json").read_text()) | {"outputs": {}}
    (partial / "manifest.json").write_text(json.dumps(stated))
    for name in ("manifest.json", "proof.json", "README.md"):
        (partial / "model" / name).unlink()
    before = (partial / "model" / "model.safetensors").stat().st_mtime_ns
    assert merged.main(arguments(root, "again")) == 0
    assert "file 1 of 1 is there already" in capsys.readouterr().out
    assert (root / "again" / "model.safetensors").stat().st_mtime_ns == before
    assert merged.main(arguments(root, "again")) == 0
    assert "up to date" in capsys.readouterr().out


def test_a_form_of_other_settings_made_or_begun_is_replaced_when_told_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(root, "merged")
    given[given.index("--samples") + 1] = str(SAMPLES - 1)
    assert merged.main(given) == 1
    assert f"samples: {SAMPLES} → {SAMPLES - 1}. --restart" in capsys.readouterr().err
    begun = root / "begun.partial"
    shutil.copytree(root / "merged", begun)
    given[given.index("--out") + 1] = str(root / "begun")
    stated = json.loads((begun / "manifest.json").read_text())
    (begun / "manifest.json").write_text(json.dumps(stated | {"outputs": {}}))
    assert merged.main(given) == 1
    assert "holds unfinished work of another recipe" in capsys.readouterr().err
    assert (begun / "model.safetensors").is_file()


def test_scores_that_are_required_and_not_reached_are_refused(root: Path, capsys) -> None:
    assert merged.main(arguments(root, "merged", "--require", "sev_f1>=1.1")) == 1
    assert "required, but not met: sev_f1 is" in capsys.readouterr().err


def test_nothing_is_published_offline_and_nothing_begins(root: Path, capsys) -> None:
    for name, words in (("a/b", "HF_HUB_OFFLINE is set"), ("b", "expected OWNER/NAME")):
        assert merged.main(arguments(root, "published", "--push-to-hub", name)) == 1
        assert words in capsys.readouterr().err
    assert not list(root.glob("published*"))


def test_fp8_is_half_the_size_and_held_to_the_adapter(root: Path, capsys) -> None:
    given = arguments(root, "fp8", "--merged", str(root / "merged"))
    assert quantised.main(given) == 0
    report = json.loads((root / "fp8" / "proof.json").read_text())
    assert 0 < report["agreement"]["mean"] < 0.1
    config = json.loads((root / "fp8" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"


def test_another_base_is_refused_before_the_work(root: Path, capsys) -> None:
    given = arguments(root, "elsewhere")
    given[1] = str(root / "instructions")
    assert merged.main(given) == 1
    assert "another model: name its own base" in capsys.readouterr().err
    assert not list(root.glob("elsewhere*"))


def test_another_model_in_a_forms_place_is_refused(root: Path, capsys) -> None:
    """The base alone, in bfloat16: what a server would answer that never took the adapter."""
    with Stage(root / "bare", kind="merged", inputs={}, config={}) as folder:
        checkpoint.convert(root / "base", folder, lambda n, w: {n: w}, print)
        checkpoint.write_config(root / "base", folder)
    given = arguments(root, "proof-bare", "--form", str(root / "bare"))
    assert proof.main(given) == 1
    assert "its weights differ from the adapter on its base" in capsys.readouterr().err


def test_answers_of_a_served_form_are_held_to_the_adapter(root: Path, capsys) -> None:
    samples = json.loads((root / "instructions" / "raw_val.json").read_text())
    with Stage(root / "served", kind="predictions", inputs={}, config={}) as folder:
        records = []
        for sample in samples:
            text = sample["messages"][1]["content"]
            records.append({"image_id": sample["image_id"], "text": text, "latency_s": 0.1})
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        (folder / "predictions.jsonl").write_text(lines)
    given = arguments(root, "proof-served", "--form", str(root / "served"))
    assert proof.main([*given, "--require", "count_em>=1"]) == 0
    assert "schema " in capsys.readouterr().out
    with Stage(root / "silent", kind="predictions", inputs={}, config={}) as folder:
        (folder / "predictions.jsonl").write_text(lines.split("\n")[0] + "\n")
    given = arguments(root, "proof-silent", "--form", str(root / "silent"))
    assert proof.main(given) == 1
    assert f"{SAMPLES - 1} of {SAMPLES} are missing" in capsys.readouterr().err
