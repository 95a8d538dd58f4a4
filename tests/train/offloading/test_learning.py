"""What a codec learns of a batch, beside the same worked out from its parts."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.offloading.test_settings import GIVEN
from tests.train.offloading.test_tower import patches, tower
from train.offloading import learning
from train.offloading.codec import Codec, Shape, first_channels, straight_through
from train.offloading.learning import Learner, measure_spread, reconstruction_by_channels
from train.offloading.settings import read_settings
from train.offloading.tower import head, tail

GRID = (4, 6)
GRIDS = torch.tensor([[1, *GRID]] * 2)
SETTINGS = replace(read_settings(GIVEN), lambda_reconstruction=2.0, lambda_binary=0.5)


class Model(torch.nn.Module):
    """A model whose loss is the mean square of what its language part would see."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = tower()

    def forward(self, pixels: Tensor, grids: Tensor) -> Any:
        seen = self.visual(pixels, grid_thw=grids).pooler_output
        return SimpleNamespace(loss=seen.square().mean())


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Learner:
    """Its samples are the pictures' patches themselves, two to a batch."""
    whole = lambda _, samples: (torch.cat(list(samples)), GRIDS)  # noqa: E731
    asked = lambda _, samples: {"pixels": torch.cat(list(samples)), "grids": GRIDS}  # noqa: E731
    monkeypatch.setattr(learning, "pictures", whole)
    monkeypatch.setattr(learning, "questions_with_answers", asked)
    model = Model()
    torch.manual_seed(2)
    codec = Codec(Shape(features=96, channels=8, width=16, spatial=False))
    codec.centre.normal_()
    codec.spread.uniform_(0.5, 2)
    return Learner(model, "processor", codec, SETTINGS)


@pytest.fixture
def batch() -> Any:
    return list(patches(GRIDS).split(24))


def worked_out(learner: Learner, features: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruction and binary loss, and the features at the other side."""
    codec = learner.codec
    logits = codec.compress((features - codec.centre) / codec.spread)
    decoded = codec.decode(first_channels(straight_through(logits), channels), GRID)
    lost = ((decoded - features) / codec.spread).square().mean()
    unsure = torch.log1p(torch.exp(-logits.abs())).mean()
    return lost, unsure, decoded


@pytest.mark.parametrize("channels", [4, 8])
def test_each_stage_has_its_losses(learner: Learner, batch: Any, channels: int) -> None:
    pixels, whole = torch.cat(batch), learner.tower
    with torch.no_grad():
        features = head(whole, pixels, GRIDS, 1)
        lost, unsure, decoded = worked_out(learner, features, channels)
        kept, merged = (tail(whole, some, GRIDS, 1) for some in (features, decoded))
    found, grids = learner.features(batch)
    assert torch.equal(found, features)
    assert torch.equal(grids, GRIDS)
    assert not found.requires_grad
    expected = {"reconstruction": lost.item(), "binary": unsure.item()}
    tasks = {
        "reconstruction": {},
        "merger": {"task": ((merged - kept).square().mean() / kept.var()).item()},
        "answers": {"task": merged.square().mean().item()},
    }
    for stage, task in tasks.items():
        losses = learner.losses(stage, batch, GRID, channels)
        values = {name: value.item() for name, value in losses.items()}
        assert values == pytest.approx(expected | task, rel=1e-3), stage
        total = 2 * values["reconstruction"] + 0.5 * values["binary"] + values.get("task", 0)
        assert learner.loss(losses).item() == pytest.approx(total)
        learner.codec.zero_grad()
        learner.loss(losses).backward()
        assert learner.codec.compress.weight.grad.abs().sum() > 0
    again = learner.model(pixels, GRIDS).loss  # the tower is whole again
    assert again.item() == pytest.approx(kept.square().mean().item(), rel=1e-3)


@torch.no_grad()
def test_what_is_learnt_of_pictures_has_mean_0_and_variance_1(
    learner: Learner, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = head(learner.tower, torch.cat(batch), GRIDS, 1)
    measure_spread(learner, [batch, batch])
    twice = torch.cat([features, features])
    torch.testing.assert_close(learner.codec.centre, twice.mean(dim=0))
    torch.testing.assert_close(learner.codec.spread, twice.std(dim=0))
    still = features.clone()
    still[:, 0] = 7
    monkeypatch.setattr(learner, "features", lambda _: (still, GRIDS))
    measure_spread(learner, [batch])
    mean = still.std(dim=0).mean().item()
    assert learner.codec.spread[0].item() == pytest.approx(mean / 1000)
    assert learner.codec.centre[0] == 7
    still[:] = 7
    measure_spread(learner, [batch])
    assert learner.codec.spread[5].item() == pytest.approx(1e-12)


def test_what_is_lost_is_the_mean_over_batches_for_each_size(
    learner: Learner, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = [part * 3 for part in batch]
    lost: Callable[[Any, int], float] = lambda some, channels: (  # noqa: E731
        worked_out(learner, head(learner.tower, torch.cat(some), GRIDS, 1), channels)[0].item()
    )
    found = reconstruction_by_channels(learner, [(GRID, batch), (GRID, other)])
    expected = {size: (lost(batch, size) + lost(other, size)) / 2 for size in (4, 8)}
    assert found == pytest.approx(expected, rel=1e-4)
