"""What a codec learns from one batch (ApproxBit, Eq. 3-4), and what is measured of it.

    L = L_task + λ1 L_recon + λ2 L_binary

L_recon is the mean squared error of the features, each channel over its variance in the training
pictures: a vision tower has channels a thousand times as large as others. L_binary is the binary
cross-entropy of X' against its own bits. L_task is none in the warm-up, then the squared error of
the merger's output over its variance, then the language model's loss on the true answers.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from train.offloading.codec import Codec, first_channels, straight_through
from train.offloading.samples import Grid, Sample, pictures, questions_with_answers
from train.offloading.settings import CodecSettings
from train.offloading.tower import cut, head, tail, tower_of

Losses = dict[str, Tensor]
"""By name: reconstruction, binary, and task where there is one."""


class Learner:
    """A frozen model and the codec that learns to stand between the halves of its tower."""

    def __init__(self, model: Any, processor: Any, codec: Codec, settings: CodecSettings) -> None:
        self.model = model
        self.processor = processor
        self.codec = codec
        self.settings = settings
        self.tower = tower_of(model)
        self.device = next(self.tower.parameters()).device

    def loss(self, losses: Losses) -> Tensor:
        """Eq. 3."""
        settings = self.settings
        total = settings.lambda_reconstruction * losses["reconstruction"]
        total = total + settings.lambda_binary * losses["binary"]
        return total + losses["task"] if "task" in losses else total

    def losses(self, stage: str, samples: Sequence[Sample], grid: Grid, channels: int) -> Losses:
        """Of one batch of pictures of a grid, sent with the first `channels` channels."""
        if stage == "answers":
            return self._of_answers(samples, grid, channels)
        features, grids = self.features(samples)
        losses, decoded = self.through(features, grid, channels)
        if stage == "merger":
            with torch.no_grad():
                expected = tail(self.tower, features, grids, self.settings.block).float()
            merged = tail(self.tower, decoded, grids, self.settings.block).float()
            losses["task"] = F.mse_loss(merged, expected) / expected.var()
        return losses

    @torch.no_grad()
    def features(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Features at the cut, and the pictures' `grid_thw`."""
        pixels, grids = (t.to(self.device) for t in pictures(self.processor, samples))
        pixels = pixels.to(self.tower.dtype)
        return head(self.tower, pixels, grids, self.settings.block), grids

    def _of_answers(self, samples: Sequence[Sample], grid: Grid, channels: int) -> Losses:
        found: Losses = {}

        def change(features: Tensor, _: Tensor) -> Tensor:
            losses, decoded = self.through(features, grid, channels)
            found.update(losses)
            return decoded

        inputs = questions_with_answers(self.processor, samples)
        inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        with cut(self.tower, self.settings.block, change):
            found["task"] = self.model(**inputs).loss
        return found

    def through(self, features: Tensor, grid: Grid, channels: int) -> tuple[Losses, Tensor]:
        """The features as the other side has them, and what was lost on the way."""
        logits = self.codec.logits(features.float())
        signs = first_channels(straight_through(logits), channels)
        decoded = self.codec.decode_scaled(signs, grid)
        own_bits = (logits.detach() > 0).float()
        losses = {
            "reconstruction": F.mse_loss(decoded, self.codec.scaled(features.float())),
            "binary": F.binary_cross_entropy_with_logits(logits, own_bits),
        }
        whole = decoded * self.codec.spread + self.codec.centre
        return losses, whole.to(features.dtype)


def measure_spread(learner: Learner, batches: Sequence[Sequence[Sample]]) -> None:
    """Set the codec's mean and standard deviation of each channel from some pictures."""
    features = torch.cat([learner.features(batch)[0].float() for batch in batches])
    learner.codec.centre.copy_(features.mean(dim=0))
    spread = features.std(dim=0)
    # A channel that never changes would be divided by nothing.
    learner.codec.spread.copy_(spread.clamp(min=float(spread.mean()) * 1e-3 + 1e-12))


@torch.no_grad()
def reconstruction_by_channels(
    learner: Learner, batches: Sequence[tuple[Grid, Sequence[Sample]]]
) -> dict[int, float]:
    """Share of the features' variance that is lost, by the channels that are sent."""
    lost = dict.fromkeys(learner.settings.channels, 0.0)
    for grid, samples in batches:
        features, _ = learner.features(samples)
        for channels in lost:
            losses, _ = learner.through(features, grid, channels)
            lost[channels] += float(losses["reconstruction"]) / len(batches)
    return lost
