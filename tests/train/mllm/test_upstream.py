"""That a frozen tower and unlearnt logits are left out, and losses and gradients stay."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from train.mllm import upstream


@pytest.fixture
def tower_class(unchanged_classes: None) -> Any:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling

    return modeling.Qwen2_5_VisionTransformerPretrainedModel


def frozen_model(folder: Path) -> Any:
    """The tiny model with a frozen tower, prepared as PEFT does under gradient checkpointing."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
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


def test_a_frozen_tower_leaves_the_backward_pass_and_gradients_stay(tiny_base, tower_class) -> None:
    import torch

    model = frozen_model(tiny_base)
    given = batch(model)
    assert tower_output(model, given).requires_grad  # upstream's waste
    found = []
    for _ in range(2):
        found.append(loss_and_gradients(model, given))
        upstream.leave_out_frozen_towers()
    assert not tower_output(model, given).requires_grad
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_tower_with_a_trained_weight_keeps_its_gradients(tiny_base, tower_class) -> None:
    upstream.leave_out_frozen_towers()
    model = frozen_model(tiny_base)
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
def test_logits_of_learnt_tokens_alone_give_the_same_loss_and_gradients(
    tiny_base, model_class, items
) -> None:
    """`items`: learnt tokens of all batches of an accumulated step, as Transformers counts them."""
    import torch

    model = frozen_model(tiny_base)
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


def test_answers_and_validation_still_get_every_logit(tiny_base, model_class) -> None:
    import torch

    model = frozen_model(tiny_base)
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


def tuned(folder: Path, dropout: float) -> Any:
    """The tiny model in bfloat16 with an adapter in float32, as LLaMA-Factory prepares them."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
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
def test_inputs_that_autocast_converts_need_no_copy_in_float32(
    tiny_base, unchanged_classes, dropout
) -> None:
    import torch

    model = tuned(tiny_base, dropout)
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


def test_without_autocast_inputs_are_still_converted(tiny_base, unchanged_classes) -> None:
    """`--best-of` generates so: float32 weights take no input of 16 bits."""
    import torch

    model = tuned(tiny_base, 0.0).eval()
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
