"""The proof of an adapter, on a tiny model of the 7B's classes and an adapter trained here."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime import manifest
from dat_runtime.adapter import CONFIG, WEIGHTS
from dat_runtime.answer import dump, target
from dat_runtime.errors import ModelError
from dat_runtime.stage import Stage
from eval import proof
from eval.answers.adding import add
from eval.answers.likelihood import likelihood, read_questions, spread
from eval.answers.model import load
from eval.proving.demands import Performance, demand_better
from eval.proving.prove import demand_form, prove
from tests.eval.proved_adapter import SAMPLES, SEVERITIES, training_batch

os.environ["HF_HUB_OFFLINE"] = "1"
# An adapter is trained for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tuned")]


@pytest.fixture(scope="module")
def root(tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(tuned, tmp_path_factory.mktemp("proof") / "root"))


def changed_adapter(root: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """A copy of the adapter with every B matrix changed."""
    from safetensors.torch import load_file, save_file

    out = root / name
    shutil.rmtree(out, ignore_errors=True)
    with Stage(out, kind="lora", inputs={"base": root / "base"}, config={}) as made:
        for file in ("README.md", CONFIG):
            shutil.copy(root / "lora" / file, made / file)
        tensors = load_file(root / "lora" / WEIGHTS)
        new = {k: change(v) if ".lora_B." in k else v for k, v in tensors.items()}
        save_file(new, made / WEIGHTS)
    return out


def run(root: Path, adapter: Path, base: Path | None = None) -> int:
    shutil.rmtree(root / "out", ignore_errors=True)
    return prove_again(root, adapter, base, "--accept-untrained")  # it had 25 steps


def prove_again(root: Path, adapter: Path, base: Path | None = None, *more: str) -> int:
    return proof.main([
        *("--instructions", str(root / "instructions"), "--inputs", "raw"),
        *("--base", str(base or root / "base"), "--adapter", str(adapter)),
        *("--samples", str(SAMPLES), "--out", str(root / "out"), *more),
    ])  # fmt: skip


def validation_answers(root: Path, adapter: Path, text: str) -> Path:
    """As eval.predict --part val leaves them: the same answer to every question."""
    out = root / "predictions-val"
    shutil.rmtree(out, ignore_errors=True)
    inputs = {"instructions": root / "instructions", "adapter": adapter}
    config = {"inputs": "raw", "part": "val", "shard": [1, 1], "constrained": None}
    with Stage(out, kind="predictions", inputs=inputs, config=config) as made:
        lines = [json.dumps({"image_id": f"v{i}", "model_text": text}) for i in range(SAMPLES)]
        (made / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    return out


def test_a_trained_adapter_is_proved_and_shown(root, capsys) -> None:
    assert run(root, root / "lora") == 0
    report = json.loads((root / "out" / "proof.json").read_text())
    assert report["answers_changed"] >= 1
    assert report["loss"]["adapted"] < report["loss"]["base"]
    assert report["loss"]["difference"]["high"] < 0
    assert report["merged"]["largest"] <= 1e-3
    assert sorted(report["samples"]) == [f"v{i}" for i in range(SAMPLES)]
    shown = capsys.readouterr().out
    assert report["example"]["adapted"] in shown
    assert report["example"]["base"] in shown


def test_an_adapter_that_never_alerts_is_proved_as_a_rehearsal_only(root, capsys) -> None:
    never = validation_answers(root, root / "lora", dump(target([])))
    given = (root, root / "lora", None, "--answers", str(never))
    shutil.rmtree(root / "out", ignore_errors=True)
    assert prove_again(*given) == 1
    told = capsys.readouterr()
    assert (
        "lora is not fit for use, by its answers about 6 validation frames: not better" in told.err
    )
    assert "the base model answers" not in told.out  # no model was loaded for that
    assert prove_again(*given, "--accept-untrained") == 0
    assert "NOT FIT FOR USE: not better than never an alert (SevF1" in capsys.readouterr().out
    report = json.loads((root / "out" / "proof.json").read_text())
    _, gate, form = report["fitness"]["reasons"]
    assert gate.startswith("nothing is known of the gate")
    assert form.startswith("0 of 6 answers fit the schema, expected at least 50%; one of")
    assert prove_again(*given) == 1  # what was accepted once is accepted no more
    assert "not fit for use" in capsys.readouterr().err


def test_an_adapter_whose_answers_cannot_be_used_is_refused(root, capsys) -> None:
    assert prove_again(root, root / "lora") == 1
    assert "0 of 6 answers fit the schema, expected at least 50%" in capsys.readouterr().err


def test_the_adapter_of_a_bundle_is_proved_too(root) -> None:
    with Stage(root / "bundle", kind="bundle", inputs={}, config={}) as made:
        shutil.copytree(root / "lora", made / "adapter")
        (made / "adapter" / manifest.NAME).unlink()
    assert run(root, root / "bundle" / "adapter") == 0


def test_a_changed_bundle_is_refused(root, capsys) -> None:
    with Stage(root / "changed", kind="bundle", inputs={}, config={}) as made:
        shutil.copytree(root / "lora", made / "adapter")
        (made / "adapter" / manifest.NAME).unlink()
    (root / "changed" / "adapter" / "README.md").write_text("other")
    assert run(root, root / "changed" / "adapter") == 1
    assert "changed since it was written" in capsys.readouterr().err


def test_an_adapter_of_zeros_changes_nothing(root, capsys) -> None:
    import torch

    assert run(root, changed_adapter(root, "zeros", torch.zeros_like)) == 1
    assert "zeros changes nothing: all 6 greedy answers" in capsys.readouterr().err
    assert not (root / "out").exists()


def test_an_adapter_of_noise_scores_no_better(root, capsys) -> None:
    import torch

    torch.manual_seed(1)
    noise = changed_adapter(root, "noise", lambda b: torch.randn_like(b) * 3)
    assert run(root, noise) == 1
    assert "noise scores no better than its base" in capsys.readouterr().err


def test_tampered_merged_weights_are_noticed(root) -> None:
    def tampered(model: Any, adapter: Path) -> Any:
        merged = add(model, adapter)
        merged.model.language_model.layers[1].mlp.down_proj.weight.data *= 1.02
        return merged

    loaded = load(str(root / "base"), None, None)
    questions = read_questions(root / "instructions", "raw", "val")
    with pytest.raises(ModelError, match="merged weights differ from the adapter on its base"):
        prove(loaded, root / "lora", questions, print, merge=tampered, rehearsal=True)


def test_an_adapter_of_another_base_is_refused_by_name(root, capsys) -> None:
    other = root / "other-base"
    if not other.exists():
        with Stage(other, kind="base", inputs={}, config={}) as made:
            (made / "config.json").write_text("{}")
    assert run(root, root / "lora", other) == 1
    told = capsys.readouterr().err
    assert "was trained for base at revision" in told
    assert "other-base" in told
    with pytest.raises(ModelError, match="was trained for base, not for Some/Model"):
        load("Some/Model", "0" * 40, root / "lora")


def test_an_adapter_of_another_prompt_version_is_refused(root, capsys) -> None:
    copy = root / "old-prompt"
    shutil.copytree(root / "lora", copy, dirs_exist_ok=True)
    content = json.loads((copy / manifest.NAME).read_text())
    content["versions"]["prompt"] = 1
    (copy / manifest.NAME).write_text(json.dumps(content))
    assert run(root, copy) == 1
    assert "was made with versions" in capsys.readouterr().err


def test_the_loss_is_that_of_the_model_itself(root) -> None:
    """Transformers' own loss over all tokens of a batch is the mean over them."""
    import torch

    loaded = load(str(root / "base"), None, None)
    questions = read_questions(root / "instructions", "raw", "val")
    with torch.inference_mode():
        expected = loaded.model(**training_batch(loaded, root)).loss.item()
    found = np.concatenate(likelihood(loaded, questions, batch_size=4).log_probs)
    assert -found.mean() == pytest.approx(expected, abs=1e-4)


def test_samples_are_spread_over_the_severities(root) -> None:
    questions = read_questions(root / "instructions", "raw", "val")
    assert sorted(q.severity for q in spread(questions, 3)) == sorted(SEVERITIES)
    only = [q for q in questions if q.severity == "none"]
    assert [q.ask.id for q in spread(only, 9)] == ["v0", "v3"]
    uneven = [*only[:1], *(q for q in questions if q.severity != "none")]
    assert len(spread(uneven, 5)) == 5


def test_an_answer_of_another_form_that_no_longer_parses_is_not_worse(root) -> None:
    questions = read_questions(root / "instructions", "raw", "val")
    given = likelihood(load(str(root / "base"), None, None), questions, 8)
    likelier = given._replace(log_probs=[v + 1 for v in given.log_probs])
    other, broken = Performance(given, ["{}"] * SAMPLES), Performance(likelier, ["{"] * SAMPLES)
    report = demand_better(other, broken, questions, root / "lora")
    assert report["answers"]["parse"]["difference"]["value"] == -1


def test_worse_answers_are_refused_though_the_truth_is_likelier(root) -> None:
    questions = read_questions(root / "instructions", "raw", "val")
    loaded = load(str(root / "base"), None, None)
    given = likelihood(loaded, questions, 8)
    likelier = given._replace(log_probs=[v + 1 for v in given.log_probs])
    right = Performance(given, [q.answer for q in questions])
    broken = Performance(likelier, ["no JSON"] * SAMPLES)
    worse = demand_better(right, broken, questions, root / "lora")["worse"]
    assert worse.startswith("gives worse answers than its base: schema changes by -1.000, 95 %")
    with pytest.raises(ModelError, match=r"lora: gives worse answers.*train longer"):
        demand_form(worse, root / "lora")
    mended = Performance(likelier, [q.answer for q in questions])
    bad = Performance(given, ["no JSON"] * SAMPLES)
    assert demand_better(bad, mended, questions, root / "lora")["worse"] is None
