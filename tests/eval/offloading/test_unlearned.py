"""What is sent without learning: bytes, and how much comes back."""

import pytest
import torch

from eval.offloading.unlearned import principal, signs, spread_of
from eval.offloading.ways import Way, bfloat16

pytestmark = pytest.mark.slow  # torch takes seconds to import

GRIDS = torch.tensor([[1, 4, 4], [1, 2, 6]])


def features(patches: int, seed: int = 0) -> torch.Tensor:
    """Five directions of twelve channels, of sizes 1 to 1,000."""
    torch.manual_seed(7)
    mixing, scale = torch.randn(5, 12), torch.logspace(0, 3, 12)
    return torch.randn(patches, 5, generator=torch.manual_seed(seed)) @ mixing * scale + 3


TRAINING = spread_of(features(2000, seed=1))


def lost(way: Way) -> float:
    """Share of the variance of two pictures that does not come back, scaled channel by channel."""
    sent = features(28)
    assert way.change is not None
    error = (way.change(sent, GRIDS) - sent) / TRAINING.spread
    return float(error.square().mean())


def test_eight_bits_on_as_many_axes_as_there_are_lose_next_to_nothing() -> None:
    whole = principal(TRAINING, 5, block=0)
    assert lost(whole) < 1e-3
    assert whole.sizes == [16 * 5, 12 * 5]
    assert 0.05 < lost(principal(TRAINING, 3, block=0)) < 0.6


def test_more_signs_lose_less_and_all_lose_more_than_floats() -> None:
    few, many = signs(TRAINING, 6, block=0), signs(TRAINING, 64, block=0)
    assert lost(bfloat16(0)) < 1e-4 < lost(many) < 0.5 * lost(few)
    assert few.sizes == [16 * 6 // 8, 12 * 6 // 8]
