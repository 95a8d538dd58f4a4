"""The codec as a module: shapes, prefixes, the gradient through its threshold, learning."""

import numpy as np
import pytest
import torch

from train.offloading.codec import (
    Codec,
    Shape,
    first_channels,
    signs_of,
    straight_through,
)

GRID = (4, 6)


def codec_of(spatial: bool, channels: int = 16) -> Codec:
    torch.manual_seed(0)
    return Codec(Shape(features=10, channels=channels, width=16, spatial=spatial))


@pytest.mark.parametrize(("spatial", "positions"), [(False, 24), (True, 6)])
def test_two_pictures_go_through_at_once_as_one_by_one(spatial: bool, positions: int) -> None:
    codec = codec_of(spatial)
    features = torch.randn(2 * 24, 10)
    signs = straight_through(codec.logits(features))
    assert signs.shape == (2 * positions, 16)
    both = codec.decode(signs, GRID)
    alone = [codec.decode(part, GRID) for part in signs.split(positions)]
    assert both.shape == features.shape
    torch.testing.assert_close(both, torch.cat(alone))


@pytest.mark.parametrize("spatial", [False, True])
def test_a_patch_is_decoded_where_it_lay(spatial: bool) -> None:
    """With convolutions and attention at rest, a position speaks of its own patches alone."""
    codec = codec_of(spatial)
    for part in (codec.first.layers[-1], codec.second.layers[-1], codec.attention.out):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    signs = torch.ones(6 if spatial else 24, 16)
    before = codec.decode(signs, GRID)
    signs[3] = -1
    changed = (codec.decode(signs, GRID) != before).any(dim=1).nonzero().flatten().tolist()
    # Groups of 2 x 2 lie together: position 3 of a spatial code is patches 12 to 15.
    assert changed == ([12, 13, 14, 15] if spatial else [3])


def test_channels_that_were_not_sent_do_not_matter() -> None:
    codec = codec_of(False)
    logits = codec.logits(torch.randn(24, 10))
    bits = (logits > 0).T.numpy()
    cut = first_channels(straight_through(logits), 5)
    torch.testing.assert_close(signs_of(bits[:5], 16), cut.detach())
    torch.testing.assert_close(signs_of(bits, 16), straight_through(logits).detach())


def test_a_bit_is_what_the_sigmoid_rounds_to_and_its_gradient_the_sigmoids() -> None:
    logits = torch.tensor([-2.0, -1e-6, 0.0, 1e-6, 3.0], requires_grad=True)
    signs = straight_through(logits)
    assert signs.tolist() == [-1, -1, -1, 1, 1]
    signs.sum().backward()
    soft = torch.sigmoid(logits.detach())
    torch.testing.assert_close(logits.grad, 2 * soft * (1 - soft))


def test_bits_that_are_sent_are_those_of_training() -> None:
    codec = codec_of(True)
    features = torch.randn(24, 10)
    sent = codec.bits(features)
    assert torch.equal(sent, straight_through(codec.logits(features)) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("spatial", [False, True])
def test_it_learns_and_more_channels_lose_less(spatial: bool) -> None:
    codec = codec_of(spatial, channels=32)
    optimizer = torch.optim.Adam(codec.parameters(), lr=5e-3)
    random = np.random.default_rng(0)
    mixing = torch.randn(3, 10, generator=torch.manual_seed(3))

    def features(seed: int) -> torch.Tensor:
        return torch.randn(8 * 24, 3, generator=torch.manual_seed(seed)) @ mixing

    for step in range(250):
        x = features(step)
        signs = straight_through(codec.logits(x))
        decoded = codec.decode(first_channels(signs, int(random.choice([4, 32]))), GRID)
        loss = (decoded - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = features(10_000)
    lost = {}
    with torch.no_grad():
        signs = straight_through(codec.logits(x))
        for sent in (4, 32):
            decoded = codec.decode(first_channels(signs, sent), GRID)
            lost[sent] = float((decoded - x).square().mean() / x.var())
    assert lost[32] < 0.8 * lost[4]
    assert lost[4] < 0.9
