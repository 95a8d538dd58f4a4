"""How the vision tower of the project's own base learns to see, before a word is read.

A language model's loss says little about where things are, so the tower first learns from what is
in the scenes: each unit of 28 x 28 pixels that the language model will get says, through one linear
layer, whether it shows a collision, a vehicle or the line of a drawn box, where that thing's
corners are in the picture, and what it is like. The linear layer is thrown away afterwards; what it
read is what the language model can read.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from dat_runtime.draw import PATCH, Image
from dat_runtime.errors import DataError
from dat_runtime.files import read_json

SOFTNESS = 0.6
"""Bins: how far the neighbours of the right class count as right."""
NOT_THERE = -1
"""Class of a unit that shows no such thing: it takes no part in the loss."""

PRESENCE_WEIGHT = 3.0
CORNER_WEIGHTS = {"wrecks": 0.5, "vehicles": 0.25, "marks": 0.35}
TRAIT_WEIGHTS = {
    "severe": 1.0, "overturned": 1.0, "alone": 0.3, "colour": 0.3,
}  # fmt: skip

LEARNING_RATES = (0.02, 2e-3)
"""Of Muon, for the matrices, and of AdamW, for the rest."""
WARM_UP = 100
BATCH = 32
SAVED_EVERY = 200
LAST = 0.02
"""Share of the learning rate that is left at the end."""
HELD_OUT = 1600
"""Views that only measure, of four hundred scenes."""


class Views:
    """The views of a primer, encoded in memory, and what their units show.

    Attributes:
        side: of a view, pixels. bin: pixels of a class of corners.
        things: their names. traits: how many classes each has, by name.

    Raises:
        DataError: the files are not what `data.prep.primer` writes.
    """

    def __init__(self, folder: Path) -> None:
        meaning = read_json(folder / "units.json")
        try:
            self.side, self.bin = int(meaning["side"]), int(meaning["bin"])
            self.things = [name for name in meaning["things"] if name in CORNER_WEIGHTS]
            self.traits = {name: int(meaning["traits"][name]) for name in TRAIT_WEIGHTS}
            if list(meaning["traits"]) != list(TRAIT_WEIGHTS):  # the columns come in that order
                raise ValueError(f"its traits are not {', '.join(TRAIT_WEIGHTS)}")
            with np.load(folder / "units.npz", allow_pickle=False) as told:
                self._ends = told["ends"]
                self._told = [told[name] for name in ("presence", "corners", "traits")]
            self._encoded = (folder / "views.bin").read_bytes()
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise DataError(f"does not hold a primer's views ({error})", folder) from None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def images(self, numbers: NDArray[np.int64]) -> list[Image]:
        found = []
        for start, end in zip(self._ends[numbers], self._ends[numbers + 1], strict=True):
            encoded = np.frombuffer(self._encoded[start:end], np.uint8)
            found.append(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8))
        return found

    def told(self, numbers: NDArray[np.int64]) -> list[torch.Tensor]:
        """Presence (float32), corners and traits (int64) of a batch."""
        presence, corners, traits = (torch.from_numpy(part[numbers]) for part in self._told)
        return [presence.float(), corners.long(), traits.long()]


class Reader(nn.Module):
    """The linear layer that reads a unit's features, (..., width) to a tensor a question."""

    def __init__(self, width: int, views: Views) -> None:
        super().__init__()
        corners = [views.side // views.bin] * (4 * len(views.things))
        self.sizes = [len(views.things), *corners, *views.traits.values()]
        self.layer = nn.Linear(width, sum(self.sizes))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        read: tuple[torch.Tensor, ...] = self.layer(features).split(self.sizes, dim=-1)
        return read


def loss(read: Sequence[torch.Tensor], told: Sequence[torch.Tensor]) -> torch.Tensor:
    """Presence, corners and traits, weighed.

    Args:
        read: of `Reader`. told: of `Views.told`.
    """
    presence, corners, traits = told
    total = PRESENCE_WEIGHT * functional.binary_cross_entropy_with_logits(read[0], presence)
    for which, weight in enumerate(CORNER_WEIGHTS.values()):
        shown = corners[:, :, which, 0] != NOT_THERE
        for k in range(4 if bool(shown.any()) else 0):
            guess = read[1 + 4 * which + k][shown].log_softmax(-1)
            right = _softened(corners[:, :, which, k][shown], guess.shape[-1])
            total = total - weight * (right * guess).sum(-1).mean()
    for k, weight in enumerate(TRAIT_WEIGHTS.values()):
        known = traits[..., k].flatten()
        if bool((known != NOT_THERE).any()):
            guess = read[1 + 4 * len(CORNER_WEIGHTS) + k].flatten(0, -2)
            total = total + weight * functional.cross_entropy(guess, known, ignore_index=NOT_THERE)
    return total


def _softened(bins: torch.Tensor, count: int) -> torch.Tensor:
    distance = (torch.arange(count, device=bins.device)[None] - bins[:, None]).abs().float()
    return torch.softmax(-distance / SOFTNESS, dim=-1)


def patches(images: Sequence[Image], mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Square images of one size as Qwen2.5-VL's image processor lays them out.

    Returns:
        float32 (images x patches, 3 x 2 x 14 x 14): a merged unit's four patches in a row, each
        twice, as two frames of a film.
    """
    rgb = np.stack(images)[..., ::-1].copy()
    x = (torch.from_numpy(rgb).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    count, units = len(images), rgb.shape[1] // PATCH
    x = x.permute(0, 3, 1, 2).reshape(count, 3, units, 2, PATCH // 2, units, 2, PATCH // 2)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return x.reshape(count * 4 * units * units, -1)


def learn(
    model: Any, processor: Any, primer: Path, work: Path, steps: int, seed: int, name: str
) -> dict[str, float]:
    """Teach the tower of a model, in place, and say what it then sees.

    A kill loses at most `SAVED_EVERY` steps: the state lies in `work`, and goes on from there with
    the same draws.

    Args:
        model: a Qwen2_5_VLForConditionalGeneration in float32, on the device that is to work.
        primer: folder of `data.prep.primer`.
        name: the progress lines begin with it.

    Returns:
        What `measure` says of the scenes that were held out, and how many they were.
    """
    views = Views(primer)
    tower = model.model.visual
    torch.manual_seed(seed)
    reader = Reader(tower.config.out_hidden_size, views).to(model.device)
    optimizers = _optimizers(tower, reader)
    state = work / "seeing.pt"
    first = _resume(state, tower, reader, optimizers)
    held_out = min(HELD_OUT, len(views) // 4)
    started = time.monotonic()
    for step in range(first, steps):
        # A step's draws come from its number, so a run that goes on draws as one in one piece.
        numbers = np.random.default_rng([seed, step]).integers(held_out, len(views), BATCH)
        told = [part.to(model.device) for part in views.told(numbers)]
        value = loss(reader(_seen(tower, processor, views, numbers)), told)
        torch.autograd.backward(value)
        _step(optimizers, _rate(step, steps))
        done = step + 1
        if done % 25 == 0 or done == steps:
            left = (steps - done) * (time.monotonic() - started) / (done - first) / 60
            at = f"step {done}/{steps}, loss {value.item():.2f}, {left:.0f} min left"
            print(f"[{name}] tower: {at}", flush=True)
        if done % SAVED_EVERY == 0 or done == steps:
            _save(state, tower, reader, optimizers, done)
    seen = measure(tower, reader, processor, views, held_out)
    return {"steps": steps, "held_out": held_out, **seen}


def features(tower: Any, pixels: torch.Tensor, count: int) -> torch.Tensor:
    """What the tower says of `count` square pictures of one size, (count, units, width).

    The tower's own weights, twice as fast on a CPU as its own `forward`: all pictures go
    through attention at once, the patch embedding is the matrix that it is, and matrices are
    multiplied in bfloat16. Only for towers whose blocks all look at the whole picture.

    Args:
        pixels: of `patches`.
    """
    across = math.isqrt(len(pixels) // count)
    angles = tower.rot_pos_emb(torch.tensor([[1, across, across]], device=pixels.device))
    angles = torch.cat((angles, angles), dim=-1)
    turn = angles.cos(), angles.sin()
    embedding = tower.patch_embed.proj.weight.flatten(1)
    x = _product(pixels, embedding, None).view(count, across * across, -1)
    for block in tower.blocks:
        x = x + _attention(block.attn, block.norm1(x), turn)
        inner, mlp = block.norm2(x), block.mlp
        opened = mlp.act_fn(_linear(mlp.gate_proj, inner)) * _linear(mlp.up_proj, inner)
        x = x + _linear(mlp.down_proj, opened)
    wide, activation, narrow = tower.merger.mlp
    merged = tower.merger.ln_q(x).reshape(count, -1, wide.in_features)
    return _linear(narrow, activation(_linear(wide, merged)))


def _attention(
    attention: Any, x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    count, length, width = x.shape
    split = _linear(attention.qkv, x).view(count, length, 3, attention.num_heads, -1)
    q, k, v = split.unbind(2)
    q, k = apply_rotary_pos_emb_vision(q, k, *turn)
    heads = [each.transpose(1, 2) for each in (q, k, v)]
    mixed = functional.scaled_dot_product_attention(*heads, scale=attention.scaling)
    return _linear(attention.proj, mixed.transpose(1, 2).reshape(count, length, width))


def _linear(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return _product(x, layer.weight, layer.bias)


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    half = torch.bfloat16
    product = functional.linear(x.to(half), weight.to(half)).float()
    return product if bias is None else product + bias


def _seen(tower: Any, processor: Any, views: Views, numbers: NDArray[np.int64]) -> torch.Tensor:
    settings = processor.image_processor
    x = patches(views.images(numbers), settings.image_mean, settings.image_std)
    return features(tower, x.to(tower.device), len(numbers))


def _optimizers(tower: Any, reader: Reader) -> list[torch.optim.Optimizer]:
    matrices, rest = [], list(reader.parameters())
    for weights in tower.parameters():
        (matrices if weights.ndim == 2 else rest).append(weights)
    muon, adamw = LEARNING_RATES
    return [
        torch.optim.Muon(matrices, lr=muon, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=adamw, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def _rate(step: int, steps: int) -> float:
    """Of the learning rate: a short warm-up, then half a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / WARM_UP) * (LAST + (1 - LAST) * cosine)


def _step(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    weights = [w for one in optimizers for group in one.param_groups for w in group["params"]]
    nn.utils.clip_grad_norm_(weights, 5.0)
    for optimizer, full in zip(optimizers, LEARNING_RATES, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = full * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _save(path: Path, tower: Any, reader: Reader, optimizers: Sequence[Any], step: int) -> None:
    whole = {
        "step": step,
        "tower": tower.state_dict(),
        "reader": reader.state_dict(),
        "optimizers": [one.state_dict() for one in optimizers],
    }
    part = path.with_suffix(".part")
    torch.save(whole, part)
    part.replace(path)


def _resume(path: Path, tower: Any, reader: Reader, optimizers: Sequence[Any]) -> int:
    """The step to go on with."""
    if not path.is_file():
        return 0
    whole = torch.load(path, map_location=tower.device, weights_only=True)
    tower.load_state_dict(whole["tower"])
    reader.load_state_dict(whole["reader"])
    for one, state in zip(optimizers, whole["optimizers"], strict=True):
        one.load_state_dict(state)
    return int(whole["step"])


@torch.no_grad()
def measure(
    tower: Any, reader: Reader, processor: Any, views: Views, count: int
) -> dict[str, float]:
    """What the linear layer reads of the first `count` views, by frames and by units.

    Returns:
        `frames`: share of the views of which it says rightly whether they show a collision;
        `severity`: share of a collision's units whose severity is right; `iou`: mean IoU of the
        boxes that those units tell.
    """
    tower.eval()
    frames, severity, overlap = [], [], []
    for first in range(0, count, BATCH):
        numbers = np.arange(first, min(count, first + BATCH))
        read = [part.cpu() for part in reader(_seen(tower, processor, views, numbers))]
        presence, corners, traits = views.told(numbers)
        found = (read[0][..., 0] > 0).any(1)
        frames.append(found == (presence[..., 0] > 0).any(1))
        shown = traits[..., 0] != NOT_THERE
        severity.append((read[1 + 4 * len(CORNER_WEIGHTS)].argmax(-1) == traits[..., 0])[shown])
        guess = torch.stack([_middle(read[1 + k][shown]) for k in range(4)], -1)
        overlap.append(_iou(guess, corners[:, :, 0][shown].float() + 0.5))
    tower.train()
    parts = {"frames": frames, "severity": severity, "iou": overlap}
    return {name: round(torch.cat(part).float().mean().item(), 4) for name, part in parts.items()}


def _middle(logits: torch.Tensor) -> torch.Tensor:
    """The mean of a distribution over bins, in bins."""
    return (logits.softmax(-1) * torch.arange(logits.shape[-1])).sum(-1) + 0.5


def _iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    upper = torch.maximum(one[:, :2], other[:, :2])
    lower = torch.minimum(one[:, 2:], other[:, 2:])
    shared = (lower - upper).clamp(min=0).prod(-1)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(-1) for box in (one, other)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=0.1)
