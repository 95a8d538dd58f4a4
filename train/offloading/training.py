"""The steps of a codec's training: resumable, the same whether or not it was cut off.

All that is random at a step follows from the seed and the step's number; so weights and Adam's two
moments are all that a checkpoint holds.
"""

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dat_runtime.errors import DatError
from dat_runtime.files import sync_folder, write_atomically
from train.offloading.learning import Learner
from train.offloading.samples import Samples
from train.offloading.settings import CodecSettings

WORK = "work"
CHECKPOINT = "work/checkpoint.safetensors"
"""Where `Stage` looks for the work of a training."""

LOG = "steps.jsonl"
LOG_STEPS = 10
PROGRESS_SECONDS = 5
MOST_NORM = 1.0
"""Of the gradient: one odd batch moves the codec no further."""


class DivergedError(DatError):
    """A loss became infinite or no number."""


def train(learner: Learner, samples: Samples, folder: Path, name: str) -> dict[str, float]:
    """Train to the last step, from the checkpoint in `folder` if there is one.

    Args:
        name: the progress lines begin with it.

    Returns:
        The means of the last logged losses.

    Raises:
        DivergedError: the training went wrong; says at which step.
    """
    settings, codec = learner.settings, learner.codec
    optimizer = torch.optim.AdamW(codec.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    done = _resume(folder, codec, optimizer)
    if done:
        print(f"[{name}] goes on after step {done}", flush=True)
    (folder / WORK).mkdir(exist_ok=True)
    codec.train()
    log = _Log(folder / LOG, name, settings, done)
    for step in range(done, settings.steps):
        stage = settings.stage_of(step)
        random = np.random.default_rng([settings.seed, step])
        grid, batch = samples.draw(settings.batch_size, random)
        # A random prefix, so that one codec is good at every size.
        channels = int(random.choice(settings.channels))
        losses = learner.losses(stage, batch, grid, channels)
        loss = learner.loss(losses)
        if not torch.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss.item()} at step {step + 1} ({stage}): lower learning_rate"
            )
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(settings, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), MOST_NORM)
        optimizer.step()
        log.add(step + 1, stage, {key: value.item() for key, value in losses.items()})
        if (step + 1) % settings.save_steps == 0:
            _save(folder, codec, optimizer, step + 1)
    codec.eval()
    shutil.rmtree(folder / WORK)
    return log.last


def _schedule(settings: CodecSettings, step: int) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine down to a hundredth."""
    warmup = settings.warmup_ratio * settings.steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = (step - warmup) / max(1.0, settings.steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * left))


def _save(folder: Path, codec: Any, optimizer: Any, step: int) -> None:
    """Write a checkpoint whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"codec.{name}": tensor for name, tensor in codec.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{key}": value for key, value in state.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    beside = folder / f"{CHECKPOINT}.new"
    save_file(tensors, beside, metadata={"step": str(step)})
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(folder / CHECKPOINT)
    sync_folder(folder / WORK)


def _resume(folder: Path, codec: Any, optimizer: Any) -> int:
    """Put back what the checkpoint holds; returns the steps done, 0 without one."""
    from safetensors import safe_open

    path = folder / CHECKPOINT
    if not path.is_file():
        return 0
    weights: dict[str, Any] = {}
    moments: dict[int, dict[str, Any]] = {}
    with safe_open(path, "pt") as tensors:
        step = int(tensors.metadata()["step"])
        for name in tensors.keys():  # noqa: SIM118 - no dict
            kind, _, rest = name.partition(".")
            if kind == "codec":
                weights[rest] = tensors.get_tensor(name)
            else:
                number, _, key = rest.partition(".")
                moments.setdefault(int(number), {})[key] = tensors.get_tensor(name)
    codec.load_state_dict(weights)
    state = optimizer.state_dict()
    optimizer.load_state_dict({**state, "state": moments})
    return step


def _step_of(line: str) -> float:
    """The step of a line of the log; infinity for a line that was cut off."""
    try:
        return int(json.loads(line)["step"])
    except ValueError:
        return math.inf


class _Log:
    """Means of the losses in `steps.jsonl`, and a line for the terminal every few seconds."""

    def __init__(self, path: Path, name: str, settings: CodecSettings, done: int) -> None:
        self.last: dict[str, float] = {}
        self._path = path
        self._name = name
        self._steps = settings.steps
        self._sums: list[dict[str, float]] = []
        self._started = self._printed = time.monotonic()
        if path.is_file():  # steps after the checkpoint are done and logged again
            lines = path.read_text("utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= done]
            write_atomically(path, "".join(kept))
            if kept:
                last = json.loads(kept[-1])
                # In the order of a run in one piece: the report is the same to the byte.
                self.last = {key: last[key] for key in last if key not in ("step", "stage")}

    def add(self, step: int, stage: str, losses: dict[str, float]) -> None:
        self._sums.append(losses)
        if step % LOG_STEPS and step != self._steps:
            return
        keys = losses.keys()
        self.last = {
            key: sum(one.get(key, 0.0) for one in self._sums) / len(self._sums) for key in keys
        }
        self._sums = []
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "stage": stage, **self.last}) + "\n")
        if time.monotonic() - self._printed > PROGRESS_SECONDS or step == self._steps:
            self._printed = time.monotonic()
            shown = ", ".join(f"{key} {value:.3f}" for key, value in self.last.items())
            seconds = self._printed - self._started
            print(
                f"[{self._name}] step {step}/{self._steps} {stage}: {shown}, {seconds:.0f} s",
                flush=True,
            )
