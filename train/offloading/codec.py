"""The learned binary code of a picture's features (ApproxBit §3.3-3.5), nested: it can be cut.

    node     X' = compress((X - centre) / spread), z = 1 where sigmoid(X') > 0.5
    server   y = M z, two residual blocks, attention between them, deconvolution

`compress` is one layer: of each patch, or with spatial encoding of each group of 2 x 2 patches (a
convolution with that kernel and stride). To the decoder a one is 1, a zero -1, and a channel that
was not sent 0, so one codec reads every prefix of its channels.

All pictures of a call have one grid, (rows, columns) in patches; features are (pictures * N, D).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from train.offloading.settings import NORM_GROUPS

GROUP = 2
"""Side of a group of patches, which lie together: Qwen2.5-VL merges 2 x 2."""

HEADS = 4


class Shape(NamedTuple):
    """Sizes of a codec.

    Attributes:
        features: D, of the vision tower.
        channels: C of the widest code.
        width: channels inside the decoder, a multiple of 8.
        spatial: whether 2 x 2 patches share a position.
    """

    features: int
    channels: int
    width: int
    spatial: bool


class Codec(nn.Module):
    """Encoder and decoder."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        patches = GROUP * GROUP if shape.spatial else 1
        # Of the features in training, per channel: some are a thousand times as large as others.
        self.register_buffer("centre", torch.zeros(shape.features))
        self.register_buffer("spread", torch.ones(shape.features))
        self.compress = nn.Linear(patches * shape.features, shape.channels)
        self.codebook = nn.Linear(shape.channels, shape.width)
        self.first = Residual(shape.width)
        self.attention = Attention(shape.width)
        self.second = Residual(shape.width)
        side = GROUP if shape.spatial else 1
        self.expand = nn.ConvTranspose2d(shape.width, shape.features, side, stride=side)

    def logits(self, features: Tensor) -> Tensor:
        """X', (pictures * positions, C)."""
        scaled = self.scaled(features)
        return self.compress(scaled.reshape(-1, self.compress.in_features))

    def bits(self, features: Tensor) -> Tensor:
        """What is sent, bool (pictures * positions, C)."""
        return self.logits(features) > 0

    def decode(self, signs: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features of codes.

        Args:
            signs: (pictures * positions, C): 1 for a one, -1 for a zero, 0 for a channel not sent.
        """
        return self.decode_scaled(signs, grid) * self.spread + self.centre

    def decode_scaled(self, signs: Tensor, grid: tuple[int, int]) -> Tensor:
        """The same, less `centre` and over `spread`: the loss is taken of these."""
        codes = self._picture(self.codebook(signs), grid)
        codes = self.second(self.attention(self.first(codes)))
        return _rows(self.expand(codes), GROUP)

    def scaled(self, features: Tensor) -> Tensor:
        """Features with mean 0 and variance 1 in each channel."""
        return (features - self.centre) / self.spread

    def _picture(self, rows: Tensor, grid: tuple[int, int]) -> Tensor:
        """(pictures * positions, W) as maps (pictures, W, rows, columns)."""
        height, width = grid
        if self.shape.spatial:
            return _maps(rows, (height // GROUP, width // GROUP), 1)
        return _maps(rows, grid, GROUP)


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.GroupNorm(NORM_GROUPS, width), nn.SiLU()]
            layers.append(nn.Conv2d(width, width, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.layers(maps)


class Attention(nn.Module):
    """Self-attention over all positions of a picture, beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, maps: Tensor) -> Tensor:
        rows = self.norm(maps).flatten(2).transpose(1, 2)
        heads = self.queries_keys_values(rows).unflatten(-1, (3, HEADS, -1)).transpose(1, 3)
        seen = nn.functional.scaled_dot_product_attention(*heads.unbind(2))
        mixed = self.out(seen.transpose(1, 2).flatten(2))
        return maps + mixed.transpose(1, 2).reshape(maps.shape)


def straight_through(logits: Tensor) -> Tensor:
    """Signs of the bits of X', whose gradient is that of the sigmoid (1 is a one, -1 a zero)."""
    soft = torch.sigmoid(logits)
    hard = (logits > 0).to(soft.dtype)  # where the sigmoid is above 0.5
    return 2 * (hard + soft - soft.detach()) - 1


def signs_of(bits: Any, channels: int, device: Any = None) -> Tensor:
    """What `Codec.decode` takes of the bits of one code unit.

    Args:
        bits: bool (C, positions), an array of `dat_runtime.offload.CodeUnit`.
        channels: of the widest code; those that were not sent are 0.
    """
    sent = torch.as_tensor(bits, device=device).T
    signs = torch.zeros(len(sent), channels, device=device)
    signs[:, : sent.shape[1]] = 2.0 * sent - 1.0
    return signs


def first_channels(signs: Tensor, count: int) -> Tensor:
    """The same signs without the channels from `count` on."""
    kept = torch.arange(signs.shape[-1], device=signs.device) < count
    return signs * kept


def _maps(rows: Tensor, grid: tuple[int, int], group: int) -> Tensor:
    """(pictures * N, W), group by group, as (pictures, W, rows, columns)."""
    height, width = grid
    rows = rows.reshape(-1, height // group, width // group, group, group, rows.shape[-1])
    return rows.permute(0, 5, 1, 3, 2, 4).reshape(len(rows), -1, height, width)


def _rows(maps: Tensor, group: int) -> Tensor:
    """The inverse of `_maps`."""
    pictures, width, height, columns = maps.shape
    maps = maps.reshape(pictures, width, height // group, group, columns // group, group)
    return maps.permute(0, 2, 4, 3, 5, 1).reshape(-1, width)
