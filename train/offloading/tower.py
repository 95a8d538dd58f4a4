"""Qwen2.5-VL's vision tower in two halves, for a node and a server (ApproxBit §3.1).

`head` is the patch embedding and the first blocks, `tail` the other blocks and the merger. Both
call the tower's own modules, so that the two together give the unsplit tower's bits for any grid,
several images and any block. Only features cross the cut, in the order of the patches: groups of
2 x 2, row by row. The order of windows, rotary positions and the bounds of attention follow from
the grid on either side.

A grid is Transformers' `grid_thw`, int64 (images, 3): frames, rows and columns in patches.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel as Tower,
)

from dat_runtime.errors import ModelError

Change = Callable[[Tensor, Tensor], Tensor]
"""Features (N, D) and their grid -> the features that come out at the other side of the cut."""


class Layout(NamedTuple):
    """What the blocks are told beside the features.

    Attributes:
        order: (N / 4,) which group of 2 x 2 patches stands where, window by window.
        positions: cosines and sines of the rotary positions, (N, head size) each, in that order.
        windows, images: where attention ends, in patches, in windowed blocks and in the others.
    """

    order: Tensor
    positions: tuple[Tensor, Tensor]
    windows: Tensor
    images: Tensor


def layout_of(tower: Tower, grid: Tensor) -> Layout:
    """The layout of some pictures, as `Tower.forward` computes it."""
    order, bounds = tower.get_window_index(grid)
    windows = torch.unique_consecutive(torch.tensor(bounds, device=grid.device, dtype=torch.int32))
    angles = _by_group(tower, tower.rot_pos_emb(grid))[order].flatten(0, 1)
    angles = torch.cat((angles, angles), dim=-1)
    sizes = torch.repeat_interleave(grid[:, 1] * grid[:, 2], grid[:, 0])
    images = F.pad(sizes.cumsum(dim=0, dtype=torch.int32), (1, 0), value=0)
    return Layout(order, (angles.cos(), angles.sin()), windows, images)


def head(
    tower: Tower, pixels: Tensor, grid: Tensor, block: int, layout: Layout | None = None
) -> Tensor:
    """Features (N, D) after the first `block` blocks; of 0 blocks, the embedded patches.

    Args:
        pixels: (N, 1176), patches of the processor.
        layout: where it is known already.

    Raises:
        ModelError: the tower has fewer blocks.
    """
    layout = layout or layout_of(tower, grid)
    features = _by_group(tower, tower.patch_embed(pixels))[layout.order].flatten(0, 1)
    features = _blocks(tower, features, layout, range(_valid(tower, block)))
    return _by_group(tower, features)[torch.argsort(layout.order)].flatten(0, 1)


def tail(tower: Tower, features: Tensor, grid: Tensor, block: int) -> Tensor:
    """What the language model sees, (N / 4, its size), of the features (N, D) after `block` blocks.

    Raises:
        ModelError: the tower has fewer blocks.
    """
    layout = layout_of(tower, grid)
    features = _by_group(tower, features)[layout.order].flatten(0, 1)
    left = range(_valid(tower, block), len(tower.blocks))
    merged = tower.merger(_blocks(tower, features, layout, left))
    return merged[torch.argsort(layout.order), :]


def tower_of(model: Any) -> Tower:
    """The vision tower in a model, whatever adapter is around it.

    Raises:
        ModelError: it is no Qwen2.5-VL.
    """
    for module in model.modules():
        if isinstance(module, Tower):
            return module
    raise ModelError("the model has no vision tower of Qwen2.5-VL, and no other is split here")


@contextmanager
def cut(tower: Tower, block: int, change: Change) -> Iterator[None]:
    """Within it the tower runs in two halves, and `change` is what happens between them."""

    def forward(hidden_states: Tensor, grid_thw: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        features = change(head(tower, hidden_states, grid_thw, block), grid_thw)
        return BaseModelOutputWithPooling(pooler_output=tail(tower, features, grid_thw, block))

    tower.forward = forward
    try:
        yield
    finally:
        del tower.forward  # the class's own again


def _blocks(tower: Tower, features: Tensor, layout: Layout, numbers: range) -> Tensor:
    for number in numbers:
        whole = number in tower.fullatt_block_indexes
        features = tower.blocks[number](
            features,
            cu_seqlens=layout.images if whole else layout.windows,
            position_embeddings=layout.positions,
        )
    return features


def _by_group(tower: Tower, rows: Tensor) -> Tensor:
    """(N, ...) as (N / 4, 4, ...): a group of 2 x 2 patches is what is moved."""
    return rows.reshape(-1, tower.spatial_merge_unit, rows.shape[-1])


def _valid(tower: Tower, block: int) -> int:
    if not 0 <= block <= len(tower.blocks):
        raise ModelError(
            f"a cut after block {block}: the vision tower has {len(tower.blocks)} blocks"
        )
    return block
