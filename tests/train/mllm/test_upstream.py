"""That a frozen tower and unlearnt logits are left out, and losses and gradients stay."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.errors import ConfigError
from dat_runtime.files import read_json, write_yaml
from train.mllm import best, preflight, recorder, tiny_model, upstream, windows
from train.mllm.run_settings import RunSettings


@pytest.fixture
def tower_class(unchanged_classes: None) -> Any:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling

    return modeling.Qwen2_5_VisionTransformerPretrainedModel


def untrained_model() -> Any:
    """The tiny model, made in memory."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(3)
    config = Qwen2_5_VLConfig(
        text_config={**tiny_model.SMALLEST.text, "vocab_size": 400},
        vision_config=dict(tiny_model.SMALLEST.vision),
        image_token_id=399,
        video_token_id=398,
        vision_start_token_id=397,
        vision_end_token_id=396,
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def frozen_model() -> Any:
    """The tiny model with a frozen tower, prepared as PEFT does under gradient checkpointing."""
    model = untrained_model()
    model.model.visual.requires_grad_(False)
    model.enable_input_require_grads()
    return model.train()


def batch(model: Any) -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    ids = torch.randint(300, 390, (1, 24))
    ids[0, 2:18] = model.config.image_token_id
    return {
        "input_ids": ids,
        "labels": ids,
        "mm_token_type_ids": (ids == model.config.image_token_id).int(),
        "pixel_values": torch.randn(64, 1176),
        "image_grid_thw": torch.tensor([[1, 8, 8]]),
    }


def tower_output(model: Any, given: dict[str, Any]) -> Any:
    return model.model.visual(given["pixel_values"], given["image_grid_thw"]).pooler_output


def loss_and_gradients(model: Any, given: dict[str, Any]) -> list[Any]:
    """Of one step; the gradients are those of the language model's weights."""
    model.zero_grad()
    loss = model(**given).loss
    loss.backward()
    grads = [p.grad.clone() for p in model.model.language_model.parameters()]
    return [loss.detach(), *grads]


def test_a_frozen_tower_leaves_the_backward_pass_and_gradients_stay(tower_class) -> None:
    import torch

    model = frozen_model()
    given = batch(model)
    assert tower_output(model, given).requires_grad  # upstream's waste
    found = []
    for _ in range(2):
        found.append(loss_and_gradients(model, given))
        upstream.leave_out_frozen_towers()
    assert not tower_output(model, given).requires_grad
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_tower_with_a_trained_weight_keeps_its_gradients(tower_class) -> None:
    upstream.leave_out_frozen_towers()
    model = frozen_model()
    weight = model.model.visual.merger.mlp[0].weight.requires_grad_(True)
    model(**batch(model)).loss.backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


@pytest.fixture
def model_class(unchanged_classes: None) -> Any:
    from transformers import Qwen2_5_VLForConditionalGeneration as found

    return found


def ragged_batch(model: Any) -> dict[str, Any]:
    """Three samples with an image; answers of 5, 2 and no tokens, padding after two of them."""
    import torch

    one = batch(model)
    given = {name: one[name].repeat(3, 1) for name in ("input_ids", "mm_token_type_ids")}
    given |= {name: one[name].repeat(3, 1) for name in ("pixel_values", "image_grid_thw")}
    given["labels"] = torch.full_like(given["input_ids"], upstream.UNLEARNT)
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    for row, (answer, end) in enumerate(((5, 24), (2, 22), (0, 20))):
        given["labels"][row, end - answer : end] = given["input_ids"][row, end - answer : end]
        given["attention_mask"][row, end:] = 0
    return given


@pytest.mark.parametrize("items", [None, 11])
def test_logits_of_learnt_tokens_alone_give_the_same_loss_and_gradients(model_class, items) -> None:
    """`items`: learnt tokens of all batches of an accumulated step, as Transformers counts them."""
    import torch

    model = frozen_model()
    given = ragged_batch(model) | ({"num_items_in_batch": torch.tensor(items)} if items else {})
    sizes: list[int] = []
    model.lm_head.register_forward_hook(
        lambda _, inputs, logits: sizes.append(logits.shape[:-1].numel())
    )
    found = []
    for _ in range(2):
        found.append(loss_and_gradients(model, given))
        upstream.leave_out_unlearnt_logits()
    assert sizes == [3 * 24, 7]
    assert found[0][0] > 1
    for whole, learnt in zip(*found, strict=True):
        torch.testing.assert_close(learnt, whole, rtol=1e-5, atol=1e-7)


def test_answers_and_validation_still_get_every_logit(model_class) -> None:
    import torch

    model = frozen_model()
    given = ragged_batch(model)
    asked = {name: value for name, value in given.items() if name != "labels"}
    with torch.no_grad():
        model.eval()
        before = model(**given)
        upstream.leave_out_unlearnt_logits()
        after = model(**given)
        assert torch.equal(after.logits, before.logits)
        assert torch.equal(after.loss, before.loss)
        assert model.train()(**asked).logits.shape == before.logits.shape


def tuned(dropout: float) -> Any:
    """The tiny model in bfloat16 with an adapter in float32, as LLaMA-Factory prepares them."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = untrained_model().to(torch.bfloat16)
    torch.manual_seed(1)
    config = LoraConfig(
        r=4, lora_dropout=dropout, target_modules=r".*language_model.*(_proj)", lora_alpha=8
    )
    model = get_peft_model(model, config, autocast_adapter_dtype=True)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model.train()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_inputs_that_autocast_converts_need_no_copy_in_float32(unchanged_classes, dropout) -> None:
    import torch

    model = tuned(dropout)
    given = batch(model) | {"pixel_values": batch(model)["pixel_values"].bfloat16()}
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    assert {weight.dtype for weight in learnt} == {torch.float32}
    widths: list[Any] = []
    some = next(module for name, module in model.named_modules() if name.endswith("lora_A.default"))
    some.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].dtype))
    found = []
    for _ in range(2):
        torch.manual_seed(2)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**given).loss
        loss.backward()
        found.append([loss.detach(), *(weight.grad.clone() for weight in learnt)])
        upstream.leave_out_float_copies()
    assert widths == [torch.float32, torch.bfloat16]
    for copied, as_it_is in zip(*found, strict=True):
        torch.testing.assert_close(as_it_is, copied, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_liger_replaces_norms_and_not_the_forward_pass(model_class, monkeypatch) -> None:
    from llamafactory.model import loader

    def apply_liger_kernel(config: str, is_trainable: bool) -> None:
        model_class.forward = model_class.__init__
        applied.append((config, is_trainable))

    applied: list[Any] = []
    monkeypatch.setattr(loader, "apply_liger_kernel", apply_liger_kernel)
    upstream.leave_out_unlearnt_logits()
    ours = model_class.forward
    upstream.keep_under_liger()
    loader.apply_liger_kernel("config", is_trainable=True)
    assert applied == [("config", True)]
    assert model_class.forward is ours


def test_without_autocast_inputs_are_still_converted(unchanged_classes) -> None:
    """`--best-of` generates so: float32 weights take no input of 16 bits."""
    import torch

    model = tuned(0.0).eval()
    given = batch(model) | {"pixel_values": batch(model)["pixel_values"].bfloat16()}
    with torch.no_grad():
        before = model(**given).logits
        upstream.leave_out_float_copies()
        assert torch.equal(model(**given).logits, before)


@pytest.mark.slow
def test_torchrun_ends_with_the_run_that_started_it(tmp_path: Path) -> None:
    """Else its processes would go on writing into a folder that the next start takes over."""
    torchrun = tmp_path / "torchrun"
    torchrun.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\n"
                        "exec sleep 600\n")  # fmt: skip
    torchrun.chmod(0o755)
    several = {"FORCE_TORCHRUN": "1", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "train.mllm.upstream", "train", "config.yaml"]
    run = subprocess.Popen(command, env={**os.environ, **several})
    while not (tmp_path / "pid").exists():
        assert run.poll() is None
        time.sleep(0.05)
    run.terminate()
    run.wait()
    started = int((tmp_path / "pid").read_text())
    try:
        while alive(started):
            time.sleep(0.05)  # the test's own limit ends this
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(started, signal.SIGKILL)


def alive(process: int) -> bool:
    """Whether it runs; one that ended and is not yet waited for does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    return False


@pytest.mark.parametrize("as_upstream", [[], ["logits"], ["copies"], ["windows"], upstream.PARTS])
def test_what_is_to_stay_as_it_is_upstream_is_not_replaced(monkeypatch, as_upstream) -> None:
    done: list[str] = []
    for where, name, part in (
        (upstream, "leave_out_frozen_towers", "towers"),
        (upstream, "leave_out_unlearnt_logits", "logits"),
        (upstream, "leave_out_float_copies", "copies"),
        (windows, "attend_at_once", "windows"),
    ):
        monkeypatch.setattr(where, name, partial(done.append, part))
    upstream.leave_out(as_upstream)
    parts = ["logits", "copies", "windows"]
    assert done == ["towers", *(part for part in parts if part not in as_upstream)]


def test_all_that_is_replaced_is_named_once(unchanged_classes) -> None:
    before = {(owner, name): getattr(owner, name) for owner, name in upstream.replaced()}
    assert {name for _, name in before} == {"forward", "_cast_input_dtype"}
    assert len(before) == 7
    upstream.leave_out()
    changed = [place for place, was in before.items() if getattr(*place) is not was]
    assert len(changed) == 7


def test_liger_replaces_all_but_the_forward_of_every_family(unchanged_classes, monkeypatch) -> None:
    classes = [owner for owner, _ in upstream.replaced() if owner.__name__.endswith("Generation")]
    applied: list[Any] = []

    def apply_liger_kernel(*given: Any, **named: Any) -> None:
        applied.append((given, named))
        for model in classes:
            model.forward = model.__init__
            monkeypatch.setattr(model, "norm", "liger", raising=False)

    loader = SimpleNamespace(apply_liger_kernel=apply_liger_kernel)
    monkeypatch.setitem(sys.modules, "llamafactory", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "llamafactory.model", SimpleNamespace(loader=loader))
    upstream.keep_under_liger()
    before = [model.forward for model in classes]
    loader.apply_liger_kernel("config", is_trainable=True)
    assert applied == [(("config",), {"is_trainable": True})]
    assert len(classes) == 2
    assert [model.forward for model in classes] == before
    assert {model.norm for model in classes} == {"liger"}


def test_a_check_leaves_its_report_or_why_it_refuses(tmp_path, monkeypatch) -> None:
    asked: list[Any] = []

    def check(settings, plots, report_progress, ignore_memory):
        asked.append((settings, plots, ignore_memory))
        report_progress("2000/4000 samples checked")
        if settings.seed == 9:
            raise ConfigError("too large")
        return SimpleNamespace(lines=lambda: ["a line"], as_json=lambda: {"samples": 4000})

    monkeypatch.setattr(preflight, "check", check)
    config, plots = tmp_path / "config.yaml", tmp_path / "plots"
    write_yaml(config, {"model_name_or_path": "a/base", "seed": 7})
    assert upstream.check(config, tmp_path, plots, ignore_memory=True) is True
    assert read_json(tmp_path / "preflight.json") == {
        "lines": ["a line"],
        "report": {"samples": 4000},
    }
    assert (tmp_path / "preflight.txt").read_text() == "2000/4000 samples checked"
    write_yaml(config, {"model_name_or_path": "a/base", "seed": 9})
    assert upstream.check(config, tmp_path, plots, ignore_memory=False) is False
    refusal = {"refused": "ConfigError", "message": "too large"}
    assert read_json(tmp_path / "preflight.json") == refusal
    settings = RunSettings(model_name_or_path="a/base", seed=7)
    assert asked == [(settings, plots, True), (replace(settings, seed=9), plots, False)]


@pytest.fixture
def llamafactory(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """In place of LLaMA-Factory, which takes seconds to import; what is asked of it."""
    told: dict[str, Any] = {"left out": [], "trained": [], "launched": []}

    def launch() -> None:
        told["launched"].append((list(sys.argv), launcher.__file__, launcher.subprocess.run))

    def run_exp(callbacks: Any = None) -> None:
        told["trained"].append((list(sys.argv), callbacks))

    launcher = SimpleNamespace(__file__="theirs", subprocess=subprocess, launch=launch)
    told["launcher"] = launcher
    modules = {
        "llamafactory": SimpleNamespace(launcher=launcher),
        "llamafactory.launcher": launcher,
        "llamafactory.train": SimpleNamespace(),
        "llamafactory.train.tuner": SimpleNamespace(run_exp=run_exp),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(upstream, "leave_out", told["left out"].append)
    monkeypatch.setattr(upstream, "keep_under_liger", lambda: told["left out"].append("liger"))
    for name in (upstream.AS_UPSTREAM, "CUDA_VISIBLE_DEVICES", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")  # so that it is taken back whatever the code sets
        monkeypatch.delenv(name)
    return told


def run_main(monkeypatch: pytest.MonkeyPatch, *given: object) -> int:
    monkeypatch.setattr(sys, "argv", ["upstream.py", *map(str, given)])
    return upstream.main()


def test_a_training_goes_through_the_launcher_that_starts_this_file(
    llamafactory, monkeypatch
) -> None:
    assert run_main(monkeypatch, "train", "config.yaml", "--keep") == 0
    assert llamafactory["left out"] == [[], "liger"]
    ((argv, file, run),) = llamafactory["launched"]
    assert argv == ["upstream.py", "train", "config.yaml", "--keep"]
    assert file == os.path.abspath(upstream.__file__)
    assert (run.func, run.keywords) == (subprocess.run, {"preexec_fn": upstream.BEFORE_START})
    assert os.environ["PYTHONSAFEPATH"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert llamafactory["trained"] == []


def test_one_of_torchruns_processes_trains_at_once(llamafactory, monkeypatch) -> None:
    monkeypatch.setenv(upstream.AS_UPSTREAM, "logits windows")
    assert run_main(monkeypatch, "config.yaml") == 0
    assert llamafactory["left out"] == [["logits", "windows"], "liger"]
    assert llamafactory["trained"] == [(["upstream.py", "config.yaml"], None)]
    assert llamafactory["launched"] == []
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_part_that_there_is_not_is_refused(llamafactory, monkeypatch) -> None:
    monkeypatch.setenv(upstream.AS_UPSTREAM, "logits towers")
    with pytest.raises(SystemExit) as refused:
        run_main(monkeypatch, "train", "config.yaml")
    assert str(refused.value) == ("DAT_AS_UPSTREAM: logits towers: not of logits, copies, windows")
    assert llamafactory["left out"] == []


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("passes", [False, True])
def test_a_run_begins_once_its_check_has_passed(llamafactory, monkeypatch, passes, ignored) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(upstream, "check", lambda *given: asked.append(given) or passes)
    options = ["--ignore-memory"] if ignored else []
    given = ["train", "c.yaml", "--preflight", "work", "plots", *options]
    assert run_main(monkeypatch, *given) == (0 if passes else 3)
    assert asked == [(Path("c.yaml"), Path("work"), Path("plots"), ignored)]
    launched = [argv for argv, *_ in llamafactory["launched"]]
    assert launched == ([["upstream.py", "train", "c.yaml"]] if passes else [])


def test_a_rehearsal_trains_on_one_card_with_a_callback_that_measures(
    llamafactory, monkeypatch
) -> None:
    monkeypatch.setattr(upstream, "check", lambda *given: True)
    monkeypatch.setattr(recorder, "weights_on_card", lambda: llamafactory["trained"].append("card"))
    monkeypatch.setattr(recorder, "record", lambda path, started: (path, started))
    began = time.monotonic()
    given = ["train", "c.yaml", "--preflight", "work", "plots", "--rehearse", "measured.json"]
    assert run_main(monkeypatch, *given) == 0
    card, (argv, ((path, started),)) = llamafactory["trained"]
    assert card == "card"
    assert argv == ["upstream.py", "c.yaml"]
    assert path == Path("measured.json")
    assert began <= started <= time.monotonic()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert llamafactory["launched"] == []


def test_the_best_is_kept_by_a_callback_on_the_card_that_was_named(
    llamafactory, monkeypatch, tmp_path
) -> None:
    config = tmp_path / "c.yaml"
    write_yaml(config, {"seed": 7})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.setattr(upstream, "check", lambda *given: True)
    monkeypatch.setattr(best, "callback", lambda *given: given)
    given = ["--preflight", "work", "plots", "--best", "folder", "30", "2", "--ignore-memory"]
    assert run_main(monkeypatch, "train", config, *given) == 0
    wanted = (Path("folder"), RunSettings(seed=7), 30, 2)
    assert llamafactory["trained"] == [(["upstream.py", str(config)], [wanted])]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    assert llamafactory["launched"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
def test_a_process_asks_to_end_with_its_parent(monkeypatch) -> None:
    asked: list[Any] = []
    library = SimpleNamespace(prctl=lambda *given: asked.append(given))
    monkeypatch.setattr(upstream.ctypes, "CDLL", lambda name: asked.append(name) or library)
    upstream.end_with_parent()
    assert asked == [None, (1, signal.SIGTERM)]
    assert upstream.BEFORE_START is upstream.end_with_parent
