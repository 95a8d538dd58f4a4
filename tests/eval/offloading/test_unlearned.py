"""What is sent without learning: bytes, and how much comes back."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eval.offloading.unlearned import principal, signs, spread_of
from eval.offloading.ways import Way, bfloat16, code, floats

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
    assert whole.channels is None
    assert lost(whole) < 1e-3
    assert whole.sizes == [16 * 5, 12 * 5]
    assert 0.05 < lost(principal(TRAINING, 3, block=0)) < 0.6


def test_more_signs_lose_less_and_all_lose_more_than_floats() -> None:
    few, many = signs(TRAINING, 6, block=0), signs(TRAINING, 64, block=0)
    assert (few.name, few.kind) == ("signs, 6 bits a patch, not learnt", "sign")
    assert lost(bfloat16(0)) < 1e-4 < lost(many) < 0.5 * lost(few)
    assert few.sizes == [16 * 6 // 8, 12 * 6 // 8]


def test_signs_are_those_of_the_directions_and_bits_are_rounded_up() -> None:
    assert lost(signs(TRAINING, 6, block=0)) == pytest.approx(lost(signs(TRAINING, 6, block=0)))
    other = signs(TRAINING, 6, block=0, seed=1)
    assert lost(other) != pytest.approx(lost(signs(TRAINING, 6, block=0)))
    odd = signs(TRAINING, 3, block=5)
    assert odd.block == 5
    assert odd.change is not None
    odd.change(features(9), torch.tensor([[1, 3, 3]]))
    assert odd.sizes == [4]  # 27 bits


def test_channels_are_scaled_to_one_deviation_about_their_mean() -> None:
    found = spread_of(torch.tensor([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]]))
    assert found.centre.tolist() == [3, 7]
    assert found.spread.tolist() == [2, pytest.approx(1e-6)]
    assert found.scaled.tolist() == [[-1, 0], [0, 0], [1, 0]]


def test_a_value_is_rounded_to_a_127th_of_four_deviations() -> None:
    training = spread_of(torch.tensor([[-1.0], [1.0]]))
    way = principal(training, 1, block=4)
    assert (way.name, way.kind, way.block) == ("features, 8 bits on 1 axes", "float", 4)
    assert way.change is not None
    step = 4 * 2**0.5 / 127
    sent = torch.tensor([[0.0], [0.49 * step], [0.51 * step], [99.0]])
    back = way.change(sent, torch.tensor([[1, 2, 2]]))
    assert back.flatten().tolist() == pytest.approx([0, 0, step, 127 * step], abs=1e-6)


def test_what_is_done_to_a_pictures_features_counts_by_picture() -> None:
    def doubled(picture: Any) -> tuple[Any, int]:
        assert picture.dtype == torch.float32
        return 2 * picture, 10 * len(picture)

    way = floats("twice", "sign", 7, doubled)
    assert (way.name, way.kind, way.block) == ("twice", "sign", 7)
    assert way.change is not None
    sent = torch.arange(28.0).reshape(28, 1).to(torch.bfloat16)
    found = way.change(sent, GRIDS)
    assert found.dtype == torch.bfloat16
    assert found.flatten().tolist() == [2.0 * i for i in range(28)]
    assert way.sizes == [160, 120]


def test_floats_of_two_bytes_lose_what_they_cannot_hold() -> None:
    way = bfloat16(3)
    assert (way.name, way.kind, way.block) == ("features, bf16", "float", 3)
    assert way.change is not None
    found = way.change(torch.full((28, 2), 1.0 + 2**-9), GRIDS)
    assert found.unique().tolist() == [1.0]
    assert way.sizes == [2 * 32, 2 * 24]


class Codec:
    """A bit says whether a channel is above 0; a decoded patch is the sum of its signs."""

    shape = SimpleNamespace(channels=12)

    def bits(self, picture: Any) -> Any:
        assert picture.dtype == torch.float32
        return picture > 0

    def decode(self, signs: Any, grid: tuple[int, int]) -> Any:
        assert grid in ((4, 4), (2, 6))
        assert signs.shape[1] == 12
        return signs.sum(dim=1, keepdim=True)


def test_a_code_goes_over_the_wire_with_its_first_channels() -> None:
    description = SimpleNamespace(id="0123456789abcdef", spatial=False, block=9)
    way = code(description, Codec(), 8)
    assert (way.name, way.kind) == ("code, 8 channels", "code")
    assert (way.channels, way.block) == (8, 9)
    assert way.change is not None
    sent = torch.ones(28, 12, dtype=torch.bfloat16)
    sent[1, :3] = -1
    sent[2, 8:] = -1  # not sent
    found = way.change(sent, GRIDS)
    assert found.dtype == torch.bfloat16
    assert found.flatten().tolist() == [8, 2, *[8] * 26]
    first, second = way.sizes
    assert first - second == 4  # of 8 channels, a bit for each of 16 and 12 patches
