"""That a frozen vision tower is left out of the backward pass, and nothing else changes."""

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
def tower_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling

    found = modeling.Qwen2_5_VisionTransformerPretrainedModel
    monkeypatch.setattr(found, "forward", found.forward)  # put back after the test
    return found


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


def test_a_frozen_tower_leaves_the_backward_pass_and_gradients_stay(tiny_base, tower_class) -> None:
    import torch

    model = frozen_model(tiny_base)
    given = batch(model)
    assert tower_output(model, given).requires_grad  # upstream's waste
    found = []
    for _ in range(2):
        model.zero_grad()
        loss = model(**given).loss
        loss.backward()
        grads = [p.grad.clone() for p in model.model.language_model.parameters()]
        found.append([loss.detach(), *grads])
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
