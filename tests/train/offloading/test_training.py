"""The steps of a training: logged, gone on with after a cut, told where they fail."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.offloading.test_settings import GIVEN
from train.offloading import training
from train.offloading.codec import Codec, Shape, first_channels, straight_through
from train.offloading.settings import read_settings

SETTINGS = replace(read_settings(GIVEN), merger_steps=3)


class Reconstructing:
    """A learner of random features alone, which is what a codec needs to learn something."""

    settings = SETTINGS

    def __init__(self, dies_after: int = 99, scale: float = 1.0) -> None:
        torch.manual_seed(0)
        self.codec = Codec(Shape(features=6, channels=8, width=16, spatial=False))
        self.asked: list[tuple[str, int]] = []
        self.lost: list[float] = []
        self._dies_after = dies_after
        self._scale = scale

    def losses(self, stage: str, batch: torch.Tensor, grid: Any, channels: int) -> Any:
        if len(self.asked) == self._dies_after:
            raise KeyboardInterrupt
        assert self.codec.training
        self.asked.append((stage, channels))
        signs = first_channels(straight_through(self.codec.logits(batch)), channels)
        lost = (self.codec.decode(signs, grid) - batch).square().mean() * self._scale
        self.lost.append(lost.item())
        return {"reconstruction": lost} | ({"task": lost} if stage == "answers" else {})

    def loss(self, losses: Any) -> Any:
        return losses["reconstruction"]


class Features:
    def draw(self, count: int, random: np.random.Generator) -> tuple[Any, torch.Tensor]:
        assert count == 4
        return (4, 2), torch.from_numpy(random.normal(size=(count * 8, 6)).astype(np.float32))


def trained(folder: Path, **how: Any) -> tuple[Reconstructing, dict[str, float]]:
    folder.mkdir(exist_ok=True)
    learner: Any = Reconstructing(**how)
    return learner, training.train(learner, Features(), folder, "codec")  # type: ignore[arg-type]


def test_a_training_that_was_cut_off_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: 9.0))
    whole, last = trained(tmp_path / "whole")
    assert [stage for stage, _ in whole.asked] == [
        *["reconstruction"] * 3, *["merger"] * 3, "answers"
    ]  # fmt: skip
    sizes = []
    for step in range(7):
        random = np.random.default_rng([7, step])
        Features().draw(4, random)
        sizes.append(int(random.choice((4, 8))))
    assert [channels for _, channels in whole.asked] == sizes
    assert not whole.codec.training
    (line,) = (tmp_path / "whole" / "steps.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 7, "stage": "answers", **last}
    assert last["reconstruction"] == pytest.approx(sum(whole.lost) / 7)
    assert last["task"] == pytest.approx(whole.lost[-1] / 7)
    shown = f"reconstruction {last['reconstruction']:.3f}, task {last['task']:.3f}"
    assert capsys.readouterr().out == f"[codec] step 7/7 answers: {shown}, 0 s\n"
    assert not (tmp_path / "whole" / "work").exists()

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", dies_after=5)
    assert [path.name for path in (tmp_path / "cut" / "work").iterdir()] == [
        "checkpoint.safetensors"
    ]
    log = tmp_path / "cut" / "steps.jsonl"
    log.write_text('{"step": 4, "stage": "merger"}\n{"step": 5, "stage": "merger"}\n')
    resumed, _ = trained(tmp_path / "cut")
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [4, 7]
    assert resumed.asked == whole.asked[4:]
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "[codec] goes on after step 4"
    ours, theirs = resumed.codec.state_dict(), whole.codec.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    untrained = Reconstructing().codec.state_dict()
    assert not torch.equal(untrained["compress.weight"], theirs["compress.weight"])


def test_a_training_that_was_cut_off_after_its_last_step_tells_the_same_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reconstructing, "settings", replace(SETTINGS, save_steps=7))
    monkeypatch.setattr(training, "shutil", SimpleNamespace(rmtree=cut))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path)
    monkeypatch.setattr(training, "shutil", shutil)
    again, last = trained(tmp_path)
    assert again.asked == []
    (line,) = (tmp_path / "steps.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 7, "stage": "answers", **last}
    assert last.keys() == {"reconstruction", "task"}
    assert [*json.loads(line)][2:] == [*last]  # in that order too: run.json is the same to the byte


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    with pytest.raises(training.DivergedError) as diverged:
        trained(tmp_path / "codec", scale=math.inf)
    told = "the loss is inf at step 1 (reconstruction): lower learning_rate"
    assert str(diverged.value) == told


def test_the_learning_rate_warms_up_and_falls_by_half_a_cosine(tmp_path: Path) -> None:
    settings = replace(SETTINGS, reconstruction_steps=10, merger_steps=0, answers_steps=0)
    shares = [
        training._schedule(replace(settings, warmup_ratio=0.2), step) for step in (0, 1, 2, 6, 10)
    ]
    assert shares == pytest.approx([1 / 3, 2 / 3, 1, 0.505, 0.01])
    assert training._schedule(replace(settings, warmup_ratio=0.0), 0) == 1
    assert training._schedule(replace(settings, warmup_ratio=1.0), 9) == 10 / 11
    # The first step of Adam is the learning rate, whatever the gradient.
    before = Reconstructing().codec.codebook.bias.detach()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "codec", dies_after=1)
    learner: Any = Reconstructing(dies_after=1)
    with pytest.raises(KeyboardInterrupt):
        training.train(learner, Features(), tmp_path / "codec", "codec")  # type: ignore[arg-type]
    moved = (learner.codec.codebook.bias - before).abs()
    # Of seven steps half are the warm-up: the first is at one of 4.5 parts.
    assert moved.detach().tolist() == pytest.approx([0.01 / 4.5] * 16, rel=1e-3)


def test_the_log_holds_each_step_once_and_the_terminal_a_line_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 10, "a": 1}\n{"step": 20, "a": 2}\n{"step": 30}\n{"st')
    log = training._Log(path, "codec", replace(SETTINGS, reconstruction_steps=57), done=20)
    lines = path.read_text()
    assert lines == '{"step": 10, "a": 1}\n{"step": 20, "a": 2}\n'
    for step in range(21, 62):
        now[0] += 0.3
        log.add(step, "merger", {"a": float(step)})
    assert log.last == {"a": 61.0}
    found = path.read_text().removeprefix(lines)
    means = {30: 25.5, 40: 35.5, 50: 45.5, 60: 55.5, 61: 61.0}
    assert [json.loads(line) for line in found.splitlines()] == [
        {"step": step, "stage": "merger", "a": mean} for step, mean in means.items()
    ]
    assert capsys.readouterr().out == (
        "[codec] step 40/61 merger: a 35.500, 6 s\n"
        "[codec] step 60/61 merger: a 55.500, 12 s\n"
        "[codec] step 61/61 merger: a 61.000, 12 s\n"
    )
